//! Logs and disks that are full, and records that are too old.

use super::*;
use crate::{AppendError, WhenFull};

fn dropping(options: Options) -> Options {
    Options { when_full: WhenFull::DropOldest, max_bytes: 1_299, ..options }
}

fn told_dropped(destination: &str, reason: DropReason, seqs: impl IntoIterator<Item = u64>) -> Told {
    let seqs: Vec<_> = seqs.into_iter().collect();
    Told::Dropped { destination: destination.into(), reason, count: seqs.len() as u64, seqs }
}

#[tokio::test]
async fn a_full_log_refuses_or_waits_until_a_segment_is_acknowledged() {
    let world = World::new(Options { max_bytes: 1_300, ..small() });
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    // Three segments of 374 bytes; a record more would be 1,300 with the next header.
    world.append(&log, (1..=10).map(payload)).await;
    let appender = log.appender();
    let full = appender.try_append(world.entry(payload(11))).expect_err("full");
    assert!(matches!(full, AppendError::Full { bytes: 1_300, max: 1_300 }), "{full}");
    assert_eq!(log.stats().counters.refused_full, 1);

    let waiting = appender.append(world.entry(payload(11)));
    let reads = async {
        for record in drain(&mut reader).await.iter().take(3) {
            reader.ack(record.seq);
        }
    };
    let (appended, ()) = tokio::join!(waiting, reads);
    assert_eq!(appended.expect("room"), 11);
    let stats = log.stats();
    assert_eq!((stats.segments, stats.counters.segments_done, stats.waiting_bytes), (3, 1, 0));
    assert_eq!(seqs(&drain(&mut reader).await), [11]);
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn what_was_acknowledged_long_ago_makes_room_at_once() {
    let world = World::new(Options { max_bytes: 1_300, ..small() });
    let (log, _) = world.open();
    let reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=4).map(payload)).await;
    (1..=4).for_each(|seq| assert!(reader.ack(seq)));
    // The cursor would be saved in an hour.
    world.append(&log, (5..=12).map(payload)).await;
    assert_eq!(log.stats().counters.segments_done, 1);
}

#[tokio::test]
async fn what_waits_for_the_disk_is_bounded() {
    let world = World::new(Options { waiting_records: 5, ..small() });
    let (log, _) = world.open();
    let appender = log.appender();
    let pending: Vec<_> = {
        let _held = world.disk.hold_syncs();
        let pending = (0..5).map(|number| appender.try_append(world.entry(payload(number))));
        let pending = pending.collect::<Result<_, _>>().expect("room");
        let overrun = appender.try_append(world.entry("one more")).expect_err("overrun");
        assert!(matches!(overrun, AppendError::Overrun { records: 5, bytes: 490 }), "{overrun}");
        pending
    };
    for pending in pending {
        pending.await.expect("appended");
    }
    let too_large = appender.append(world.entry(vec![0; 400])).await.expect_err("too large");
    assert!(matches!(too_large, AppendError::TooLarge { bytes: 438, max: 400 }), "{too_large}");
    assert_eq!(log.stats().counters.refused_overrun, 1);
    assert_eq!(appender.append(world.entry("now")).await.expect("room again"), 6);
}

#[tokio::test]
async fn the_oldest_segment_goes_and_is_told_record_by_record() {
    let world = World::new(dropping(small()));
    let (log, _) = world.open();
    let mut slow = log.reader("slow", Begin::End).await.expect("reader");
    let fast = log.reader("fast", Begin::End).await.expect("reader");
    world.append(&log, (1..=9).map(payload)).await;
    assert_eq!(drain(&mut slow).await.len(), 9);
    assert!(slow.ack(2));
    (1..=3).for_each(|seq| assert!(fast.ack(seq)));
    // Not yet written down; now it must be.
    world.append(&log, [payload(10)]).await;
    let reason = DropReason::Cap;
    assert_eq!(world.told(), [told_dropped("slow", reason, [1, 3])]);
    world.append(&log, (11..=13).map(payload)).await;
    let told = [told_dropped("fast", reason, 4..=6), told_dropped("slow", reason, 4..=6)];
    assert_eq!(world.told(), told);

    // It had been delivered, and was given up: that it arrived after all is no news.
    assert!(!slow.ack(1) && slow.ack(7));
    let stats = log.stats();
    assert_eq!(stats.counters.segments_dropped[&reason], 2);
    assert_eq!(stats.destinations["slow"].dropped[&reason], 5);
    assert_eq!((stats.destinations["slow"].acknowledged, stats.destinations["slow"].queued_records), (2, 6));
    assert!(stats.bytes <= 1_300 && world.disk.used() <= 1_300 + 64, "with two cursors");
    slow.rewind();
    assert_eq!(seqs(&drain(&mut slow).await), [8, 9, 10, 11, 12, 13]);
    let world = World { disk: world.disk.power_cut(5), ..world };
    let (log, recovery) = world.open();
    assert_eq!((recovery.missing.len(), recovery.records), (0, 7), "cursors went first");
    assert_eq!(log.stats().destinations["fast"].queued_records, 7);
}

