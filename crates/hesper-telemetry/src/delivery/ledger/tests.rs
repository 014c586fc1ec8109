//! The ledger against a model that remembers every record.

use super::*;
use crate::origin::BatchId;
use hesper_queue::Ranges;
use proptest::prelude::*;

const DESTINATIONS: [&str; 2] = ["otlp/a", "otlp/b"];

fn party(number: u8) -> Party {
    match number {
        0 => Party::Unknown,
        1 => Party::User { name: "user-1".into() },
        _ => Party::Identity { id: format!("i{number}"), name: "shop".into() },
    }
}

fn entry(number: u64) -> Entry {
    let id = number.is_multiple_of(3).then_some(BatchId { queue: [1; 16], number });
    let signal = Signal::ALL[(number % 2) as usize];
    Entry { party: party((number % 5) as u8), signal, items: number * number % 7, id }
}

/// One record for one destination, as the model knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Queued,
    Settled { dropped: u64 },
    Lost,
}

#[derive(Clone, Debug)]
enum Step {
    /// The next record is stored, and counted so many steps later, or by whoever settles it.
    Store {
        counted: bool,
    },
    Count(usize),
    Settle {
        destination: usize,
        record: usize,
        dropped: u64,
    },
    Lose {
        destination: usize,
        record: usize,
    },
    /// Write down.
    Save,
    /// Forget all that was not written down, and read the log.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let record = 0..64_usize;
    prop_oneof![
        4 => any::<bool>().prop_map(|counted| Step::Store { counted }),
        2 => record.clone().prop_map(Step::Count),
        6 => (0..2_usize, record.clone(), 0..3_u64)
            .prop_map(|(destination, record, dropped)| Step::Settle { destination, record, dropped }),
        1 => (0..2_usize, record).prop_map(|(destination, record)| Step::Lose { destination, record }),
        1 => Just(Step::Save),
        1 => Just(Step::Crash),
    ]
}

struct Model {
    book: Book,
    /// For each stored record and destination. Numbers begin with 1.
    fates: Vec<[Fate; 2]>,
    counted: Vec<bool>,
    saved: (Vec<u8>, Vec<[Fate; 2]>),
}

impl Model {
    fn new() -> Self {
        let mut book = Book::new(1);
        let mut past = Ranges::default();
        past.add(0..1);
        DESTINATIONS.iter().for_each(|name| assert_eq!(book.open(name, &past), 0));
        let saved = (book.encode(), Vec::new());
        Self { book, fates: Vec::new(), counted: Vec::new(), saved }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Store { counted } => {
                self.fates.push([Fate::Queued; 2]);
                self.counted.push(false);
                if counted {
                    self.count(self.fates.len());
                }
            }
            Step::Count(at) if at < self.fates.len() => self.count(at + 1),
            Step::Settle { destination, record, dropped } if record < self.fates.len() => {
                let number = record as u64 + 1;
                let entry = entry(number);
                let dropped = dropped.min(entry.items);
                let news = self.book.settle(
                    DESTINATIONS[destination],
                    number,
                    &entry,
                    &[(DropReason::Rejected, dropped)],
                );
                let fate = &mut self.fates[record][destination];
                assert_eq!(news, *fate == Fate::Queued, "{number} {fate:?}");
                if news {
                    *fate = Fate::Settled { dropped };
                }
                self.counted[record] = true;
            }
            Step::Lose { destination, record } if record < self.fates.len() && self.counted[record] => {
                let number = record as u64 + 1;
                let news = self.book.lose(DESTINATIONS[destination], number..number + 1);
                let fate = &mut self.fates[record][destination];
                assert_eq!(news == 1, *fate == Fate::Queued);
                if news == 1 {
                    *fate = Fate::Lost;
                }
            }
            Step::Save => self.saved = (self.book.encode(), self.fates.clone()),
            Step::Crash => self.crash(),
            _ => {}
        }
    }

    fn count(&mut self, number: usize) {
        self.book.accept(number as u64, &entry(number as u64));
        self.counted[number - 1] = true;
    }

    /// The log has all that was stored, and its cursors know no more than the book.
    fn crash(&mut self) {
        self.book = Book::decode(&self.saved.0).expect("whole");
        let stored = self.fates.len();
        self.fates = self.saved.1.clone();
        self.fates.resize(stored, [Fate::Queued; 2]);
        for (index, name) in DESTINATIONS.iter().enumerate() {
            assert_eq!(self.book.open(name, &self.book.settled(name)), 0, "{index}");
        }
        (1..=stored as u64).for_each(|number| self.book.accept(number, &entry(number)));
        self.counted = vec![true; stored];
    }

    fn check(&self) {
        for (index, name) in DESTINATIONS.iter().enumerate() {
            let mut expected: BTreeMap<(Party, Signal), (u64, u64, u64)> = BTreeMap::new();
            let queue_empty = self.fates.iter().all(|fates| fates[index] != Fate::Queued);
            let mut damaged = BTreeMap::new();
            for (at, fates) in self.fates.iter().enumerate().filter(|(at, _)| self.counted[*at]) {
                let entry = entry(at as u64 + 1);
                let key = (entry.party.clone(), entry.signal);
                let sums = expected.entry(key.clone()).or_default();
                sums.0 += entry.items;
                match fates[index] {
                    Fate::Settled { dropped } => {
                        sums.1 += entry.items - dropped;
                        sums.2 += dropped;
                    }
                    Fate::Lost => *damaged.entry(key).or_default() += entry.items,
                    Fate::Queued => {}
                }
            }
            for row in self.book.rows().iter().filter(|row| row.destination == *name) {
                let key = (row.sender.clone(), row.signal);
                let (accepted, delivered, rejected) = expected.remove(&key).expect("an account");
                assert_eq!((row.accepted, row.delivered), (accepted, delivered), "{row:?}");
                let dropped = |reason| row.dropped.get(&reason).copied().unwrap_or(0);
                assert_eq!(dropped(DropReason::Rejected), rejected);
                let sum = row.delivered + row.queued + row.dropped.values().sum::<u64>();
                assert_eq!(row.accepted, sum, "the promise: {row:?}");
                if queue_empty {
                    assert_eq!(row.queued, 0, "{row:?}");
                    assert_eq!(dropped(DropReason::Damaged), damaged.get(&key).copied().unwrap_or(0));
                }
            }
            assert!(expected.values().all(|sums| sums.0 == 0), "not in the ledger: {expected:?}");
        }
        for (at, counted) in self.counted.iter().enumerate() {
            let number = at as u64 + 1;
            if let Some(id) = entry(number).id {
                assert_eq!(self.book.has_seen(&id), *counted, "{number}");
            }
        }
    }
}

