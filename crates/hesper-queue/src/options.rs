//! The sizes and times of a log.

use crate::segment::{RECORD_HEADER, SEGMENT_HEADER};
use std::time::Duration;

/// What happens when the log holds as much as it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Appends are refused or wait until the slowest destination has acknowledged a segment. Nothing is lost.
    #[default]
    Block,
    /// The oldest segment goes. What a destination had not acknowledged of it is told, record by record.
    DropOldest,
}

/// How a log is kept. Start from [`Options::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment takes no further record when it would become longer, bytes. One segment is what is deleted at once.
    pub segment_bytes: u64,
    /// Longest record, bytes, with its 32 fixed bytes. One that is longer than a segment has one for itself.
    pub max_record_bytes: u64,
    /// All segments together, bytes; the 80 bytes that open the newest segments may come on top.
    pub max_bytes: u64,
    /// Records older than this are dropped, a segment at a time: up to an eighth later.
    pub max_age: Option<Duration>,
    /// What happens at `max_bytes`, or when the disk is full before.
    pub when_full: WhenFull,
    /// Appended records that are not yet on disk, bytes: memory.
    pub waiting_bytes: u64,
    /// Appended records that are not yet on disk, records.
    pub waiting_records: u64,
    /// Records that one fsync covers, bytes. Also what the log writes at once, unless a record is longer.
    pub group_bytes: u64,
    /// How long records may go on joining a group. Nobody is waited for: a group closes when nothing else is there.
    pub group_wait: Duration,
    /// Acknowledgements are written down this often. What a crash undoes comes a second time.
    pub save_every: Duration,
    /// Or when a destination has acknowledged so many records.
    pub save_acks: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            // The largest OTLP request, 64 MiB, and a generous header.
            max_record_bytes: 65 << 20,
            max_bytes: 8 << 30,
            max_age: None,
            when_full: WhenFull::default(),
            waiting_bytes: 72 << 20,
            waiting_records: 65_536,
            group_bytes: 4 << 20,
            group_wait: Duration::from_millis(5),
            save_every: Duration::from_secs(1),
            save_acks: 16_384,
        }
    }
}

impl Options {
    /// Says what does not fit together: the option, why, and what would.
    pub(crate) fn check(&self) -> Result<(), String> {
        let least_record = RECORD_HEADER as u64;
        if self.max_record_bytes <= least_record || self.max_record_bytes >= u64::from(u32::MAX) {
            return Err(format!(
                "max_record_bytes is {}, must be more than {least_record} and less than 4 GiB",
                self.max_record_bytes
            ));
        }
        if self.group_bytes == 0 || self.group_bytes > self.segment_bytes {
            return Err(format!(
                "group_bytes is {}, must be at least 1 and at most segment_bytes, {}",
                self.group_bytes, self.segment_bytes
            ));
        }
        if self.waiting_records == 0 || self.waiting_bytes < self.max_record_bytes {
            return Err(format!(
                "waiting_bytes is {} for {} records, must be at least max_record_bytes, {}, for one record",
                self.waiting_bytes, self.waiting_records, self.max_record_bytes
            ));
        }
        // One segment that is being filled, and one that can go.
        let least = 2 * (self.segment_bytes.max(self.max_record_bytes) + SEGMENT_HEADER as u64);
        if self.max_bytes < least {
            return Err(format!(
                "max_bytes is {}, must be at least {least}: two segments or two of the longest records",
                self.max_bytes
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(Options::default().check(), Ok(()));
        type Case = (fn(&mut Options), &'static str);
        let cases: [Case; 6] = [
            (|o| o.max_record_bytes = 32, "max_record_bytes"),
            (|o| o.max_record_bytes = 4 << 30, "max_record_bytes"),
            (|o| o.group_bytes = o.segment_bytes + 1, "group_bytes"),
            (|o| o.waiting_bytes = o.max_record_bytes - 1, "waiting_bytes"),
            (|o| o.waiting_records = 0, "waiting_bytes"),
            (|o| o.max_bytes = 128 << 20, "max_bytes"),
        ];
        for (change, named) in cases {
            let mut options = Options::default();
            change(&mut options);
            let fault = options.check().expect_err(named);
            assert!(fault.starts_with(named), "{fault}");
        }
    }
}
