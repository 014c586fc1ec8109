//! Append, read, acknowledge, open again.

use super::*;
use crate::{AppendError, DestinationError, OpenError, ReadError};

#[tokio::test]
async fn what_was_appended_is_delivered_after_a_restart() {
    let place = tempfile::tempdir().expect("tempdir");
    let path = place.path().join("queue");
    let observer: crate::Observer = Arc::new(|event| panic!("{event:?}"));
    let entry = |payload: &'static [u8]| Entry {
        time_ms: 5,
        header: Bytes::from_static(b"who"),
        payload: Bytes::from_static(payload),
    };

    let (log, recovery) = Log::open(&path, Options::default(), observer.clone()).expect("opened");
    assert_eq!(recovery, Recovery::default());
    let appender = log.appender();
    assert_eq!(appender.append(entry(b"one")).await.expect("appended"), 1);
    assert_eq!(appender.append(entry(b"")).await.expect("appended"), 2);
    let in_use = Log::open(&path, Options::default(), observer.clone()).err().expect("in use");
    assert!(matches!(in_use, OpenError::InUse { .. }), "{in_use}");
    log.close().await;
    assert!(matches!(appender.append(entry(b"late")).await, Err(AppendError::Closed)));

    let (log, recovery) = Log::open(&path, Options::default(), observer).expect("opened");
    assert_eq!((recovery.segments, recovery.records, recovery.torn_bytes), (1, 2, 0));
    let mut reader = log.reader("otlp/eu", Begin::Oldest).await.expect("reader");
    let records = reader.next(1 << 20).await.expect("records");
    let expected = |seq, payload| Record {
        seq,
        time_ms: 5,
        header: Bytes::from_static(b"who"),
        payload: Bytes::from_static(payload),
    };
    assert_eq!(records, [expected(1, b"one"), expected(2, b"")]);
    assert!(reader.ack(1));
    drop(reader);
    log.close().await;
    assert!(path.join("otlp%2Feu.cursor").exists());
}

#[tokio::test]
async fn destinations_know_nothing_of_each_other() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut slow = log.reader("slow", Begin::End).await.expect("reader");
    let mut fast = log.reader("fast", Begin::End).await.expect("reader");
    world.append(&log, (1..=20).map(payload)).await;
    let records = drain(&mut fast).await;
    assert_eq!(payloads(&records), (1..=20).map(payload).collect::<Vec<_>>());
    assert!(records.iter().all(|record| fast.ack(record.seq)));
    assert!(!fast.ack(3) && !fast.ack(21), "no news, and no record");
    log.flush().await;
    assert_eq!(world.segments(), 7, "all are for the slow one");

    // A late one begins at the end or with the oldest.
    let mut late = log.reader("late", Begin::End).await.expect("reader");
    assert_eq!(drain(&mut late).await, []);
    assert_eq!(drain(&mut slow).await.len(), 20);
    for seq in (2..=20).rev() {
        assert!(slow.ack(seq));
    }
    log.flush().await;
    assert_eq!(world.segments(), 7, "the first record is not acknowledged");
    assert!(slow.ack(1));
    log.flush().await;
    assert_eq!(world.segments(), 1, "the newest stays");
    assert_eq!(log.stats().counters.segments_done, 6);
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=10).map(payload)).await;
    assert_eq!(drain(&mut reader).await.len(), 10);
    [1, 2, 4, 9].into_iter().for_each(|seq| assert!(reader.acker().ack(seq)));
    reader.rewind();
    assert_eq!(seqs(&drain(&mut reader).await), [3, 5, 6, 7, 8, 10]);
    assert!(matches!(log.reader("a", Begin::End).await, Err(DestinationError::InUse(_))));
    drop(reader);
    let mut reader = log.reader("a", Begin::End).await.expect("given back");
    assert_eq!(seqs(&drain(&mut reader).await), [3, 5, 6, 7, 8, 10]);
    drop((reader, log));

    let (log, recovery) = world.open();
    assert_eq!((recovery.records, recovery.missing.len()), (10, 0));
    let stats = &log.stats().destinations["a"];
    assert_eq!((stats.queued_records, stats.lowest, stats.open), (6, 3, false));
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    assert_eq!(seqs(&drain(&mut reader).await), [3, 5, 6, 7, 8, 10]);
    assert_eq!(world.append(&log, ["x"]).await, [11]);
}

