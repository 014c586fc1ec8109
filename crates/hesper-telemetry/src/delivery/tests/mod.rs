//! Whole ways out, on disks that break, to destinations that fail as told.

mod disk;
mod hops;
mod memory;
mod replan;
mod requests;

use super::{
    store::{Disks, Ground, SAVE_EVERY},
    *,
};
use crate::{
    export::{Exporter, Failure, Shipment},
    origin::{BatchId, Origin, Sender},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use hesper_collector_config::{Retry, SendingQueue, extensions::WhenFull};
use hesper_otlp::{Batch, PartialSuccess, Refusal, Signal};
use hesper_queue::{Disk, faulty::FaultyDisk};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// What nothing in a test takes unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a destination answers.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Yes,
    /// So many items are rejected.
    Partly(i64),
    Again(Option<Duration>),
    Never,
    Panic,
    /// Nothing, ever.
    Silence,
}

/// A destination that does as it is told, and remembers what it got.
struct Fake {
    answer: watch::Sender<Answer>,
    /// What it said yes to, or in part.
    got: watch::Sender<Vec<Shipment>>,
    asked: watch::Sender<u64>,
}

impl Fake {
    fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self {
            answer: watch::Sender::new(answer),
            got: watch::Sender::default(),
            asked: watch::Sender::default(),
        })
    }

    fn answers(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// Waits until it has got so many requests.
    async fn has_got(&self, count: usize) -> Vec<Shipment> {
        let mut got = self.got.subscribe();
        let got = patiently("requests", got.wait_for(|got| got.len() >= count)).await;
        got.expect("it is there").clone()
    }

    /// Waits until it was asked so often.
    async fn is_asked(&self, times: u64) {
        let mut asked = self.asked.subscribe();
        patiently("attempts", asked.wait_for(|asked| *asked >= times)).await.expect("it is there");
    }

    fn numbers(&self) -> Vec<u64> {
        self.got.borrow().iter().map(number_of).collect()
    }
}

