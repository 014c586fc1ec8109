//! Where batches go.

mod backoff;
pub mod debug;
pub mod file;
pub mod otlp;
pub mod remote_write;
mod url;

pub use self::url::of_url;

use crate::origin::{BatchId, Origin};
use futures::future::BoxFuture;
use hesper_otlp::{Batch, PartialSuccess};
use std::{sync::Arc, time::Duration};

/// A batch on its way to one destination.
#[derive(Clone, Debug)]
pub struct Shipment {
    /// What is sent.
    pub batch: Batch,
    /// Spans, data points, log records or profiles in it.
    pub items: u64,
    /// Whose it is.
    pub origin: Arc<Origin>,
    /// Its name, the same when it is sent again. None when several batches were put together.
    pub id: Option<BatchId>,
}

/// Sends batches to one destination.
pub trait Exporter: Send + Sync {
    /// Sends one. Has its own deadline.
    ///
    /// # Errors
    /// It did not arrive, or nobody knows whether it did.
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>>;

    /// Waits until what was taken has reached its place (files), and closes connections.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// Why an exporter cannot be made of its settings: what, why, and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub(crate) String);

/// Why a batch did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It may arrive later.
    #[error("{reason}")]
    Again {
        /// What happened, with the destination's name.
        reason: String,
        /// Not before so long; none: the sender's own backoff.
        after: Option<Duration>,
    },
    /// It never will: it is dropped and counted.
    #[error("{reason}")]
    Never {
        /// What happened, with the destination's name.
        reason: String,
    },
}
