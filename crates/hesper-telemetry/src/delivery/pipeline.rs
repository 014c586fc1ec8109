//! The whole way out of one pipeline: opened, changed, closed.

use super::{
    Destination, DestinationStats, OpenError, Plan, Row,
    accept::{AGAIN, Arriving, InMemory, Routes, WAIT, delivered},
    arrivals::{Arrivals, Entered},
    counters::QueueKind,
    lane::Lane,
    ledger::DropReason,
    memory::{Capacity, Memory},
    plan::Storage,
    settings::Settings,
    source::{DiskSource, Source},
    store::{Disks, Store, directories},
};
use crate::origin::{BatchId, Origin};
use futures::future::join_all;
use hesper_otlp::{Batch, Refusal};
use hesper_queue::Clock;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout},
};

/// How long a change waits for senders that are being answered.
const QUIET: Duration = Duration::from_secs(15);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(2);
/// How long a destination that was removed may go on with what it has.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One pipeline's way out to its destinations.
pub struct Delivery {
    pipeline: String,
    in_memory: InMemory,
    arrivals: Arc<Arrivals>,
    /// None while they are being changed, and after the end.
    routes: watch::Sender<Option<Arc<Routes>>>,
    /// Held by whoever changes them.
    changing: Mutex<()>,
    disks: Box<dyn Fn(&Storage) -> Disks + Send + Sync>,
    clock: Clock,
}

/// A log with its destinations.
type Served = (Arc<Store>, Vec<Arc<Lane>>);

/// What was left at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Items that were only in memory: lost, and counted as dropped ([`DropReason::Shutdown`]).
    pub lost_items: u64,
    /// Batches that are kept on disk for the next start, summed over the destinations.
    pub kept_batches: u64,
}

impl Delivery {
    /// Opens the queues, and begins to deliver what is in them.
    ///
    /// # Errors
    /// When the plan makes no sense, or a log cannot be opened.
    pub async fn open(plan: Plan) -> Result<Self, OpenError> {
        Self::open_on(plan, Box::new(directories), Arc::new(now_ms)).await
    }

    /// As [`Delivery::open`], on other disks.
    pub(crate) async fn open_on(
        plan: Plan,
        disks: Box<dyn Fn(&Storage) -> Disks + Send + Sync>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        check(&plan)?;
        let delivery = Self {
            in_memory: InMemory::new(&plan.pipeline),
            pipeline: plan.pipeline.clone(),
            arrivals: Arc::default(),
            routes: watch::Sender::new(None),
            changing: Mutex::default(),
            disks,
            clock,
        };
        let none = Routes { direct: Vec::new(), memory: Vec::new(), stores: Vec::new() };
        let routes = delivery.build(plan.destinations, &none).await?;
        delivery.routes.send_replace(Some(Arc::new(routes)));
        Ok(delivery)
    }

    /// Takes a batch for all destinations; ends when it is safe with each: on disk, in memory, or delivered, as the plan says. Of a batch
    /// that another gateway sends, `id` is how that calls it: a second time it is answered and not taken.
    ///
    /// # Errors
    /// Why it is not taken. A refusal that lets the sender come again leaves, but for what `accept.rs` tells, nothing behind.
    pub async fn accept(
        &self,
        batch: Batch,
        items: u64,
        origin: Arc<Origin>,
        id: Option<BatchId>,
    ) -> Result<(), Refusal> {
        let ticket = match id {
            None => None,
            Some(id) => match timeout(WAIT, self.arrivals.enter(id)).await {
                Ok(Entered::First(ticket)) => Some(ticket),
                Ok(Entered::Ended(answer)) => return answer,
                Err(_) => return Err(self.busy("the same batch is being stored")),
            },
        };
        let arriving = Arriving::new(batch, items, origin, id);
        let routes = self.routes_now().await?;
        let results = routes.take(&arriving, &self.in_memory, ticket).await;
        drop(routes);
        delivered(results?).await
    }

