//! Random histories against a model: appends, reads, acknowledgements, faults, full disks, ends of processes, power cuts.

use super::*;
use crate::{WhenFull, faulty::Call};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Appends records of these lengths at once.
    Append(Vec<usize>),
    Read {
        who: usize,
        bytes: usize,
    },
    /// Acknowledges one of those delivered and not acknowledged.
    Ack {
        who: usize,
        which: prop::sample::Index,
    },
    /// Acknowledges all of them but the first.
    AckMost(usize),
    Flush,
    Rewind(usize),
    Fail(Call, u64),
    /// So much more than is used now, or all.
    Room(Option<usize>),
    /// The process ends after so many changes of the disk.
    EndAfter(u64),
    Restart,
    PowerCut(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let call = prop::sample::select(vec![
        Call::Create,
        Call::Write,
        Call::SetSize,
        Call::Sync,
        Call::Rename,
        Call::Remove,
        Call::SyncNames,
    ]);
    let who = 0..NAMES.len();
    prop_oneof![
        8 => prop::collection::vec(10_usize..150, 1..6).prop_map(Step::Append),
        6 => (who.clone(), 1_usize..600).prop_map(|(who, bytes)| Step::Read { who, bytes }),
        4 => (who.clone(), any::<prop::sample::Index>()).prop_map(|(who, which)| Step::Ack { who, which }),
        4 => who.clone().prop_map(Step::AckMost),
        2 => Just(Step::Flush),
        1 => who.prop_map(Step::Rewind),
        2 => (call, 1_u64..3).prop_map(|(call, times)| Step::Fail(call, times)),
        1 => prop::option::of(0_usize..300).prop_map(Step::Room),
        1 => (0_u64..6).prop_map(Step::EndAfter),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(Step::PowerCut),
    ]
}

/// What a destination must and may get.
#[derive(Default)]
struct Model {
    /// Every record that was told to be on disk, or was found after an end.
    stored: BTreeMap<u64, Vec<u8>>,
    /// Those of them that were only found: their appends were told to have failed, and the next power cut may take them.
    found: BTreeSet<u64>,
    /// Appends that were told to have failed since a record was last stored: they may be found after an end, even a later one.
    failed: Vec<Vec<u8>>,
    destinations: [Progress; 3],
}

#[derive(Default)]
struct Progress {
    acked: BTreeSet<u64>,
    saved: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    /// Told as dropped.
    dropped: BTreeSet<u64>,
    /// The last one delivered since the reader began.
    at: u64,
}

struct Run {
    world: World,
    log: Option<Log>,
    readers: Vec<Reader>,
    model: Model,
    appended: usize,
}

