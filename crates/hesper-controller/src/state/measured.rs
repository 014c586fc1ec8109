//! A store whose operations are timed.

use crate::metrics::{LabelSet, Metrics};
use hesper_observe::metrics::{Family, Histogram};
use hesper_store::{BoxFuture, Commit, Object, Revision, Snapshot, Stats, Store, StoreError, Txn, Watch};
use std::{sync::Arc, time::Instant};

/// See the module.
pub(super) struct Measured {
    store: Arc<dyn Store>,
    durations: Family<LabelSet, Histogram>,
}

impl Measured {
    pub(super) fn new(store: Arc<dyn Store>, metrics: &Metrics) -> Self {
        Self { store, durations: metrics.store.clone() }
    }

    fn timed<'a, T: 'a>(
        &'a self,
        operation: &'static str,
        outcome: fn(&T) -> &'static str,
        work: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let begun = Instant::now();
            let done = work.await;
            let labels = vec![("operation", operation), ("outcome", done.as_ref().map_or("failed", outcome))];
            self.durations.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
            done
        })
    }
}

impl Store for Measured {
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        self.timed("snapshot", |_| "ok", self.store.snapshot())
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Object>, StoreError>> {
        self.timed("get", |_| "ok", self.store.get(key))
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Object>, StoreError>> {
        self.timed("list", |_| "ok", self.store.list(prefix))
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
        let outcome = |commit: &Commit| match commit {
            Commit::Done(_) => "ok",
            Commit::Conflict(_) => "conflict",
        };
        self.timed("commit", outcome, self.store.commit(txn))
    }

    fn watch(&self, after: Revision) -> Watch {
        self.store.watch(after)
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        self.timed("compact", |()| "ok", self.store.compact(revision))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }

    fn stats(&self) -> Stats {
        self.store.stats()
    }
}
