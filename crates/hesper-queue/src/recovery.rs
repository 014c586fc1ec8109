//! Opening what the last process left, in whatever state.
//!
//! Nothing is ever appended to a segment of another process: if that one died right after a failed fsync, its pages look like
//! any others and are not on disk.

use crate::{
    OpenError,
    cursor::{self, Cursor},
    disk::{Disk, DiskFile},
    error::is_medium_error,
    segment::{SEGMENT_HEADER, SegmentHeader, base_of, file_name},
    state::{Destination, Segment, State},
    walk::{CHUNK, Extent, Step, Walk, read_full},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::Path,
    sync::Arc,
};

/// What the names of half-written files end with.
pub(crate) const TEMPORARY: &str = ".tmp";
/// The number of the first record of all.
const FIRST: u64 = 1;
/// No cursor file is longer, bytes; that of 4,096 ranges is 64 KiB.
const CURSOR_MAX: u64 = 1 << 20;

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments.
    pub segments: u64,
    /// Records in them, by their numbers: damage in older segments shows when they are read.
    pub records: u64,
    /// All segments, bytes.
    pub bytes: u64,
    /// Cut off behind the last whole record, bytes: what was being written when the last process ended.
    pub torn_bytes: u64,
    /// Damaged places in the newest segment, bytes. They are told again as [`crate::Event::Damaged`] when somebody reads them.
    pub damaged_bytes: u64,
    /// Records missing there.
    pub damaged_records: u64,
    /// Destinations whose cursor could not be read. They begin with the oldest record: they get records again.
    pub unreadable_cursors: Vec<String>,
    /// Records that a destination had not acknowledged, in segments that are gone.
    pub missing: BTreeMap<String, u64>,
    /// What the disk refused, in words. The log works around it.
    pub faults: Vec<String>,
}

/// Everything that was found.
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) recovery: Recovery,
}

/// Reads the directory, which is locked by now.
pub(crate) fn recover(disk: &dyn Disk, path: &Path) -> Result<Found, OpenError> {
    let failed = |doing| move |source| OpenError::Io { doing, path: path.to_owned(), source };
    let names = disk.list().map_err(failed("list the queue"))?;
    let mut recovery = Recovery::default();
    let half_written = names.iter().filter(|name| name.ends_with(TEMPORARY));
    half_written.for_each(|name| recovery.note("remove", name, disk.remove(name)));

    let mut bases: Vec<_> = names.iter().filter_map(|name| base_of(name)).collect();
    bases.sort_unstable();
    let (newest, next) =
        recover_newest(disk, &mut bases, &mut recovery).map_err(failed("read the newest segment"))?;
    let segments =
        list_segments(disk, &bases, newest.as_ref(), &mut recovery).map_err(failed("read a segment"))?;

    let cursors = names.iter().filter_map(|name| Some((cursor::destination_of(name)?, name)));
    let cursors: Vec<_> = cursors.map(|(destination, name)| (destination, read_cursor(disk, name))).collect();
    // A number is used once: what a destination has acknowledged was there, even if its record is lost by now.
    let next = cursors.iter().filter_map(|(_, cursor)| Some(cursor.as_ref()?.end())).fold(next, u64::max);
    let oldest = bases.first().map_or(next, |base| *base);
    let destinations = cursors.into_iter().map(|(name, cursor)| {
        let destination = recovery.destination(&name, cursor, oldest);
        (name, destination)
    });
    let state = State::new(segments, next, destinations.collect());

    recovery.segments = state.segments.len() as u64;
    recovery.records = state.next - oldest;
    recovery.bytes = state.room.stored;
    Ok(Found { state, recovery })
}

impl Recovery {
    fn note(&mut self, doing: &str, name: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.faults.push(format!("cannot {doing} {name}: {error}"));
        }
    }

    fn destination(&mut self, name: &str, cursor: Option<Cursor>, oldest: u64) -> Destination {
        let Some(mut cursor) = cursor else {
            self.unreadable_cursors.push(name.to_owned());
            return Destination::new(Cursor::new(oldest), oldest);
        };
        let saved = cursor.low();
        let missing = cursor.ack(saved..oldest);
        if missing > 0 {
            self.missing.insert(name.to_owned(), missing);
        }
        Destination { unsaved: missing, ..Destination::new(cursor, saved) }
    }
}

/// The newest segment, cut off behind its last record.
struct Newest {
    base: u64,
    next: u64,
    bytes: u64,
    begun_ms: u64,
    newest_ms: u64,
}

/// Finds the newest segment with a record. Newer ones were begun and never held anything: they are removed, here and from
/// `bases`.
///
/// Also the number of the next record.
fn recover_newest(
    disk: &dyn Disk,
    bases: &mut Vec<u64>,
    recovery: &mut Recovery,
) -> io::Result<(Option<Newest>, u64)> {
    // What stood before the first record of a segment was used, even if it is lost.
    let mut next = FIRST;
    while let Some(base) = bases.last().copied() {
        next = next.max(base);
        let scanned = scan_newest(disk, base, recovery);
        if let Some(newest) = scanned.map_err(|error| about(&file_name(base), error))? {
            let next = next.max(newest.next);
            return Ok((Some(newest), next));
        }
        recovery.note("remove", &file_name(base), disk.remove(&file_name(base)));
        bases.pop();
    }
    Ok((None, next))
}

/// The same error, with the file that it is about.
fn about(name: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name}: {error}"))
}

