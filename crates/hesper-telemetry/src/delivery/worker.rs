//! Serves one destination: takes batches in order, puts them together, and keeps some deliveries under way.

use super::{item::Item, merge::Merger, plan::Merge, settings::Settings, ship::Shipper, source::Source};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, sleep_until},
};

/// Bytes that a worker holds at most, under way or waiting to be put together, unless one request alone is longer. What is in a queue in
/// memory is held by that anyway.
const HELD_MAX: u64 = 64 << 20;

/// How far a worker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// On and on.
    Run,
    /// Until the queue is empty, if it is in memory; what is under way is brought to its end.
    Drain,
}

/// One destination at work.
pub(crate) struct Worker {
    pub(crate) source: Source,
    pub(crate) shipper: Arc<Shipper>,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// What a worker has in its hands.
struct Hands {
    began: Instant,
    merger: Merger,
    /// What goes out next, and its bytes.
    ready: VecDeque<(Vec<Item>, u64)>,
    under_way: JoinSet<()>,
    /// Bytes of each delivery under way.
    bytes: std::collections::HashMap<Id, u64>,
}

impl Worker {
    /// Runs until it has drained, or the queue is closed. Dropping it ends the deliveries, and leaves their batches in the queue.
    pub(crate) async fn run(mut self) {
        let mut hands = Hands::new();
        loop {
            let settings = self.settings.borrow_and_update().clone();
            let phase = *self.phase.borrow_and_update();
            let draining = phase == Phase::Drain && self.source.is_drained();
            if draining || settings.merge.is_none() {
                hands.flush();
            }
            hands.send(&self.shipper, settings.consumers);
            if draining && hands.is_empty() {
                return;
            }
            let takes = !draining && hands.has_room();
            let due = settings.merge.as_ref().and_then(|merge| hands.due(merge));
            tokio::select! {
                // What has ended makes room for what is there.
                biased;
                ended = hands.under_way.join_next_with_id(), if !hands.under_way.is_empty() => hands.ended(ended),
                changed = self.settings.changed() => if changed.is_err() { return },
                changed = self.phase.changed() => if changed.is_err() { return },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(merge) = &settings.merge {
                        hands.take_due(merge);
                    }
                }
                items = self.source.next(), if takes => match items {
                    Some(items) => hands.take(items, &settings),
                    None => return,
                },
            }
        }
    }
}

impl Hands {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            merger: Merger::default(),
            ready: VecDeque::new(),
            under_way: JoinSet::new(),
            bytes: std::collections::HashMap::new(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn held(&self) -> u64 {
        self.bytes.values().sum()
    }

    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.under_way.is_empty() && self.merger.is_empty()
    }

    /// Nothing more is taken than can go out.
    fn has_room(&self) -> bool {
        self.ready.is_empty() && self.held() + self.merger.bytes() < HELD_MAX
    }

    fn take(&mut self, items: Vec<Item>, settings: &Settings) {
        let now = self.now();
        for item in items {
            let requests = match &settings.merge {
                Some(merge) => self.merger.add(item, merge, settings.request_bytes as u64, now),
                None => vec![vec![item]],
            };
            self.put(requests);
        }
    }

    fn put(&mut self, requests: Vec<Vec<Item>>) {
        for items in requests {
            let bytes = items.iter().map(|item| item.size().bytes).sum();
            self.ready.push_back((items, bytes));
        }
    }

    fn flush(&mut self) {
        let requests = self.merger.flush();
        self.put(requests);
    }

    fn due(&self, merge: &Merge) -> Option<Instant> {
        self.merger.deadline(merge).and_then(|due| self.began.checked_add(due))
    }

    fn take_due(&mut self, merge: &Merge) {
        let requests = self.merger.due(merge, self.now());
        self.put(requests);
    }

    /// Sends what may go out.
    fn send(&mut self, shipper: &Arc<Shipper>, consumers: usize) {
        while self.under_way.len() < consumers {
            let fits =
                |(_, bytes): &(Vec<Item>, u64)| self.under_way.is_empty() || self.held() + *bytes <= HELD_MAX;
            if !self.ready.front().is_some_and(fits) {
                return;
            }
            let Some((items, bytes)) = self.ready.pop_front() else { return };
            let shipper = shipper.clone();
            let task = self.under_way.spawn(async move { shipper.deliver(items).await });
            self.bytes.insert(task.id(), bytes);
        }
    }

    fn ended(&mut self, ended: Option<Result<(Id, ()), tokio::task::JoinError>>) {
        match ended {
            Some(Ok((id, ()))) => drop(self.bytes.remove(&id)),
            // Exporters are caught when they panic, so this is a fault of ours: on disk the batch comes again with the next start.
            Some(Err(error)) => {
                self.bytes.remove(&error.id());
                tracing::warn!(%error, "a delivery has failed (a fault of this program)");
            }
            None => {}
        }
    }
}
