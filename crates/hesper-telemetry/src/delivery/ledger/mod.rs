//! What became of every item: for each destination and sender, accepted = delivered + queued + dropped.
//!
//! A `Book` is kept for each sequence of numbers: that of a log on disk, and one for what is kept in memory. It knows by number
//! what was counted, so that nothing is counted twice: not a record that is delivered again after a crash, nor one that the log
//! drops while it is being delivered.

mod account;
mod book;
mod file;
#[cfg(test)]
mod tests;

pub use account::Party;
pub(crate) use book::{Book, Entry};
pub(crate) use file::{frame, unframe};
use hesper_otlp::Signal;
use serde::Serialize;
use std::{collections::BTreeMap, fmt};

/// Why items will not be delivered to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The destination said that it will never take them.
    Rejected,
    /// They were tried for as long as `max_elapsed_time` says, or once where `retry_on_failure` is off.
    Expired,
    /// The log had reached its size and drops what is oldest.
    Cap,
    /// They were older than the log's `max_age`.
    Age,
    /// The disk was full, and the log drops what is oldest.
    DiskFull,
    /// They cannot be read any more.
    Damaged,
    /// They were in memory when the process ended or their destination was removed.
    Shutdown,
    /// They are more than a request may have, and cannot be divided.
    TooLarge,
}

/// One line of the ledger: items of one signal, from one sender, for one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The exporter.
    pub destination: String,
    /// Who sent them.
    pub sender: Party,
    /// Of which signal.
    #[serde(serialize_with = "signal_name")]
    pub signal: Signal,
    /// Items that were taken for this destination.
    pub accepted: u64,
    /// Those that it has got.
    pub delivered: u64,
    /// Those that it has yet to get.
    pub queued: u64,
    /// Those that it will not get, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl DropReason {
    /// All of them, in the order of their numbers in files.
    pub const ALL: [Self; 8] = [
        Self::Rejected,
        Self::Expired,
        Self::Cap,
        Self::Age,
        Self::DiskFull,
        Self::Damaged,
        Self::Shutdown,
        Self::TooLarge,
    ];

    /// As metrics and the ledger name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cap => "cap",
            Self::Age => "age",
            Self::DiskFull => "disk_full",
            Self::Damaged => "damaged",
            Self::Shutdown => "shutdown",
            Self::TooLarge => "too_large",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<hesper_queue::DropReason> for DropReason {
    fn from(reason: hesper_queue::DropReason) -> Self {
        match reason {
            hesper_queue::DropReason::Cap => Self::Cap,
            hesper_queue::DropReason::Age => Self::Age,
            hesper_queue::DropReason::DiskFull => Self::DiskFull,
            hesper_queue::DropReason::Damaged => Self::Damaged,
        }
    }
}

fn signal_name<S: serde::Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(signal.name())
}
