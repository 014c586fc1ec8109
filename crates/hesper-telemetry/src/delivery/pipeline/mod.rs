//! The whole way out of one pipeline: opened, changed, closed.

mod change;

use super::{
    DestinationStats, OpenError, Plan, Row,
    accept::{AGAIN, Arriving, InMemory, Routes, WAIT, delivered},
    arrivals::{Arrivals, Entered},
    desk::Desk,
    lane::Lane,
    plan::Storage,
    store::{Ground, SAVE_EVERY, Store, directories},
};
use crate::origin::{BatchId, Origin};
use change::{check, quiet};
use hesper_otlp::{Batch, Refusal};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};

/// One pipeline's way out to its destinations.
pub struct Delivery {
    pipeline: String,
    in_memory: InMemory,
    arrivals: Arc<Arrivals>,
    state: watch::Sender<State>,
    /// What is shown of it while it changes, and after the end.
    shown: std::sync::RwLock<Shown>,
    /// Held by whoever changes it.
    changing: Mutex<()>,
    ground: GroundOf,
}

/// What the log of a storage stands on.
pub(crate) type GroundOf = Box<dyn Fn(&Storage) -> Ground + Send + Sync>;

#[derive(Clone)]
enum State {
    Open(Arc<Routes>),
    /// Senders wait.
    Changing,
    Closed,
}

/// Destinations with their logs, and the books.
#[derive(Clone, Default)]
struct Shown {
    lanes: Vec<(Arc<Lane>, Weak<Store>)>,
    desks: Vec<Arc<Desk>>,
}

/// What was left at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Items that were only in memory: lost, and counted as dropped ([`Shutdown`](super::DropReason::Shutdown)).
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
        let ground = |storage: &Storage| Ground {
            disks: directories(storage),
            clock: Arc::new(now_ms),
            save_every: SAVE_EVERY,
        };
        Self::open_on(plan, Box::new(ground)).await
    }

    /// As [`Delivery::open`], on other disks.
    pub(crate) async fn open_on(plan: Plan, ground: GroundOf) -> Result<Self, OpenError> {
        check(&plan)?;
        let delivery = Self {
            in_memory: InMemory::new(&plan.pipeline),
            pipeline: plan.pipeline.clone(),
            arrivals: Arc::default(),
            state: watch::Sender::new(State::Changing),
            shown: std::sync::RwLock::default(),
            changing: Mutex::default(),
            ground,
        };
        let none = Routes { direct: Vec::new(), memory: Vec::new(), stores: Vec::new() };
        let routes = delivery.build(plan.destinations, &none).await?;
        delivery.publish(State::Open(Arc::new(routes)));
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
        let routes = self.routes_for_sender().await?;
        let results = routes.take(&arriving, &self.in_memory, ticket).await;
        drop(routes);
        delivered(results?).await
    }

    /// From now on it is so.
    fn publish(&self, state: State) {
        if let State::Open(routes) = &state {
            let in_memory =
                routes.direct.iter().chain(&routes.memory).map(|lane| (lane.clone(), Weak::new()));
            let on_disk = routes
                .stores
                .iter()
                .flat_map(|(store, lanes)| lanes.iter().map(|lane| (lane.clone(), Arc::downgrade(store))));
            let stores = routes.stores.iter().map(|(store, _)| store.desk.clone());
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Shown {
                lanes: in_memory.chain(on_disk).collect(),
                desks: std::iter::once(self.in_memory.desk.clone()).chain(stores).collect(),
            };
        }
        self.state.send_replace(state);
    }

    fn shown(&self) -> Shown {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn routes(&self) -> Option<Arc<Routes>> {
        match &*self.state.borrow() {
            State::Open(routes) => Some(routes.clone()),
            State::Changing | State::Closed => None,
        }
    }

    async fn routes_for_sender(&self) -> Result<Arc<Routes>, Refusal> {
        if let Some(routes) = self.routes() {
            return Ok(routes);
        }
        let mut listener = self.state.subscribe();
        let changed = timeout(WAIT, listener.wait_for(|state| !matches!(state, State::Changing))).await;
        match changed.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Open(routes))) => Ok(routes),
            Ok(_) => Err(self.busy("it ends")),
            Err(_) => Err(self.busy("it is being changed")),
        }
    }

    fn busy(&self, reason: &str) -> Refusal {
        Refusal::Overloaded { reason: format!("pipeline {}: {reason}", self.pipeline), after: AGAIN }
    }

    /// Forgets a destination on disk that nobody serves, with all that it has yet to get. Whether there was one.
    ///
    /// # Errors
    /// When it is served, or the disk refuses.
    pub async fn forget(&self, destination: &str) -> Result<bool, OpenError> {
        let _changing = self.changing.lock().await;
        let Some(routes) = self.routes() else { return Ok(false) };
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
        let Some(routes) = self.routes() else { return Vec::new() };
        let unserved = routes.stores.iter().flat_map(|(store, lanes)| {
            let served = |name: &String| lanes.iter().any(|lane| lane.name == *name);
            store.destinations().into_iter().filter(move |name| !served(name))
        });
        unserved.collect()
    }

    /// What became of everything: on disk since the log was begun, else since the process was.
    pub fn ledger(&self) -> Vec<Row> {
        self.shown().desks.iter().flat_map(|desk| desk.book().rows()).collect()
    }

    /// Records on disk, by destination, that could not be read any more: nobody knows whose they were until the queue is empty.
    pub fn damaged_records(&self) -> BTreeMap<String, u64> {
        self.shown().desks.iter().flat_map(|desk| desk.book().lost()).filter(|(_, lost)| *lost > 0).collect()
    }

    /// Ranges of batch ids of other gateways that were forgotten for want of room: what they named may be taken twice.
    pub fn forgotten_ids(&self) -> u64 {
        self.shown().desks.iter().map(|desk| desk.book().forgotten_ids()).sum()
    }

    /// The counters and gauges of each destination.
    pub fn stats(&self) -> Vec<DestinationStats> {
        let stats = |(lane, store): &(Arc<Lane>, Weak<Store>)| {
            let mut stats = lane.stats();
            if let Some(log) = store.upgrade().map(|store| store.stats()) {
                stats.queue_size =
                    log.destinations.get(&lane.name).map_or(0, |destination| destination.queued_records);
                (stats.queue_bytes, stats.queue_bytes_max) = (log.bytes, log.max_bytes);
            }
            stats
        };
        self.shown().lanes.iter().map(stats).collect()
    }

    /// Ends it: takes nothing more, delivers what is in memory or under way within the time given, and keeps the rest of the logs for the
    /// next start.
    pub async fn close(&self, within: Duration) -> Left {
        let _changing = self.changing.lock().await;
        let until = Instant::now() + within;
        let State::Open(routes) = self.state.send_replace(State::Closed) else { return Left::default() };
        let lanes: Vec<_> = routes.lanes().cloned().collect();
        // Whoever is being answered just now is answered first; the rest of the time is for the queues.
        let routes = quiet(routes, Instant::now() + within / 2).await;
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

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
