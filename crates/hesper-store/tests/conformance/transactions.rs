//! Compare and write.

use super::{Engine, contents, done, take};
use hesper_store::{Commit, Compare, KEY_MAX, StoreError, TXN_MAX, Txn, Write};
use proptest::{prelude::*, strategy::ValueTree};
use std::collections::BTreeMap;

/// A one-time token is one key: whoever writes it first has it, whatever the crowd.
pub(crate) async fn one_key_has_one_winner(engine: &dyn Engine) {
    const TASKS: usize = 64;
    const ROUNDS: usize = 30;
    let store = engine.open();
    for round in 0..ROUNDS {
        let key = format!("token/{round}");
        let tasks: Vec<_> = (0..TASKS)
            .map(|me| {
                let (store, key) = (store.clone(), key.clone());
                tokio::spawn(async move {
                    let txn = Txn::new()
                        .absent(key.clone())
                        .put(key, me.to_string())
                        .put(format!("proof/{me}"), "");
                    (me, store.commit(txn).await.expect("commit"))
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.expect("task") {
                (me, Commit::Done(_)) => winners.push(me),
                (_, Commit::Conflict(on)) => assert_eq!(on, key),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let stored = store.get(&key).await.expect("get").expect("stored");
        assert_eq!(stored.value, winners[0].to_string().into_bytes());
    }
    let proofs = store.list("proof/").await.expect("list");
    assert!(proofs.len() <= ROUNDS, "losers wrote something: {proofs:?}");
}

/// Read, compare, write: with retries on conflict no increment is lost.
pub(crate) async fn increments_are_never_lost(engine: &dyn Engine) {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    let store = engine.open();
    done(&*store, Txn::new().put("counter", "0")).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut left = EACH;
                while left > 0 {
                    let now = store.get("counter").await.expect("get").expect("stored");
                    let next: usize =
                        1 + String::from_utf8(now.value).expect("text").parse::<usize>().expect("number");
                    let txn =
                        Txn::new().unchanged("counter", now.mod_revision).put("counter", next.to_string());
                    if let Commit::Done(_) = store.commit(txn).await.expect("commit") {
                        left -= 1;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    assert_eq!(contents(&*store).await["counter"], (TASKS * EACH).to_string().into_bytes());
}

/// All or nothing, and the first compare that fails is named.
pub(crate) async fn a_conflict_writes_nothing(engine: &dyn Engine) {
    let store = engine.open();
    let at = done(&*store, Txn::new().put("a", "1")).await;
    let txn =
        Txn::new().unchanged("a", at).absent("b").unchanged("c", at).absent("a").put("a", "2").put("d", "2");
    assert_eq!(store.commit(txn).await.expect("commit"), Commit::Conflict("c".into()));
    let snapshot = store.snapshot().await.expect("snapshot");
    assert_eq!(snapshot.revision, at);
    assert_eq!(contents(&*store).await, BTreeMap::from([("a".into(), b"1".to_vec())]));
}

/// The simplest store that could be right.
#[derive(Default)]
struct Model {
    revision: u64,
    objects: BTreeMap<String, (u64, Vec<u8>)>,
}

impl Model {
    fn commit(&mut self, txn: &Txn) -> Commit {
        let of = |key: &str| self.objects.get(key).map(|(revision, _)| *revision);
        if let Some(failed) = txn.compares.iter().find(|compare| match compare {
            Compare::Absent(key) => of(key).is_some(),
            Compare::Unchanged(key, revision) => of(key) != Some(*revision),
        }) {
            return Commit::Conflict(failed.key().to_owned());
        }
        let next = self.revision + 1;
        for write in &txn.writes {
            let changed = match write {
                Write::Put(key, value) => {
                    self.objects.insert(key.clone(), (next, value.clone()));
                    true
                }
                Write::Delete(key) => self.objects.remove(key).is_some(),
            };
            if changed {
                self.revision = next;
            }
        }
        Commit::Done(self.revision)
    }
}

/// Few keys, so that transactions meet.
fn any_key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "a/1", "a/2", "b", "ü/1", "zz"]).prop_map(str::to_owned)
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let compare = prop_oneof![
        any_key().prop_map(Compare::Absent),
        (any_key(), 0..12u64).prop_map(|(key, revision)| Compare::Unchanged(key, revision)),
    ];
    let write = prop_oneof![
        3 => (any_key(), any::<Vec<u8>>()).prop_map(|(key, value)| Write::Put(key, value)),
        1 => any_key().prop_map(Write::Delete),
    ];
    (prop::collection::vec(compare, 0..2), prop::collection::vec(write, 0..4)).prop_map(
        |(compares, mut writes)| {
            let mut seen = std::collections::HashSet::new();
            writes.retain(|write| seen.insert(write.key().to_owned()));
            Txn { compares, writes }
        },
    )
}

/// Random transactions: the same outcomes, contents and revisions as the model, and the watch tells the same story.
pub(crate) async fn compares_and_writes_follow_the_model(engine: &dyn Engine) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let store = engine.open();
    let mut model = Model::default();
    let mut watch = store.watch(0);
    let mut replayed: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..300 {
        let txn = any_txn().new_tree(&mut runner).expect("generate").current();
        let before = model.revision;
        assert_eq!(store.commit(txn.clone()).await.expect("commit"), model.commit(&txn), "{txn:?}");
        if model.revision > before {
            let (revision, changes) = watch.next_commit().await.expect("watch");
            assert_eq!(revision, model.revision);
            for change in changes {
                match change.value {
                    Some(value) => replayed.insert(change.key, value),
                    None => replayed.remove(&change.key),
                };
            }
        }
        let snapshot = store.snapshot().await.expect("snapshot");
        assert_eq!(snapshot.revision, model.revision);
        let found: Vec<_> =
            snapshot.objects.iter().map(|o| (o.key.clone(), (o.mod_revision, o.value.clone()))).collect();
        assert_eq!(found, model.objects.clone().into_iter().collect::<Vec<_>>());
        assert_eq!(replayed, contents(&*store).await);
    }
    // The whole story, told again from the start.
    let mut again = store.watch(0);
    let last = model.revision;
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last) {
        revisions.push(again.next_commit().await.expect("watch").0);
    }
    assert_eq!(revisions, (1..=last).collect::<Vec<_>>());
}

/// A prefix is a range of bytes, nothing more: no wildcard, no neighbour.
pub(crate) async fn a_prefix_lists_exactly_its_keys(engine: &dyn Engine) {
    let store = engine.open();
    let keys = [
        "identity",
        "identity/",
        "identity/%",
        "identity/ä",
        "identity0",
        "Identity/a",
        "identit",
        "identity/_x",
    ];
    let txn = keys.iter().fold(Txn::new(), |txn, key| txn.put(*key, *key));
    let revision = done(&*store, txn).await;
    for prefix in ["", "identity/", "identity/%", "i", "identity/_", "zzz", "identity/\u{e4}"] {
        let mut expected: Vec<_> = keys.iter().filter(|key| key.starts_with(prefix)).copied().collect();
        expected.sort_unstable();
        let found = store.list(prefix).await.expect("list");
        assert_eq!(found.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), expected, "prefix {prefix:?}");
        assert!(
            found
                .iter()
                .all(|object| object.mod_revision == revision && object.value == object.key.as_bytes())
        );
    }
    assert_eq!(store.get("identity/x").await.expect("get"), None);
}

/// Too much is refused before it is tried, and what fits is taken.
pub(crate) async fn limits_are_refused(engine: &dyn Engine) {
    let store = engine.open();
    for txn in [
        Txn::new().put("", "x"),
        Txn::new().put("k".repeat(KEY_MAX + 1), "x"),
        Txn::new().put("k", vec![0; TXN_MAX]),
        Txn::new().put("k", "1").delete("k"),
    ] {
        assert!(matches!(store.commit(txn).await, Err(StoreError::Txn(_))));
    }
    assert_eq!(store.snapshot().await.expect("snapshot").revision, 0);
    done(&*store, Txn::new().put("k".repeat(KEY_MAX), vec![7; TXN_MAX - KEY_MAX])).await;
    let change = take(&mut store.watch(0), 1).await.remove(0);
    assert_eq!(change.value.map(|value| value.len()), Some(TXN_MAX - KEY_MAX));
}
