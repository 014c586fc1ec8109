//! What happens to a batch between receiver and queue.

use crate::origin::Origin;
use hesper_otlp::{Batch, Refusal};

mod work;

pub use work::{Messages, Work, WorkError};

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