/// A file and its length; `None` when the medium is damaged there.
type Opened = Option<(Arc<dyn DiskFile>, u64)>;

fn open(disk: &dyn Disk, name: &str, recovery: &mut Recovery) -> io::Result<Opened> {
    let opened = disk.open(name).and_then(|file| file.size().map(|size| (file, size)));
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if is_medium_error(&error) => {
            recovery.note("open", name, Err(error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Walks through the segment; `None` when it holds no whole record.
fn scan_newest(disk: &dyn Disk, base: u64, recovery: &mut Recovery) -> io::Result<Option<Newest>> {
    let name = file_name(base);
    let Some((file, size)) = open(disk, &name, recovery)? else {
        return Ok(Some(Newest::unreadable(base, 0)));
    };
    let header = match read_header(&*file, base) {
        Ok(Some(header)) => header,
        Ok(None) => {
            recovery.torn_bytes += size;
            return Ok(None);
        }
        Err(error) if is_medium_error(&error) => {
            recovery.note("read", &name, Err(error));
            return Ok(Some(Newest::unreadable(base, size)));
        }
        Err(error) => return Err(error),
    };
    let scan = scan(&*file, header, size, recovery)?;
    if scan.unreadable {
        recovery.note(
            "read all of",
            &name,
            Err(io::Error::other("the disk failed to; its records are kept")),
        );
        return Ok(Some(if scan.records > 0 { scan.newest(base) } else { Newest::unreadable(base, size) }));
    }
    recovery.torn_bytes += size - if scan.records > 0 { scan.end } else { 0 };
    if scan.records == 0 {
        return Ok(None);
    }
    let cut = if size > scan.end { file.set_size(scan.end) } else { Ok(()) };
    // Its last records may have come from a process that died before it could synchronise them.
    recovery.note("synchronise", &name, cut.and_then(|()| file.sync()).and_then(|()| disk.sync_names()));
    Ok(Some(scan.newest(base)))
}

/// What a walk through the newest segment found.
struct Scan {
    records: u64,
    /// Behind the last record.
    end: u64,
    next: u64,
    begun_ms: u64,
    newest_ms: u64,
    unreadable: bool,
}

fn scan(file: &dyn DiskFile, header: SegmentHeader, size: u64, recovery: &mut Recovery) -> io::Result<Scan> {
    let start = SEGMENT_HEADER as u64;
    let (expect, limit) = (header.base, u64::MAX);
    let mut walk = Walk::new(
        file,
        Extent { header, offset: start, end: size, expect, limit, chunk: CHUNK, tolerant: true },
    );
    let (mut records, mut newest_ms) = (0_u64, header.time_ms);
    while let Some(step) = walk.next()? {
        match step {
            Step::Record(head) => {
                records += 1;
                newest_ms = head.time_ms.max(newest_ms);
            }
            Step::Damage { bytes, lost, .. } => {
                recovery.damaged_bytes += bytes;
                recovery.damaged_records += lost.end - lost.start;
            }
        }
    }
    let (end, next, unreadable) = (walk.extent.offset, walk.extent.expect, walk.unreadable);
    Ok(Scan { records, end, next, begun_ms: header.time_ms, newest_ms, unreadable })
}

impl Scan {
    fn newest(&self, base: u64) -> Newest {
        let (next, bytes, begun_ms, newest_ms) = (self.next, self.end, self.begun_ms, self.newest_ms);
        Newest { base, next, bytes, begun_ms, newest_ms }
    }
}

impl Newest {
    /// Nothing is known but that it is there. It is kept: the disk may read it another time.
    fn unreadable(base: u64, bytes: u64) -> Self {
        Self { base, next: base + 1, bytes, begun_ms: u64::MAX, newest_ms: u64::MAX }
    }
}

/// All segments; of those before the newest only the length is asked for, and the time at which the next one was begun.
fn list_segments(
    disk: &dyn Disk,
    bases: &[u64],
    newest: Option<&Newest>,
    recovery: &mut Recovery,
) -> io::Result<VecDeque<Segment>> {
    let mut segments = VecDeque::new();
    let Some(newest) = newest else { return Ok(segments) };
    segments.push_front(Segment::new(newest.base, newest.bytes, newest.newest_ms));
    let mut following = newest.begun_ms;
    for base in bases.iter().rev().skip(1).copied() {
        let name = file_name(base);
        let opened = open(disk, &name, recovery).map_err(|error| about(&name, error))?;
        segments.push_front(Segment::new(base, opened.as_ref().map_or(0, |(_, size)| *size), following));
        // Who reads it will find out what is wrong with it.
        let header = opened.and_then(|(file, _)| read_header(&*file, base).ok().flatten());
        following = header.map_or(following, |header| header.time_ms);
    }
    Ok(segments)
}

/// The header of an open segment; `None` when it is damaged.
pub(crate) fn read_header(file: &dyn DiskFile, base: u64) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER];
    let read = read_full(file, &mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes[..read], base))
}

/// `None` when it cannot be read, for whatever reason: that costs repetitions only.
fn read_cursor(disk: &dyn Disk, name: &str) -> Option<Cursor> {
    let file = disk.open(name).ok()?;
    let size = file.size().ok().filter(|size| *size <= CURSOR_MAX)?;
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    let read = read_full(&*file, &mut bytes, 0).ok()?;
    Cursor::decode(&bytes[..read])
}
