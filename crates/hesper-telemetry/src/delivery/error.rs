//! What can be wrong with a way out.

use std::{io, path::PathBuf};

/// Why a pipeline's destinations cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The plan makes no sense.
    #[error("pipeline {pipeline}: {reason}")]
    Plan {
        /// The pipeline.
        pipeline: String,
        /// What does not fit, and what would.
        reason: String,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Queue(#[from] hesper_queue::OpenError),
    /// A destination of the log cannot be served or forgotten.
    #[error(transparent)]
    Destination(#[from] hesper_queue::DestinationError),
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
    /// Somebody still uses what is to be opened anew.
    #[error("pipeline {0}: senders are being answered still: reload again")]
    Busy(String),
    /// The program failed.
    #[error("opening a queue failed (a fault of this program): {0}")]
    Task(String),
}
