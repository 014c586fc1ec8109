//! Counters and gauges of a log, plain numbers: who serves metrics gives them names.

use crate::DropReason;
use std::collections::BTreeMap;

/// Of one log. Counters begin at zero when it is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gauge: all segments, bytes.
    pub bytes: u64,
    /// Gauge: the most they may be, bytes.
    pub max_bytes: u64,
    /// Gauge: segments.
    pub segments: u64,
    /// Gauge: records in them, those that every destination has acknowledged included.
    pub records: u64,
    /// Gauge: the number of the next record.
    pub next: u64,
    /// Gauge: appended and not yet on disk, records.
    pub waiting_records: u64,
    /// Gauge: appended and not yet on disk, bytes.
    pub waiting_bytes: u64,
    /// What was counted.
    pub counters: Counters,
    /// Each destination.
    pub destinations: BTreeMap<String, DestinationStats>,
}

/// What a log counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records on disk.
    pub appended_records: u64,
    /// Their bytes.
    pub appended_bytes: u64,
    /// Appends that were told [`crate::AppendError::Io`].
    pub failed_records: u64,
    /// Appends that found the log full.
    pub refused_full: u64,
    /// Appends that found too much waiting.
    pub refused_overrun: u64,
    /// Calls of fsync for records.
    pub fsyncs: u64,
    /// Sizes of the groups that one fsync covered.
    pub groups: GroupSizes,
    /// Segments begun.
    pub segments_begun: u64,
    /// Segments deleted since every destination was past them.
    pub segments_done: u64,
    /// Segments dropped before, by reason.
    pub segments_dropped: BTreeMap<DropReason, u64>,
    /// Records missing in damaged places, each once.
    pub damaged_records: u64,
    /// Bytes of damaged places.
    pub damaged_bytes: u64,
    /// Times that cursors were written down.
    pub saves: u64,
    /// Faults that no caller saw.
    pub faults: u64,
}

/// Of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationStats {
    /// Whether it has a reader.
    pub open: bool,
    /// Gauge: records that it has yet to acknowledge.
    pub queued_records: u64,
    /// Gauge: the lowest of them, or the next record of the log.
    pub lowest: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records that it will not get, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

/// A histogram: groups of 1 record, of up to 2, 4, 8 … records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSizes {
    /// Groups of at most `2^index` records and more than half of that; the last one has all that are larger.
    pub buckets: [u64; 13],
    /// Groups.
    pub count: u64,
    /// Records in them.
    pub sum: u64,
}

impl GroupSizes {
    /// Counts a group of so many records.
    pub(crate) fn count(&mut self, records: u64) {
        let bucket = records.next_power_of_two().trailing_zeros() as usize;
        self.buckets[bucket.min(self.buckets.len() - 1)] += 1;
        self.count += 1;
        self.sum += records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_powers_of_two() {
        let mut sizes = GroupSizes::default();
        [1, 2, 3, 4, 5, 4096, 4097, 1 << 20].into_iter().for_each(|records| sizes.count(records));
        assert_eq!(sizes.buckets, [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!((sizes.count, sizes.sum), (8, 1 + 2 + 3 + 4 + 5 + 4096 + 4097 + (1 << 20)));
    }
}
