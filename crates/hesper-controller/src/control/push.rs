//! The outgoing side of a watch: urgent updates first, then the state, coalesced, and only when it says something new.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Urgent updates that wait for one watch. One names many grants, so more than this is a peer that does not read.
const OUTBOX_MAX: usize = 256;
/// A peer that takes nothing for so long is cut off.
const SLOW: Duration = Duration::from_secs(10);
/// The state is looked at again at least so often: session tokens are renewed then.
const REFRESH: Duration = Duration::from_secs(10 * 60);

/// Urgent updates for one watch, and its end.
#[derive(Debug)]
pub(super) struct Outbox<U> {
    waiting: Mutex<Waiting<U>>,
    wake: Notify,
}

#[derive(Debug)]
struct Waiting<U> {
    updates: VecDeque<U>,
    end: Option<Status>,
}

impl<U> Default for Outbox<U> {
    fn default() -> Self {
        Self { waiting: Mutex::new(Waiting { updates: VecDeque::new(), end: None }), wake: Notify::new() }
    }
}

impl<U> Outbox<U> {
    /// Puts an update in. When there is no room, the watch ends instead: whoever comes back is told everything.
    pub(super) fn push(&self, update: U) {
        let mut waiting = self.lock();
        if waiting.updates.len() < OUTBOX_MAX {
            waiting.updates.push_back(update);
        } else if waiting.end.is_none() {
            waiting.end = Some(Status::resource_exhausted("this watch was not read: open it again"));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Ends the watch. What still waits is not sent: whoever comes back is told everything. The first reason counts.
    pub(super) fn end(&self, status: Status) {
        self.lock().end.get_or_insert(status);
        self.wake.notify_one();
    }

    /// The next thing to send; an error is the last. Before the first state only an error is.
    fn take(&self, begun: bool) -> Option<Result<U, Status>> {
        let mut waiting = self.lock();
        match &waiting.end {
            Some(status) => Some(Err(status.clone())),
            None if begun => waiting.updates.pop_front().map(Ok),
            None => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<U>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What makes a state out of date.
pub(super) struct Changes {
    model: watch::Receiver<u64>,
    view: watch::Receiver<u64>,
}

impl Changes {
    /// Changes of the model and of who is here.
    pub(super) fn new(model: watch::Receiver<u64>, view: watch::Receiver<u64>) -> Self {
        Self { model, view }
    }

    /// Waits for the next change, or for [`REFRESH`].
    async fn next(&mut self) {
        let changed = tokio::select! {
            changed = self.model.changed() => changed,
            changed = self.view.changed() => changed,
            () = sleep(REFRESH) => Ok(()),
        };
        if changed.is_err() {
            // The controller is going away; the watch is ended by its outbox.
            std::future::pending::<()>().await;
        }
    }
}

/// How a watch's outgoing side ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a status that the peer was sent.
    Told(Code),
    /// The peer took nothing for [`SLOW`].
    Slow,
    /// The peer is gone.
    Gone,
}

/// Feeds one watch until it ends. The first update is a state. `state` is asked after each change, at most every `pace`; it answers when there is news.
pub(super) async fn feed<U>(
    to: &mpsc::Sender<Result<U, Status>>,
    outbox: &Outbox<U>,
    mut changes: Changes,
    pace: impl Fn() -> Duration,
    mut state: impl FnMut() -> Result<Option<U>, Status>,
) -> Ended {
    let (mut due, mut not_before, mut begun) = (true, Instant::now(), false);
    loop {
        let permit = match timeout(SLOW, to.reserve()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Ended::Gone,
            Err(_) => return Ended::Slow,
        };
        let mut next = outbox.take(begun);
        if next.is_none() && due && Instant::now() >= not_before {
            (due, not_before, begun) = (false, Instant::now() + pace(), true);
            next = state().transpose();
        }
        match next {
            Some(Ok(update)) => {
                permit.send(Ok(update));
                continue;
            }
            Some(Err(status)) => {
                let code = status.code();
                permit.send(Err(status));
                return Ended::Told(code);
            }
            None => drop(permit),
        }
        tokio::select! {
            () = outbox.wake.notified() => {}
            () = changes.next(), if !due => due = true,
            () = sleep_until(not_before), if due => {}
            () = to.closed() => return Ended::Gone,
        }
    }
}

/// Runs one watch until its feed has ended, its peer reports no more, or the controller stops, which the peer is told. How the feed
/// ended, if that was it.
pub(super) async fn until_over<U>(
    to: &mpsc::Sender<Result<U, Status>>,
    feed: impl Future<Output = Ended>,
    reports: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> Option<Ended> {
    tokio::select! {
        ended = feed => Some(ended),
        () = reports => None,
        () = stop.cancelled() => {
            // There is room unless the peer does not read, and then it does not matter.
            let _ = to.try_send(Err(Status::unavailable("the controller is stopping")));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::time::advance;

    struct Peer {
        outbox: Arc<Outbox<u32>>,
        model: watch::Sender<u64>,
        from: mpsc::Receiver<Result<u32, Status>>,
        ended: tokio::task::JoinHandle<Ended>,
    }

    /// A watch whose state is the model's revision in tens.
    fn peer() -> Peer {
        let (to, from) = mpsc::channel(1);
        let (model, view) = (watch::Sender::new(0u64), watch::Sender::new(0));
        let outbox = Arc::new(Outbox::default());
        let changes = Changes::new(model.subscribe(), view.subscribe());
        let (watched, sent) = (model.clone(), outbox.clone());
        let ended = tokio::spawn(async move {
            let _view = view;
            let mut last = None;
            let state = || {
                let now = *watched.borrow() as u32 / 10;
                Ok((last.replace(now) != Some(now)).then_some(now))
            };
            feed(&to, &sent, changes, || Duration::from_millis(20), state).await
        });
        Peer { outbox, model, from, ended }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_gathered_and_equal_states_not_sent() {
        let mut p = peer();
        assert!(matches!(p.from.recv().await, Some(Ok(0))));
        for revision in 1..=29 {
            p.model.send_replace(revision);
        }
        assert!(matches!(p.from.recv().await, Some(Ok(2))), "one update for many changes");
        p.model.send_replace(21);
        advance(Duration::from_millis(100)).await;
        p.outbox.push(77);
        assert!(matches!(p.from.recv().await, Some(Ok(77))), "21 said nothing new");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_overtakes_what_waits() {
        let mut p = peer();
        assert!(p.from.recv().await.is_some());
        (0..3).for_each(|n| p.outbox.push(n));
        p.outbox.end(Status::permission_denied("disabled"));
        p.outbox.end(Status::aborted("later"));
        assert!(p.from.recv().await.is_some_and(|u| u.is_err_and(|s| s.message() == "disabled")));
        assert_eq!(p.ended.await.expect("no panic"), Ended::Told(Code::PermissionDenied));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_cut_off() {
        let p = peer();
        p.outbox.push(1);
        p.outbox.push(2);
        assert_eq!(p.ended.await.expect("no panic"), Ended::Slow);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_outbox_ends_the_watch() {
        let mut p = peer();
        (0..=OUTBOX_MAX as u32).for_each(|n| p.outbox.push(n));
        let end = loop {
            match p.from.recv().await {
                Some(Err(status)) => break status,
                Some(Ok(_)) => {}
                None => panic!("no status"),
            }
        };
        assert_eq!(end.code(), Code::ResourceExhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_gone_ends_it() {
        let p = peer();
        drop(p.from);
        assert_eq!(p.ended.await.expect("no panic"), Ended::Gone);
    }
}
