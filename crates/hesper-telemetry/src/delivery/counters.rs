//! What is counted of a destination: plain numbers, which whoever serves metrics gives names.

use crate::distribution::{self, Distribution};
use hesper_otlp::Signal;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

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
    pub(crate) observed: Observed,
    /// When the first gateway received what is under way, ms since 1970, and how many requests that is.
    under_way: Mutex<BTreeMap<u64, usize>>,
}

/// What is observed of requests.
#[derive(Debug)]
pub(crate) struct Observed(Mutex<Distributions>);

/// How requests are distributed.
#[derive(Clone, Debug, PartialEq)]
pub struct Distributions {
    /// Seconds of each attempt, by what became of it: `ok`, `retry`, `rejected`.
    pub attempts: BTreeMap<&'static str, Distribution>,
    /// Items of each request that ended.
    pub items: Distribution,
    /// Bytes of each request that ended, before compression.
    pub bytes: Distribution,
    /// Seconds from when the first gateway received what a request has to when the request arrived.
    pub ages: Distribution,
}

impl Default for Observed {
    fn default() -> Self {
        Self(Mutex::new(Distributions {
            attempts: BTreeMap::new(),
            items: Distribution::new(&distribution::ITEMS),
            bytes: Distribution::new(&distribution::BYTES),
            ages: Distribution::new(&distribution::AGES),
        }))
    }
}

impl Observed {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Distributions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something is on its way until this is dropped.
pub(crate) struct UnderWay<'a> {
    counters: &'a Counters,
    received_ms: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.counters.under_way();
        if let Some(count) = under_way.get_mut(&self.received_ms) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.received_ms);
            }
        }
    }
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Gauge: when the first gateway received the oldest of what is under way, ms since 1970.
    pub oldest_ms: Option<u64>,
    /// How its requests are distributed.
    pub distributions: Distributions,
}

impl Counters {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request that has what was received then is on its way.
    pub(crate) fn begin(&self, received_ms: u64) -> UnderWay<'_> {
        *self.under_way().entry(received_ms).or_default() += 1;
        UnderWay { counters: self, received_ms }
    }

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
            oldest_ms: self.under_way().keys().next().copied(),
            distributions: self.observed.lock().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_under_way_is_known() {
        let counters = Counters::default();
        let oldest = || counters.stats("a", QueueKind::Memory).oldest_ms;
        assert_eq!(oldest(), None);
        let (late, early, also) = (counters.begin(9), counters.begin(3), counters.begin(3));
        assert_eq!(oldest(), Some(3));
        drop(early);
        assert_eq!(oldest(), Some(3), "another one of then is still under way");
        drop(also);
        assert_eq!(oldest(), Some(9));
        drop(late);
        assert_eq!(oldest(), None);
    }
}
