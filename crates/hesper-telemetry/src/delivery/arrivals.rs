//! Batches of other gateways that are being stored just now: who brings one a second time waits for the first.

use crate::origin::BatchId;
use hesper_otlp::Refusal;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

type Answer = Option<Result<(), Refusal>>;

/// By id. As many as requests are being answered.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<BatchId, watch::Receiver<Answer>>>);

/// What is to be done with a batch.
#[derive(Debug)]
pub(crate) enum Entered {
    /// Store it.
    First(Ticket),
    /// Somebody else did, or could not.
    Ended(Result<(), Refusal>),
}

/// The right to store a batch. When it is dropped without an answer, whoever waits may try.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: BatchId,
    answer: watch::Sender<Answer>,
    arrivals: Arc<Arrivals>,
}

impl Arrivals {
    fn all(&self) -> MutexGuard<'_, HashMap<BatchId, watch::Receiver<Answer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else stores the batch. To be given a deadline.
    pub(crate) async fn enter(self: &Arc<Self>, id: BatchId) -> Entered {
        loop {
            let mut other = {
                let mut all = self.all();
                match all.get(&id) {
                    Some(other) => other.clone(),
                    None => {
                        let (answer, listener) = watch::channel(None);
                        all.insert(id, listener);
                        return Entered::First(Ticket { id, answer, arrivals: self.clone() });
                    }
                }
            };
            if let Ok(answer) = other.wait_for(Option::is_some).await
                && let Some(answer) = &*answer
            {
                return Entered::Ended(answer.clone());
            }
        }
    }
}

impl Ticket {
    /// Tells whoever waits.
    pub(crate) fn end(self, answer: &Result<(), Refusal>) {
        self.answer.send_replace(Some(answer.clone()));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.arrivals.all().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const ID: BatchId = BatchId { queue: [1; 16], number: 7 };

    fn first(entered: Option<Entered>) -> Ticket {
        match entered {
            Some(Entered::First(ticket)) => ticket,
            other => panic!("not the first: {other:?}"),
        }
    }

    #[test]
    fn the_second_gets_the_answer_of_the_first() {
        let arrivals = Arc::new(Arrivals::default());
        let ticket = first(arrivals.enter(ID).now_or_never());
        let mut second = Box::pin(arrivals.enter(ID));
        assert!((&mut second).now_or_never().is_none());
        drop(first(arrivals.enter(BatchId { number: 8, ..ID }).now_or_never()));
        let answer = Err(Refusal::Internal("no".into()));
        ticket.end(&answer);
        assert!(matches!(second.now_or_never(), Some(Entered::Ended(ended)) if ended == answer));
        assert!(arrivals.all().is_empty());
    }

    #[test]
    fn when_the_first_goes_away_the_second_takes_its_place() {
        let arrivals = Arc::new(Arrivals::default());
        let ticket = first(arrivals.enter(ID).now_or_never());
        let (mut second, mut third) = (Box::pin(arrivals.enter(ID)), Box::pin(arrivals.enter(ID)));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(ticket);
        let ticket = first(second.now_or_never());
        assert!((&mut third).now_or_never().is_none());
        ticket.end(&Ok(()));
        assert!(matches!(third.now_or_never(), Some(Entered::Ended(Ok(())))));
    }
}
