//! Group commit: which records share one write and one fsync.
//!
//! While the disk is busy with one group, what is appended waits; all of it is the next group. So the groups grow with the load
//! and with the slowness of the disk, and a single sender never waits for company.

use crate::Options;
use std::time::{Duration, Instant};

/// A group that is being gathered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    bytes: u64,
    most: u64,
    closes: Instant,
}

impl Group {
    /// Of one record.
    pub(crate) fn new(size: u64, options: &Options, now: Instant) -> Self {
        // A time beyond all times is a bad option, not a reason to fail.
        let closes = now.checked_add(options.group_wait).unwrap_or(now + Duration::from_secs(1));
        Self { bytes: size, most: options.group_bytes, closes }
    }

    /// Whether to look for another record. When none is there the group is complete.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.bytes < self.most && now < self.closes
    }

    /// Whether a record of `size` bytes joins; otherwise it is the first of the next group.
    pub(crate) fn join(&mut self, size: u64) -> bool {
        let fits = self.bytes + size <= self.most;
        self.bytes += if fits { size } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_closes_by_size_or_time() {
        let options = Options { group_bytes: 100, ..Options::default() };
        let start = Instant::now();
        let mut group = Group::new(60, &options, start);
        assert!(group.is_open(start) && !group.join(41));
        assert!(group.join(30) && group.is_open(start + Duration::from_millis(4)));
        assert!(!group.is_open(start + options.group_wait), "late");
        assert!(group.join(10) && !group.is_open(start), "complete");
    }

    #[test]
    fn a_record_beyond_the_size_is_a_group_of_its_own() {
        let options = Options { group_bytes: 100, ..Options::default() };
        let start = Instant::now();
        let mut group = Group::new(1000, &options, start);
        assert!(!group.is_open(start) && !group.join(1));
    }
}
