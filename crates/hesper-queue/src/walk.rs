//! Walks through the records of a segment, past whatever is damaged.
//!
//! Where no whole record stands, the next one is looked for by the segment's mark. The mark and the salt are random, so no
//! payload can pass for a record behind a damaged one, nor make the search expensive.

use crate::{
    Record,
    error::is_medium_error,
    segment::{Head, MARK, RECORD_HEADER, SegmentHeader},
};
use bytes::Bytes;
use std::{io, ops::Range};

/// Read at a time by who wants all of a segment.
pub(crate) const CHUNK: u64 = 256 * 1024;
/// What is given up at a time where the disk cannot read: a sector, mostly.
const SECTOR: usize = 4096;

/// Something to read from.
pub(crate) trait ReadAt {
    /// Reads some bytes; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// The part of a segment to walk through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) header: SegmentHeader,
    /// Where the next record begins.
    pub(crate) offset: u64,
    /// Past the last byte.
    pub(crate) end: u64,
    /// The number that the next record should have.
    pub(crate) expect: u64,
    /// Records from this number on do not belong here: the next segment has them.
    pub(crate) limit: u64,
    /// How much is read at a time, unless a record is longer.
    pub(crate) chunk: u64,
    /// Take what the disk cannot read for zeros, thus for damage.
    pub(crate) tolerant: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A whole record: see [`Walk::record`].
    Record(Head),
    /// Bytes without a record, and the records that are missing before the next one.
    Damage { offset: u64, bytes: u64, lost: Range<u64> },
}

/// The walk. Where it ends, `extent` tells what is left: bytes behind `offset`, numbers from `expect` on.
pub(crate) struct Walk<'a, R: ?Sized> {
    source: &'a R,
    pub(crate) extent: Extent,
    window: Vec<u8>,
    window_at: u64,
    /// Where the last record stands.
    last: u64,
    /// The disk could not read something, which was tolerated.
    pub(crate) unreadable: bool,
}

impl<'a, R: ReadAt + ?Sized> Walk<'a, R> {
    pub(crate) fn new(source: &'a R, extent: Extent) -> Self {
        Self { source, extent, window: Vec::new(), window_at: 0, last: 0, unreadable: false }
    }

    /// The next step; `None` when no whole record follows.
    ///
    /// # Errors
    /// When the disk cannot read and the extent is not tolerant; the walk stands where it was.
    pub(crate) fn next(&mut self) -> io::Result<Option<Step>> {
        let from = self.extent.offset;
        let mut offset = from;
        let head = loop {
            if let Some(head) = self.record_at(offset)? {
                break head;
            }
            match self.find_mark(offset + 1)? {
                Some(found) => offset = found,
                None => return Ok(None),
            }
        };
        if offset > from || head.seq > self.extent.expect {
            let lost = self.extent.expect..head.seq;
            self.extent.offset = offset;
            self.extent.expect = head.seq;
            return Ok(Some(Step::Damage { offset: from, bytes: offset - from, lost }));
        }
        self.last = offset;
        self.extent.offset = offset + head.size;
        self.extent.expect = head.seq + 1;
        Ok(Some(Step::Record(head)))
    }

    /// The record of the last step.
    pub(crate) fn record(&self, head: &Head) -> Record {
        let body = Bytes::copy_from_slice(&self.bytes(self.last, head.size)[RECORD_HEADER..]);
        let (header, payload) = (body.slice(..head.header_len), body.slice(head.header_len..));
        Record { seq: head.seq, time_ms: head.time_ms, header, payload }
    }

    /// The caller's header in the record of the last step.
    pub(crate) fn record_header(&self, head: &Head) -> Bytes {
        let record = self.bytes(self.last, head.size);
        Bytes::copy_from_slice(&record[RECORD_HEADER..RECORD_HEADER + head.header_len])
    }

    fn record_at(&mut self, offset: u64) -> io::Result<Option<Head>> {
        let left = self.extent.end.saturating_sub(offset);
        if left < RECORD_HEADER as u64 {
            return Ok(None);
        }
        self.load(offset, RECORD_HEADER as u64)?;
        let header = self.extent.header;
        let Some(head) = header.decode_head(self.bytes(offset, RECORD_HEADER as u64)) else {
            return Ok(None);
        };
        if head.size > left || !(self.extent.expect..self.extent.limit).contains(&head.seq) {
            return Ok(None);
        }
        self.load(offset, head.size)?;
        Ok(header.is_whole(&head, self.bytes(offset, head.size)).then_some(head))
    }

