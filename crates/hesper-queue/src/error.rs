//! What can go wrong, and what to do about it.

use std::{io, path::PathBuf, sync::Arc};
use thiserror::Error;

/// Why a log was not opened. Damaged contents are never a reason: see [`crate::Recovery`].
#[derive(Debug, Error)]
pub enum OpenError {
    /// The options contradict each other.
    #[error("the options of the queue do not fit together: {0}")]
    Options(String),
    /// Another process, or another log of this one, has the directory.
    #[error(
        "the queue in {} is in use by another process: stop it, or give this one a directory of its own",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot {doing} in {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why a record was not appended.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// As much is stored as may be: a destination is behind. The sender should come again later.
    #[error("the queue is full: it holds {bytes} of {max} bytes, which a destination has yet to acknowledge")]
    Full {
        /// Stored and waiting, bytes.
        bytes: u64,
        /// [`crate::Options::max_bytes`].
        max: u64,
    },
    /// More is appended than the disk takes. The sender should come again later.
    #[error("the disk is slower than the senders: {records} records of {bytes} bytes wait for it")]
    Overrun {
        /// Waiting, records.
        records: u64,
        /// Waiting, bytes.
        bytes: u64,
    },
    /// The record will never fit.
    #[error("the record has {bytes} bytes, more than the {max} that the queue takes: send smaller batches")]
    TooLarge {
        /// On disk, bytes.
        bytes: u64,
        /// [`crate::Options::max_record_bytes`].
        max: u64,
    },
    /// The disk refused. The log goes on: the next append is tried anew.
    #[error("the record was not written to disk: {0}")]
    Io(Arc<io::Error>),
    /// The log was closed. Whether a record that was on its way is on disk is not known.
    #[error("the queue is closed")]
    Closed,
}

impl AppendError {
    /// The disk itself has no room, whatever `max_bytes` says.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io(error) if is_disk_full(error))
    }
}

/// Why nothing could be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The disk refused. The reader stands where it was: try again after a pause. What cannot be read three times for a
    /// fault of the medium (EIO) is passed over as damaged.
    #[error("cannot read the queue: {0}")]
    Io(#[from] io::Error),
    /// The log was closed.
    #[error("the queue is closed")]
    Closed,
}

/// Why a destination was not opened or forgotten.
#[derive(Debug, Error)]
pub enum DestinationError {
    /// No file can have that name.
    #[error(
        "{0:?} cannot name a destination: it must not be empty, nor longer than 200 bytes when encoded for a file"
    )]
    Name(String),
    /// It has a reader.
    #[error("the destination {0:?} has a reader: a cursor serves one at a time")]
    InUse(String),
    /// There is none of that name.
    #[error("there is no destination {0:?}")]
    Unknown(String),
    /// Its cursor could not be written or removed.
    #[error("the cursor of destination {name:?} was not written to disk: {source}")]
    Io {
        /// The destination.
        name: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The log was closed.
    #[error("the queue is closed")]
    Closed,
}

/// The medium itself is damaged, or what the file system has on it: waiting for it may be in vain. Too many open files, or a
/// missing permission, is none of this: that passes, and nothing must be given up for it.
pub(crate) fn is_medium_error(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const EBADMSG: i32 = 74;
    const EUCLEAN: i32 = 117;
    matches!(error.raw_os_error(), Some(EIO | EBADMSG | EUCLEAN))
}

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