impl Exporter for Fake {
    fn export<'a>(&'a self, shipment: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        Box::pin(async move {
            self.asked.send_modify(|asked| *asked += 1);
            let answer = self.answer.borrow().clone();
            let rejected = match answer {
                Answer::Yes => 0,
                Answer::Partly(rejected) => rejected,
                Answer::Again(after) => return Err(Failure::Again { reason: "told so".into(), after }),
                Answer::Never => return Err(Failure::Never { reason: "told so".into() }),
                Answer::Panic => panic!("told so"),
                Answer::Silence => std::future::pending().await,
            };
            self.got.send_modify(|got| got.push(shipment.clone()));
            Ok(PartialSuccess { rejected, message: String::new() })
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits until something is so that nobody tells of.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    patiently(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Logs: one request with one record, whose severity number is the batch's number; so it can be put together and divided.
fn batch(number: u64, items: u64) -> Batch {
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    };
    use prost::Message;
    let record = LogRecord { time_unix_nano: number, ..LogRecord::default() };
    let log_records = vec![record; usize::try_from(items).expect("few")];
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    let request = ExportLogsServiceRequest { resource_logs };
    Batch { signal: Signal::Logs, payload: request.encode_to_vec().into() }
}

/// The numbers of the batches in a request.
fn numbers_in(payload: &Bytes) -> Vec<u64> {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use prost::Message;
    let request = ExportLogsServiceRequest::decode(payload.clone()).expect("a request");
    let scopes = request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs);
    scopes.flat_map(|scope| scope.log_records).map(|record| record.time_unix_nano).collect()
}

fn number_of(shipment: &Shipment) -> u64 {
    numbers_in(&shipment.batch.payload)[0]
}

fn shop() -> Arc<Origin> {
    let sender = Some(Sender { id: "i1".into(), name: "shop".into() });
    Arc::new(Origin { sender, received_ms: 1, ..Origin::default() })
}

/// A batch of another gateway.
fn foreign(number: u64) -> BatchId {
    BatchId { queue: [9; 16], number }
}

/// Retries as fast as they can be told apart.
fn quick() -> Retry {
    Retry {
        initial_interval: Duration::from_millis(1),
        max_interval: Duration::from_millis(2),
        ..Retry::default()
    }
}

fn destination(name: &str, exporter: &Arc<Fake>) -> Destination {
    Destination { retry: quick(), ..Destination::new(name, exporter.clone()) }
}

fn plan(destinations: impl Into<Vec<Destination>>) -> Plan {
    Plan { pipeline: "logs/eu".into(), destinations: destinations.into() }
}

/// A disk that outlives those who have it, and a log on it.
struct World {
    disk: Mutex<FaultyDisk>,
    storage: Storage,
    save_every: Duration,
}

impl World {
    fn new() -> Self {
        let storage = Storage {
            directory: PathBuf::from("/storage"),
            create: None,
            timeout: Duration::from_secs(1),
            max_bytes: 1 << 20,
            max_age: None,
            when_full: WhenFull::Block,
        };
        Self { disk: Mutex::new(FaultyDisk::new()), storage, save_every: SAVE_EVERY }
    }

    fn disk(&self) -> FaultyDisk {
        self.disk.lock().expect("lock").clone()
    }

    fn stored(&self, name: &str, exporter: &Arc<Fake>) -> Destination {
        Destination { storage: Some(self.storage.clone()), ..destination(name, exporter) }
    }

    async fn open(&self, destinations: impl Into<Vec<Destination>>) -> Delivery {
        self.try_open(destinations).await.expect("opened")
    }

    async fn try_open(&self, destinations: impl Into<Vec<Destination>>) -> Result<Delivery, OpenError> {
        let disk = self.disk();
        let disks: Disks = Arc::new(move |_| Ok(Arc::new(disk.clone()) as Arc<dyn Disk>));
        let ground = Ground { disks, clock: Arc::new(|| 1), save_every: self.save_every };
        Delivery::open_on(plan(destinations), Box::new(move |_| ground.clone())).await
    }

    /// Ends the process without a word.
    fn kill(&self, delivery: Delivery) {
        let mut disk = self.disk.lock().expect("lock");
        *disk = disk.restart();
        drop(delivery);
    }

    /// Cuts the power.
    fn cut(&self, delivery: Delivery, seed: u64) {
        let mut disk = self.disk.lock().expect("lock");
        *disk = disk.power_cut(seed);
        drop(delivery);
    }
}

async fn accept(delivery: &Delivery, number: u64, items: u64) -> Result<(), Refusal> {
    delivery.accept(batch(number, items), items, shop(), None).await
}

/// Accepted, delivered, queued and dropped items of a destination.
fn sums(delivery: &Delivery, destination: &str) -> (u64, u64, u64, BTreeMap<DropReason, u64>) {
    let mut sums = (0, 0, 0, BTreeMap::new());
    for row in delivery.ledger().into_iter().filter(|row| row.destination == destination) {
        let ended = row.delivered + row.queued + row.dropped.values().sum::<u64>();
        assert_eq!(row.accepted, ended, "the promise: {row:?}");
        sums = (sums.0 + row.accepted, sums.1 + row.delivered, sums.2 + row.queued, sums.3);
        row.dropped.into_iter().for_each(|(reason, items)| *sums.3.entry(reason).or_default() += items);
    }
    sums
}

fn none() -> BTreeMap<DropReason, u64> {
    BTreeMap::new()
}

fn stats_of(delivery: &Delivery, destination: &str) -> DestinationStats {
    delivery.stats().into_iter().find(|stats| stats.destination == destination).expect("it is served")
}

fn is_overloaded(answer: Result<(), Refusal>) -> bool {
    matches!(answer, Err(Refusal::Overloaded { after, .. }) if !after.is_zero())
}

fn queue(change: impl FnOnce(&mut SendingQueue)) -> Option<SendingQueue> {
    let mut queue = SendingQueue::default();
    change(&mut queue);
    Some(queue)
}
