//! Queues that have no room: told as events when it begins and when it is over, with how many batches were sent back.
//!
//! A full queue takes a batch as soon as it has delivered one, and is full again at once: that is one outage, which is over when batches
//! were taken for [`QUIET`] without one being sent back.

use hesper_observe::events::{Event, Events, Kind};
use hesper_telemetry::delivery::{Delivery, DestinationStats};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How long nothing may be sent back until a queue counts as having room.
const QUIET: Duration = Duration::from_secs(10);

/// Pure: is there an outage?
#[derive(Debug, Default)]
struct Fullness {
    /// Until when it lasts at least, and how many batches were sent back.
    full: Option<(Instant, u64)>,
}

impl Fullness {
    /// A batch was sent back. True: it begins.
    fn refused(&mut self, now: Instant) -> bool {
        let begins = self.full.is_none();
        let (until, times) = self.full.get_or_insert((now, 0));
        (*until, *times) = (now + QUIET, *times + 1);
        begins
    }

    /// A batch was taken. Some: it is over, after so many were sent back.
    fn taken(&mut self, now: Instant) -> Option<u64> {
        let (_, times) = self.full.take_if(|(until, _)| *until <= now)?;
        Some(times)
    }
}

/// The queues of one pipeline.
pub(crate) struct QueueWatch {
    pipeline: String,
    events: Events,
    /// Is there an outage? So that nobody waits for the lock while all is well.
    full: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    fullness: Fullness,
    /// What queues have sent back so far, by destination.
    failed: BTreeMap<String, u64>,
}

impl QueueWatch {
    pub(crate) fn new(pipeline: String, events: Events) -> Self {
        Self { pipeline, events, full: AtomicBool::new(false), state: Mutex::default() }
    }

    /// A batch was taken by all queues.
    pub(crate) fn taken(&self) {
        if !self.full.load(Relaxed) {
            return;
        }
        let mut state = self.lock();
        if let Some(times) = state.fullness.taken(Instant::now()) {
            self.full.store(false, Relaxed);
            drop(state);
            tracing::info!(pipeline = self.pipeline, times, "the queues have room again");
            let event = Event::success(Kind::QueueRoom).field("pipeline", self.pipeline.as_str());
            self.events.record(event.field("times", times));
        }
    }

    /// A batch was not taken; by a queue that has no room, if one of them says so.
    pub(crate) fn refused(&self, delivery: &Delivery, reason: &str) {
        let mut state = self.lock();
        let full = newly_failed(&mut state.failed, &delivery.stats());
        if full.is_empty() {
            return;
        }
        let begins = state.fullness.refused(Instant::now());
        self.full.store(true, Relaxed);
        drop(state);
        if begins {
            tracing::warn!(
                pipeline = self.pipeline,
                reason,
                "a queue is full: senders are told to come again"
            );
            let event = Event::success(Kind::QueueFull).field("pipeline", self.pipeline.as_str());
            self.events.record(event.field("exporters", full).field("reason", reason));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The destinations whose queues have sent back more than before.
fn newly_failed(before: &mut BTreeMap<String, u64>, stats: &[DestinationStats]) -> Vec<String> {
    let mut newly = Vec::new();
    for of in stats {
        let failed = of.enqueue_failed.iter().map(|(_, items)| items).sum();
        if before.insert(of.destination.clone(), failed).unwrap_or_default() < failed {
            newly.push(of.destination.clone());
        }
    }
    newly
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_at_its_begin_and_at_its_end() {
        let (mut fullness, begin) = (Fullness::default(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(fullness.taken(at(0)), None);
        assert!(fullness.refused(at(1)));
        for second in 2..30 {
            assert_eq!(fullness.taken(at(second)), None, "it is full again in a moment");
            assert!(!fullness.refused(at(second)));
        }
        assert_eq!(fullness.taken(at(38)), None);
        assert_eq!(fullness.taken(at(39)), Some(29));
        assert_eq!(fullness.taken(at(40)), None, "told once");
        assert!(fullness.refused(at(41)), "another one");
    }
}
