//! The thread that owns the connection.

use super::{Reply, db::Db};
use crate::{
    error::{StoreError, WatchError},
    object::{Change, Commit, Object, Revision, Snapshot, Txn},
    store::Stats,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::sync::{mpsc, oneshot};

/// Commits that share one `fsync`: enough to outrun any disk, few enough that the first does not wait long.
const GROUP: usize = 128;

/// What the thread can be asked.
pub(super) enum Request {
    Snapshot(Reply<Snapshot>),
    Get(String, Reply<Option<Object>>),
    List(String, Reply<Vec<Object>>),
    Commit(Txn, Reply<Commit>),
    Compact(Revision, Reply<()>),
    History(Revision, oneshot::Sender<Result<Vec<Change>, WatchError>>),
    /// Take no more; what waits is still done.
    Close,
}

/// What [`Stats`] is read from.
#[derive(Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
    watches_compacted: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Stats {
        Stats {
            commits: self.commits.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            watches_compacted: self.watches_compacted.load(Relaxed),
        }
    }
}

/// The thread's state.
pub(super) struct Worker {
    pub(super) db: Db,
    /// Revisions of history kept at least.
    pub(super) history: u64,
    pub(super) announce: tokio::sync::watch::Sender<Revision>,
    pub(super) counters: Arc<Counters>,
}

impl Worker {
    /// Serves until told to close or the last sender is gone, then closes the file.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut next = queue.blocking_recv();
        while let Some(request) = next.take() {
            match request {
                Request::Commit(txn, reply) => next = self.commit_group((txn, reply), &mut queue),
                Request::Close => queue.close(),
                other => self.read(other),
            }
            if next.is_none() {
                next = queue.blocking_recv();
            }
        }
        if let Err(fault) = self.db.close() {
            tracing::warn!(%fault, "the store was not closed cleanly; it will be checked when next opened");
        }
    }

    /// Does this transaction and those that wait right behind it under one `fsync`. Returns the request that ended the group.
    fn commit_group(
        &mut self,
        first: (Txn, Reply<Commit>),
        queue: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        let mut group = vec![first];
        let mut ended_by = None;
        while group.len() < GROUP && ended_by.is_none() {
            match queue.try_recv() {
                Ok(Request::Commit(txn, reply)) => group.push((txn, reply)),
                Ok(other) => ended_by = Some(other),
                Err(_) => break,
            }
        }
        let (txns, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        match self.db.commit(&txns) {
            Ok(outcomes) => {
                outcomes.into_iter().zip(replies).for_each(|(outcome, reply)| self.answer(outcome, reply))
            }
            Err(fault) => {
                // One that fails must not take the others with it: each again, alone.
                tracing::debug!(%fault, transactions = txns.len(), "group commit failed");
                for (txn, reply) in txns.iter().zip(replies) {
                    match self.db.commit(std::slice::from_ref(txn)) {
                        Ok(outcomes) => outcomes
                            .into_iter()
                            .zip([reply])
                            .for_each(|(outcome, reply)| self.answer(outcome, reply)),
                        Err(fault) => drop(reply.send(Err(self.failed(fault)))),
                    }
                }
            }
        }
        self.announce_revision();
        self.keep_history_short();
        ended_by
    }

    fn answer(&self, outcome: Commit, reply: Reply<Commit>) {
        let counter = match outcome {
            Commit::Done(_) => &self.counters.commits,
            Commit::Conflict(_) => &self.counters.conflicts,
        };
        counter.fetch_add(1, Relaxed);
        // A caller that stopped waiting has nobody to tell.
        drop(reply.send(Ok(outcome)));
    }

    fn announce_revision(&self) {
        let now = self.db.revision();
        self.announce.send_if_modified(|revision| std::mem::replace(revision, now) != now);
    }

    fn keep_history_short(&mut self) {
        let Some(cut) = self.db.revision().checked_sub(self.history) else { return };
        // Seldom and in bulk: the history is between one and two times as long as promised.
        if cut.saturating_sub(self.db.compacted()) < self.history {
            return;
        }
        if let Err(fault) = self.db.compact(cut) {
            tracing::warn!(%fault, "the store's history could not be shortened; trying again at the next commit");
        }
    }

    /// Everything but a commit.
    fn read(&mut self, request: Request) {
        match request {
            Request::Snapshot(reply) => drop(reply.send(self.db.snapshot().map_err(|e| self.failed(e)))),
            Request::Get(key, reply) => drop(reply.send(self.db.get(&key).map_err(|e| self.failed(e)))),
            Request::List(prefix, reply) => {
                drop(reply.send(self.db.list(&prefix).map_err(|e| self.failed(e))))
            }
            Request::Compact(revision, reply) => {
                drop(reply.send(self.db.compact(revision).map_err(|e| self.failed(e))));
            }
            Request::History(after, reply) => drop(reply.send(self.history_after(after))),
            // `run` keeps these to itself.
            Request::Commit(..) | Request::Close => {}
        }
    }

    fn history_after(&self, after: Revision) -> Result<Vec<Change>, WatchError> {
        if after < self.db.compacted() || after > self.db.revision() {
            self.counters.watches_compacted.fetch_add(1, Relaxed);
            return Err(WatchError::Compacted { oldest: self.db.compacted() });
        }
        self.db.history(after).map_err(|e| self.failed(e).into())
    }

    fn failed(&self, fault: rusqlite::Error) -> StoreError {
        self.counters.failures.fetch_add(1, Relaxed);
        StoreError::Engine(fault.into())
    }
}