#[tokio::test]
async fn a_log_without_destinations_keeps_the_newest() {
    let world = World::new(dropping(small()));
    let (log, _) = world.open();
    world.append(&log, (1..=30).map(payload)).await;
    assert!(log.stats().bytes <= 1_300);
    assert_eq!(everything(&log).await, (22..=30).map(payload).collect::<Vec<_>>());
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn damage_in_a_dropped_segment_is_told_as_damage() {
    let world = World::new(dropping(small()));
    let (log, _) = world.open();
    log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=3).map(payload)).await;
    drop(log);
    let name = crate::segment::file_name(1);
    let mut bytes = world.disk.contents(&name).expect("written");
    bytes[80 + 98 + 50] ^= 1;
    world.disk.put(&name, &bytes);
    let (log, _) = world.open();
    world.append(&log, (4..=10).map(payload)).await;
    let damaged =
        Told::Dropped { destination: "a".into(), reason: DropReason::Damaged, count: 1, seqs: vec![] };
    assert_eq!(world.told(), [told_dropped("a", DropReason::Cap, [1, 3]), damaged]);
}

#[tokio::test]
async fn old_records_go_by_segments() {
    let world = World::new(Options { max_age: Some(Duration::from_millis(800)), ..small() });
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    let later = |ms| world.now_ms.fetch_add(ms, Ordering::Relaxed);
    world.append(&log, [payload(1)]).await;
    later(100);
    world.append(&log, [payload(2)]).await;
    later(1);
    // The segment is an eighth of the age old: the next one begins.
    world.append(&log, [payload(3)]).await;
    assert_eq!(world.segments(), 2);
    let reason = DropReason::Age;
    later(799);
    log.flush().await;
    assert_eq!(world.told(), [], "the second record is 800 ms old");
    later(1);
    log.flush().await;
    assert_eq!(world.told(), [told_dropped("a", reason, [1, 2])]);
    assert_eq!(log.stats().counters.segments_dropped[&reason], 1);
    // Of the last segment the records go; the file stays.
    later(1);
    log.flush().await;
    assert_eq!(world.told(), [told_dropped("a", reason, [3])]);
    assert_eq!(world.segments(), 1);
    assert_eq!(drain(&mut reader).await, []);
    assert_eq!(world.append(&log, [payload(4)]).await, [4]);
    assert_eq!(seqs(&drain(&mut reader).await), [4]);
    drop((log, reader));
    later(100);
    let (log, _) = world.open();
    assert_eq!(log.stats().destinations["a"].queued_records, 1, "100 ms old");
    later(800);
    log.flush().await;
    assert_eq!(log.stats().destinations["a"].dropped[&reason], 1, "age is known after a restart");
}

#[tokio::test]
async fn a_full_disk_costs_the_append_and_nothing_else() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=4).map(payload)).await;
    let used = world.disk.used();
    world.disk.set_room(Some(used + 97));
    for _ in 0..3 {
        let full = log.appender().append(world.entry(payload(5))).await.expect_err("full");
        assert!(full.is_disk_full(), "{full}");
    }
    let stats = log.stats();
    assert_eq!((stats.counters.failed_records, stats.waiting_records, stats.waiting_bytes), (3, 0, 0));
    assert_eq!(world.disk.used(), used, "what got there is cut off");
    assert_eq!(drain(&mut reader).await.len(), 4, "no half record");
    assert_eq!(world.append(&log, ["short"]).await, [5]);
    world.disk.set_room(None);
    assert_eq!(world.append(&log, [payload(6)]).await, [6]);
    assert_eq!(world.segments(), 2, "a full disk is no reason for a new segment");
    assert_eq!(seqs(&drain(&mut reader).await), [5, 6]);
    let world = World { disk: world.disk.restart(), ..world };
    let (_log, recovery) = world.open();
    assert_eq!((recovery.records, recovery.torn_bytes, recovery.damaged_bytes), (6, 0, 0));
    assert_eq!(world.told(), []);
}

#[tokio::test]
async fn a_segment_that_found_no_room_leaves_nothing_behind() {
    let world = World::new(small());
    let (log, _) = world.open();
    world.append(&log, (1..=3).map(payload)).await;
    let used = world.disk.used();
    world.disk.set_room(Some(used + 100));
    log.appender().append(world.entry(payload(4))).await.expect_err("full");
    assert_eq!((world.segments(), world.disk.used()), (1, used));
}

#[tokio::test]
async fn what_everybody_has_acknowledged_is_not_dropped() {
    let world = World::new(dropping(small()));
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    for number in 1..=30 {
        world.append(&log, [payload(number)]).await;
        for record in drain(&mut reader).await {
            reader.ack(record.seq);
        }
    }
    let stats = log.stats();
    assert_eq!((stats.counters.segments_dropped.len(), world.told()), (0, vec![]));
    assert!(stats.bytes <= 1_299 && stats.counters.segments_done > 5, "{stats:?}");
    let world = World { disk: world.disk.power_cut(3), ..world };
    assert_eq!(world.open().1.missing.len(), 0, "cursors were saved first");
}

