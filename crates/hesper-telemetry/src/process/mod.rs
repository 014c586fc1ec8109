//! What happens to a batch between receiver and queue.
//!
//! [`build()`] makes a processor of its settings. Each is a function of a batch and its origin; what needs no messages works on the bytes (`resource`,
//! and `attributes` without conditions, set constant values by [`hesper_otlp::edit`]). None of them may touch attributes under `hesper.`:
//! the stamp comes before them, and must arrive.

use crate::origin::Origin;
use hesper_otlp::{Batch, Refusal};

mod actions;
mod attributes;
mod build;
mod condition;
mod counted;
mod filter;
mod items;
mod matching;
mod memory;
mod sampler;
pub mod value;
mod work;

pub use build::{BuildError, build};
pub use counted::{Counted, Counters, Counting};
pub use work::{MAX_MESSAGES, Messages, Work, WorkError};

/// A step of a pipeline.
pub trait Processor: Send + Sync {
    /// Changes a batch, or drops it whole (`None`).
    ///
    /// # Errors
    /// It cannot be taken now; the sender is told so.
    fn process(&self, work: Work, origin: &Origin) -> Result<Option<Work>, Refusal>;
}

/// Sends a batch through all steps. What is left of it; `None`: nothing.
///
/// # Errors
/// A step refused it, or its messages cannot be decoded.
pub fn run(
    steps: &[std::sync::Arc<dyn Processor>],
    batch: Batch,
    origin: &Origin,
) -> Result<Option<Batch>, Refusal> {
    let mut work = Work::new(batch);
    for step in steps {
        match step.process(work, origin)? {
            Some(next) => work = next,
            None => return Ok(None),
        }
    }
    Ok(Some(work.into_batch()))
}