    async fn routes_now(&self) -> Result<Arc<Routes>, Refusal> {
        if let Some(routes) = &*self.routes.borrow() {
            return Ok(routes.clone());
        }
        let mut listener = self.routes.subscribe();
        let routes = timeout(WAIT, listener.wait_for(Option::is_some)).await;
        let routes = routes.ok().and_then(Result::ok).and_then(|routes| routes.clone());
        routes.ok_or_else(|| self.busy("it is being changed or ends"))
    }

    fn busy(&self, reason: &str) -> Refusal {
        Refusal::Overloaded { reason: format!("pipeline {}: {reason}", self.pipeline), after: AGAIN }
    }

    /// Serves these destinations from now on. Queues of names that stay are kept as they are, in memory too; what waits for another attempt is
    /// tried at once with the new exporter. Destinations that are gone end: what they had in memory is delivered within seconds or counted as
    /// dropped, what they had on disk is kept ([`Delivery::unserved`]). Senders wait meanwhile. The old exporters are the caller's to shut
    /// down, after this.
    ///
    /// # Errors
    /// As [`Delivery::open`], and [`OpenError::Busy`]: what was before goes on then.
    pub async fn replan(&self, plan: Plan) -> Result<(), OpenError> {
        check(&plan)?;
        let refused = |reason: String| OpenError::Plan { pipeline: plan.pipeline.clone(), reason };
        if plan.pipeline != self.pipeline {
            return Err(refused(format!("this is the way out of pipeline {}", self.pipeline)));
        }
        let _changing = self.changing.lock().await;
        let Some(old) = self.routes.send_replace(None) else {
            return Err(refused("it has ended".to_owned()));
        };
        let (new, result) = match quiet(old, Instant::now() + QUIET).await {
            Ok(old) => self.change(old, plan.destinations).await,
            Err(old) => (Some(old), Err(OpenError::Busy(PathBuf::from(&self.pipeline)))),
        };
        self.routes.send_replace(new);
        result
    }

    /// The new routes; after an error the old ones, as far as they can go on.
    async fn change(
        &self,
        mut old: Routes,
        destinations: Vec<Destination>,
    ) -> (Option<Arc<Routes>>, Result<(), OpenError>) {
        for destination in &destinations {
            let Some(storage) =
                destination.storage.as_ref().filter(|_| destination.sending_queue().is_some())
            else {
                continue;
            };
            let at = old.stores.iter().position(|(store, _)| {
                store.storage.directory == storage.directory && store.storage != *storage
            });
            if let Some(at) = at {
                let (store, lanes) = old.stores.swap_remove(at);
                match self.reopen(store, lanes, storage).await {
                    Ok((reopened, None)) => old.stores.push(reopened),
                    Ok((as_before, Some(error))) => {
                        old.stores.push(as_before);
                        return (Some(Arc::new(old)), Err(error));
                    }
                    // Nobody can be answered without it.
                    Err(error) => return (None, Err(error)),
                }
            }
        }
        match self.build(destinations, &old).await {
            Ok(routes) => (Some(Arc::new(routes)), Ok(())),
            Err(error) => (Some(Arc::new(old)), Err(error)),
        }
    }

