//! The last events in their order, and where each follower stands. Pure.
//!
//! Followers have no queues of their own: each keeps the number of the event that it has seen last and reads on from there. What was
//! overwritten in between is the number that it missed, so nobody who does not read costs anything or holds anybody up.

use super::event::Event;
use std::{collections::VecDeque, sync::Arc};

/// Events kept: a page of a busy minute, and enough for a follower that stops for a moment.
pub const EVENTS_KEPT: usize = 4_096;
/// Bytes of JSON kept; an event has some 400, so it is the number that counts unless somebody makes them long.
pub const BYTES_KEPT: usize = 8 * 1024 * 1024;
/// Events given to a follower at a time.
pub const BATCH_MAX: usize = 256;

/// An event that was recorded.
#[derive(Debug, PartialEq)]
pub struct Recorded {
    /// The first event of a process is 1, each next one is one more.
    pub sequence: u64,
    /// What happened.
    pub event: Event,
    /// The same as JSON, one line without its end.
    pub line: String,
}

/// What a follower is given next.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// So many events before these are not kept any more.
    pub missed: u64,
    /// The next ones, without a gap.
    pub events: Vec<Arc<Recorded>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    kept: VecDeque<Arc<Recorded>>,
    bytes: usize,
    last: u64,
    events_max: usize,
    bytes_max: usize,
}

impl Ring {
    /// Nothing has happened.
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, last: 0, events_max, bytes_max }
    }

    /// One more; its number.
    pub(super) fn push(&mut self, event: Event, line: String) -> u64 {
        self.last += 1;
        self.bytes += line.len();
        self.kept.push_back(Arc::new(Recorded { sequence: self.last, event, line }));
        // The newest stays, however long it is.
        while self.kept.len() > 1 && (self.kept.len() > self.events_max || self.bytes > self.bytes_max) {
            if let Some(oldest) = self.kept.pop_front() {
                self.bytes -= oldest.line.len();
            }
        }
        self.last
    }

    /// The number of the newest; 0 = there was none yet.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The number before the oldest that is kept: who has seen it misses nothing.
    pub(super) fn floor(&self) -> u64 {
        self.last - self.kept.len() as u64
    }

    /// What comes after the event `seen`, at most so many. A number that was never given has seen everything.
    pub(super) fn after(&self, seen: u64, most: usize) -> Batch {
        let floor = self.floor();
        let skip = usize::try_from(seen.saturating_sub(floor)).unwrap_or(usize::MAX);
        let events = self.kept.iter().skip(skip).take(most).cloned().collect();
        Batch { missed: floor.saturating_sub(seen), events }
    }

    /// The newest that fit, in their order, at most so many.
    pub(super) fn newest(&self, most: usize, fits: impl Fn(&Recorded) -> bool) -> Vec<Arc<Recorded>> {
        let newest = self.kept.iter().rev().filter(|recorded| fits(recorded)).take(most);
        let mut found: Vec<_> = newest.cloned().collect();
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Kind;
    use proptest::prelude::*;

    fn event(n: u64) -> Event {
        Event::success(Kind::Dial).field("n", n)
    }

    #[test]
    fn a_number_from_elsewhere_has_seen_everything() {
        let mut ring = Ring::new(4, BYTES_KEPT);
        assert_eq!(ring.after(0, 9), Batch::default());
        ring.push(event(1), "x".into());
        assert_eq!(ring.after(77, 9), Batch::default());
        assert_eq!(ring.after(0, 0), Batch::default());
        assert_eq!(ring.after(0, 9).events.len(), 1);
    }

    #[test]
    fn the_newest_that_fit_are_found_in_their_order() {
        let mut ring = Ring::new(8, BYTES_KEPT);
        for n in 0..20u64 {
            ring.push(event(n), "x".into());
        }
        let even = |recorded: &Recorded| recorded.event.fields()["n"].as_u64().is_some_and(|n| n % 2 == 0);
        let found: Vec<_> = ring.newest(3, even).iter().map(|r| r.sequence).collect();
        assert_eq!(found, [15, 17, 19]);
        assert_eq!(ring.newest(99, even).len(), 4);
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// So many bytes long.
        Push(usize),
        /// Follower, and how many at most.
        Read(usize, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1usize..40).prop_map(Step::Push),
            2 => (0usize..3, 1usize..6).prop_map(|(who, most)| Step::Read(who, most)),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        /// Whatever is pushed and whoever reads when: each event is seen once and in order, or counted as missed; and memory is bounded.
        #[test]
        fn every_event_is_seen_once_or_counted_as_missed(steps in steps(), most in 1usize..9) {
            const BYTES: usize = 100;
            let mut ring = Ring::new(most, BYTES);
            let mut followers = [0u64; 3];
            for step in steps {
                match step {
                    Step::Push(bytes) => {
                        let before = ring.last();
                        prop_assert_eq!(ring.push(event(before + 1), "x".repeat(bytes)), before + 1);
                        let held: usize = ring.kept.iter().map(|r| r.line.len()).sum();
                        prop_assert_eq!(held, ring.bytes);
                        prop_assert!(ring.kept.len() <= most && (held <= BYTES || ring.kept.len() == 1));
                    }
                    Step::Read(who, at_most) => {
                        let seen = &mut followers[who];
                        let batch = ring.after(*seen, at_most);
                        prop_assert!(batch.events.len() <= at_most);
                        prop_assert_eq!(batch.events.is_empty(), *seen == ring.last());
                        *seen += batch.missed;
                        for recorded in &batch.events {
                            *seen += 1;
                            prop_assert_eq!(recorded.sequence, *seen);
                            prop_assert_eq!(recorded.event.fields()["n"].as_u64(), Some(*seen));
                        }
                        prop_assert!(*seen >= ring.floor(), "what is kept is never missed");
                    }
                }
            }
        }
    }
}
