//! What a log tells its owner while it runs.

use bytes::Bytes;
use std::{fmt, io, ops::Range, sync::Arc};

/// Is called with every event, from the threads of the log: it should be quick, and must not wait for the log.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// Why a destination will not get records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The log had reached `max_bytes`.
    Cap,
    /// They were older than `max_age`.
    Age,
    /// The disk was full.
    DiskFull,
    /// They cannot be read any more.
    Damaged,
}

/// A record that a destination will not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedRecord {
    /// Its number.
    pub seq: u64,
    /// Its time, ms since 1970.
    pub time_ms: u64,
    /// The caller's header.
    pub header: Bytes,
    /// Length of its payload, bytes.
    pub payload_len: u64,
}

/// Something that the owner should count or log.
#[derive(Debug)]
pub enum Event<'a> {
    /// A destination will not get these records, and an acknowledgement of one of them is from now on answered with `false`.
    /// In pieces of at most 1,024; each record once for each destination. One that was delivered before and is acknowledged
    /// after this may thus have arrived all the same.
    Dropped {
        /// The destination.
        destination: &'a str,
        /// Why.
        reason: DropReason,
        /// How many.
        count: u64,
        /// Which; none when they are damaged, since nobody knows what they were.
        records: &'a [DroppedRecord],
        /// The numbers among which they are: what the destination has not acknowledged of these by now is lost to it, if
        /// they are damaged.
        among: Range<u64>,
    },
    /// A damaged place was found in a segment; once for each, whoever found it.
    Damaged {
        /// The segment's file.
        file: &'a str,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// Records that are missing there.
        records: u64,
    },
    /// The disk refused something that no caller waits for. It is tried again.
    Fault {
        /// What.
        doing: &'static str,
        /// The file.
        file: &'a str,
        /// What the disk said.
        error: &'a io::Error,
    },
}

impl DropReason {
    /// All reasons, for metrics.
    pub const ALL: [Self; 4] = [Self::Cap, Self::Age, Self::DiskFull, Self::Damaged];
}

impl fmt::Display for DropReason {
    /// As metrics and the ledger name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cap => "cap",
            Self::Age => "age",
            Self::DiskFull => "disk_full",
            Self::Damaged => "damaged",
        })
    }
}
