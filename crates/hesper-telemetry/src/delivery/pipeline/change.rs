//! Destinations that come, change and go.

use super::{Delivery, State};
use crate::delivery::{
    Destination, OpenError, Plan,
    accept::Routes,
    counters::QueueKind,
    lane::Lane,
    ledger::DropReason,
    memory::{Capacity, Memory},
    plan::Storage,
    settings::Settings,
    source::{DiskSource, Source},
    store::Store,
};
use futures::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How long a change waits for senders that are being answered.
const QUIET: Duration = Duration::from_secs(15);
/// How often that is looked at.
const POLL: Duration = Duration::from_millis(2);
/// How long a destination that was removed may go on with what it has.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A log with its destinations.
type Served = (Arc<Store>, Vec<Arc<Lane>>);

impl Delivery {
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
        let Some(old) = self.routes() else {
            return Err(refused("it has ended".to_owned()));
        };
        self.publish(State::Changing);
        let (new, result) = match quiet(old, Instant::now() + QUIET).await {
            Ok(old) => self.change(old, plan.destinations).await,
            Err(old) => (State::Open(old), Err(OpenError::Busy(self.pipeline.clone()))),
        };
        self.publish(new);
        result
    }

    /// The new routes; after an error the old ones, as far as they can go on.
    async fn change(
        &self,
        mut old: Routes,
        destinations: Vec<Destination>,
    ) -> (State, Result<(), OpenError>) {
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
                        return (State::Open(Arc::new(old)), Err(error));
                    }
                    // Nobody can be answered without it.
                    Err(error) => return (State::Closed, Err(error)),
                }
            }
        }
        match self.build(destinations, &old).await {
            Ok(routes) => (State::Open(Arc::new(routes)), Ok(())),
            Err(error) => (State::Open(Arc::new(old)), Err(error)),
        }
    }

    /// What the destinations are to be, of what there is and what is new. What can fail goes first.
    pub(super) async fn build(
        &self,
        destinations: Vec<Destination>,
        old: &Routes,
    ) -> Result<Routes, OpenError> {
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
        let ground = (self.ground)(storage);
        let (store, sources) = Store::open(&self.pipeline, storage, &names, &ground).await?;
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
    pub(super) async fn end(&self, lanes: &[Arc<Lane>], until: Instant) -> u64 {
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
}

/// Waits until nobody is being answered.
pub(super) async fn quiet(mut routes: Arc<Routes>, until: Instant) -> Result<Routes, Arc<Routes>> {
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

pub(super) fn check(plan: &Plan) -> Result<(), OpenError> {
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
