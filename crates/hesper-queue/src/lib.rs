//! The durable queue of `hesper collect`: a segment log. Acknowledged means on disk.
//!
//! [`Appender::append`] ends after the fsync that covers its record; all that waits shares one write and one fsync. Each
//! *destination* reads the one log with a [`Reader`] of its own, acknowledges in any order, and is delivered again after a crash
//! what it had not acknowledged. A segment is deleted as a whole when every destination is past it. A log that is full blocks or
//! drops its oldest segment ([`WhenFull`]); nothing is dropped untold ([`Event`]). It opens whatever it finds ([`Recovery`]):
//! a torn end is cut off, damage costs the records that it touches, a disk that is full or fails costs the append, never the log.
//!
//! One thread writes (`writer`, `keeper`), one reads; callers wait for futures that need no particular runtime. The
//! decisions are made without files: bytes in `segment` and `walk`, acknowledgements in `cursor`, what shares an fsync in
//! `commit`, who has to wait in `room`, which segment goes in `retention`. Files are behind [`Disk`], so that the tests
//! can cut the power between any two calls.
//!
//! # Files
//! All numbers little-endian; checksums CRC-32C. A directory has one log:
//! - `lock` is locked by the process that has it open.
//! - `00000000000000000042.seg`, a segment, has the number of its first record as its name. It begins with two copies of
//!   ```text
//!   magic "HESPERQ1" 8 | base u64 | time_ms u64 | salt u64 | mark u32 | checksum of the 36 bytes before u32
//!   ```
//!   and continues with records, without padding:
//!   ```text
//!   mark u32 | checksum u32 | length u32 | header_len u32 | seq u64 | time_ms u64 | header | payload
//!   ```
//!   `length` is that of header and payload. The checksum is over the salt (8 bytes) and everything behind the checksum. Mark
//!   and salt are random for each segment: behind a damaged record the next one is found by the mark, and no sender can put
//!   something into a payload that would pass for a record with an origin of its choice.
//!   Numbers rise by one. What has the number of the next segment or a higher one does not count: it was written by an append
//!   that failed. A number that is missing is a record that was lost.
//!   Each process begins a segment of its own with its first append.
//! - `otlp%2Feu.cursor` is how far the destination `otlp/eu` is; replaced by renaming `….cursor.tmp`:
//!   ```text
//!   magic "HESPERC1" 8 | checksum of all behind u32 | count u32 | lowest unacknowledged u64 | count × (from u64, to u64)
//!   ```
//!   The ranges `from..to` are acknowledged beyond the lowest.

mod commit;
mod cursor;
pub mod disk;
mod error;
mod event;
#[cfg(any(test, feature = "faulty-disk"))]
pub mod faulty;
mod keeper;
mod log;
mod options;
mod ranges;
mod reader;
mod recovery;
mod retention;
mod room;
mod segment;
mod shared;
mod state;
mod stats;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

use bytes::Bytes;
pub use disk::{Directory, Disk, DiskFile};
pub use error::{AppendError, DestinationError, OpenError, ReadError};
pub use event::{DropReason, DroppedRecord, Event, Observer};
pub use log::{Appender, Log, Pending};
pub use options::{Options, WhenFull};
pub use ranges::Ranges;
pub use reader::{Acker, Reader};
pub use recovery::Recovery;
pub use shared::{Begin, Clock};
pub use stats::{Counters, DestinationStats, GroupSizes, Stats};

/// What is appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it came, ms since 1970; [`Options::max_age`] counts from here.
    pub time_ms: u64,
    /// What the owner wants to know of the record without its payload: who sent it, how much it is.
    pub header: Bytes,
    /// The record.
    pub payload: Bytes,
}

/// What is delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number: one more than that of the record before.
    pub seq: u64,
    /// As appended.
    pub time_ms: u64,
    /// As appended.
    pub header: Bytes,
    /// As appended.
    pub payload: Bytes,
}
