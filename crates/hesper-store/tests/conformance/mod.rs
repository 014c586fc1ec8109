//! What every engine of the store must do. `conformance!(engine)` makes one test of each case; `engine` is an expression
//! for a fresh [`Engine`].

mod history;
mod transactions;

pub(crate) use history::*;
pub(crate) use transactions::*;

use hesper_store::{Change, Commit, Store, Txn, Watch};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Data of one engine that can be opened, closed and opened again.
pub(crate) trait Engine: Send + Sync {
    /// Opens the data; the first time it is empty.
    fn open(&self) -> Arc<dyn Store>;
}

/// A hang is a failure. Far beyond what any case takes, so that a loaded machine does not matter.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// One test per case.
#[macro_export]
macro_rules! conformance {
    ($engine:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let engine = $engine;
                tokio::time::timeout(conformance::DEADLINE, conformance::$case(&engine)).await.expect("in time");
            }
        )*
    };
    ($engine:expr) => {
        conformance!($engine;
            one_key_has_one_winner
            increments_are_never_lost
            a_conflict_writes_nothing
            compares_and_writes_follow_the_model
            a_prefix_lists_exactly_its_keys
            limits_are_refused
            revisions_rise_by_one_and_survive_reopening
            a_watch_sees_each_change_once_and_in_order
            a_watch_continues_across_reopening
            a_commit_stays_together
            a_dropped_wait_loses_nothing
            compaction_ends_watches_that_need_it
            a_place_in_the_future_is_compacted
            a_closed_store_says_so
        );
    };
}

/// Commits and expects success.
pub(crate) async fn done(store: &dyn Store, txn: Txn) -> u64 {
    match store.commit(txn).await.expect("commit") {
        Commit::Done(revision) => revision,
        Commit::Conflict(key) => panic!("unexpected conflict on {key}"),
    }
}

/// The next `count` changes.
pub(crate) async fn take(watch: &mut Watch, count: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        changes.push(watch.next().await.expect("change"));
    }
    changes
}

/// What is stored, as a map.
pub(crate) async fn contents(store: &dyn Store) -> BTreeMap<String, Vec<u8>> {
    let snapshot = store.snapshot().await.expect("snapshot");
    snapshot.objects.into_iter().map(|object| (object.key, object.value)).collect()
}
