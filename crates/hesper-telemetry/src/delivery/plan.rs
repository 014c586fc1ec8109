//! What a pipeline's way out is made of.

use crate::export::Exporter;
use hesper_collector_config::{QueueBatch, Retry, SendingQueue, Sizer, extensions, processors};
use hesper_otlp::limits::Limits;
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// The destinations of a pipeline.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pipeline's id, such as `traces/eu`: its log is named after it.
    pub pipeline: String,
    /// Where everything goes. Names are unique.
    pub destinations: Vec<Destination>,
}

/// One destination of a pipeline.
#[derive(Clone)]
pub struct Destination {
    /// The exporter's id, such as `otlp/eu`. A queue belongs to its name.
    pub name: String,
    /// Sends.
    pub exporter: Arc<dyn Exporter>,
    /// The queue. None, or one that is not enabled: the sender waits until the data is delivered.
    pub queue: Option<SendingQueue>,
    /// What happens after a failure.
    pub retry: Retry,
    /// Puts requests together, behind the queue. Not towards a gateway.
    pub merge: Option<Merge>,
    /// Where the queue is kept; none: in memory.
    pub storage: Option<Storage>,
    /// The destination is a gateway of the mesh: it knows batches by their ids, so that each goes there as it came.
    pub gateway: bool,
    /// Largest request, bytes: what is larger is divided (OTLP specification, "client SHOULD bound").
    pub request_bytes: usize,
}

/// When requests are put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Sent from this size on.
    pub min: u64,
    /// Divided above this size; zero: never.
    pub max: u64,
    /// What the sizes count: items or bytes.
    pub sizer: Sizer,
    /// Sent after so long, however small.
    pub timeout: Duration,
    /// Headers of the sender that must be the same in one request, in lower case.
    pub keys: Vec<String>,
    /// Requests that are being put together at once: one for each sender and values of the headers.
    pub groups: usize,
    /// Put together what came from different senders. The request has no sender then: who adds credentials by the sender cannot.
    pub across_senders: bool,
}

/// Where the log of a pipeline is, and how large it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The directory of the `file_storage`; each pipeline has its log in one below it.
    pub directory: PathBuf,
    /// Make the directory, with these permissions, when it is not there.
    pub create: Option<u32>,
    /// How long to wait for a process that has the log open.
    pub timeout: Duration,
    /// Largest log, bytes.
    pub max_bytes: u64,
    /// What is older is dropped.
    pub max_age: Option<Duration>,
    /// What happens when the log is full.
    pub when_full: extensions::WhenFull,
}

impl Destination {
    /// One with the Collector's defaults: a queue in memory, retries for ever.
    pub fn new(name: impl Into<String>, exporter: Arc<dyn Exporter>) -> Self {
        Self {
            name: name.into(),
            exporter,
            queue: Some(SendingQueue::default()),
            retry: Retry::default(),
            merge: None,
            storage: None,
            gateway: false,
            request_bytes: Limits::default().request,
        }
    }

    /// The queue, unless it is switched off.
    pub(crate) fn sending_queue(&self) -> Option<&SendingQueue> {
        self.queue.as_ref().filter(|queue| queue.enabled)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, queue, retry, merge, storage, gateway, request_bytes, exporter: _ } = self;
        f.debug_struct("Destination")
            .field("name", name)
            .field("queue", queue)
            .field("retry", retry)
            .field("merge", merge)
            .field("storage", storage)
            .field("gateway", gateway)
            .field("request_bytes", request_bytes)
            .finish_non_exhaustive()
    }
}

/// Requests that one `batch` puts together at once, by default.
const GROUPS: usize = 1000;

impl From<&QueueBatch> for Merge {
    fn from(batch: &QueueBatch) -> Self {
        Self {
            min: batch.min_size,
            max: batch.max_size,
            sizer: batch.sizer,
            timeout: batch.flush_timeout,
            keys: batch.partition.metadata_keys.iter().map(|key| key.to_ascii_lowercase()).collect(),
            groups: GROUPS,
            across_senders: false,
        }
    }
}

impl From<&processors::Batch> for Merge {
    fn from(batch: &processors::Batch) -> Self {
        let limit = usize::try_from(batch.metadata_cardinality_limit).unwrap_or(usize::MAX);
        Self {
            min: batch.send_batch_size,
            max: batch.send_batch_max_size,
            sizer: Sizer::Items,
            timeout: batch.timeout,
            keys: batch.metadata_keys.iter().map(|key| key.to_ascii_lowercase()).collect(),
            groups: if limit == 0 { GROUPS } else { limit.min(GROUPS) },
            across_senders: false,
        }
    }
}

impl From<&extensions::FileStorage> for Storage {
    fn from(storage: &extensions::FileStorage) -> Self {
        Self {
            directory: PathBuf::from(&storage.directory),
            create: storage.create_directory.then_some(storage.directory_permissions),
            timeout: storage.timeout,
            max_bytes: storage.max_size,
            max_age: storage.max_age,
            when_full: storage.when_full,
        }
    }
}

impl Storage {
    /// The log's options. A small log has small segments, and takes no record that would fill half of it.
    pub(crate) fn options(&self) -> hesper_queue::Options {
        let usual = hesper_queue::Options::default();
        let half = (self.max_bytes / 2).saturating_sub(1024);
        let segment_bytes = usual.segment_bytes.min(self.max_bytes / 8).max(1024);
        hesper_queue::Options {
            segment_bytes,
            max_record_bytes: usual.max_record_bytes.min(half),
            max_bytes: self.max_bytes,
            max_age: self.max_age,
            when_full: match self.when_full {
                extensions::WhenFull::Block => hesper_queue::WhenFull::Block,
                extensions::WhenFull::DropOldest => hesper_queue::WhenFull::DropOldest,
            },
            group_bytes: usual.group_bytes.min(segment_bytes),
            ..usual
        }
    }
}
