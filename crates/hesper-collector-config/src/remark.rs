//! What works, but probably not as its author thinks.

use hesper_yaml::Place;
use std::fmt;

/// What a remark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Defined, and nothing uses it.
    Unused,
    /// An older name of something.
    Renamed,
    /// A key that is known and changes nothing here.
    NoEffect,
    /// A password or an htpasswd line that will not match what people type.
    Credential,
    /// Something secret travels in the clear, or a peer is not checked.
    Insecure,
    /// Who can reach a listener: everybody, or nobody but this machine.
    Reach,
    /// When data is on disk.
    Durability,
    /// The environment, or the shape of the files.
    Source,
}

/// One remark. `Display` is one line: `FILE:LINE:COLUMN: reason; next step`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Where.
    pub place: Place,
    /// What it is about.
    pub topic: Topic,
    /// What is to be noticed.
    pub reason: String,
    /// What to do about it.
    pub next: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.reason, self.next)
    }
}