proptest! {
    #[test]
    fn accepted_is_delivered_and_queued_and_dropped(steps in prop::collection::vec(step(), 0..80)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            model.check();
        }
    }
}

#[test]
fn a_destination_that_comes_later_counts_from_then_on() {
    let mut book = Book::new(1);
    let (mut first, mut later) = (Ranges::default(), Ranges::default());
    first.add(0..1);
    later.add(0..4);
    book.open("first", &first);
    for number in [1, 2, 3, 5] {
        book.accept(number, &Entry { items: 10, ..entry(2) });
    }
    book.open("later", &later);
    book.accept(4, &Entry { items: 10, ..entry(2) });
    let sums = |book: &Book, name: &str| {
        let rows: Vec<_> = book.rows().into_iter().filter(|row| row.destination == name).collect();
        rows.iter().map(|row| (row.accepted, row.delivered, row.queued)).collect::<Vec<_>>()
    };
    assert_eq!(
        sums(&book, "later"),
        [(10, 0, 10)],
        "5 was counted before it came, and is added when it is settled"
    );
    assert!(!book.settle("later", 3, &entry(2), &[]), "not for it");
    for number in [4, 5] {
        assert!(book.settle("later", number, &Entry { items: 10, ..entry(2) }, &[]));
    }
    assert_eq!(sums(&book, "later"), [(20, 20, 0)]);
    assert_eq!(sums(&book, "first"), [(50, 0, 50)]);
    book.retire("later");
    book.accept(6, &Entry { items: 10, ..entry(2) });
    assert_eq!(sums(&book, "later"), [(20, 20, 0)], "it gets nothing any more");
}

#[test]
fn a_log_that_was_replaced_leaves_nothing_queued() {
    let mut book = Book::new(1);
    let mut past = Ranges::default();
    past.add(0..1);
    book.open("a", &past);
    (1..5).for_each(|number| book.accept(number, &Entry { items: 10, ..entry(1) }));
    book.settle("a", 1, &Entry { items: 10, ..entry(1) }, &[]);
    book.truncate(2);
    let rows = book.rows();
    assert_eq!((rows[0].delivered, rows[0].queued, rows[0].dropped[&DropReason::Damaged]), (10, 0, 30));
    book.accept(2, &Entry { items: 5, ..entry(1) });
    assert_eq!(book.rows()[0].queued, 5, "numbers are used anew");
}

#[test]
fn a_file_that_is_not_whole_is_refused() {
    let mut book = Book::new(1);
    book.open("a", &Ranges::default());
    book.accept(1, &entry(3));
    let file = book.encode();
    assert_eq!(Book::decode(&file).expect("whole").rows(), book.rows());
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(Book::decode(&damaged).is_none(), "byte {at}");
        assert!(Book::decode(&file[..at]).is_none(), "the first {at} bytes");
    }
}
