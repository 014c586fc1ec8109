//! `batch`: requests put together.

use crate::section::Section;
use std::time::Duration;

/// When a batch is sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// From so many items on (8192).
    pub send_batch_size: u64,
    /// After so long (200 ms).
    pub timeout: Duration,
    /// Split above so many items; zero: never.
    pub send_batch_max_size: u64,
    /// Headers of the sender that must be the same in one batch.
    pub metadata_keys: Vec<String>,
    /// Most combinations of those (1000).
    pub metadata_cardinality_limit: u64,
}

pub(crate) fn read(s: &Section<'_>) -> Batch {
    let batch = Batch {
        send_batch_size: s.count("send_batch_size", 8192),
        timeout: s.duration("timeout", Duration::from_millis(200)),
        send_batch_max_size: s.count("send_batch_max_size", 0),
        metadata_keys: s.texts("metadata_keys"),
        metadata_cardinality_limit: s.count("metadata_cardinality_limit", 1000),
    };
    if batch.send_batch_max_size > 0 && batch.send_batch_max_size < batch.send_batch_size {
        s.refuse("send_batch_max_size", "smaller than send_batch_size", "make it larger, or 0 for no limit");
    }
    let mut seen: Vec<String> = Vec::new();
    for key in &batch.metadata_keys {
        let key = key.to_ascii_lowercase();
        if seen.contains(&key) {
            s.refuse("metadata_keys", format_args!("'{key}' is there twice"), "keep one of them");
        }
        seen.push(key);
    }
    batch
}
