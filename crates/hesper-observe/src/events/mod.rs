//! Events: who did what, when, and whether it was allowed; and what happened to the network.
//!
//! - [`Event`] is one of them, [`Kind`] says which there are. What is refused is made of a [`Denial`], so that it always names the
//!   identity, the service and the rule.
//! - [`Events`] is where they go: into a private file of JSON lines that is rotated ([`Retention`]), and into a ring of the last ones,
//!   which [`Follower`]s read as they please. Each has a number. A follower that does not read holds nobody up; it is told how many it
//!   missed.
//! - [`Filter`] says which of them somebody wants to see; [`otlp`] makes log records of them.

mod event;
mod file;
mod filter;
mod kind;
pub mod otlp;
mod ring;
#[cfg(test)]
mod tests;

pub use self::{
    event::{Denial, Event, Named, TEXT_MAX, TraceContext},
    file::{InvalidRetention, InvalidSize, Retention, Size},
    filter::{Filter, UnknownEvent, UnknownOutcome},
    kind::{Kind, Outcome},
    ring::{BATCH_MAX, BYTES_KEPT, Batch, EVENTS_KEPT, Recorded},
};

use crate::metrics::{Counter, Family, Gauge, Registry};
use file::Keeper;
use ring::Ring;
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// Where events go. Clones share everything.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    /// Tells this process from the next one, whose numbers begin again.
    start: String,
    /// The file; held while an event is written and numbered, so that both have the same order.
    keeper: Mutex<Option<Keeper>>,
    /// Never held while something is written: followers do not wait for the disk.
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    events: Family<Vec<(&'static str, &'static str)>, Counter>,
    write_failures: Counter,
    missed: Counter,
    followers: Gauge,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("start", &self.shared.start).finish_non_exhaustive()
    }
}

/// Where a follower begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the oldest event that is kept.
    Oldest,
    /// With the next event that happens.
    Now,
    /// Behind the event of this number.
    After(u64),
}

impl Events {
    /// Appends to the file `path`, which is made if it is missing, and made private (0600).
    ///
    /// # Errors
    /// The file cannot be opened for appending, or its mode cannot be set.
    pub fn open(path: &Path, retention: Retention) -> io::Result<Self> {
        Ok(Self::to(Some(Keeper::open(path, retention)?)))
    }

    /// Without a file: only followers see them.
    pub fn unkept() -> Self {
        Self::to(None)
    }

    fn to(keeper: Option<Keeper>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Shared {
            start: format!("{:x}-{:x}", since.as_nanos(), std::process::id()),
            keeper: Mutex::new(keeper),
            ring: Mutex::new(Ring::new(EVENTS_KEPT, BYTES_KEPT)),
            newest: watch::Sender::new(0),
            counters: Counters::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the counts visible: `hesper_events_total`, `hesper_event_write_failures_total`, `hesper_events_missed_total` and
    /// `hesper_event_followers`.
    pub fn register(&self, registry: &Registry) {
        let counters = &self.shared.counters;
        registry.register("events", "Events by kind and outcome", counters.events.clone());
        registry.register(
            "event_write_failures",
            "Events that could not be written to the audit file",
            counters.write_failures.clone(),
        );
        registry.register(
            "events_missed",
            "Events that followers missed because they did not read in time",
            counters.missed.clone(),
        );
        registry.register("event_followers", "Who follows the events now", counters.followers.clone());
    }

    /// Writes the event and tells it to those who follow. One that cannot be written is counted and logged as an ERROR; the caller goes on.
    pub fn record(&self, event: Event) {
        let Shared { keeper, ring, newest, counters, .. } = &*self.shared;
        let kind = event.kind().name();
        counters.events.get_or_create(&vec![("event", kind), ("outcome", event.outcome().name())]).inc();
        let encoded = serde_json::to_string(&event).map_err(io::Error::from);
        let written = {
            let mut keeper = lock(keeper);
            let written = encoded.and_then(|line| {
                let written = keeper.as_mut().map_or(Ok(()), |keeper| keeper.append(&line));
                newest.send_replace(lock(ring).push(event, line));
                written
            });
            drop(keeper);
            written
        };
        if let Err(fault) = written {
            counters.write_failures.inc();
            tracing::error!(%fault, event = kind, "an event could not be written: make room for the audit file");
        }
    }

    /// What tells this process from the next one, in which the numbers of events begin again.
    pub fn start(&self) -> &str {
        &self.shared.start
    }

    /// The number of the newest event; 0 = there was none yet.
    pub fn last(&self) -> u64 {
        lock(&self.shared.ring).last()
    }

    /// The newest events that fit, in their order, at most so many; and the number of the newest of all at that moment.
    pub fn newest(&self, most: usize, fits: impl Fn(&Recorded) -> bool) -> (Vec<Arc<Recorded>>, u64) {
        let ring = lock(&self.shared.ring);
        (ring.newest(most, fits), ring.last())
    }

    /// Follows the events.
    pub fn subscribe(&self, begin: Begin) -> Follower {
        let seen = {
            let ring = lock(&self.shared.ring);
            match begin {
                Begin::Oldest => ring.floor(),
                Begin::Now => ring.last(),
                Begin::After(seen) => seen.min(ring.last()),
            }
        };
        self.shared.counters.followers.inc();
        Follower { shared: self.shared.clone(), newest: self.shared.newest.subscribe(), seen }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who reads the events in their order, from the ring, as fast as they please.
pub struct Follower {
    shared: Arc<Shared>,
    newest: watch::Receiver<u64>,
    seen: u64,
}

impl Follower {
    /// The number of the event that was given last, or missed last.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The next events, at most [`BATCH_MAX`]; none = there is nothing new.
    pub fn ready(&mut self) -> Option<Batch> {
        // Before the ring is read: what comes after that wakes again.
        self.newest.mark_unchanged();
        let batch = lock(&self.shared.ring).after(self.seen, BATCH_MAX);
        self.seen += batch.missed + batch.events.len() as u64;
        self.shared.counters.missed.inc_by(batch.missed);
        (batch.missed > 0 || !batch.events.is_empty()).then_some(batch)
    }

    /// Waits for the next events, at most [`BATCH_MAX`]. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Batch {
        loop {
            if let Some(batch) = self.ready() {
                return batch;
            }
            if self.newest.changed().await.is_err() {
                // Impossible while we hold the other end.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.counters.followers.dec();
    }
}
