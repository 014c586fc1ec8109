//! One destination's view of the log.

use crate::{
    Ranges, ReadError, Record,
    disk::DiskFile,
    error::is_medium_error,
    recovery::read_header,
    segment::{SEGMENT_HEADER, SegmentHeader, file_name},
    shared::Shared,
    state::Place,
    walk::{CHUNK, Extent, Step, Walk},
};
use std::{io, ops::Range, sync::Arc};
use tokio::sync::{oneshot, watch};

/// Reads of the same place that fail before it is taken for damaged.
const ATTEMPTS: u32 = 3;

/// Yields the records that a destination has not acknowledged, in order, each once. A new reader of the same destination
/// begins with the lowest that is not acknowledged. There is one at a time; it is given back by dropping it.
pub struct Reader {
    shared: Arc<Shared>,
    name: Arc<str>,
    committed: watch::Receiver<u64>,
    position: Position,
    /// The read that a cancelled call has left behind.
    reading: Option<oneshot::Receiver<Read>>,
    failures: u32,
}

/// What a read ended with, what it got before, and where it stands.
type Read = (io::Result<()>, Vec<Record>, Position);

/// Acknowledges records of one destination, from anywhere.
#[derive(Clone)]
pub struct Acker {
    shared: Arc<Shared>,
    name: Arc<str>,
}

/// Where a reader is.
#[derive(Clone, Default)]
struct Position {
    /// The next record to deliver.
    seq: u64,
    segment: Option<OpenSegment>,
}

#[derive(Clone)]
struct OpenSegment {
    base: u64,
    file: Arc<dyn DiskFile>,
    /// None when it is damaged.
    header: Option<SegmentHeader>,
    offset: u64,
    /// The number of the record at `offset`.
    expect: u64,
}

impl Acker {
    /// The record has arrived: it will not be delivered again, and is deleted when this is so for every destination. In any
    /// order. `false` when that is no news: it was acknowledged before, or has been told as
    /// [dropped](crate::Event::Dropped), or does not exist.
    ///
    /// On disk after [`crate::Options::save_every`] or [`crate::Options::save_acks`]; what a crash undoes is delivered again.
    pub fn ack(&self, seq: u64) -> bool {
        self.shared.ack(&self.name, seq..seq.saturating_add(1)) > 0
    }

    /// Acknowledges all of these that there are, as [`Acker::ack`] does each; how many of them that was news for.
    pub fn ack_range(&self, range: Range<u64>) -> u64 {
        self.shared.ack(&self.name, range)
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        let committed = shared.committed.clone();
        Self {
            shared,
            name: name.into(),
            committed,
            position: Position::default(),
            reading: None,
            failures: 0,
        }
    }

    /// The destination.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A handle to acknowledge with.
    pub fn acker(&self) -> Acker {
        Acker { shared: self.shared.clone(), name: self.name.clone() }
    }

    /// As [`Acker::ack`].
    pub fn ack(&self, seq: u64) -> bool {
        self.shared.ack(&self.name, seq..seq.saturating_add(1)) > 0
    }

    /// The numbers that the destination has acknowledged, lost, or never had to get since it began after them.
    pub fn acknowledged(&self) -> Ranges {
        let state = self.shared.state();
        state
            .destinations
            .get(&*self.name)
            .map(|destination| destination.cursor.acknowledged())
            .unwrap_or_default()
    }

    /// Begins again with the lowest record that is not acknowledged.
    pub fn rewind(&mut self) {
        self.position = Position::default();
        self.reading = None;
    }

    /// The next records, at least one, and no more than `max_bytes` of them on disk unless the first is longer. Waits until
    /// there is one. The disk is read by a thread of the log, not by the caller's. Cancel safe: what was not returned is
    /// returned the next time, as many as were asked for then.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the disk refuses, [`ReadError::Closed`] when the log is closed.
    pub async fn next(&mut self, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        loop {
            if self.position.seq < *self.committed.borrow_and_update() {
                let records = self.read(max_bytes).await?;
                if !records.is_empty() {
                    return Ok(records);
                }
            } else if self.committed.changed().await.is_err() {
                return Err(ReadError::Closed);
            }
        }
    }

    /// As [`Reader::next`], but does not wait: nothing when the reader has come to the end.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn read(&mut self, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        let reading = match self.reading.take() {
            Some(reading) => reading,
            None => self.begin_read(max_bytes)?,
        };
        let (result, records, position) =
            self.reading.insert(reading).await.map_err(|_| ReadError::Closed)?;
        self.reading = None;
        self.position = position;
        match result {
            Ok(()) => self.failures = 0,
            // What was read before is delivered; the next call comes back to the place.
            Err(_) if !records.is_empty() => {}
            Err(error) => {
                self.failures += u32::from(is_medium_error(&error));
                return Err(ReadError::Io(error));
            }
        }
        Ok(records)
    }
}