#[tokio::test]
async fn a_forgotten_destination_holds_nothing_back() {
    let world = World::new(small());
    let (log, _) = world.open();
    let reader = log.reader("gone", Begin::End).await.expect("reader");
    let mut here = log.reader("here", Begin::End).await.expect("reader");
    world.append(&log, (1..=10).map(payload)).await;
    assert!(matches!(log.forget("gone").await, Err(DestinationError::InUse(_))));
    assert!(matches!(log.forget("never").await, Err(DestinationError::Unknown(_))));
    assert!(matches!(log.reader("", Begin::End).await, Err(DestinationError::Name(_))));
    drop(reader);
    for record in drain(&mut here).await {
        here.ack(record.seq);
    }
    log.flush().await;
    assert_eq!(world.segments(), 4);
    log.forget("gone").await.expect("forgotten");
    log.flush().await;
    assert_eq!(world.segments(), 1);
    drop((log, here));
    let (log, _) = world.open();
    assert_eq!(log.stats().destinations.keys().collect::<Vec<_>>(), ["here"]);
}

#[tokio::test]
async fn a_reader_waits_for_records_and_loses_none_when_it_is_cancelled() {
    let world = World::new(Options { max_bytes: 100_000, ..small() });
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    let appends = async {
        for number in 1..=50 {
            world.append(&log, [payload(number)]).await;
        }
    };
    let mut got = Vec::new();
    let reads = async {
        while got.len() < 50 {
            tokio::select! {
                biased;
                records = reader.next(150) => got.extend(payloads(&records.expect("records"))),
                // Cancels every read that is not ready at once.
                () = tokio::task::yield_now() => {}
            }
        }
    };
    tokio::join!(appends, reads);
    assert_eq!(got, (1..=50).map(payload).collect::<Vec<_>>());
    log.close().await;
    assert!(matches!(reader.next(1).await, Err(ReadError::Closed)));
}

#[tokio::test]
async fn what_waits_shares_an_fsync() {
    let world = World::new(Options {
        group_bytes: 1 << 20,
        segment_bytes: 1 << 20,
        max_bytes: 8 << 20,
        group_wait: Duration::from_secs(3600),
        ..small()
    });
    let (log, _) = world.open();
    let appender = log.appender();
    let pending: Vec<_> = {
        let _held = world.disk.hold_syncs();
        (0..100).map(|number| appender.try_append(world.entry(payload(number))).expect("room")).collect()
    };
    for (number, pending) in (1..).zip(pending) {
        assert_eq!(pending.await.expect("appended"), number);
    }
    let counters = log.stats().counters;
    assert_eq!((counters.groups.sum, counters.appended_records), (100, 100));
    assert!(counters.fsyncs <= 2, "what came during the first fsync is one group: {counters:?}");
    assert_eq!(everything(&log).await, (0..100).map(payload).collect::<Vec<_>>());
}

#[tokio::test]
async fn cursors_are_saved_without_being_asked() {
    let world = World::new(Options { save_every: Duration::ZERO, ..small() });
    let (log, _) = world.open();
    let reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=9).map(payload)).await;
    for seq in 1..=9 {
        reader.ack(seq);
    }
    while log.stats().counters.segments_done < 2 {
        tokio::task::yield_now().await;
    }
    let world = World { disk: world.disk.restart(), ..world };
    let (log, _) = world.open();
    assert_eq!(log.stats().destinations["a"].lowest, 10, "on disk before the segments went");
}

#[test]
fn many_are_acknowledged_at_once() {
    let world = World::new(small());
    block_on(async {
        let (log, _) = world.open();
        let mut reader = log.reader("a", Begin::Oldest).await.expect("reader");
        world.append(&log, (1..=9).map(payload)).await;
        let acker = reader.acker();
        assert_eq!(acker.ack_range(0..3), 2, "1 and 2");
        assert_eq!(acker.ack_range(5..7), 2);
        assert_eq!(acker.ack_range(6..100), 3, "7, 8 and 9: there are no others");
        assert_eq!(acker.ack_range(50..60), 0, "there are none");
        assert_eq!(reader.acknowledged().iter().collect::<Vec<_>>(), [0..3, 5..10]);
        assert_eq!(seqs(&drain(&mut reader).await), [3, 4]);
    });
}
