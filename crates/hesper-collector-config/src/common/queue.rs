//! `sending_queue`.

use crate::{id::Id, reader::Wanted, remark::Topic, section::Section};
use std::time::Duration;

/// What the size of a queue or batch counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizer {
    /// Batches as they came.
    Requests,
    /// Spans, data points, log records.
    Items,
    /// Encoded bytes.
    Bytes,
}

/// The queue in front of an exporter.
#[derive(Clone, Debug, PartialEq)]
pub struct SendingQueue {
    /// Is there one?
    pub enabled: bool,
    /// Deliveries under way at once (10).
    pub num_consumers: u64,
    /// What it holds at most (1000).
    pub queue_size: u64,
    /// What that counts.
    pub sizer: Sizer,
    /// When it is full: wait, instead of refusing?
    pub block_on_overflow: bool,
    /// Answer the sender only when the data is delivered?
    pub wait_for_result: bool,
    /// The `file_storage` that keeps it.
    pub storage: Option<Id>,
    /// Several requests put together, behind the queue.
    pub batch: Option<QueueBatch>,
}

/// `sending_queue.batch`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueBatch {
    /// Send after so long, however small (200 ms).
    pub flush_timeout: Duration,
    /// Send from this size on (8192).
    pub min_size: u64,
    /// Split above this size; zero: never.
    pub max_size: u64,
    /// What the sizes count.
    pub sizer: Sizer,
    /// What must not be put together.
    pub partition: Partition,
}

/// `sending_queue.batch.partition`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Partition {
    /// Headers of the sender that must be the same.
    pub metadata_keys: Vec<String>,
}

impl Default for SendingQueue {
    fn default() -> Self {
        Self {
            enabled: true,
            num_consumers: 10,
            queue_size: 1000,
            sizer: Sizer::Requests,
            block_on_overflow: false,
            wait_for_result: false,
            storage: None,
            batch: None,
        }
    }
}

impl Default for QueueBatch {
    fn default() -> Self {
        Self {
            flush_timeout: Duration::from_millis(200),
            min_size: 8192,
            max_size: 0,
            sizer: Sizer::Items,
            partition: Partition::default(),
        }
    }
}

/// Reads `sending_queue`.
pub(crate) fn queue(s: &Section<'_>) -> SendingQueue {
    s.section("sending_queue", read).unwrap_or_default()
}

fn read(s: &Section<'_>) -> SendingQueue {
    let default = SendingQueue::default();
    let sizers = [("requests", Sizer::Requests), ("items", Sizer::Items), ("bytes", Sizer::Bytes)];
    let blocking = s.flag("blocking", default.block_on_overflow);
    if s.is_set("blocking") {
        s.remark(Topic::Renamed, "blocking", "blocking is called block_on_overflow now", "rename it");
    }
    let queue = SendingQueue {
        enabled: s.flag("enabled", default.enabled),
        num_consumers: s.count_in("num_consumers", default.num_consumers, 1..=u64::MAX),
        queue_size: s.count_in("queue_size", default.queue_size, 1..=u64::MAX),
        sizer: s.one_of("sizer", &sizers, default.sizer),
        block_on_overflow: s.flag("block_on_overflow", blocking),
        wait_for_result: s.flag("wait_for_result", default.wait_for_result),
        storage: s.reference("storage", Wanted::Storage),
        batch: s.section("batch", batch),
    };
    if queue.storage.is_some() {
        bounded_by_log(s);
        if queue.wait_for_result {
            let reason = "not with storage: the sender is answered when the data is on disk";
            s.refuse("wait_for_result", reason, "leave out one of the two");
        }
    }
    queue
}

/// Says that the size of a queue in memory means nothing for a log, which all its destinations have in common.
pub(crate) fn bounded_by_log(s: &Section<'_>) {
    for key in ["queue_size", "sizer"] {
        s.idle(key, "with storage, max_size_mib of the file_storage bounds the queue");
    }
}

fn batch(s: &Section<'_>) -> QueueBatch {
    let default = QueueBatch::default();
    let batch = QueueBatch {
        flush_timeout: s.duration("flush_timeout", default.flush_timeout),
        min_size: s.count("min_size", default.min_size),
        max_size: s.count("max_size", default.max_size),
        sizer: s.one_of("sizer", &[("items", Sizer::Items), ("bytes", Sizer::Bytes)], default.sizer),
        partition: s
            .section("partition", |s| Partition { metadata_keys: s.texts("metadata_keys") })
            .unwrap_or_default(),
    };
    if batch.max_size > 0 && batch.max_size < batch.min_size {
        s.refuse("max_size", "smaller than min_size", "make it larger, or 0 for no limit");
    }
    if batch.flush_timeout.is_zero() {
        s.refuse("flush_timeout", "zero", "write how long a batch may wait, such as 200ms");
    }
    batch
}