    /// What the destinations are to be, of what there is and what is new. What can fail goes first.
    async fn build(&self, destinations: Vec<Destination>, old: &Routes) -> Result<Routes, OpenError> {
        let mut routes = Routes { direct: Vec::new(), memory: Vec::new(), stores: Vec::new() };
        for (storage, destinations) in by_storage(&destinations) {
            let kept = old.stores.iter().find(|(store, _)| store.storage == *storage);
            let store = match kept {
                Some((store, lanes)) => (store.clone(), self.lanes_of(store, lanes, &destinations).await?),
                None => self.open_store(storage, &destinations).await?,
            };
            routes.stores.push(store);
        }
        let is_kept = |lane: &Arc<Lane>| {
            let on_disk = routes.stores.iter().flat_map(|(_, lanes)| lanes);
            let in_memory = || destinations.iter().any(|one| one.name == lane.name && kind(one) == lane.kind);
            if lane.kind == QueueKind::Disk {
                on_disk.into_iter().any(|kept| Arc::ptr_eq(kept, lane))
            } else {
                in_memory()
            }
        };
        let gone: Vec<_> = old.lanes().filter(|lane| !is_kept(lane)).cloned().collect();
        self.end(&gone, Instant::now() + LAST_WORDS).await;
        for destination in &destinations {
            let lanes = match kind(destination) {
                QueueKind::None => (&mut routes.direct, &old.direct),
                QueueKind::Memory => (&mut routes.memory, &old.memory),
                QueueKind::Disk => continue,
            };
            let kept = lanes.1.iter().find(|lane| lane.name == destination.name);
            lanes.0.push(kept.cloned().unwrap_or_else(|| self.lane_in_memory(destination)));
        }
        for lane in routes.lanes() {
            let Some(destination) = destinations.iter().find(|one| one.name == lane.name) else { continue };
            lane.change(Settings::of(destination));
            if let (Some(memory), Some(queue)) = (lane.memory(), destination.sending_queue()) {
                memory.resize(Capacity::from(queue));
            }
        }
        Ok(routes)
    }

    fn lane_in_memory(&self, destination: &Destination) -> Arc<Lane> {
        let desk = &self.in_memory.desk;
        desk.book().open(&destination.name, &self.in_memory.past());
        let memory =
            destination.sending_queue().map(|queue| Source::Memory(Memory::new(Capacity::from(queue))));
        Lane::begin(&self.pipeline, &destination.name, desk, Settings::of(destination), memory)
    }

    async fn lanes_of(
        &self,
        store: &Store,
        lanes: &[Arc<Lane>],
        destinations: &[&Destination],
    ) -> Result<Vec<Arc<Lane>>, OpenError> {
        let mut kept = Vec::new();
        for destination in destinations {
            let lane = lanes.iter().find(|lane| lane.name == destination.name).cloned();
            kept.push(match lane {
                Some(lane) => lane,
                None => {
                    let source = store.add(&destination.name).await?;
                    self.lane_on_disk(store, &destination.name, Settings::of(destination), source)
                }
            });
        }
        Ok(kept)
    }

    async fn open_store(
        &self,
        storage: &Storage,
        destinations: &[&Destination],
    ) -> Result<Served, OpenError> {
        let settings = |one: &&Destination| (one.name.clone(), Settings::of(one));
        self.open_served(storage, &destinations.iter().map(settings).collect::<Vec<_>>()).await
    }

    async fn open_served(
        &self,
        storage: &Storage,
        served: &[(String, Arc<Settings>)],
    ) -> Result<Served, OpenError> {
        let names: Vec<_> = served.iter().map(|(name, _)| name.clone()).collect();
        let disks = (self.disks)(storage);
        let (store, sources) =
            Store::open(&self.pipeline, storage, &names, &disks, self.clock.clone()).await?;
        let lane = |((name, settings), source): (&(String, Arc<Settings>), _)| {
            self.lane_on_disk(&store, name, settings.clone(), source)
        };
        let lanes = served.iter().zip(sources).map(lane).collect();
        Ok((store, lanes))
    }

    fn lane_on_disk(
        &self,
        store: &Store,
        name: &str,
        settings: Arc<Settings>,
        source: DiskSource,
    ) -> Arc<Lane> {
        let source = Source::Disk(Box::new(source));
        Lane::begin(&self.pipeline, name, &store.desk, settings, Some(source))
    }

