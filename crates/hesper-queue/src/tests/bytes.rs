//! Every byte of a segment may be the last one that was written, or a damaged one.

use super::*;
use crate::segment::{SEGMENT_HEADER, file_name};
use proptest::prelude::*;

const RECORDS: u64 = 6;

/// The bytes of a segment with six records of different lengths, and where each record ends.
fn segment() -> (Vec<u8>, Vec<usize>) {
    let world = World::new(Options { segment_bytes: 4000, max_bytes: 10_000, ..small() });
    block_on(async {
        let (log, _) = world.open();
        world.append(&log, (1..=RECORDS).map(text)).await;
    });
    let bytes = world.disk.contents(&file_name(1)).expect("written");
    let mut end = SEGMENT_HEADER;
    let ends: Vec<_> = (1..=RECORDS)
        .map(|number| {
            end += 32 + b"origin".len() + text(number).len();
            end
        })
        .collect();
    assert_eq!(ends.last(), Some(&bytes.len()));
    (bytes, ends)
}

fn text(number: u64) -> Vec<u8> {
    vec![b'0' + number as u8; 9 * number as usize % 31]
}

/// A disk with that segment, and with a healthy one behind it when `sealed`.
fn world_with(bytes: &[u8], sealed: bool) -> World {
    let world = World::new(Options { segment_bytes: 4000, max_bytes: 20_000, ..small() });
    world.disk.put(&file_name(1), bytes);
    if sealed {
        let next = World::new(world.options.clone());
        let header = crate::segment::SegmentHeader { base: RECORDS + 1, time_ms: 0, salt: 3, mark: 5 };
        let mut second = header.encode().to_vec();
        header.encode_record(&mut second, RECORDS + 1, &next.entry("next"));
        world.disk.put(&file_name(RECORDS + 1), &second);
    }
    world
}

#[test]
fn a_crash_at_any_byte_leaves_exactly_what_was_whole() {
    let (bytes, ends) = segment();
    for cut in 0..=bytes.len() {
        let world = world_with(&bytes[..cut], false);
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64;
        block_on(async {
            let (log, recovery) = world.open();
            assert_eq!(recovery.records, whole, "cut at {cut}");
            let kept = if whole > 0 { ends[whole as usize - 1] } else { 0 };
            assert_eq!(recovery.torn_bytes, (cut - kept) as u64, "cut at {cut}");
            assert_eq!(world.append(&log, ["new"]).await, [whole + 1]);
            drop(log);
            let (log, recovery) = world.open();
            assert_eq!((recovery.torn_bytes, recovery.damaged_records), (0, 0));
            let expected: Vec<_> = (1..=whole).map(text).chain([b"new".to_vec()]).collect();
            assert_eq!(everything(&log).await, expected, "cut at {cut}");
            assert_eq!(world.told(), []);
        });
    }
}

#[test]
fn a_damaged_byte_costs_the_record_that_it_is_in() {
    let (bytes, ends) = segment();
    for sealed in [false, true] {
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let hit =
                (at >= SEGMENT_HEADER).then(|| 1 + ends.iter().filter(|end| **end <= at).count() as u64);
            let world = world_with(&damaged, sealed);
            let (log, recovery) = world.open();
            let mut expected: Vec<_> = (1..=RECORDS).filter(|n| Some(*n) != hit).map(text).collect();
            if sealed {
                expected.push(b"next".to_vec());
            }
            assert_eq!(block_on(everything(&log)), expected, "byte {at}, sealed {sealed}");
            // Told once, and exactly; but a torn end is not told from a damaged one.
            let Some(hit) = hit else { continue };
            let size = 38 + text(hit).len() as u64;
            if hit == RECORDS && !sealed {
                assert_eq!((recovery.torn_bytes, recovery.records), (size, RECORDS - 1));
                continue;
            }
            let dropped = Told::Dropped {
                destination: "audit".into(),
                reason: DropReason::Damaged,
                count: 1,
                seqs: vec![],
            };
            assert_eq!(world.told(), [Told::Damaged { bytes: size, records: 1 }, dropped], "byte {at}");
            let counters = log.stats().counters;
            assert_eq!((counters.damaged_records, counters.damaged_bytes), (1, size));
        }
    }
}

/// A payload that has a whole record in it, as a sender may craft it, must not become one when the record around is damaged.
#[test]
fn a_payload_cannot_pass_for_a_record() {
    let world = World::new(small());
    let forger = crate::segment::SegmentHeader { base: 1, time_ms: 0, salt: 0, mark: 0x5EED_5EED };
    let mut forged = Vec::new();
    forger.encode_record(&mut forged, 2, &world.entry("forged"));
    block_on(async {
        let (log, _) = world.open();
        world.append(&log, [b"one".to_vec(), forged, b"three".to_vec()]).await;
    });
    let name = file_name(1);
    let mut bytes = world.disk.contents(&name).expect("written");
    // The payload of the second record stays as it is; only its own checksum is hit.
    bytes[SEGMENT_HEADER + 41 + 4] ^= 1;
    world.disk.put(&name, &bytes);
    let (log, _) = world.open();
    assert_eq!(block_on(everything(&log)), [b"one".to_vec(), b"three".to_vec()]);
}

