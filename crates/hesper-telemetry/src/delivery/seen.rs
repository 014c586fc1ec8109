//! Which batches of other gateways have arrived: what comes a second time is acknowledged and not stored again.

use crate::origin::BatchId;
use hesper_queue::Ranges;
use std::collections::HashMap;

/// Queues of other gateways that are remembered. Each gateway has one for each pipeline, and a new one after each start.
const QUEUES: usize = 512;
/// Ranges that are remembered of each. A gateway has no more batches under way than deliveries, so that what it may repeat
/// is among the latest; what it has dropped leaves gaps.
const RANGES: usize = 256;

/// The numbers that have arrived, by queue. Bounded: what was used longest ago is forgotten, and may arrive twice then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    queues: HashMap<[u8; 16], Queue>,
    uses: u64,
    /// Ranges of numbers forgotten for want of room.
    pub(crate) forgotten: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Queue {
    numbers: Ranges,
    /// When it was last added to, in uses.
    used: u64,
}

impl Seen {
    /// Has it arrived?
    pub(crate) fn has(&self, id: &BatchId) -> bool {
        self.queues.get(&id.queue).is_some_and(|queue| queue.numbers.contains(id.number))
    }

    /// It has arrived; whether that is new.
    pub(crate) fn add(&mut self, id: &BatchId) -> bool {
        // No queue gets there: it is past the last number that a range can have.
        let Some(end) = id.number.checked_add(1) else { return true };
        self.insert(id.queue, std::iter::once(id.number..end)) > 0
    }

    fn insert(&mut self, id: [u8; 16], ranges: impl IntoIterator<Item = std::ops::Range<u64>>) -> u64 {
        if self.queues.len() >= QUEUES && !self.queues.contains_key(&id) {
            let oldest = self.queues.iter().min_by_key(|(_, queue)| queue.used).map(|(id, _)| *id);
            let gone = oldest.and_then(|oldest| self.queues.remove(&oldest));
            self.forgotten += gone.map_or(0, |queue| queue.numbers.ranges() as u64);
        }
        self.uses += 1;
        let queue = self.queues.entry(id).or_default();
        queue.used = self.uses;
        let mut new = 0;
        for range in ranges {
            new += queue.numbers.add(range);
            if queue.numbers.ranges() > RANGES {
                queue.numbers.pop_first();
                self.forgotten += 1;
            }
        }
        new
    }

    /// All of it, what was used longest ago first.
    pub(crate) fn queues(&self) -> Vec<([u8; 16], &Ranges)> {
        let mut queues: Vec<_> = self.queues.iter().collect();
        queues.sort_unstable_by_key(|(_, queue)| queue.used);
        queues.into_iter().map(|(id, queue)| (*id, &queue.numbers)).collect()
    }

    /// From what [`Self::queues`] gave.
    pub(crate) fn restore(
        queues: impl IntoIterator<Item = ([u8; 16], Vec<std::ops::Range<u64>>)>,
        forgotten: u64,
    ) -> Self {
        let mut seen = Self { forgotten, ..Self::default() };
        for (id, ranges) in queues {
            seen.insert(id, ranges);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn id(queue: u64, number: u64) -> BatchId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&queue.to_le_bytes());
        BatchId { queue: id, number }
    }

    #[test]
    fn queues_are_bounded_and_the_least_used_goes() {
        let mut seen = Seen::default();
        (0..QUEUES as u64).for_each(|queue| assert!(seen.add(&id(queue, 1))));
        assert!(!seen.add(&id(0, 1)), "a second time");
        assert!(seen.add(&id(1 << 40, 1)));
        assert_eq!((seen.queues.len(), seen.forgotten), (QUEUES, 1));
        assert!(seen.has(&id(0, 1)) && !seen.has(&id(1, 1)) && seen.has(&id(2, 1)));
    }

    #[test]
    fn gaps_are_bounded_and_the_lowest_goes() {
        let mut seen = Seen::default();
        (0..=RANGES as u64).for_each(|number| assert!(seen.add(&id(7, 2 * number))));
        assert_eq!(seen.forgotten, 1);
        assert!(!seen.has(&id(7, 0)) && seen.has(&id(7, 2)));
        assert!(seen.add(&id(7, u64::MAX)) && !seen.has(&id(7, u64::MAX)), "no number of a queue");
    }

    proptest! {
        #[test]
        fn is_the_set_of_what_was_added(ids in prop::collection::vec((0_u64..5, 0_u64..30), 0..120)) {
            let (mut seen, mut model) = (Seen::default(), HashSet::new());
            for (queue, number) in ids {
                let id = id(queue, number);
                prop_assert_eq!(seen.has(&id), model.contains(&id));
                prop_assert_eq!(seen.add(&id), model.insert(id));
            }
            let queues = seen.queues().into_iter().map(|(id, ranges)| (id, ranges.iter().collect()));
            let restored = Seen::restore(queues.collect::<Vec<_>>(), 0);
            for (queue, number) in (0..5).flat_map(|queue| (0..30).map(move |number| (queue, number))) {
                prop_assert_eq!(restored.has(&id(queue, number)), model.contains(&id(queue, number)));
            }
        }
    }
}