    /// Closes a log and opens it with other options; with the old ones when those cannot be, and why not.
    async fn reopen(
        &self,
        store: Arc<Store>,
        lanes: Vec<Arc<Lane>>,
        storage: &Storage,
    ) -> Result<(Served, Option<OpenError>), OpenError> {
        let served: Vec<_> = lanes.iter().map(|lane| (lane.name.clone(), lane.settings())).collect();
        let before = store.storage.clone();
        self.end(&lanes, Instant::now() + LAST_WORDS).await;
        drop(lanes);
        store.close().await;
        match self.open_served(storage, &served).await {
            Ok(reopened) => Ok((reopened, None)),
            Err(error) => Ok((self.open_served(&before, &served).await?, Some(error))),
        }
    }

    /// Ends destinations: what is under way has until then, and what is queued in memory. What that leaves in memory is lost, and
    /// counted: how many items.
    async fn end(&self, lanes: &[Arc<Lane>], until: Instant) -> u64 {
        join_all(lanes.iter().map(|lane| lane.drain(until))).await;
        let (desk, mut lost) = (&self.in_memory.desk, 0);
        for lane in lanes.iter().filter(|lane| lane.kind != QueueKind::Disk) {
            let mut items = 0;
            for item in lane.memory().map(|memory| memory.clear()).unwrap_or_default() {
                let dropped = [(DropReason::Shutdown, item.entry.items)];
                if desk.settle(&lane.name, item.number, &item.entry, &dropped) {
                    items += item.entry.items;
                }
            }
            desk.book().retire(&lane.name);
            if items > 0 {
                let (pipeline, destination) = (&self.pipeline, &lane.name);
                tracing::warn!(
                    pipeline,
                    destination,
                    items,
                    "lost: they were in memory, and their time was up"
                );
            }
            lost += items;
        }
        lost
    }

