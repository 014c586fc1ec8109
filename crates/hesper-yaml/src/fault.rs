//! What is wrong with a file: where, why, and what to do.

use std::{fmt, sync::Arc};

/// A place in a file, for people: lines and columns count from one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<str>,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One fault of the files. `Display` is one line: `FILE:LINE:COLUMN: reason; next step`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{place}: {reason}; {next}")]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What is wrong there.
    pub reason: String,
    /// What to do about it.
    pub next: String,
}

impl Fault {
    /// A fault at this place.
    pub fn new(place: Place, reason: impl Into<String>, next: impl Into<String>) -> Self {
        Self { place, reason: reason.into(), next: next.into() }
    }
}
