//! The interface that every engine implements.

use crate::{
    error::StoreError,
    object::{Commit, Object, Revision, Snapshot, Txn},
    watch::Watch,
};
use std::pin::Pin;

/// A boxed future, so that [`Store`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Small objects under keys, with compare-and-write, a revision and a watch.
///
/// Reads are linearizable: they see every commit that was answered before they were asked for.
/// A future of [`commit`](Store::commit) that is dropped leaves open whether the commit happens.
pub trait Store: Send + Sync {
    /// Everything, at one revision.
    ///
    /// # Errors
    /// [`StoreError::Engine`], [`StoreError::Closed`].
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot, StoreError>>;

    /// The object under `key`.
    ///
    /// # Errors
    /// [`StoreError::Engine`], [`StoreError::Closed`].
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Object>, StoreError>>;

    /// The objects whose key starts with `prefix`, in key order, all of one revision.
    ///
    /// # Errors
    /// [`StoreError::Engine`], [`StoreError::Closed`].
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<Object>, StoreError>>;

    /// Does all of the transaction, durably, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Txn`] for a transaction that breaks a limit, [`StoreError::Engine`] (nothing was stored),
    /// [`StoreError::Closed`].
    fn commit(&self, txn: Txn) -> BoxFuture<'_, Result<Commit, StoreError>>;

    /// Each change after that revision, exactly once and in order.
    fn watch(&self, after: Revision) -> Watch;

    /// Forgets the history up to and including `revision`; objects stay. Engines also do so on their own.
    ///
    /// # Errors
    /// [`StoreError::Engine`], [`StoreError::Closed`].
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Finishes what was asked for, then closes; afterwards everything answers [`StoreError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Counts since the store was opened.
    fn stats(&self) -> Stats;
}

/// Counts since the store was opened, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transactions done.
    pub commits: u64,
    /// Transactions whose compare did not hold.
    pub conflicts: u64,
    /// Requests that the engine failed.
    pub failures: u64,
    /// Watches that fell behind the kept history.
    pub watches_compacted: u64,
}
