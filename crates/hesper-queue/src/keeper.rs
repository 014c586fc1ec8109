//! The rest of what the writer does: cursors to disk, segments that go, destinations that come and go.

use crate::{
    Begin, DestinationError, DropReason, DroppedRecord, Event,
    cursor::{self, Cursor},
    recovery::{TEMPORARY, read_header},
    retention::{Occasion, Verdict, judge},
    segment::{SEGMENT_HEADER, file_name},
    state::{Destination, Place},
    walk::{CHUNK, Extent, Step, Walk},
    writer::Writer,
};
use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

/// How often age is looked at.
const SWEEP: Duration = Duration::from_secs(10);
/// Pause after the disk refused to save or remove something.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between saves when somebody waits for room, which only a saved cursor gives.
const HURRY: Duration = Duration::from_millis(20);
/// Records in one event.
const PIECE: usize = 1024;

/// A destination that loses a segment.
struct Loser {
    /// Its cursor as it was.
    cursor: Cursor,
    /// Records that it had not acknowledged.
    lost: u64,
    /// Those of them that were told.
    told: u64,
    piece: Vec<DroppedRecord>,
}

impl Writer {
    /// When to look again though nobody asks.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        let save = self.save_due();
        let age = self.shared.options.max_age.map(|age| Instant::now() + age.min(SWEEP));
        let earliest = save.into_iter().chain(age).chain(self.pause_until).min()?;
        Some(self.pause_until.map_or(earliest, |pause| pause.max(earliest)))
    }

    /// What is due now and then.
    pub(crate) fn keep(&mut self) {
        let now = Instant::now();
        if self.pause_until.is_some_and(|pause| pause > now) {
            return;
        }
        self.pause_until = None;
        if self.save_due().is_some_and(|due| due <= now) {
            self.save();
        }
        self.sweep(Occasion::Sweep);
    }

    /// When cursors are to be saved; `None` when they are as on disk.
    fn save_due(&self) -> Option<Instant> {
        let options = &self.shared.options;
        let state = self.shared.state();
        let most = state.destinations.values().map(|destination| destination.unsaved).max().unwrap_or(0);
        let wait = if most == 0 {
            return None;
        } else if most >= options.save_acks {
            Duration::ZERO
        } else if state.starving {
            options.save_every.min(HURRY)
        } else {
            options.save_every
        };
        // A time beyond all times is never.
        self.saved.checked_add(wait)
    }

    /// Writes down every cursor that has moved.
    pub(crate) fn save(&mut self) {
        let moved: Vec<_> = {
            let mut state = self.shared.state();
            state.woken = None;
            let moved = state.destinations.iter_mut().filter(|(_, destination)| destination.unsaved > 0);
            let take = |(name, destination): (&String, &mut Destination)| {
                (name.clone(), destination.cursor.clone(), std::mem::take(&mut destination.unsaved))
            };
            moved.map(take).collect()
        };
        if moved.is_empty() {
            return;
        }
        self.saved = Instant::now();
        let mut written: Vec<_> =
            moved.iter().map(|(name, cursor, _)| self.write_cursor(name, cursor).is_ok()).collect();
        if written.contains(&true)
            && let Err(error) = self.shared.disk.sync_names()
        {
            self.shared.fault("synchronise the names of", "cursors", &error);
            written.fill(false);
        }
        if written.contains(&false) {
            self.pause_until = Some(Instant::now() + PAUSE);
        }
        let mut state = self.shared.state();
        for ((name, cursor, unsaved), written) in moved.into_iter().zip(written) {
            let Some(destination) = state.destinations.get_mut(&name) else { continue };
            if written {
                destination.saved = cursor.low();
            } else {
                destination.unsaved += unsaved;
            }
        }
        state.counters.saves += 1;
    }

    /// One cursor, whole or not at all. Its name is durable only after `sync_names`.
    fn write_cursor(&self, name: &str, cursor: &Cursor) -> io::Result<()> {
        let disk = &self.shared.disk;
        // Every destination has a name that fits: `open` saw to that.
        let file = cursor::file_name(name).ok_or(io::ErrorKind::InvalidFilename)?;
        let temporary = format!("{file}{TEMPORARY}");
        let write = || {
            let new = disk.create(&temporary)?;
            new.write_at(&cursor.encode(), 0)?;
            new.sync()?;
            disk.rename(&temporary, &file)
        };
        write().inspect_err(|error| {
            self.shared.fault("write", &file, error);
            // It may be the room that is missing.
            let _ = disk.remove(&temporary);
        })
    }

    /// Lets go what can and must go; whether anything did.
    pub(crate) fn sweep(&mut self, occasion: Occasion) -> bool {
        if self.pause_until.is_some() && occasion == Occasion::Sweep {
            return false;
        }
        let mut any = false;
        loop {
            let now_ms = (self.shared.clock)();
            let Some((oldest, place)) = ({
                let state = self.shared.state();
                state.oldest().zip(state.place(state.oldest_seq()))
            }) else {
                return any;
            };
            let gone = match judge(&oldest, occasion, now_ms, &self.shared.options) {
                Verdict::Keep => return any,
                Verdict::Delete => {
                    if occasion == Occasion::DiskFull {
                        self.empty(place.base);
                    }
                    self.delete_oldest(place.base, None)
                }
                Verdict::SaveAndDelete => {
                    self.save();
                    self.delete_oldest(place.base, None)
                }
                Verdict::Drop(reason) => {
                    self.lose(place, reason);
                    self.save();
                    oldest.is_last || self.delete_oldest(place.base, Some(reason))
                }
            };
            if !gone {
                return any;
            }
            any = true;
            // One is enough for the attempt that comes next.
            if occasion == Occasion::DiskFull {
                return true;
            }
        }
    }

    /// Makes room on a full disk; whether there is more now.
    pub(crate) fn relieve(&mut self) -> bool {
        let relieved = self.sweep(Occasion::DiskFull) || self.start_over();
        if relieved {
            // What went may be beyond the cursors on disk, for want of the room that there is now.
            self.pause_until = None;
            self.save();
        }
        relieved
    }

    /// Takes the room of a segment that everybody is past: a reader may have it open, and a file without a name keeps its room until
    /// it is closed.
    pub(crate) fn empty(&self, base: u64) {
        // If it cannot be done, the room comes later.
        let _ = self.shared.disk.open(&file_name(base)).and_then(|file| file.set_size(0));
    }

    pub(crate) fn delete_oldest(&mut self, base: u64, dropped: Option<DropReason>) -> bool {
        let name = file_name(base);
        match self.shared.disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.shared.fault("remove", &name, &error);
                self.pause_until = Some(Instant::now() + PAUSE);
                return false;
            }
            _ => {}
        }
        {
            let mut state = self.shared.state();
            state.forget_oldest();
            match dropped {
                Some(reason) => *state.counters.segments_dropped.entry(reason).or_default() += 1,
                None => state.counters.segments_done += 1,
            }
        }
        self.shared.room_freed.notify_waiters();
        true
    }

    /// Takes a segment from whoever has not acknowledged it. First the cursors, so that an acknowledgement that comes
    /// meanwhile is no news and nothing is both delivered and dropped; then the events.
    fn lose(&self, place: Place, reason: DropReason) {
        let mut losers = BTreeMap::new();
        for (name, destination) in &mut self.shared.state().destinations {
            let cursor = destination.cursor.clone();
            let lost = destination.lose(place.base..place.limit);
            if lost > 0 {
                losers.insert(name.clone(), Loser { cursor, lost, told: 0, piece: Vec::new() });
            }
        }
        if losers.is_empty() {
            return;
        }
        if let Err(error) = self.tell_losers(place, reason, &mut losers) {
            self.shared.fault("read", &file_name(place.base), &error);
        }
        for (name, mut loser) in losers {
            loser.tell(self, &name, reason);
            let damaged = loser.lost - loser.told;
            self.count(&name, reason, loser.told);
            self.count(&name, DropReason::Damaged, damaged);
            if damaged > 0 {
                let reason = DropReason::Damaged;
                self.shared.tell(&Event::Dropped {
                    destination: &name,
                    reason,
                    count: damaged,
                    records: &[],
                    among: place.base..place.limit,
                });
            }
        }
    }

    fn count(&self, name: &str, reason: DropReason, count: u64) {
        if let Some(destination) = self.shared.state().destinations.get_mut(name).filter(|_| count > 0) {
            destination.count_dropped(reason, count);
        }
    }

    fn tell_losers(
        &self,
        place: Place,
        reason: DropReason,
        losers: &mut BTreeMap<String, Loser>,
    ) -> io::Result<()> {
        let file = self.shared.disk.open(&file_name(place.base))?;
        let Some(header) = read_header(&*file, place.base)? else { return Ok(()) };
        let (offset, end) = (SEGMENT_HEADER as u64, place.bytes);
        let (expect, limit) = (place.base, place.limit);
        let mut walk =
            Walk::new(&*file, Extent { header, offset, end, expect, limit, chunk: CHUNK, tolerant: true });
        while let Some(step) = walk.next()? {
            let Step::Record(head) = step else { continue };
            let dropped = DroppedRecord {
                seq: head.seq,
                time_ms: head.time_ms,
                header: walk.record_header(&head),
                payload_len: head.payload_len(),
            };
            for (name, loser) in losers.iter_mut().filter(|(_, loser)| !loser.cursor.has(head.seq)) {
                loser.piece.push(dropped.clone());
                if loser.piece.len() >= PIECE {
                    loser.tell(self, name, reason);
                }
            }
        }
        Ok(())
    }

    /// Begins a destination, or finds the one of that name, for a reader.
    pub(crate) fn open(&self, name: &str, begin: Begin) -> Result<(), DestinationError> {
        if cursor::file_name(name).is_none() {
            return Err(DestinationError::Name(name.to_owned()));
        }
        let low = {
            let mut state = self.shared.state();
            if let Some(destination) = state.destinations.get_mut(name) {
                let taken = std::mem::replace(&mut destination.open, true);
                return if taken { Err(DestinationError::InUse(name.to_owned())) } else { Ok(()) };
            }
            match begin {
                Begin::End => state.next,
                Begin::Oldest => state.oldest_seq(),
            }
        };
        // Before anything is delivered: after a crash it would begin at another place.
        let cursor = Cursor::new(low);
        let written = self.write_cursor(name, &cursor).and_then(|()| self.shared.disk.sync_names());
        written.map_err(|source| DestinationError::Io { name: name.to_owned(), source })?;
        let destination = Destination { open: true, ..Destination::new(cursor, low) };
        self.shared.state().destinations.insert(name.to_owned(), destination);
        Ok(())
    }

    /// Forgets a destination and what it has yet to get.
    pub(crate) fn forget(&self, name: &str) -> Result<(), DestinationError> {
        let Some(destination) = self.shared.state().destinations.get(name).cloned() else {
            return Err(DestinationError::Unknown(name.to_owned()));
        };
        if destination.open {
            return Err(DestinationError::InUse(name.to_owned()));
        }
        let disk = &self.shared.disk;
        let removed = match cursor::file_name(name).map(|file| disk.remove(&file)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => disk.sync_names(),
        };
        removed.map_err(|source| DestinationError::Io { name: name.to_owned(), source })?;
        self.shared.state().destinations.remove(name);
        Ok(())
    }
}

impl Loser {
    /// Tells what has been gathered.
    fn tell(&mut self, writer: &Writer, destination: &str, reason: DropReason) {
        let records = std::mem::take(&mut self.piece);
        if !records.is_empty() {
            let count = records.len() as u64;
            self.told += count;
            let among = records[0].seq..records[records.len() - 1].seq + 1;
            writer.shared.tell(&Event::Dropped { destination, reason, count, records: &records, among });
        }
    }
}
