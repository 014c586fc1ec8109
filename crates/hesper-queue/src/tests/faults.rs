//! A disk that answers EIO.

use super::*;
use crate::{
    AppendError, DestinationError, ReadError,
    faulty::Call::{self, Create, Read, Remove, Rename, SetSize, Sync, SyncNames, Write},
};

/// The failed append is told, never seen, and costs nothing that comes after it.
async fn fails_and_goes_on(calls: &[Call], before: u64) {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=before).map(payload)).await;
    calls.iter().for_each(|call| world.disk.fail(*call, 1));
    let failed = log.appender().append(world.entry("failed")).await.expect_err("EIO");
    assert!(matches!(failed, AppendError::Io(_)), "{failed}");
    assert_eq!(drain(&mut reader).await.len() as u64, before);
    assert_eq!(world.append(&log, ["after", "more"]).await, [before + 1, before + 2], "{calls:?}");
    assert_eq!(payloads(&drain(&mut reader).await), [&b"after"[..], b"more"]);
    // The same after a power cut: what was told to be on disk is.
    let world = World { disk: world.disk.power_cut(before), ..world };
    let (log, _) = world.open();
    let expected = (1..=before).map(payload).chain([b"after".to_vec(), b"more".to_vec()]);
    assert_eq!(everything(&log).await, expected.collect::<Vec<_>>(), "{calls:?}");
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn a_failed_write_or_fsync_costs_the_append_and_nothing_else() {
    // No segment, one with room, and one without.
    for before in [0, 2, 3] {
        fails_and_goes_on(&[Write], before).await;
        fails_and_goes_on(&[Sync], before).await;
        // What was written cannot even be cut off or removed.
        fails_and_goes_on(&[Write, SetSize, Remove], before).await;
        fails_and_goes_on(&[Sync, SetSize, Remove], before).await;
    }
    for before in [0, 3] {
        fails_and_goes_on(&[Create], before).await;
        fails_and_goes_on(&[SyncNames], before).await;
        fails_and_goes_on(&[SyncNames, Remove], before).await;
    }
}

#[tokio::test]
async fn nothing_is_written_to_a_segment_after_it_failed() {
    for call in [Sync, Write] {
        let world = World::new(small());
        let (log, _) = world.open();
        world.append(&log, ["one"]).await;
        world.disk.fail(call, 1);
        log.appender().append(world.entry("two")).await.expect_err("EIO");
        let before = world.disk.contents(&crate::segment::file_name(1));
        assert_eq!(world.append(&log, ["three"]).await, [2]);
        assert_eq!(world.disk.contents(&crate::segment::file_name(1)), before);
        assert_eq!(world.segments(), 2);
    }
}

#[tokio::test]
async fn a_cursor_that_cannot_be_written_is_written_later() {
    for call in [Create, Write, Sync, Rename, SyncNames] {
        let world = World::new(small());
        let (log, _) = world.open();
        let reader = log.reader("a", Begin::End).await.expect("reader");
        world.append(&log, (1..=4).map(payload)).await;
        world.disk.fail(call, 1);
        (1..=3).for_each(|seq| assert!(reader.ack(seq)));
        log.flush().await;
        assert!(matches!(world.told()[..], [Told::Fault(_)]), "{call:?}");
        assert_eq!((world.segments(), log.stats().counters.faults), (2, 1), "kept for a crash");
        log.flush().await;
        assert_eq!(world.segments(), 1);
        let world = World { disk: world.disk.power_cut(7), ..world };
        let (log, recovery) = world.open();
        assert_eq!((recovery.unreadable_cursors.len(), recovery.missing.len()), (0, 0));
        assert_eq!(log.stats().destinations["a"].lowest, 4);
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_removed_goes_later() {
    let world = World::new(small());
    let (log, _) = world.open();
    let reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=4).map(payload)).await;
    (1..=3).for_each(|seq| assert!(reader.ack(seq)));
    world.disk.fail(Remove, 1);
    log.flush().await;
    assert_eq!((world.segments(), world.told()), (2, vec![Told::Fault("remove")]));
    log.flush().await;
    assert_eq!(world.segments(), 1);
}

#[tokio::test]
async fn a_new_destination_is_on_disk_or_is_none() {
    for call in [Create, Write, Sync, Rename, SyncNames] {
        let world = World::new(small());
        let (log, _) = world.open();
        world.disk.fail(call, 1);
        let failed = log.reader("a", Begin::End).await.err().expect("EIO");
        assert!(matches!(failed, DestinationError::Io { .. }), "{failed}");
        assert_eq!(log.stats().destinations.len(), 0);
        log.reader("a", Begin::End).await.expect("the second time");
    }
    let world = World::new(small());
    let (log, _) = world.open();
    drop(log.reader("a", Begin::End).await.expect("reader"));
    world.disk.fail(Remove, 1);
    assert!(matches!(log.forget("a").await, Err(DestinationError::Io { .. })));
    assert_eq!(log.stats().destinations.len(), 1);
    log.forget("a").await.expect("the second time");
}

#[tokio::test]
async fn a_failed_read_loses_nothing() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=7).map(payload)).await;
    world.disk.fail(Read, 2);
    for _ in 0..2 {
        assert!(matches!(reader.next(1000).await, Err(ReadError::Io(_))));
    }
    assert_eq!(seqs(&drain(&mut reader).await), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn what_cannot_be_read_three_times_is_damaged() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=4).map(payload)).await;
    // The header of the segment: twice, and the third time for good.
    world.disk.fail(Read, 3);
    for _ in 0..2 {
        assert!(matches!(reader.next(1000).await, Err(ReadError::Io(_))));
    }
    assert_eq!(seqs(&drain(&mut reader).await), [4]);
    let dropped =
        Told::Dropped { destination: "a".into(), reason: DropReason::Damaged, count: 3, seqs: vec![] };
    assert_eq!(world.told(), [Told::Damaged { bytes: 294, records: 3 }, dropped]);
}

#[tokio::test]
async fn a_newest_segment_that_cannot_be_read_is_kept() {
    let world = World::new(small());
    let (log, _) = world.open();
    log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, ["one", "two"]).await;
    let world = World { disk: world.disk.restart(), ..world };
    world.disk.fail(Read, 1);
    let (log, recovery) = world.open();
    assert_eq!(recovery.faults.len(), 1, "{:?}", recovery.faults);
    let appended = world.append(&log, ["three"]).await;
    assert_eq!((appended, world.segments()), (vec![2], 2));
    // By now it can.
    assert_eq!(everything(&log).await, [&b"one"[..], b"three"]);
}
