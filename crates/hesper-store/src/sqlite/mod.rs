//! The embedded engine: one SQLite file, owned by one thread that has the only connection.
//!
//! - `db`: the file and its statements; knows nothing of threads.
//! - `worker`: the thread. Commits that wait together share one `fsync`; reads see all commits answered before.
//! - `watch`: a cursor over the `change` table, woken by the revision.
//!
//! WAL with `synchronous=FULL`: an answered commit survives power loss. The file is 0600 and locked for as long as it is
//! open, so that a second controller on the same home directory is refused instead of missing changes.

mod db;
mod watch;
mod worker;

use crate::{
    error::StoreError,
    object::{Commit, Object, Revision, Snapshot, Txn},
    store::{BoxFuture, Stats, Store},
    watch::Watch,
};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span, field::Empty, info_span};
use worker::{Counters, Request};

/// Requests that may wait for the thread; a caller beyond waits its turn. Each holds at most one transaction (1.4 MB), in
/// practice a few KB: enough that a thousand nodes that come back at once queue here and share the `fsync`s.
const QUEUE: usize = 1024;

/// How much history is kept at least, in revisions: a reader that is further behind takes a snapshot.
pub(crate) const HISTORY: u64 = 10_000;

/// Opens the store in the file `path`, which is created (0600) if missing.
///
/// # Errors
/// Every [`StoreError`] of opening: the file cannot be opened, is in use by another process, is damaged (checked after
/// an unclean stop), is of a newer layout; or the SQLite library is too old.
pub fn open(path: impl AsRef<Path>) -> Result<Arc<dyn Store>, StoreError> {
    open_with(path.as_ref(), HISTORY)
}

fn open_with(path: &Path, history: u64) -> Result<Arc<dyn Store>, StoreError> {
    let db = db::Db::open(path)?;
    let counters = Arc::new(Counters::default());
    let (requests, queue) = mpsc::channel(QUEUE);
    let (announce, revision) = tokio::sync::watch::channel(db.revision());
    let worker = worker::Worker { db, history, announce, counters: counters.clone() };
    let thread = std::thread::Builder::new()
        .name("hesper-store".into())
        .spawn(move || worker.run(queue))
        .map_err(|e| StoreError::Open { path: path.to_owned(), source: e.into() })?;
    tracing::debug!(path = %path.display(), revision = *revision.borrow(), "store open");
    Ok(Arc::new(Sqlite { requests, thread: Mutex::new(Some(thread)), revision, counters }))
}

/// A handle to the thread.
struct Sqlite {
    /// The thread ends when told to close, or when no sender is left.
    requests: mpsc::Sender<Request>,
    /// Taken by the first `close`.
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Woken after each commit that changed something.
    revision: tokio::sync::watch::Receiver<Revision>,
    counters: Arc<Counters>,
}

impl Sqlite {
    fn ask<'a, T: Send + 'a>(
        &'a self,
        request: impl FnOnce(Reply<T>) -> Request + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.requests.send(request(reply)).await.map_err(|_| StoreError::Closed)?;
            answer.await.map_err(|_| StoreError::Closed)?
        })
    }

    /// The same inside of a span, which is told what the answer says.
    fn traced<'a, T: Send + 'a>(
        &'a self,
        span: Span,
        request: impl FnOnce(Reply<T>) -> Request + Send + 'a,
        tell: impl FnOnce(&Span, &T) + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let asked = self.ask(request);
        if span.is_disabled() {
            return asked;
        }
        Box::pin(async move {
            let answer = asked.instrument(span.clone()).await;
            match &answer {
                Ok(answer) => tell(&span, answer),
                Err(_) => {
                    span.record("otel.status_code", "ERROR").record("error.type", "store");
                }
            }
            answer
        })
    }
}

/// The span of an operation. No keys: some of them are digests of secrets.
macro_rules! operation {
    ($name:literal, $operation:literal, objects = $objects:expr) => {
        info_span!(
            $name,
            db.system.name = "sqlite",
            db.operation.name = $operation,
            mesh.store.objects = $objects,
            mesh.store.revision = Empty,
            mesh.outcome = Empty,
            error.type = Empty,
            otel.status_code = Empty,
        )
    };
}

/// Where the thread sends an answer.
type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

impl Store for Sqlite {
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>> {
        self.ask(Request::Snapshot)
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Object>, StoreError>> {
        let key = key.to_owned();
        let span = operation!("store get", "get", objects = Empty);
        self.traced(
            span,
            move |reply| Request::Get(key, reply),
            |span, found| {
                span.record("mesh.store.objects", i64::from(found.is_some()));
            },
        )
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Object>, StoreError>> {
        let prefix = prefix.to_owned();
        let span = operation!("store list", "list", objects = Empty);
        self.traced(
            span,
            move |reply| Request::List(prefix, reply),
            |span, found| {
                span.record("mesh.store.objects", i64::try_from(found.len()).unwrap_or(i64::MAX));
            },
        )
    }

    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>> {
        if let Err(fault) = txn.check() {
            return Box::pin(async move { Err(fault.into()) });
        }
        let objects = i64::try_from(txn.writes.len()).unwrap_or(i64::MAX);
        let span = operation!("store txn", "txn", objects = objects);
        self.traced(
            span,
            move |reply| Request::Commit(txn, reply),
            |span, done| match done {
                Commit::Done(revision) => {
                    span.record("mesh.store.revision", i64::try_from(*revision).unwrap_or(i64::MAX));
                }
                // No failure: the caller reads again and decides again.
                Commit::Conflict(_) => {
                    span.record("mesh.outcome", "conflict");
                }
            },
        )
    }

    fn watch(&self, after: Revision) -> Watch {
        let requests = self.requests.downgrade();
        Watch::new(Box::new(watch::Cursor {
            requests,
            after,
            revision: self.revision.clone(),
            reading: None,
        }))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        self.ask(move |reply| Request::Compact(revision, reply))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Refused when it is closed already.
            drop(self.requests.send(Request::Close).await);
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(thread) = thread else { return };
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's thread panicked");
            }
        })
    }

    fn stats(&self) -> Stats {
        self.counters.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::WatchError;

    #[tokio::test]
    async fn the_history_is_cut_on_its_own_and_late_readers_are_told() {
        let dir = tempfile::tempdir().expect("directory");
        let store = open_with(&dir.path().join("s.db"), 10).expect("open");
        for n in 0..35u8 {
            store.commit(Txn::new().put("k", [n])).await.expect("commit");
        }
        let late = store.watch(0).next().await;
        assert!(matches!(late, Err(WatchError::Compacted { oldest: 20..=25 })), "{late:?}");
        assert_eq!(store.watch(25).next().await.expect("kept").revision, 26);
        assert_eq!(store.stats(), Stats { commits: 35, watches_compacted: 1, ..Stats::default() });
    }
}
