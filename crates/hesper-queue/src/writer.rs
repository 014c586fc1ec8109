//! The thread that writes: groups of records, and whatever else changes a file (`keeper`).

use crate::{
    AppendError, WhenFull,
    commit::Group,
    disk::DiskFile,
    error::is_disk_full,
    retention::Occasion,
    segment::{SEGMENT_HEADER, SegmentHeader, file_name},
    shared::{Message, Shared, Waiting},
    state::Segment,
};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Instant,
};
use tokio::sync::watch;

/// A segment is full by age after this part of `max_age`: records go by segments, so they stay that much longer.
const AGE_PARTS: u64 = 8;

/// Owns the active segment.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    inbox: Receiver<Message>,
    committed: watch::Sender<u64>,
    /// None when the next group begins a segment.
    active: Option<Active>,
    /// Taken from the inbox, and too much for the last group.
    held: Option<Message>,
    buffer: Vec<u8>,
    /// When cursors were last saved, or could not be; at first the beginning.
    pub(crate) saved: Instant,
    /// The disk refused to save or remove something: not again before.
    pub(crate) pause_until: Option<Instant>,
}

/// The segment that is written to.
struct Active {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    bytes: u64,
}

/// A group on disk.
struct Written {
    /// The segment, when it was begun with this group.
    begun: Option<Segment>,
    /// The number of its first record.
    first: u64,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, inbox: Receiver<Message>, committed: watch::Sender<u64>) -> Self {
        let (active, held, pause_until) = (None, None, None);
        let (buffer, saved) = (Vec::new(), Instant::now());
        Self { shared, inbox, committed, active, held, buffer, saved, pause_until }
    }

    /// Runs until the log is closed.
    pub(crate) fn run(mut self) {
        self.keep();
        while let Some(message) = self.receive() {
            match message {
                Message::Append(first) => self.append(first),
                // What there is to do is done for every message.
                Message::Wake => {}
                Message::Flush(done) => {
                    self.pause_until = None;
                    self.save();
                    self.sweep(Occasion::Sweep);
                    let _ = done.send(());
                }
                Message::Open { name, begin, done } => {
                    let _ = done.send(self.open(&name, begin));
                }
                Message::Forget { name, done } => {
                    let _ = done.send(self.forget(&name));
                }
                Message::Close => break,
            }
            self.keep();
        }
        self.pause_until = None;
        self.save();
        self.sweep(Occasion::Sweep);
    }

    /// The next message; `Wake` when it is time to look without one. `None` when nobody is left.
    fn receive(&mut self) -> Option<Message> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        let Some(at) = self.next_look() else { return self.inbox.recv().ok() };
        match self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => Some(Message::Wake),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Gathers a group, writes it, answers.
    fn append(&mut self, first: Waiting) {
        let group = self.gather(first);
        let bytes = group.iter().map(|waiting| waiting.size).sum();
        let records = group.len() as u64;
        let needed = bytes + SEGMENT_HEADER as u64;
        self.sweep(Occasion::Write(needed));
        let mut written = self.room_for(needed).and_then(|()| self.write(&group, bytes));
        while written.as_ref().is_err_and(is_disk_full) && self.relieve() {
            written = self.write(&group, bytes);
        }
        match written {
            Ok(Written { begun, first }) => {
                let newest_ms = group.iter().map(|waiting| waiting.entry.time_ms).max().unwrap_or(0);
                self.shared.state().commit(begun, records, bytes, newest_ms);
                self.committed.send_replace(first + records);
                for (seq, waiting) in (first..).zip(group) {
                    // Who does not wait any more has its record on disk all the same.
                    let _ = waiting.done.send(Ok(seq));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                {
                    let mut state = self.shared.state();
                    state.room.settle(records, bytes);
                    state.counters.failed_records += records;
                }
                for waiting in group {
                    let _ = waiting.done.send(Err(AppendError::Io(error.clone())));
                }
            }
        }
        self.shared.room_freed.notify_waiters();
    }

    /// `Room` has seen to it, unless the oldest is to be dropped and cannot be. `bytes` are those with the header of a
    /// segment.
    fn room_for(&self, bytes: u64) -> io::Result<()> {
        let options = &self.shared.options;
        let stored = self.shared.state().room.stored;
        if options.when_full == WhenFull::DropOldest && stored + bytes > options.max_bytes {
            return Err(io::Error::other("the queue is full and its oldest segment cannot be removed"));
        }
        Ok(())
    }

    fn gather(&mut self, first: Waiting) -> Vec<Waiting> {
        let mut group = Group::new(first.size, &self.shared.options, Instant::now());
        let mut members = vec![first];
        while group.is_open(Instant::now()) {
            match self.inbox.try_recv() {
                Ok(Message::Append(next)) if group.join(next.size) => members.push(next),
                Ok(other) => {
                    self.held = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        members
    }

    /// Writes a group to the active segment, or begins one. After an error nothing of it counts.
    fn write(&mut self, group: &[Waiting], bytes: u64) -> io::Result<Written> {
        let now_ms = (self.shared.clock)();
        let first = self.shared.state().next;
        if self.active.as_ref().is_some_and(|active| self.is_full(active, bytes, now_ms)) {
            self.active = None;
        }
        match self.active.take() {
            Some(active) => self.extend(active, group, first),
            None => self.begin(group, first, now_ms),
        }
    }

    fn is_full(&self, active: &Active, bytes: u64, now_ms: u64) -> bool {
        let part = self.shared.options.max_age.map(|age| age.as_millis() as u64 / AGE_PARTS);
        let old = part.is_some_and(|part| now_ms.saturating_sub(active.header.time_ms) > part);
        old || active.bytes + bytes > self.shared.options.segment_bytes
    }

    /// Appends to the active segment. It stays the active one unless the disk leaves doubt about its contents.
    fn extend(&mut self, mut active: Active, group: &[Waiting], first: u64) -> io::Result<Written> {
        self.encode(&active.header, false, group, first);
        if let Err(error) = active.file.write_at(&self.buffer, active.bytes) {
            // A full disk is no doubt: what got there is cut off, and the segment is as it was.
            if active.file.set_size(active.bytes).is_ok() && is_disk_full(&error) {
                self.active = Some(active);
            }
            return Err(error);
        }
        if let Err(error) = self.sync(&active) {
            // Pages are not to be trusted after a failed fsync, and a second one would succeed: this segment gets nothing more.
            // The next one begins with the same number, so that nothing behind it is ever read; cutting it off saves room.
            let _ = active.file.set_size(active.bytes);
            return Err(error);
        }
        active.bytes += self.buffer.len() as u64;
        self.active = Some(active);
        Ok(Written { begun: None, first })
    }

    /// Begins a segment with the group.
    fn begin(&mut self, group: &[Waiting], first: u64, now_ms: u64) -> io::Result<Written> {
        // From the operating system, by way of the keys of std's hash maps: no payload can know it.
        let random = || RandomState::new().hash_one(now_ms);
        // A mark is not zero as untouched disk is.
        let header =
            SegmentHeader { base: first, time_ms: now_ms, salt: random(), mark: random() as u32 | 1 };
        self.encode(&header, true, group, first);
        let name = file_name(first);
        let file = self.shared.disk.create(&name)?;
        let active = Active { file, header, bytes: self.buffer.len() as u64 };
        let durable = active.file.write_at(&self.buffer, 0);
        let durable = durable.and_then(|()| self.sync(&active)).and_then(|()| self.shared.disk.sync_names());
        if let Err(error) = durable {
            // If it stays, the next attempt takes its place: that has the same number.
            let _ = match self.shared.state().segments.is_empty() {
                true => active.file.set_size(0),
                false => self.shared.disk.remove(&name),
            };
            return Err(error);
        }
        self.active = Some(active);
        Ok(Written { begun: Some(Segment::new(first, SEGMENT_HEADER as u64, now_ms)), first })
    }

    /// Deletes the only segment when everybody is past it, though it could take more: on a full disk nothing else may be left that can
    /// go. Whether it did.
    pub(crate) fn start_over(&mut self) -> bool {
        let (base, next) = {
            let state = self.shared.state();
            let only = state.oldest().filter(|only| only.is_last && only.lowest >= Some(only.end));
            let Some(only) = only else { return false };
            (state.oldest_seq(), only.end)
        };
        // Its name says where the numbers are, and an empty file takes no room.
        let name = file_name(next);
        let marked = self.shared.disk.create(&name).and_then(|_| self.shared.disk.sync_names());
        if let Err(error) = marked {
            self.shared.fault("create", &name, &error);
            return false;
        }
        self.active = None;
        self.empty(base);
        self.delete_oldest(base, None)
    }

    fn encode(&mut self, header: &SegmentHeader, begins: bool, group: &[Waiting], first: u64) {
        self.buffer.clear();
        // One long record is no reason to keep its room for ever.
        self.buffer.shrink_to(2 * self.shared.options.group_bytes as usize);
        if begins {
            self.buffer.extend_from_slice(&header.encode());
        }
        for (seq, waiting) in (first..).zip(group) {
            header.encode_record(&mut self.buffer, seq, &waiting.entry);
        }
    }

    fn sync(&self, active: &Active) -> io::Result<()> {
        self.shared.state().counters.fsyncs += 1;
        active.file.sync()
    }
}
