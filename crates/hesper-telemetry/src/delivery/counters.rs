//! What is counted of a destination: plain numbers, which whoever serves metrics gives names.

use hesper_otlp::Signal;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Items of each signal.
#[derive(Debug, Default)]
pub(crate) struct BySignal([AtomicU64; Signal::ALL.len()]);

impl BySignal {
    pub(crate) fn add(&self, signal: Signal, items: u64) {
        if let Some(counter) = Signal::ALL.iter().position(|other| *other == signal).map(|at| &self.0[at]) {
            counter.fetch_add(items, Relaxed);
        }
    }

    fn read(&self) -> Vec<(Signal, u64)> {
        Signal::ALL.into_iter().zip(&self.0).map(|(signal, count)| (signal, count.load(Relaxed))).collect()
    }
}

/// Of one destination.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: BySignal,
    pub(crate) send_failed: BySignal,
    pub(crate) enqueue_failed: BySignal,
    pub(crate) in_flight: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) request_items: AtomicU64,
    pub(crate) request_bytes: AtomicU64,
}

/// A queue's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueKind {
    /// None: senders wait.
    None,
    /// In memory.
    Memory,
    /// On disk.
    Disk,
}

/// Of one destination of a pipeline. Counters begin with the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStats {
    /// The exporter.
    pub destination: String,
    /// Where its queue is.
    pub queue: QueueKind,
    /// Gauge: what is queued, in what the queue's size counts; on disk, requests. `otelcol_exporter_queue_size`.
    pub queue_size: u64,
    /// Gauge: the most of that; on disk, 0: the log has a cap in bytes. `otelcol_exporter_queue_capacity`.
    pub queue_capacity: u64,
    /// Gauge: what is stored, bytes; on disk, of the log that all its destinations have in common.
    pub queue_bytes: u64,
    /// Gauge: the most of that, bytes.
    pub queue_bytes_max: u64,
    /// Gauge: requests under way. `otelcol_exporter_in_flight_requests`.
    pub in_flight: u64,
    /// Items that arrived. `otelcol_exporter_sent_*`.
    pub sent: Vec<(Signal, u64)>,
    /// Items that were sent and given up. `otelcol_exporter_send_failed_*`.
    pub send_failed: Vec<(Signal, u64)>,
    /// Items that the queue had no room for. `otelcol_exporter_enqueue_failed_*`.
    pub enqueue_failed: Vec<(Signal, u64)>,
    /// Requests that were sent again.
    pub retries: u64,
    /// Requests that ended, for `otelcol_exporter_queue_batch_send_size`: how many, their items and bytes.
    pub requests: (u64, u64, u64),
}

impl Counters {
    pub(crate) fn stats(&self, destination: &str, queue: QueueKind) -> DestinationStats {
        DestinationStats {
            destination: destination.to_owned(),
            queue,
            queue_size: 0,
            queue_capacity: 0,
            queue_bytes: 0,
            queue_bytes_max: 0,
            in_flight: self.in_flight.load(Relaxed),
            sent: self.sent.read(),
            send_failed: self.send_failed.read(),
            enqueue_failed: self.enqueue_failed.read(),
            retries: self.retries.load(Relaxed),
            requests: (
                self.requests.load(Relaxed),
                self.request_items.load(Relaxed),
                self.request_bytes.load(Relaxed),
            ),
        }
    }
}