#[tokio::test]
async fn the_cap_holds_though_the_oldest_cannot_be_removed() {
    let world = World::new(dropping(small()));
    let (log, _) = world.open();
    log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=9).map(payload)).await;
    world.disk.fail(crate::faulty::Call::Remove, 2);
    for _ in 0..2 {
        let failed = log.appender().append(world.entry(payload(10))).await.expect_err("no room");
        assert!(failed.to_string().contains("oldest segment"), "{failed}");
    }
    assert_eq!(world.append(&log, [payload(10)]).await, [10]);
    let told = world.told();
    let dropped = told.iter().filter(|told| **told == told_dropped("a", DropReason::Cap, 1..=3));
    assert_eq!(dropped.count(), 1, "{told:?}");
    assert_eq!(world.segments(), 3);
}

#[tokio::test]
async fn a_full_disk_is_left_by_acknowledging() {
    let world = World::new(small());
    let (log, _) = world.open();
    let reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=6).map(payload)).await;
    world.disk.set_room(Some(world.disk.used()));
    log.appender().append(world.entry(payload(7))).await.expect_err("full");
    // There is no room for a cursor either.
    (1..=3).for_each(|seq| assert!(reader.ack(seq)));
    log.flush().await;
    assert_eq!(world.told(), [Told::Fault("write")]);
    assert_eq!(world.append(&log, [payload(7)]).await, [7], "the first segment has gone for it");
    let world = World { disk: world.disk.restart(), ..world };
    let (log, recovery) = world.open();
    assert_eq!(recovery.missing.len(), 0, "the cursor was written as soon as there was room");
    assert_eq!(log.stats().destinations["a"].lowest, 4);
}

#[tokio::test]
async fn a_full_disk_is_left_even_if_the_only_segment_is_still_written_to() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=2).map(payload)).await;
    world.disk.set_room(Some(world.disk.used()));
    log.appender().append(world.entry(payload(3))).await.expect_err("full");
    assert_eq!(seqs(&drain(&mut reader).await), [1, 2]);
    reader.ack(1);
    log.appender().append(world.entry(payload(3))).await.expect_err("the second is still needed");
    reader.ack(2);
    assert_eq!(world.append(&log, [payload(3)]).await, [3], "the segment has gone for it");
    assert_eq!((world.segments(), seqs(&drain(&mut reader).await)), (1, vec![3]));
    let world = World { disk: world.disk.power_cut(7), ..world };
    let (log, recovery) = world.open();
    assert_eq!((recovery.records, recovery.damaged_bytes, recovery.missing.len()), (1, 0, 0));
    assert_eq!(log.stats().destinations["a"].lowest, 3);
}

#[tokio::test]
async fn numbers_go_on_though_nothing_could_be_written_after_starting_over() {
    let world = World::new(small());
    let (log, _) = world.open();
    let reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=2).map(payload)).await;
    (1..=2).for_each(|seq| assert!(reader.ack(seq)));
    world.disk.set_room(Some(world.disk.used()));
    let full = log.appender().append(world.entry("x".repeat(350))).await.expect_err("longer than what went");
    assert!(full.is_disk_full(), "{full}");
    let world = World { disk: world.disk.power_cut(7), ..world };
    let (log, _) = world.open();
    world.disk.set_room(None);
    assert_eq!(world.append(&log, [payload(3)]).await, [3]);
}

/// A file without a name keeps its room for as long as somebody has it open, and readers have.
#[tokio::test]
async fn what_goes_gives_its_room_back_though_a_reader_has_it_open() {
    let world = World::new(small());
    let (log, _) = world.open();
    let mut reader = log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=2).map(payload)).await;
    assert_eq!(drain(&mut reader).await.len(), 2);
    let open = crate::Disk::open(&world.disk, &crate::segment::file_name(1)).expect("the segment");
    (1..=2).for_each(|seq| assert!(reader.ack(seq)));
    world.disk.set_room(Some(world.disk.used()));
    assert_eq!(world.append(&log, [payload(3)]).await, [3]);
    assert_eq!(open.size().expect("its size"), 0);
}

#[tokio::test]
async fn a_full_disk_drops_the_oldest_where_that_is_asked_for() {
    let world = World::new(Options { when_full: WhenFull::DropOldest, ..small() });
    let (log, _) = world.open();
    log.reader("a", Begin::End).await.expect("reader");
    world.append(&log, (1..=6).map(payload)).await;
    world.disk.set_room(Some(world.disk.used()));
    assert_eq!(world.append(&log, [payload(7)]).await, [7]);
    let told = world.told();
    assert!(told.contains(&told_dropped("a", DropReason::DiskFull, 1..=3)), "{told:?}");
    assert_eq!(log.stats().destinations["a"].queued_records, 4);
}
