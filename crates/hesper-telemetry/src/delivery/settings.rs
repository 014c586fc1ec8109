//! How a destination is served just now: it may change while it is.

use super::plan::{Destination, Merge};
use crate::export::Exporter;
use hesper_collector_config::Retry;
use std::sync::Arc;

/// Deliveries under way at once of a destination without a queue setting.
const CONSUMERS: u64 = 10;
/// More than this many are never under way, whatever is written.
const CONSUMERS_MAX: u64 = 10_000;

/// What a worker wants to know of its destination.
pub(crate) struct Settings {
    pub(crate) exporter: Arc<dyn Exporter>,
    pub(crate) retry: Retry,
    /// Deliveries under way at once.
    pub(crate) consumers: usize,
    pub(crate) merge: Option<Merge>,
    pub(crate) gateway: bool,
    pub(crate) request_bytes: usize,
    pub(crate) block_on_overflow: bool,
    pub(crate) wait_for_result: bool,
}

impl Settings {
    pub(crate) fn of(destination: &Destination) -> Arc<Self> {
        let queue = destination.sending_queue();
        let consumers = queue.map_or(CONSUMERS, |queue| queue.num_consumers).clamp(1, CONSUMERS_MAX);
        Arc::new(Self {
            exporter: destination.exporter.clone(),
            retry: destination.retry.clone(),
            consumers: usize::try_from(consumers).unwrap_or(usize::MAX),
            merge: destination.merge.clone().filter(|_| !destination.gateway),
            gateway: destination.gateway,
            request_bytes: destination.request_bytes,
            block_on_overflow: queue.is_some_and(|queue| queue.block_on_overflow),
            wait_for_result: queue.is_some_and(|queue| queue.wait_for_result),
        })
    }
}
