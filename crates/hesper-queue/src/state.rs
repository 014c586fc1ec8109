//! What is in the log and who is how far: the table behind the lock, without files.

use crate::{
    DropReason, Options,
    cursor::Cursor,
    retention::Oldest,
    room::Room,
    segment::file_name,
    stats::{Counters, DestinationStats, Stats},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

/// A segment with records that are on disk.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// Its first record.
    pub(crate) base: u64,
    /// What of the file is on disk for sure, bytes.
    pub(crate) bytes: u64,
    /// The time of its newest record, ms.
    pub(crate) newest_ms: u64,
    /// Damaged places that were told, so that each is told once. Few, or the segment is soon passed.
    told: BTreeSet<u64>,
}

/// Somebody who gets every record.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) cursor: Cursor,
    /// The lowest record of its cursor on disk.
    pub(crate) saved: u64,
    /// How many records the cursor on disk does not know of.
    pub(crate) unsaved: u64,
    /// It has a reader.
    pub(crate) open: bool,
    pub(crate) acknowledged: u64,
    pub(crate) dropped: BTreeMap<DropReason, u64>,
}

/// The log, but for its files.
#[derive(Debug)]
pub(crate) struct State {
    /// Oldest first; each has at least one record's number.
    pub(crate) segments: VecDeque<Segment>,
    /// The number of the next record.
    pub(crate) next: u64,
    pub(crate) room: Room,
    pub(crate) destinations: BTreeMap<String, Destination>,
    pub(crate) counters: Counters,
    /// Somebody found the log full.
    pub(crate) starving: bool,
    /// The writer knows that there is something to save, and whether that is urgent; until it has saved.
    pub(crate) woken: Option<Urgency>,
    pub(crate) closed: bool,
}

/// How soon cursors are to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    Later,
    Now,
}

/// Where a record is, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
    /// The segment has no number from here on.
    pub(crate) limit: u64,
}

impl Segment {
    pub(crate) fn new(base: u64, bytes: u64, newest_ms: u64) -> Self {
        Self { base, bytes, newest_ms, told: BTreeSet::new() }
    }
}

impl Destination {
    /// As its file says; `saved` is what that file says.
    pub(crate) fn new(cursor: Cursor, saved: u64) -> Self {
        Self { cursor, saved, unsaved: 0, open: false, acknowledged: 0, dropped: BTreeMap::new() }
    }

    /// Will not get these; how many of them it had not acknowledged.
    pub(crate) fn lose(&mut self, range: Range<u64>) -> u64 {
        let lost = self.cursor.ack(range);
        self.unsaved += lost;
        lost
    }

    /// Counts what it lost.
    pub(crate) fn count_dropped(&mut self, reason: DropReason, count: u64) {
        *self.dropped.entry(reason).or_default() += count;
    }
}

impl State {
    pub(crate) fn new(
        segments: VecDeque<Segment>,
        next: u64,
        destinations: BTreeMap<String, Destination>,
    ) -> Self {
        let stored = segments.iter().map(|segment| segment.bytes).sum();
        Self {
            segments,
            next,
            room: Room { stored, ..Room::default() },
            destinations,
            counters: Counters::default(),
            starving: false,
            woken: None,
            closed: false,
        }
    }

    /// The first record that there is.
    pub(crate) fn oldest_seq(&self) -> u64 {
        self.segments.front().map_or(self.next, |segment| segment.base)
    }

    /// The segment that has this record, or would have it if it were not lost.
    pub(crate) fn place(&self, seq: u64) -> Option<Place> {
        let index = self.segments.partition_point(|segment| segment.base <= seq).checked_sub(1)?;
        let segment = &self.segments[index];
        Some(Place { base: segment.base, bytes: segment.bytes, limit: self.end_of(index) })
    }

    /// Past the last record of a segment.
    fn end_of(&self, index: usize) -> u64 {
        self.segments.get(index + 1).map_or(self.next, |following| following.base)
    }

