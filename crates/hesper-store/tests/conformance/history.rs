//! Revision, watch, compaction, close.

use super::{Engine, done, take};
use hesper_store::{Change, StoreError, Txn, WatchError};
use std::time::Duration;

fn change(revision: u64, key: &str, value: Option<&str>) -> Change {
    Change { revision, key: key.into(), value: value.map(|text| text.as_bytes().to_vec()) }
}

/// The revision counts commits that changed something, and only up, whatever is closed or deleted in between.
pub(crate) async fn revisions_rise_by_one_and_survive_reopening(engine: &dyn Engine) {
    let mut last = 0;
    for opening in 0..3 {
        let store = engine.open();
        assert_eq!(store.snapshot().await.expect("snapshot").revision, last);
        for _ in 0..5 {
            let next = done(&*store, Txn::new().put("a", opening.to_string()).put("b", "")).await;
            assert_eq!(next, last + 1);
            last = next;
        }
        assert_eq!(done(&*store, Txn::new().delete("missing")).await, last, "nothing changed");
        assert_eq!(done(&*store, Txn::new()).await, last, "nothing changed");
        last = done(&*store, Txn::new().delete("a").delete("b")).await;
        assert_eq!(store.snapshot().await.expect("snapshot").objects, []);
        store.close().await;
    }
}

/// Writers on one side, two watchers on the other, one from the start and one from the middle.
pub(crate) async fn a_watch_sees_each_change_once_and_in_order(engine: &dyn Engine) {
    const WRITERS: usize = 8;
    const EACH: usize = 50;
    let store = engine.open();
    let middle = done(&*store, Txn::new().put("first", "")).await;
    let watchers: Vec<_> = [0, middle]
        .map(|after| {
            let mut watch = store.watch(after);
            let count = WRITERS * EACH + usize::from(after == 0);
            tokio::spawn(async move { take(&mut watch, count).await })
        })
        .into();
    let writers: Vec<_> = (0..WRITERS)
        .map(|me| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    done(&*store, Txn::new().put(format!("writer/{me}"), n.to_string())).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writer");
    }
    let mut stories = Vec::new();
    for watcher in watchers {
        stories.push(watcher.await.expect("watcher"));
    }
    assert_eq!(stories[0][1..], stories[1]);
    let revisions: Vec<_> = stories[0].iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (1..=(WRITERS * EACH + 1) as u64).collect::<Vec<_>>());
    for me in 0..WRITERS {
        let key = format!("writer/{me}");
        let told: Vec<_> =
            stories[1].iter().filter(|c| c.key == key).filter_map(|c| c.value.clone()).collect();
        assert_eq!(told, (0..EACH).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>(), "{key}");
    }
}

/// A controller that restarts goes on where it stopped.
pub(crate) async fn a_watch_continues_across_reopening(engine: &dyn Engine) {
    let store = engine.open();
    done(&*store, Txn::new().put("a", "1")).await;
    let seen = take(&mut store.watch(0), 1).await;
    done(&*store, Txn::new().put("a", "2")).await;
    done(&*store, Txn::new().delete("a")).await;
    store.close().await;
    let store = engine.open();
    let mut watch = store.watch(seen[0].revision);
    assert_eq!(take(&mut watch, 2).await, [change(2, "a", Some("2")), change(3, "a", None)]);
    done(&*store, Txn::new().put("b", "4")).await;
    assert_eq!(take(&mut watch, 1).await, [change(4, "b", Some("4"))]);
}

/// All changes of a commit come together, also when there are more than the engine reads at once.
pub(crate) async fn a_commit_stays_together(engine: &dyn Engine) {
    let store = engine.open();
    let many = |from: usize| (from..from + 1000).fold(Txn::new(), |txn, i| txn.put(format!("k/{i}"), ""));
    done(&*store, Txn::new().put("one", "")).await;
    done(&*store, many(0)).await;
    done(&*store, many(500)).await;
    let mut watch = store.watch(0);
    for (revision, count) in [(1, 1), (2, 1000), (3, 1000)] {
        let (at, changes) = watch.next_commit().await.expect("watch");
        assert_eq!((at, changes.len()), (revision, count));
    }
}

