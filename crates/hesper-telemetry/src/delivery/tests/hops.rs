//! Two gateways, one behind the other, both of which may be killed or lose their power at any moment: everything arrives, and at the second
//! one exactly once.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The way from the first gateway to the second.
#[derive(Default)]
struct Hop {
    target: Mutex<Option<Arc<Delivery>>>,
    /// Every so many answers get lost on their way; zero: none.
    loses: AtomicU64,
    answers: AtomicU64,
}

impl Exporter for Hop {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        Box::pin(async move {
            let again = |reason: &str| Err(Failure::Again { reason: reason.into(), after: None });
            let Some(target) = self.target.lock().expect("lock").clone() else { return again("it is down") };
            let Shipment { batch, items, origin, id } = shipment.clone();
            let answer = target.accept(batch, items, origin, id).await;
            let loses = self.loses.load(Relaxed);
            if loses > 0 && self.answers.fetch_add(1, Relaxed).is_multiple_of(loses) {
                return again("the answer was lost");
            }
            answer.map(|()| PartialSuccess::default()).or_else(|refusal| again(&format!("{refusal:?}")))
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many batches at once.
    Accept(u64),
    LoseAnswers(u64),
    /// The first or second one ends; with a seed, by a power cut.
    End {
        second: bool,
        seed: Option<u64>,
    },
    /// Time passes until something arrives in the end.
    Arrive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_u64..12).prop_map(Step::Accept),
        1 => (0_u64..4).prop_map(Step::LoseAnswers),
        3 => (any::<bool>(), prop::option::of(any::<u64>())).prop_map(|(second, seed)| Step::End { second, seed }),
        2 => Just(Step::Arrive),
    ]
}

struct Two {
    worlds: [World; 2],
    hop: Arc<Hop>,
    sink: Arc<Fake>,
    first: Option<Delivery>,
    next: u64,
    /// Batches that were answered with yes.
    promised: Vec<u64>,
}

fn items_of(number: u64) -> u64 {
    1 + number % 4
}

impl Two {
    async fn new() -> Self {
        let mut two = Self {
            worlds: [World::new(), World::new()],
            hop: Arc::default(),
            sink: Fake::new(Answer::Yes),
            first: None,
            next: 1,
            promised: Vec::new(),
        };
        two.open_second().await;
        two.open_first().await;
        two
    }

    async fn open_first(&mut self) {
        let hop = Destination {
            retry: quick(),
            gateway: true,
            storage: Some(self.worlds[0].storage.clone()),
            ..Destination::new("hop", self.hop.clone())
        };
        self.first = Some(self.worlds[0].open([hop]).await);
    }

    async fn open_second(&mut self) {
        let second = self.worlds[1].open([self.worlds[1].stored("sink", &self.sink)]).await;
        *self.hop.target.lock().expect("lock") = Some(Arc::new(second));
    }

    fn first(&self) -> &Delivery {
        self.first.as_ref().expect("it runs")
    }

    fn second(&self) -> Arc<Delivery> {
        self.hop.target.lock().expect("lock").clone().expect("it runs")
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Accept(count) => {
                let numbers: Vec<_> = (self.next..self.next + count).collect();
                self.next += count;
                let accepts = numbers.iter().map(|number| accept(self.first(), *number, items_of(*number)));
                let answers = futures::future::join_all(accepts).await;
                let taken = numbers.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok());
                self.promised.extend(taken.map(|(number, _)| number));
            }
            Step::LoseAnswers(every) => self.hop.loses.store(every, Relaxed),
            Step::End { second: false, seed } => {
                let first = self.first.take().expect("it runs");
                match seed {
                    Some(seed) => self.worlds[0].cut(first, seed),
                    None => self.worlds[0].kill(first),
                }
                self.open_first().await;
            }
            Step::End { second: true, seed } => {
                let second = self.hop.target.lock().expect("lock").take().expect("it runs");
                {
                    let mut disk = self.worlds[1].disk.lock().expect("lock");
                    *disk = seed.map_or_else(|| disk.restart(), |seed| disk.power_cut(seed));
                }
                drop(second);
                self.open_second().await;
            }
            Step::Arrive => {
                let count = self.sink.got.borrow().len() + 1;
                // When every answer is lost, the first queue never becomes empty.
                if self.hop.loses.load(Relaxed) != 1 {
                    let is_empty = || sums(self.first(), "hop").2 == 0;
                    until("arrivals", || self.sink.got.borrow().len() >= count || is_empty()).await;
                }
            }
        }
    }

    async fn check(self) {
        self.hop.loses.store(0, Relaxed);
        let second = self.second();
        until("the first queue", || sums(self.first(), "hop").2 == 0).await;
        until("the second queue", || sums(&second, "sink").2 == 0).await;
        let arrived: std::collections::BTreeSet<_> = self.sink.numbers().into_iter().collect();
        assert!(self.promised.iter().all(|number| arrived.contains(number)), "acknowledged means delivered");
        let items: u64 = arrived.iter().map(|number| items_of(*number)).sum();
        assert_eq!(sums(self.first(), "hop"), (items, items, 0, none()), "the first ledger");
        assert_eq!(sums(&second, "sink"), (items, items, 0, none()), "the second ledger: each once");
        assert_eq!((self.first().forgotten_ids(), second.forgotten_ids()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn everything_arrives_exactly_once(steps in prop::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("runtime").block_on(async {
            let mut two = Two::new().await;
            for step in steps {
                two.apply(step).await;
            }
            two.check().await;
        });
    }
}