    /// Where the mark stands next.
    fn find_mark(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mark = self.extent.header.mark.to_le_bytes();
        let mut offset = from;
        while offset + MARK as u64 <= self.extent.end {
            let len = self.extent.chunk.max(SECTOR as u64).min(self.extent.end - offset);
            self.load(offset, len)?;
            let found = self.bytes(offset, len).windows(MARK).position(|bytes| bytes == mark);
            if let Some(found) = found {
                return Ok(Some(offset + found as u64));
            }
            // The next mark may begin in the last bytes.
            offset += len - (MARK as u64 - 1);
        }
        Ok(None)
    }

    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        let start = (offset - self.window_at) as usize;
        &self.window[start..start + len as usize]
    }

    /// Makes the window cover these bytes, which are within the extent.
    fn load(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let covered = self.window_at..self.window_at + self.window.len() as u64;
        if covered.contains(&offset) && offset + len <= covered.end {
            return Ok(());
        }
        let len = len.max(self.extent.chunk).min(self.extent.end - offset);
        // A failed read leaves no bytes that could be taken for read ones.
        let mut window = std::mem::take(&mut self.window);
        window.clear();
        window.resize(len as usize, 0);
        self.fill(&mut window, offset)?;
        self.window = window;
        self.window_at = offset;
        Ok(())
    }

    /// What lies behind the end of the file stays zero.
    fn fill(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Err(error) = read_full(self.source, buffer, offset) else { return Ok(()) };
        if !self.extent.tolerant || !is_medium_error(&error) {
            return Err(error);
        }
        self.unreadable = true;
        for (index, sector) in buffer.chunks_mut(SECTOR).enumerate() {
            match read_full(self.source, sector, offset + (index * SECTOR) as u64) {
                Err(error) if is_medium_error(&error) => sector.fill(0),
                result => drop(result?),
            }
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends; what it got.
pub(crate) fn read_full<R: ReadAt + ?Sized>(source: &R, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match source.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.get(offset as usize..).unwrap_or_default();
        // Never more than asked for, often less: as read(2) may.
        let read = left.len().min(buffer.len()).min(1000);
        buffer[..read].copy_from_slice(&left[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;

    const HEADER: SegmentHeader = SegmentHeader { base: 1, time_ms: 0, salt: 9, mark: 0xA1B2_C3D4 };

    fn record(seq: u64, length: usize) -> Vec<u8> {
        let mut record = Vec::new();
        let payload = vec![b'x'; length].into();
        HEADER.encode_record(&mut record, seq, &Entry { time_ms: 0, header: Bytes::new(), payload });
        record
    }

    fn walk(bytes: &[u8], chunk: u64) -> (Vec<u64>, Vec<(u64, Range<u64>)>) {
        let (end, expect, limit) = (bytes.len() as u64, 1, 10);
        let mut walk = Walk::new(
            bytes,
            Extent { header: HEADER, offset: 0, end, expect, limit, chunk, tolerant: false },
        );
        let (mut records, mut damages) = (Vec::new(), Vec::new());
        while let Some(step) = walk.next().expect("no disk fails here") {
            match step {
                Step::Record(head) => records.push(walk.record(&head).seq),
                Step::Damage { bytes, lost, .. } => damages.push((bytes, lost)),
            }
        }
        (records, damages)
    }

    #[test]
    fn the_next_record_is_found_wherever_it_begins() {
        for gap in (0..40).chain(4060..4130).chain(8150..8220) {
            let bytes = [record(1, 5), vec![0xD4; gap], record(3, 7), record(4, 5000)].concat();
            for chunk in [0, 4096, CHUNK] {
                assert_eq!(walk(&bytes, chunk), (vec![1, 3, 4], vec![(gap as u64, 2..3)]), "{gap} {chunk}");
            }
        }
    }

    #[test]
    fn numbers_only_rise_and_stay_below_the_limit() {
        let bytes = [record(2, 5), record(2, 5), record(1, 5), record(10, 5), record(9, 5)].concat();
        assert_eq!(walk(&bytes, CHUNK), (vec![2, 9], vec![(0, 1..2), (3 * 37, 3..9)]));
    }
}
