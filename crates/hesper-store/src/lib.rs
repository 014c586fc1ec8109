//! Where the controller keeps what must outlive it: small objects under text keys, with a revision and a watch.
//!
//! - [`Store`] is the whole interface, shaped after etcd so that one controller on SQLite and several on etcd run
//!   the same code. It knows bytes and keys, no entities: `identity/<id>`, `name/identity/<name>` are the caller's.
//! - A [`Txn`] is compares and writes: all of it happens, or nothing. "A token is redeemed once" is one compare.
//! - Every commit that changes something raises the [`Revision`] by one; all its changes carry that revision.
//! - A [`Watch`] yields each later change exactly once and in order. It is a cursor over the stored history, woken
//!   by commits, so a slow reader costs no memory; one that falls behind the kept history is told
//!   [`WatchError::Compacted`], is counted, and takes a new [`Snapshot`].
//! - [`open_sqlite`] is the embedded engine: one file, one thread that owns the only connection ([`sqlite`]).
//!
//! Every engine must pass `tests/conformance`.

mod error;
mod object;
pub mod sqlite;
mod store;
mod watch;

pub use error::{StoreError, TxnFault, WatchError};
pub use object::{
    Change, Commit, Compare, KEY_MAX, OPERATIONS_MAX, Object, Revision, Snapshot, TXN_MAX, Txn, Write,
};
pub use sqlite::open as open_sqlite;
pub use store::{BoxFuture, Stats, Store};
pub use watch::{ChangeSource, Watch};
