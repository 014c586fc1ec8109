//! The way of a batch to each destination: a queue in memory or on disk, retries, and the ledger of what became of it.
