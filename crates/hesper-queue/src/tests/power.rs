//! The process ends, or the power is cut, at every single call that changes the disk.

use super::*;
use crate::AppendError;
use std::collections::BTreeSet;

/// What a run had been told when it ended.
#[derive(Default)]
struct Promised {
    /// Appends that were told to be on disk.
    stored: Vec<u64>,
    /// Records that each destination had acknowledged.
    acked: [BTreeSet<u64>; 2],
    /// The same, when a flush ended that the disk did not refuse.
    saved: [BTreeSet<u64>; 2],
}

/// Appends, acknowledges, flushes, until everything is done or the disk is gone. The payload of a record is its number.
async fn run(world: &World) -> Promised {
    let mut promised = Promised::default();
    let (log, _) = world.open();
    let mut readers = Vec::new();
    for name in ["a", "b"] {
        let Ok(reader) = log.reader(name, Begin::Oldest).await else { return promised };
        readers.push(reader);
    }
    let mut number = 0;
    for step in 0..12_u64 {
        for _ in 0..=step % 3 {
            number += 1;
            match log.appender().append(world.entry(payload(number))).await {
                Ok(seq) => {
                    assert_eq!(seq, number);
                    promised.stored.push(seq);
                }
                Err(AppendError::Io(_)) => return promised,
                Err(other) => panic!("{other}"),
            }
        }
        for (index, reader) in readers.iter_mut().enumerate() {
            let Ok(records) = reader.read(200 * (index + 1)).await else { return promised };
            for record in records {
                // Every seventh is acknowledged late: out of order.
                if record.seq % 7 != 3 || step > 8 {
                    assert!(reader.ack(record.seq));
                    promised.acked[index].insert(record.seq);
                }
            }
        }
        if step % 4 == 3 {
            let faults = log.stats().counters.faults;
            log.flush().await;
            if log.stats().counters.faults > faults {
                return promised;
            }
            promised.saved = promised.acked.clone();
        }
    }
    promised
}

/// What the next process finds keeps every promise.
async fn check(world: &World, promised: &Promised, at: &str) {
    let (log, recovery) = world.open();
    assert_eq!(recovery.unreadable_cursors, [""; 0], "{at}");
    assert!(recovery.missing.is_empty(), "{at}: {recovery:?}");
    let stored = promised.stored.len() as u64;
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let mut reader = log.reader(name, Begin::Oldest).await.expect("reader");
        let records = drain(&mut reader).await;
        let got: BTreeSet<_> = records.iter().map(|record| record.seq).collect();
        assert!(records.iter().all(|record| record.payload == payload(record.seq)), "{at}");
        for seq in 1..=stored {
            let needed = !promised.acked[index].contains(&seq);
            let settled = promised.saved[index].contains(&seq);
            assert!(!needed || got.contains(&seq), "{at}: {name} never gets {seq}");
            assert!(!settled || !got.contains(&seq), "{at}: {name} gets {seq} again");
        }
        assert!(got.iter().all(|seq| *seq <= stored + 1), "{at}: {got:?}");
    }
    // It goes on.
    let next = log.appender().append(world.entry("next")).await.expect("appended");
    assert!(next > stored, "{at}: number {next} is used twice");
    // Nothing that counted is damaged: at most the append that was never told to be on disk.
    assert!(log.stats().counters.damaged_records <= 1, "{at}: {:?}", world.told());
}

fn world() -> World {
    World::new(Options { max_bytes: 10_000, ..small() })
}

#[test]
fn promises_outlive_the_end_at_every_call() {
    let whole = world();
    let all = block_on(run(&whole)).stored.len();
    let calls = whole.disk.changes();
    assert!(all == 24 && calls > 80, "{all} records, {calls} calls");
    for call in 0..=calls {
        for seed in 0..4 {
            let world = world();
            world.disk.end_after(call);
            let promised = block_on(run(&world));
            // Once only the process ends; else the power is cut, with other losses each time.
            let disk =
                if seed == 0 { world.disk.restart() } else { world.disk.power_cut(seed * 1000 + call) };
            block_on(check(&World { disk, ..world }, &promised, &format!("call {call}, seed {seed}")));
        }
    }
}