impl Run {
    async fn new(when_full: WhenFull) -> Self {
        let options = Options { max_bytes: 1_500, when_full, ..small() };
        let (world, model) = (World::new(options), Model::default());
        let mut run = Self { world, log: None, readers: Vec::new(), model, appended: 0 };
        run.open().await;
        run
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    async fn open(&mut self) {
        let (log, recovery) = self.world.open();
        assert_eq!(recovery.unreadable_cursors, [""; 0]);
        for name in NAMES {
            self.readers.push(log.reader(name, Begin::Oldest).await.expect("known, or room"));
        }
        self.log = Some(log);
    }

    async fn step(&mut self, step: Step) {
        self.act(step).await;
        self.hear();
    }

    /// What is dropped is told once, and exactly: neither acknowledged before nor unknown.
    fn hear(&mut self) {
        for told in self.world.told() {
            let Told::Dropped { destination, count, seqs, reason } = told else { continue };
            assert!(self.world.options.when_full == WhenFull::DropOldest || reason == DropReason::Damaged);
            assert!(seqs.is_empty() || seqs.len() as u64 == count);
            let who = NAMES.iter().position(|name| *name == destination).expect("known");
            let progress = &mut self.model.destinations[who];
            for seq in seqs {
                assert!(self.model.stored.contains_key(&seq), "{seq} is unknown");
                assert!(!progress.acked.contains(&seq), "{seq} was acknowledged");
                assert!(progress.dropped.insert(seq), "{seq} was dropped before");
            }
        }
    }

    async fn act(&mut self, step: Step) {
        match step {
            Step::Append(lengths) => self.append(&lengths).await,
            Step::Read { who, bytes } => self.read(who, bytes).await,
            Step::Ack { who, which } => {
                let open = self.open_records(who);
                if !open.is_empty() {
                    self.ack(who, *which.get(&open));
                }
            }
            Step::AckMost(who) => {
                self.open_records(who).into_iter().skip(1).for_each(|seq| self.ack(who, seq))
            }
            Step::Flush => {
                let faults = self.log().stats().counters.faults;
                self.log().flush().await;
                if self.log().stats().counters.faults == faults {
                    self.model.destinations.iter_mut().for_each(|progress| {
                        progress.saved = progress.acked.clone();
                    });
                }
            }
            Step::Rewind(who) => {
                self.readers[who].rewind();
                self.model.destinations[who].at = 0;
            }
            Step::Fail(call, times) => self.world.disk.fail(call, times),
            Step::Room(more) => self.world.disk.set_room(more.map(|more| self.world.disk.used() + more)),
            Step::EndAfter(calls) => self.world.disk.end_after(calls),
            Step::Restart => self.begin_anew(|disk| disk.restart()).await,
            Step::PowerCut(seed) => self.begin_anew(|disk| disk.power_cut(seed)).await,
        }
    }

    fn open_records(&self, who: usize) -> Vec<u64> {
        let progress = &self.model.destinations[who];
        progress.delivered.difference(&progress.acked).copied().collect()
    }

    fn ack(&mut self, who: usize, seq: u64) {
        let progress = &mut self.model.destinations[who];
        let news = self.readers[who].ack(seq);
        if !news && self.world.disk.has_ended() {
            // Told as damaged: nobody could read any more what was dropped.
            progress.dropped.insert(seq);
        }
        let dropped = progress.dropped.contains(&seq);
        assert_eq!(news, !dropped, "{seq} is acknowledged once, or was dropped");
        assert!(!self.readers[who].ack(seq), "the second time is no news");
        if !dropped {
            progress.acked.insert(seq);
        }
    }

    async fn append(&mut self, lengths: &[usize]) {
        let appender = self.log().appender();
        let mut pending = Vec::new();
        for length in lengths {
            self.appended += 1;
            let payload = format!("{:0length$}", self.appended).into_bytes();
            // A full log refuses before anything happens.
            if let Ok(one) = appender.try_append(self.world.entry(payload.clone())) {
                pending.push((payload, one));
            }
        }
        for (payload, one) in pending {
            match one.await {
                Ok(seq) => {
                    let last = self.model.stored.last_key_value().map_or(0, |(last, _)| *last);
                    assert!(seq > last, "{seq} after {last}");
                    self.model.stored.insert(seq, payload);
                    self.model.failed.clear();
                }
                Err(_) => self.model.failed.push(payload),
            }
        }
    }

    /// Exactly the next ones.
    async fn read(&mut self, who: usize, bytes: usize) {
        if self.world.disk.has_ended() {
            return;
        }
        let Ok(records) = self.readers[who].read(bytes).await else {
            // By a cursor that was being saved meanwhile.
            assert!(self.world.disk.has_ended(), "nothing else makes a read fail here");
            return;
        };
        let progress = &mut self.model.destinations[who];
        let next = self
            .model
            .stored
            .range(progress.at + 1..)
            .filter(|(seq, _)| !progress.acked.contains(seq) && !progress.dropped.contains(seq));
        let expected: Vec<_> = next.take(records.len().max(1)).collect();
        let got: Vec<_> = records.iter().map(|record| (record.seq, record.payload.to_vec())).collect();
        assert!(got.iter().map(|(seq, payload)| (seq, payload)).eq(expected), "{who} got {got:?}");
        let size: usize = records.iter().map(|record| 32 + 6 + record.payload.len()).sum();
        assert!(records.len() <= 1 || size <= bytes);
        for (seq, _) in got {
            progress.at = seq;
            progress.delivered.insert(seq);
        }
    }

    /// The process ends; the next one finds everything that counts.
    async fn begin_anew(&mut self, end: impl FnOnce(&FaultyDisk) -> FaultyDisk) {
        self.readers.clear();
        let disk = end(&self.world.disk);
        self.log = None;
        self.world.disk = disk;
        self.world.disk.set_room(None);
        self.hear();
        self.open().await;
        let mut found = BTreeMap::new();
        for who in 0..NAMES.len() {
            self.check_again(who, &mut found).await;
        }
        let model = &mut self.model;
        // What was never promised may be gone; what everybody has acknowledged may be, too.
        let gone: Vec<_> = model.found.iter().copied().filter(|seq| !found.contains_key(seq)).collect();
        for seq in gone {
            model.found.remove(&seq);
            model.stored.remove(&seq);
            // Its number may come again, unless a cursor on disk knows it.
            for progress in &mut model.destinations {
                progress.acked.remove(&seq);
                progress.saved.remove(&seq);
                progress.dropped.remove(&seq);
            }
        }
        model.found.extend(found.keys().filter(|seq| !model.stored.contains_key(seq)));
        model.stored.extend(found);
        let stats = self.log().stats();
        let missing = stats.next - 1 - self.model.stored.len() as u64;
        assert!(stats.counters.damaged_records <= missing, "{:?}", self.world.told());
    }

    /// Everything that a destination is delivered after an end; adds it to `found`.
    async fn check_again(&mut self, who: usize, found: &mut BTreeMap<u64, Vec<u8>>) {
        let got = drain(&mut self.readers[who]).await.into_iter();
        let got: BTreeMap<_, _> = got.map(|record| (record.seq, record.payload.to_vec())).collect();
        let Model { stored, found: unsure, failed, destinations } = &mut self.model;
        let progress = &mut destinations[who];
        for (seq, payload) in &got {
            let known = stored.get(seq).map_or_else(|| failed.contains(payload), |one| one == payload);
            assert!(known, "{seq} was never appended");
            assert!(!progress.saved.contains(seq), "{seq} was acknowledged for good");
        }
        for seq in stored.keys().filter(|seq| !unsure.contains(seq)) {
            let settled = progress.acked.contains(seq) || progress.dropped.contains(seq);
            assert!(settled || got.contains_key(seq), "{seq} is lost");
        }
        // What it acknowledged and did not come again is acknowledged for good; what came must be acknowledged anew.
        progress.acked.retain(|seq| !got.contains_key(seq));
        progress.dropped.retain(|seq| !got.contains_key(seq));
        progress.saved = progress.acked.clone();
        progress.delivered = got.keys().copied().collect();
        progress.at = 0;
        self.readers[who].rewind();
        found.extend(got);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn every_history_keeps_every_promise(
        steps in prop::collection::vec(step(), 1..60),
        drops: bool,
        seed: u64,
    ) {
        block_on(async {
            let mut run = Run::new(if drops { WhenFull::DropOldest } else { WhenFull::Block }).await;
            for step in steps {
                run.step(step).await;
            }
            run.begin_anew(|disk| disk.power_cut(seed)).await;
        });
    }
}