    /// Forgets a destination on disk that nobody serves, with all that it has yet to get. Whether there was one.
    ///
    /// # Errors
    /// When it is served, or the disk refuses.
    pub async fn forget(&self, destination: &str) -> Result<bool, OpenError> {
        let _changing = self.changing.lock().await;
        let Some(routes) = self.routes.borrow().clone() else { return Ok(false) };
        let mut any = false;
        for (store, _) in &routes.stores {
            if store.destinations().iter().any(|name| name == destination) {
                store.forget(destination).await?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Destinations that the logs keep batches for and nobody serves: they hold room until they are served again or
    /// [forgotten](Delivery::forget).
    pub fn unserved(&self) -> Vec<String> {
        let Some(routes) = self.routes.borrow().clone() else { return Vec::new() };
        let unserved = routes.stores.iter().flat_map(|(store, lanes)| {
            let served = |name: &String| lanes.iter().any(|lane| lane.name == *name);
            store.destinations().into_iter().filter(move |name| !served(name))
        });
        unserved.collect()
    }

    /// What became of everything: on disk since the log was begun, else since the process was.
    pub fn ledger(&self) -> Vec<Row> {
        let mut rows = self.in_memory.desk.book().rows();
        if let Some(routes) = self.routes.borrow().clone() {
            rows.extend(routes.stores.iter().flat_map(|(store, _)| store.desk.book().rows()));
        }
        rows
    }

    /// Records on disk, by destination, that could not be read any more: nobody knows whose they were until the queue is empty.
    pub fn damaged_records(&self) -> BTreeMap<String, u64> {
        let routes = self.routes.borrow().clone();
        let stores = routes.iter().flat_map(|routes| &routes.stores);
        stores.flat_map(|(store, _)| store.desk.book().lost()).collect()
    }

    /// Ranges of batch ids of other gateways that were forgotten for want of room: what they named may be taken twice.
    pub fn forgotten_ids(&self) -> u64 {
        let routes = self.routes.borrow().clone();
        let stores = routes.iter().flat_map(|routes| &routes.stores);
        let on_disk: u64 = stores.map(|(store, _)| store.desk.book().forgotten_ids()).sum();
        on_disk + self.in_memory.desk.book().forgotten_ids()
    }

    /// The counters and gauges of each destination.
    pub fn stats(&self) -> Vec<DestinationStats> {
        let Some(routes) = self.routes.borrow().clone() else { return Vec::new() };
        let in_memory = routes.direct.iter().chain(&routes.memory).map(|lane| lane.stats());
        let on_disk = routes.stores.iter().flat_map(|(store, lanes)| {
            let log = store.stats();
            lanes.iter().map(move |lane| {
                let destination = log.destinations.get(&lane.name);
                DestinationStats {
                    queue_size: destination.map_or(0, |destination| destination.queued_records),
                    queue_bytes: log.bytes,
                    queue_bytes_max: log.max_bytes,
                    ..lane.stats()
                }
            })
        });
        in_memory.chain(on_disk).collect()
    }

    /// Ends it: takes nothing more, delivers what is in memory or under way within the time given, and keeps the rest of the logs for the
    /// next start.
    pub async fn close(&self, within: Duration) -> Left {
        let _changing = self.changing.lock().await;
        let until = Instant::now() + within;
        let Some(routes) = self.routes.send_replace(None) else { return Left::default() };
        let lanes: Vec<_> = routes.lanes().cloned().collect();
        // Whoever is being answered just now is answered first, if that does not take too long.
        let routes = quiet(routes, until).await;
        let mut left = Left { lost_items: self.end(&lanes, until).await, kept_batches: 0 };
        drop(lanes);
        let stores: Vec<_> = match routes {
            Ok(routes) => routes.stores.into_iter().map(|(store, _)| store).collect(),
            Err(routes) => routes.stores.iter().map(|(store, _)| store.clone()).collect(),
        };
        for store in stores {
            store.save().await;
            left.kept_batches += store.queued();
            store.close().await;
        }
        left
    }
}

/// Waits until nobody is being answered.
async fn quiet(mut routes: Arc<Routes>, until: Instant) -> Result<Routes, Arc<Routes>> {
    loop {
        routes = match Arc::try_unwrap(routes) {
            Ok(routes) => return Ok(routes),
            Err(routes) if Instant::now() < until => routes,
            Err(routes) => return Err(routes),
        };
        sleep(POLL).await;
    }
}

fn kind(destination: &Destination) -> QueueKind {
    match (destination.sending_queue(), &destination.storage) {
        (None, _) => QueueKind::None,
        (Some(_), None) => QueueKind::Memory,
        (Some(_), Some(_)) => QueueKind::Disk,
    }
}

fn by_storage(destinations: &[Destination]) -> Vec<(&Storage, Vec<&Destination>)> {
    let mut logs: Vec<(&Storage, Vec<&Destination>)> = Vec::new();
    for destination in destinations.iter().filter(|one| kind(one) == QueueKind::Disk) {
        let Some(storage) = &destination.storage else { continue };
        match logs.iter_mut().find(|(log, _)| *log == storage) {
            Some((_, served)) => served.push(destination),
            None => logs.push((storage, vec![destination])),
        }
    }
    logs
}

fn check(plan: &Plan) -> Result<(), OpenError> {
    let refused = |reason: String| Err(OpenError::Plan { pipeline: plan.pipeline.clone(), reason });
    if plan.destinations.is_empty() {
        return refused("it has no destination: name an exporter".to_owned());
    }
    for (at, one) in plan.destinations.iter().enumerate() {
        let before = &plan.destinations[..at];
        if before.iter().any(|other| other.name == one.name) {
            return refused(format!("destination {} is there twice: name it once", one.name));
        }
        if let Some(storage) = &one.storage
            && before
                .iter()
                .filter_map(|other| other.storage.as_ref())
                .any(|other| other.directory == storage.directory && other != storage)
        {
            let directory = storage.directory.display();
            return refused(format!("two file_storage have {directory}: give each a directory of its own"));
        }
    }
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