    /// The oldest segment, as retention looks at it.
    pub(crate) fn oldest(&self) -> Option<Oldest> {
        let segment = self.segments.front()?;
        Some(Oldest {
            end: self.end_of(0),
            newest_ms: segment.newest_ms,
            is_last: self.segments.len() == 1,
            lowest: self.destinations.values().map(|destination| destination.cursor.low()).min(),
            lowest_saved: self.destinations.values().map(|destination| destination.saved).min(),
            stored: self.room.stored,
        })
    }

    /// A group is on disk: `records` records of `bytes` bytes in the last segment, or in a new one.
    pub(crate) fn commit(&mut self, begun: Option<Segment>, records: u64, bytes: u64, newest_ms: u64) {
        if let Some(segment) = begun {
            self.room.stored += segment.bytes;
            self.segments.push_back(segment);
            self.counters.segments_begun += 1;
        }
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes += bytes;
            segment.newest_ms = segment.newest_ms.max(newest_ms);
        }
        self.room.stored += bytes;
        self.room.settle(records, bytes);
        self.next += records;
        self.counters.appended_records += records;
        self.counters.appended_bytes += bytes;
        self.counters.groups.count(records);
    }

    /// The file of the oldest segment is gone.
    pub(crate) fn forget_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.room.stored -= segment.bytes;
            self.starving = false;
        }
    }

    /// Acknowledges records for a destination; how many of them that is news for.
    pub(crate) fn ack(&mut self, name: &str, range: Range<u64>) -> u64 {
        let Some(destination) = self.destinations.get_mut(name) else { return 0 };
        let news = destination.cursor.ack(range.start..range.end.min(self.next));
        destination.unsaved += news;
        destination.acknowledged += news;
        news
    }

    /// Whether the writer is to be woken: there is something to save that it does not know of, or it is urgent by now.
    pub(crate) fn wakes(&mut self, save_acks: u64) -> bool {
        let most = self.destinations.values().map(|destination| destination.unsaved).max().unwrap_or(0);
        if most == 0 {
            return false;
        }
        let urgent = self.starving || most >= save_acks;
        let urgency = if urgent { Urgency::Now } else { Urgency::Later };
        let wakes = self.woken < Some(urgency);
        self.woken = self.woken.max(Some(urgency));
        wakes
    }

    /// A destination has found these records missing; how many of them are news to it.
    pub(crate) fn lose(&mut self, name: &str, lost: Range<u64>) -> u64 {
        let Some(destination) = self.destinations.get_mut(name) else { return 0 };
        let count = destination.lose(lost);
        if count > 0 {
            destination.count_dropped(DropReason::Damaged, count);
        }
        count
    }

    /// A damaged place was found; whether it is the first time, and then the name of its file.
    pub(crate) fn tell_damage(&mut self, base: u64, offset: u64, bytes: u64, records: u64) -> Option<String> {
        let segment = self.segments.iter_mut().find(|segment| segment.base == base)?;
        segment.told.insert(offset).then(|| {
            self.counters.damaged_bytes += bytes;
            self.counters.damaged_records += records;
            file_name(base)
        })
    }

    pub(crate) fn stats(&self, options: &Options) -> Stats {
        let destination = |destination: &Destination| DestinationStats {
            open: destination.open,
            queued_records: destination.cursor.missing(self.oldest_seq()..self.next),
            lowest: destination.cursor.low(),
            acknowledged: destination.acknowledged,
            dropped: destination.dropped.clone(),
        };
        Stats {
            bytes: self.room.stored,
            max_bytes: options.max_bytes,
            segments: self.segments.len() as u64,
            records: self.next - self.oldest_seq(),
            next: self.next,
            waiting_records: self.room.waiting_records,
            waiting_bytes: self.room.waiting_bytes,
            counters: self.counters.clone(),
            destinations: self
                .destinations
                .iter()
                .map(|(name, one)| (name.clone(), destination(one)))
                .collect(),
        }
    }
}
