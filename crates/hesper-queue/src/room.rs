//! Who may append: bounds of what is stored and of what waits for the disk.

use crate::{AppendError, Options, WhenFull, segment::SEGMENT_HEADER};

/// What is stored, and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// All segments, bytes.
    pub(crate) stored: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) waiting_records: u64,
}

impl Room {
    /// Takes room for a record of `size` bytes, or says why there is none. The first that waits always gets in, so that a
    /// record as long as allowed is never refused for ever.
    pub(crate) fn take(&mut self, size: u64, options: &Options) -> Result<(), AppendError> {
        if size > options.max_record_bytes {
            return Err(AppendError::TooLarge { bytes: size, max: options.max_record_bytes });
        }
        let full = self.stored + self.waiting_bytes + size + SEGMENT_HEADER as u64 > options.max_bytes;
        if full && options.when_full == WhenFull::Block {
            let bytes = self.stored + self.waiting_bytes;
            return Err(AppendError::Full { bytes, max: options.max_bytes });
        }
        let overrun = self.waiting_bytes + size > options.waiting_bytes
            || self.waiting_records >= options.waiting_records;
        if overrun {
            let (records, bytes) = (self.waiting_records, self.waiting_bytes);
            return Err(AppendError::Overrun { records, bytes });
        }
        self.waiting_bytes += size;
        self.waiting_records += 1;
        Ok(())
    }

    /// A group of records no longer waits: it is stored, or failed.
    pub(crate) fn settle(&mut self, records: u64, bytes: u64) {
        self.waiting_records -= records;
        self.waiting_bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            max_record_bytes: 100,
            segment_bytes: 100,
            group_bytes: 100,
            waiting_bytes: 150,
            waiting_records: 3,
            max_bytes: 1000,
            ..Options::default()
        }
    }

    #[test]
    fn every_bound_refuses_by_its_name() {
        let refused = |room: Room, size| {
            let mut room = room;
            room.take(size, &options()).expect_err("no room")
        };
        let empty = Room::default();
        assert!(matches!(refused(empty, 101), AppendError::TooLarge { bytes: 101, max: 100 }));
        let stored = Room { stored: 900, ..empty };
        assert!(matches!(refused(stored, 21), AppendError::Full { bytes: 900, max: 1000 }));
        let bytes = Room { waiting_bytes: 60, waiting_records: 1, ..empty };
        assert!(matches!(refused(bytes, 91), AppendError::Overrun { records: 1, bytes: 60 }));
        let records = Room { waiting_bytes: 3, waiting_records: 3, ..empty };
        assert!(matches!(refused(records, 1), AppendError::Overrun { records: 3, bytes: 3 }));
    }

    #[test]
    fn what_waits_counts_until_it_is_settled() {
        let mut room = Room { stored: 700, ..Room::default() };
        room.take(100, &options()).expect("room");
        room.take(50, &options()).expect("room");
        assert!(room.take(1, &options()).is_err());
        room.settle(2, 150);
        assert_eq!(room, Room { stored: 700, ..Room::default() });
    }

    #[test]
    fn a_log_that_drops_is_never_full() {
        let options = Options { when_full: WhenFull::DropOldest, ..options() };
        Room { stored: 1000, ..Room::default() }.take(100, &options).expect("the oldest goes");
    }
}
