//! `file_storage`: where queues are kept.
//!
//! Here it is a segment log: every acknowledged batch is on disk, whatever `fsync` says, whole segments are deleted, and there
//! is nothing to compact. `max_size_mib`, `max_age` and `when_full` are ours.

use crate::{remark::Topic, section::Section};
use std::time::Duration;

/// Largest log when nothing is written, in MiB: 10 GiB.
const MAX_SIZE_MIB: u64 = 10 * 1024;

/// Where, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStorage {
    /// The directory (`/var/lib/otelcol/file_storage`).
    pub directory: String,
    /// Make it when it is not there?
    pub create_directory: bool,
    /// Its permissions when it is made (0750).
    pub directory_permissions: u32,
    /// How long to wait for the lock of the directory (1 s).
    pub timeout: Duration,
    /// The largest log, in bytes.
    pub max_size: u64,
    /// What is older is dropped; None: nothing is too old.
    pub max_age: Option<Duration>,
    /// What happens at `max_size`.
    pub when_full: WhenFull,
}

/// What happens when the log is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Senders are asked to wait.
    Block,
    /// The oldest data is dropped, and counted.
    DropOldest,
}

pub(crate) fn read(s: &Section<'_>) -> FileStorage {
    s.idle("fsync", "what is acknowledged is always on disk");
    s.idle("recreate", "what is damaged is skipped and counted, the rest is kept");
    compaction(s);
    let octal =
        |text: &str| u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|n| *n <= 0o777);
    let age = s.duration("max_age", Duration::ZERO);
    let words = [("block", WhenFull::Block), ("drop_oldest", WhenFull::DropOldest)];
    let storage = FileStorage {
        directory: s.text_or("directory", "/var/lib/otelcol/file_storage"),
        create_directory: s.flag("create_directory", false),
        directory_permissions: s
            .parsed("directory_permissions", "permissions", "write them in octal, such as 0750", octal)
            .unwrap_or(0o750),
        timeout: s.duration("timeout", Duration::from_secs(1)),
        max_size: s.count_in("max_size_mib", MAX_SIZE_MIB, 1..=u64::MAX >> 20) << 20,
        max_age: Some(age).filter(|age| !age.is_zero()),
        when_full: s.one_of("when_full", &words, WhenFull::Block),
    };
    if storage.when_full == WhenFull::DropOldest {
        let reason = format!("{}: what was acknowledged may be dropped when the log is full", s.what);
        s.remark(Topic::Durability, "when_full", reason, "write block to make senders wait instead");
    }
    storage
}

fn compaction(s: &Section<'_>) {
    let nothing = |s: &Section<'_>| {
        for key in [
            "directory",
            "on_start",
            "on_rebound",
            "rebound_needed_threshold_mib",
            "rebound_trigger_threshold_mib",
            "max_transaction_size",
            "check_interval",
            "cleanup_on_start",
        ] {
            s.open(key);
        }
    };
    if s.section("compaction", nothing).is_some() {
        s.idle("compaction", "whole segments are deleted, there is nothing to compact");
    }
}
