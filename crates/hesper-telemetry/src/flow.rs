//! What a receiver hands on, and to whom.

use crate::{
    net::Peer,
    origin::{BatchId, Origin},
};
use futures::future::BoxFuture;
use hesper_otlp::{Batch, Counts, PartialSuccess, Refusal};
use std::sync::Arc;

/// A request that was read, checked and counted.
#[derive(Clone, Debug)]
pub struct Received {
    /// What came.
    pub batch: Batch,
    /// How much it is.
    pub counts: Counts,
    /// Who sent it, as far as the receiver knows. From a gateway that may speak for others, it is what that told.
    pub origin: Origin,
    /// How that gateway calls the batch.
    pub id: Option<BatchId>,
    /// The connection that it came on.
    pub peer: Arc<Peer>,
}

/// Takes what was received. It answers when the data is safe: the sender is told so then.
pub trait Sink: Send + Sync {
    /// Takes a request. A future that is dropped before it ends may have taken it or not.
    ///
    /// # Errors
    /// Why it is not taken.
    fn accept(&self, received: Received) -> BoxFuture<'_, Result<PartialSuccess, Refusal>>;
}
