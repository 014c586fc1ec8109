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
    /// The first or second one ends; with a seed, by a power cut. Perhaps the next process ends likewise, at its so many'th call of the disk.
    End {
        second: bool,
        seed: Option<u64>,
        again: Option<u64>,
    },
    /// The disk of the first or second one ends its process at its so many'th call from now.
    EndAfter {
        second: bool,
        calls: u64,
    },
    /// Time passes until something arrives in the end.
    Arrive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1_u64..12).prop_map(Step::Accept),
        1 => (0_u64..4).prop_map(Step::LoseAnswers),
        3 => (any::<bool>(), prop::option::of(any::<u64>()), prop::option::of(0_u64..40))
            .prop_map(|(second, seed, again)| Step::End { second, seed, again }),
        2 => (any::<bool>(), 0_u64..30).prop_map(|(second, calls)| Step::EndAfter { second, calls }),
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

/// Opens a log, in as many processes as that takes.
async fn open(world: &World, destination: &Destination) -> Delivery {
    loop {
        match world.try_open([destination.clone()]).await {
            Ok(delivery) => return delivery,
            Err(error) => {
                let mut disk = world.disk.lock().expect("lock");
                assert!(disk.has_ended(), "{error}");
                *disk = disk.restart();
            }
        }
    }
}

fn items_of(number: u64) -> u64 {
    1 + number % 4
}

impl Two {
    async fn new(save_every: Duration) -> Self {
        let mut two = Self {
            // Often, so that the ends come in the midst of it.
            worlds: [World { save_every, ..World::new() }, World { save_every, ..World::new() }],
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
        self.first = Some(open(&self.worlds[0], &hop).await);
    }

    async fn open_second(&mut self) {
        let second = open(&self.worlds[1], &self.worlds[1].stored("sink", &self.sink)).await;
        *self.hop.target.lock().expect("lock") = Some(Arc::new(second));
    }

    /// The process of one of them ends, and the next one begins.
    async fn end(&mut self, second: bool, seed: Option<u64>, again: Option<u64>) {
        {
            let mut disk = self.worlds[usize::from(second)].disk.lock().expect("lock");
            *disk = seed.map_or_else(|| disk.restart(), |seed| disk.power_cut(seed));
            again.into_iter().for_each(|calls| disk.end_after(calls));
        }
        if second {
            drop(self.hop.target.lock().expect("lock").take());
            self.open_second().await;
        } else {
            drop(self.first.take());
            self.open_first().await;
        }
    }

    /// Begins those anew whose process has ended.
    async fn revive(&mut self) {
        for second in [false, true] {
            // From now on it is let be.
            self.worlds[usize::from(second)].disk().end_after(u64::MAX / 2);
            if self.worlds[usize::from(second)].disk().has_ended() {
                self.end(second, None, None).await;
            }
        }
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
            Step::End { second, seed, again } => self.end(second, seed, again).await,
            Step::EndAfter { second, calls } => self.worlds[usize::from(second)].disk().end_after(calls),
            Step::Arrive => {
                self.revive().await;
                let count = self.sink.got.borrow().len() + 1;
                // When every answer is lost, the first queue never becomes empty.
                if self.hop.loses.load(Relaxed) != 1 {
                    let is_empty = || sums(self.first(), "hop").2 == 0;
                    until("arrivals", || self.sink.got.borrow().len() >= count || is_empty()).await;
                }
            }
        }
    }

    async fn check(mut self) {
        self.revive().await;
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
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn everything_arrives_exactly_once(
        steps in prop::collection::vec(step(), 1..14),
        save_every in 0_u64..4,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("runtime").block_on(async {
            let mut two = Two::new(Duration::from_millis(save_every)).await;
            for step in steps {
                two.apply(step).await;
            }
            two.check().await;
        });
    }
}