/// `next` inside a `select!` is dropped all the time.
pub(crate) async fn a_dropped_wait_loses_nothing(engine: &dyn Engine) {
    const COMMITS: u64 = 60;
    let store = engine.open();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..COMMITS {
                done(&*store, Txn::new().put("k", n.to_string())).await;
            }
        })
    };
    let mut watch = store.watch(0);
    let mut seen = Vec::new();
    while seen.len() < COMMITS as usize {
        tokio::select! {
            biased;
            change = watch.next() => seen.push(change.expect("change").revision),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(seen, (1..=COMMITS).collect::<Vec<_>>());
    writer.await.expect("writer");
}

/// A reader that needs forgotten changes is told so, counted, and can start again from a snapshot.
pub(crate) async fn compaction_ends_watches_that_need_it(engine: &dyn Engine) {
    let store = engine.open();
    for n in 0..10 {
        done(&*store, Txn::new().put("k", n.to_string())).await;
    }
    let (mut behind, mut ahead) = (store.watch(3), store.watch(6));
    store.compact(6).await.expect("compact");
    store.compact(2).await.expect("compacting less is no change");
    assert!(matches!(behind.next().await, Err(WatchError::Compacted { oldest: 6 })));
    assert_eq!(store.stats().watches_compacted, 1);
    assert_eq!(take(&mut ahead, 4).await.iter().map(|c| c.revision).collect::<Vec<_>>(), [7, 8, 9, 10]);
    let snapshot = store.snapshot().await.expect("snapshot");
    assert_eq!((snapshot.revision, snapshot.objects.len()), (10, 1));
    let mut again = store.watch(snapshot.revision);
    done(&*store, Txn::new().put("k", "new")).await;
    assert_eq!(take(&mut again, 1).await, [change(11, "k", Some("new"))]);
    store.compact(u64::MAX / 2).await.expect("compacting all is allowed");
    assert_eq!(store.get("k").await.expect("get").expect("objects stay").value, b"new");
}

/// After a restore from a backup the store is older than its readers: they must not wait in silence.
pub(crate) async fn a_place_in_the_future_is_compacted(engine: &dyn Engine) {
    let store = engine.open();
    done(&*store, Txn::new().put("k", "")).await;
    assert!(matches!(store.watch(2).next().await, Err(WatchError::Compacted { .. })));
    let waiting =
        tokio::time::timeout(Duration::from_millis(50), async { store.watch(1).next().await }).await;
    assert!(waiting.is_err(), "the present is no error, and nothing has changed");
}

/// Every call answers after close, and closing twice is harmless.
pub(crate) async fn a_closed_store_says_so(engine: &dyn Engine) {
    let store = engine.open();
    let mut watch = store.watch(20);
    let mut unpolled = Box::pin(store.get("0"));
    let commits: Vec<_> = (0..20)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { done(&*store, Txn::new().put(n.to_string(), "")).await })
        })
        .collect();
    for commit in commits {
        commit.await.expect("done before the close");
    }
    let waiting = tokio::spawn(async move { watch.next().await });
    store.close().await;
    store.close().await;
    assert!(matches!((&mut unpolled).await, Err(StoreError::Closed)));
    assert!(matches!(store.commit(Txn::new().put("x", "")).await, Err(StoreError::Closed)));
    assert!(matches!(store.watch(0).next().await, Err(WatchError::Store(StoreError::Closed))));
    assert!(matches!(waiting.await.expect("watch"), Err(WatchError::Store(StoreError::Closed))));
    assert_eq!(engine.open().snapshot().await.expect("snapshot").revision, 20);
}
