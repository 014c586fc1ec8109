//! What can go wrong, by what the caller can do about it.

use crate::object::{KEY_MAX, OPERATIONS_MAX, Revision, TXN_MAX};
use std::path::PathBuf;

/// Why the store could not be opened or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, or is no store.
    #[error("cannot open the store {}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// What the engine or the file system said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the file open.
    #[error("the store {} is in use by another process: stop it, or choose another home directory", path.display())]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The check after an unclean stop found damage.
    #[error("the store {} is damaged ({fault}): restore it from a backup", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// The first finding.
        fault: String,
    },
    /// The file was written by a newer Hesper.
    #[error("the store {} has layout {found}, this program knows {known}: run a newer version of hesper", path.display())]
    Layout {
        /// The database file.
        path: PathBuf,
        /// The layout number found.
        found: i64,
        /// The newest one understood.
        known: i64,
    },
    /// The SQLite library is older than the first one without known WAL corruption bugs.
    #[error("SQLite {found} is too old: at least {needed} is needed")]
    EngineVersion {
        /// The version linked.
        found: &'static str,
        /// The oldest accepted.
        needed: &'static str,
    },
    /// The transaction breaks a limit; it was not tried.
    #[error(transparent)]
    Txn(#[from] TxnFault),
    /// The engine failed; nothing of this request was stored.
    #[error("the store failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// A transaction that no engine takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxnFault {
    /// A key is empty, too long or contains NUL.
    #[error("the key {key:?} is empty, longer than {KEY_MAX} bytes or contains NUL")]
    Key {
        /// Its first characters.
        key: String,
    },
    /// One key in two writes.
    #[error("the transaction writes {key:?} twice")]
    WrittenTwice {
        /// That key.
        key: String,
    },
    /// Too many compares or writes.
    #[error("the transaction has more than {OPERATIONS_MAX} compares or writes")]
    TooManyOperations,
    /// Too many bytes.
    #[error("the transaction has {size} bytes, more than {TXN_MAX}")]
    TooLarge {
        /// Bytes of keys and values.
        size: usize,
    },
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The history between the watch's place and `oldest` is gone, or the store is older than the place asked for
    /// (it was restored from a backup). Take a snapshot and watch after its revision.
    #[error("changes before revision {oldest} are no longer kept: take a new snapshot")]
    Compacted {
        /// The first revision a new watch can start after.
        oldest: Revision,
    },
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}