impl Reader {
    fn begin_read(&self, max_bytes: usize) -> Result<oneshot::Receiver<Read>, ReadError> {
        let (done, reading) = oneshot::channel();
        let mut batch = Batch {
            shared: self.shared.clone(),
            name: self.name.clone(),
            position: self.position.clone(),
            tolerant: self.failures + 1 >= ATTEMPTS,
            records: Vec::new(),
            room: max_bytes as u64,
            chunk: (max_bytes as u64).min(CHUNK),
        };
        let job = move || {
            let result = batch.fill();
            let _ = done.send((result, batch.records, batch.position));
        };
        self.shared.reads.send(Some(Box::new(job))).map_err(|_| ReadError::Closed)?;
        Ok(reading)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(destination) = self.shared.state().destinations.get_mut(&*self.name) {
            destination.open = false;
        }
    }
}

/// What one call reads.
struct Batch {
    shared: Arc<Shared>,
    name: Arc<str>,
    position: Position,
    tolerant: bool,
    records: Vec<Record>,
    room: u64,
    chunk: u64,
}

impl Batch {
    /// Reads until there is enough, or no more. After an error what was read counts, and the position is behind it.
    fn fill(&mut self) -> io::Result<()> {
        loop {
            let place = {
                let state = self.shared.state();
                let low = state.destinations.get(&*self.name).map(|destination| destination.cursor.low());
                // What nobody has any more is in no segment.
                let seq = self.position.seq.max(low.unwrap_or(state.next)).max(state.oldest_seq());
                self.position.seq = seq;
                match state.place(seq).filter(|_| seq < state.next) {
                    Some(place) => place,
                    None => return Ok(()),
                }
            };
            if self.position.segment.as_ref().is_none_or(|segment| segment.base != place.base) {
                self.position.segment = self.open(place)?;
            }
            if self.position.segment.is_some() && self.read_segment(place)? {
                return Ok(());
            }
        }
    }

    /// None when it is gone, and that is known by now.
    fn open(&mut self, place: Place) -> io::Result<Option<OpenSegment>> {
        let Place { base, .. } = place;
        let (offset, expect) = (SEGMENT_HEADER as u64, base);
        let file = match self.shared.disk.open(&file_name(base)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.shared.state().place(base).is_some_and(|now| now.base == base) {
                    // Somebody else has removed it.
                    self.shared.damaged(&self.name, base, 0, place.bytes, base..place.limit);
                    self.position.seq = place.limit;
                }
                return Ok(None);
            }
            Err(error) if self.tolerant && is_medium_error(&error) => {
                self.shared.damaged(&self.name, base, 0, place.bytes, base..place.limit);
                self.position.seq = place.limit;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let header = match read_header(&*file, base) {
            Err(error) if self.tolerant && is_medium_error(&error) => None,
            header => header?,
        };
        Ok(Some(OpenSegment { base, file, header, offset, expect }))
    }

    /// Reads on in the open segment; whether there is enough.
    fn read_segment(&mut self, place: Place) -> io::Result<bool> {
        let Some(mut open) = self.position.segment.clone() else { return Ok(false) };
        let Some(header) = open.header else {
            self.pass(place, open);
            return Ok(false);
        };
        let Some(cursor) =
            self.shared.state().destinations.get(&*self.name).map(|destination| destination.cursor.clone())
        else {
            return Ok(true);
        };
        let file = open.file.clone();
        let (end, limit) = (place.bytes, place.limit);
        let extent = Extent {
            header,
            offset: open.offset,
            end,
            expect: open.expect,
            limit,
            chunk: self.chunk,
            tolerant: self.tolerant,
        };
        let mut walk = Walk::new(&*file, extent);
        while let Some(step) = walk.next()? {
            match step {
                Step::Record(head) => {
                    if head.seq >= self.position.seq && !cursor.has(head.seq) {
                        if head.size > self.room && !self.records.is_empty() {
                            return Ok(true);
                        }
                        self.room = self.room.saturating_sub(head.size);
                        self.records.push(walk.record(&head));
                    }
                    self.position.seq = self.position.seq.max(head.seq + 1);
                }
                Step::Damage { offset, bytes, lost } => {
                    self.shared.damaged(&self.name, open.base, offset, bytes, lost);
                }
            }
            (open.offset, open.expect) = (walk.extent.offset, walk.extent.expect);
            self.position.segment = Some(open.clone());
        }
        self.pass(place, open);
        Ok(false)
    }

    /// Leaves the segment: no whole record follows. What numbers it has left are lost; bytes without numbers are those of a
    /// write that failed and was told to its callers.
    fn pass(&mut self, place: Place, mut open: OpenSegment) {
        if open.expect < place.limit {
            let bytes = place.bytes - open.offset.min(place.bytes);
            self.shared.damaged(&self.name, open.base, open.offset, bytes, open.expect..place.limit);
        }
        (open.offset, open.expect) = (place.bytes, place.limit);
        self.position.seq = self.position.seq.max(place.limit);
        self.position.segment = Some(open);
    }
}