#[test]
fn numbers_are_not_used_twice_when_the_end_is_lost() {
    let world = World::new(small());
    block_on(async {
        let (log, _) = world.open();
        let mut reader = log.reader("a", Begin::End).await.expect("reader");
        log.reader("b", Begin::End).await.expect("reader");
        world.append(&log, ["one", "two", "three"]).await;
        assert!(drain(&mut reader).await.iter().all(|record| reader.ack(record.seq)));
    });
    let name = file_name(1);
    let bytes = world.disk.contents(&name).expect("written");
    world.disk.put(&name, &bytes[..bytes.len() - 50]);
    block_on(async {
        let (log, _) = world.open();
        assert_eq!(
            world.append(&log, ["four"]).await,
            [4],
            "a has acknowledged 3: it would never get another 3"
        );
        let mut a = log.reader("a", Begin::End).await.expect("reader");
        assert_eq!(payloads(&drain(&mut a).await), [b"four"]);
        let mut b = log.reader("b", Begin::End).await.expect("reader");
        assert_eq!(payloads(&drain(&mut b).await), [&b"one"[..], b"four"]);
        assert_eq!(log.stats().destinations["b"].dropped[&DropReason::Damaged], 2, "two and three");
        assert_eq!(log.stats().destinations["a"].dropped.len(), 0);
    });
}

#[test]
fn numbers_go_on_when_no_segment_is_left() {
    let world = World::new(small());
    world.disk.put(&file_name(42), b"nothing of a segment");
    let (log, recovery) = world.open();
    assert_eq!((recovery.torn_bytes, recovery.segments, recovery.records), (20, 0, 0));
    assert_eq!(block_on(world.append(&log, ["next"])), [42]);
}

#[test]
fn a_damaged_cursor_costs_repetitions_only() {
    let world = World::new(small());
    block_on(async {
        let (log, _) = world.open();
        let reader = log.reader("a", Begin::End).await.expect("reader");
        world.append(&log, ["one", "two"]).await;
        assert!(reader.ack(1));
    });
    world.disk.put("a.cursor", b"HESPERC1 and so on");
    let (log, recovery) = world.open();
    assert_eq!(recovery.unreadable_cursors, ["a"]);
    block_on(async {
        let mut reader = log.reader("a", Begin::End).await.expect("reader");
        assert_eq!(seqs(&drain(&mut reader).await), [1, 2]);
    });
}

#[test]
fn a_segment_that_somebody_removed_is_told_as_lost() {
    let world = World::new(small());
    block_on(async {
        let (log, _) = world.open();
        let mut reader = log.reader("a", Begin::End).await.expect("reader");
        world.append(&log, (1..=12).map(payload)).await;
        crate::disk::Disk::remove(&world.disk, &file_name(4)).expect("removed");
        assert_eq!(seqs(&drain(&mut reader).await), [1, 2, 3, 7, 8, 9, 10, 11, 12]);
    });
    crate::disk::Disk::remove(&world.disk, &file_name(1)).expect("removed");
    let (log, recovery) = world.open();
    assert_eq!(recovery.missing["a"], 3, "4 to 6 were told before");
    assert_eq!(log.stats().destinations["a"].queued_records, 6);
}

proptest! {
    /// Whatever is overwritten, with whatever: what was not touched is delivered, and nothing else.
    #[test]
    fn garbage_costs_what_it_covers(
        from in 0_usize..430,
        garbage in prop::collection::vec(any::<u8>(), 1..120),
        sealed: bool,
    ) {
        let (whole, ends) = segment();
        let range = from.min(whole.len())..(from + garbage.len()).min(whole.len());
        let mut bytes = whole.clone();
        bytes[range.clone()].copy_from_slice(&garbage[..range.len()]);
        let world = world_with(&bytes, sealed);
        let (log, _) = world.open();
        let got = block_on(everything(&log));
        let starts = [&[SEGMENT_HEADER], &ends[..ends.len() - 1]].concat();
        let same = |start: usize, end: usize| bytes[start..end] == whole[start..end];
        let header = same(0, SEGMENT_HEADER / 2) || same(SEGMENT_HEADER / 2, SEGMENT_HEADER);
        let untouched = (1..=RECORDS)
            .zip(starts.iter().zip(&ends))
            .filter(|(_, (start, end))| header && same(**start, **end));
        let mut expected: Vec<_> = untouched.map(|(number, _)| text(number)).collect();
        if sealed {
            expected.push(b"next".to_vec());
        }
        prop_assert_eq!(got, expected);
    }
}
