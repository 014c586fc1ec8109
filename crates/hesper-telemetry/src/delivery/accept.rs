//! Taking a batch for all destinations, or for none.
//!
//! All of them must have it before anybody is told so, and a batch that cannot be taken should leave no traces: what is likely to refuse
//! goes first. Destinations without a queue are sent it; then room is reserved in every queue in memory; then it goes to the logs; then
//! it is put into the memory, which cannot fail any more. What is left is that one of several logs takes it and another does not, or that
//! a destination without a queue has got what a log then refuses: the sender comes again, and the first one has it twice. A gateway's
//! batches have ids, so that a log which has one does not take it again.

use super::{
    arrivals::Ticket,
    desk::Desk,
    item::{Item, Size},
    lane::Lane,
    ledger::{DropReason, Entry},
    memory::{Ending, Reserved},
    numbers::QueueIds,
    ship::{Outcome, shipments},
    store::Store,
};
use crate::origin::{BatchId, Origin, RecordHeader};
use futures::future::try_join_all;
use hesper_otlp::{Batch, Refusal};
use hesper_queue::{AppendError, Pending, Ranges};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{timeout, timeout_at},
};

/// How long a sender waits at most: for room (`block_on_overflow`), for a destination without a queue, or for the delivery
/// (`wait_for_result`). Senders give up about then: ten seconds is the default of OpenTelemetry's SDKs.
pub(crate) const WAIT: Duration = Duration::from_secs(10);
/// When a sender should come again who found a queue full, or a destination that does not answer.
pub(crate) const AGAIN: Duration = Duration::from_secs(5);
/// The same when only the disk was too slow.
const SOON: Duration = Duration::from_secs(1);
/// How often room is asked for while somebody waits for it.
const POLL: Duration = Duration::from_millis(50);

/// Tells how a batch ended.
pub(crate) type Ends = oneshot::Receiver<Ending>;

/// Where batches go just now.
pub(crate) struct Routes {
    /// Destinations without a queue.
    pub(crate) direct: Vec<Arc<Lane>>,
    /// Those with a queue in memory.
    pub(crate) memory: Vec<Arc<Lane>>,
    /// Logs with their destinations.
    pub(crate) stores: Vec<(Arc<Store>, Vec<Arc<Lane>>)>,
}

/// What is numbered and accounted for in memory.
pub(crate) struct InMemory {
    pub(crate) desk: Arc<Desk>,
    ids: QueueIds,
    next: AtomicU64,
    /// Names of what is sent to destinations without a queue, which may be refused after that.
    sent: (QueueIds, AtomicU64),
}

impl InMemory {
    pub(crate) fn new(pipeline: &str) -> Self {
        Self {
            desk: Arc::new(Desk::in_memory(pipeline)),
            ids: QueueIds::random(),
            next: AtomicU64::new(0),
            sent: (QueueIds::random(), AtomicU64::new(0)),
        }
    }

    /// The numbers that were given.
    pub(crate) fn past(&self) -> Ranges {
        let mut past = Ranges::default();
        past.add(0..self.next.load(Relaxed));
        past
    }
}

/// A batch that is being taken.
pub(crate) struct Arriving {
    pub(crate) batch: Batch,
    pub(crate) header: RecordHeader,
    pub(crate) origin: Arc<Origin>,
    pub(crate) entry: Arc<Entry>,
}

impl Arriving {
    pub(crate) fn new(batch: Batch, items: u64, origin: Arc<Origin>, id: Option<BatchId>) -> Self {
        let header = RecordHeader { origin: (*origin).clone(), signal: batch.signal, items, batch: id };
        let entry = Arc::new(Entry::of(&header));
        Self { batch, header, origin, entry }
    }

    fn item(&self, id: BatchId) -> Item {
        Item {
            number: id.number,
            id,
            origin: self.origin.clone(),
            entry: self.entry.clone(),
            payload: self.batch.payload.clone(),
        }
    }

    fn size(&self) -> Size {
        Size { requests: 1, items: self.entry.items, bytes: self.batch.payload.len() as u64 }
    }

    fn is_in(&self, desk: &Desk) -> bool {
        self.entry.id.is_some_and(|id| desk.book().has_seen(&id))
    }
}

impl Routes {
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        let on_disk = self.stores.iter().flat_map(|(_, lanes)| lanes);
        self.direct.iter().chain(&self.memory).chain(on_disk)
    }

    /// Takes a batch. Who tells how it ends, where a destination wants that awaited. When this is dropped, what is on its way to a log is brought to its end, and the ticket kept until then.
    pub(crate) async fn take(
        &self,
        arriving: &Arriving,
        in_memory: &InMemory,
        ticket: Option<Ticket>,
    ) -> Result<Vec<Ends>, Refusal> {
        let mut landing = Landing { entry: arriving.entry.clone(), pending: Vec::new(), ticket };
        let taken = self.store(arriving, in_memory, &mut landing).await;
        if let Some(ticket) = landing.ticket.take() {
            ticket.end(&taken.as_ref().map(drop).map_err(Clone::clone));
        }
        taken
    }

    async fn store(
        &self,
        arriving: &Arriving,
        in_memory: &InMemory,
        landing: &mut Landing,
    ) -> Result<Vec<Ends>, Refusal> {
        let in_memory_too =
            (!self.direct.is_empty() || !self.memory.is_empty()) && !arriving.is_in(&in_memory.desk);
        let (mut sent, mut reserved) = (Vec::new(), Vec::new());
        if in_memory_too {
            sent = self.send(arriving, in_memory).await?;
            reserved = self.reserve(arriving).await?;
        }
        for (store, lanes) in &self.stores {
            if !arriving.is_in(&store.desk) {
                let pending = append(store, lanes, arriving).await?;
                landing.pending.push((store.desk.clone(), pending));
            }
        }
        landing.land().await?;
        Ok(if in_memory_too { put(arriving, in_memory, sent, reserved) } else { Vec::new() })
    }

    /// Sends it to the destinations without a queue. What each of them rejected.
    async fn send(
        &self,
        arriving: &Arriving,
        in_memory: &InMemory,
    ) -> Result<Vec<(Arc<Lane>, u64)>, Refusal> {
        let send = async |lane: &Arc<Lane>| {
            let item = arriving.item(in_memory.sent.0.name(in_memory.sent.1.fetch_add(1, Relaxed)));
            let mut rejected = 0;
            for shipment in shipments(&[item], &lane.settings()) {
                let outcome = timeout(WAIT, lane.shipper.ship(&shipment)).await;
                let Ok(outcome) = outcome else {
                    let reason = format!("{} does not take it now", lane.name);
                    return Err(Refusal::Overloaded { reason, after: AGAIN });
                };
                lane.shipper.count(&shipment, &outcome);
                match outcome {
                    Outcome::Arrived(items) => rejected += items,
                    Outcome::Dropped(DropReason::Expired, reason) => {
                        return Err(Refusal::Overloaded { reason, after: AGAIN });
                    }
                    Outcome::Dropped(_, reason) => return Err(Refusal::Internal(reason)),
                    // Only where there is a disk.
                    Outcome::Kept => {}
                }
            }
            Ok((lane.clone(), rejected))
        };
        try_join_all(self.direct.iter().map(send)).await
    }

    async fn reserve(&self, arriving: &Arriving) -> Result<Vec<(Arc<Lane>, Reserved)>, Refusal> {
        let until = tokio::time::Instant::now() + WAIT;
        let mut reserved = Vec::with_capacity(self.memory.len());
        for lane in &self.memory {
            let Some(memory) = lane.memory() else { continue };
            let mut room = memory.reserve(arriving.size());
            if room.is_none() && lane.settings().block_on_overflow {
                room = timeout_at(until, memory.reserve_later(arriving.size())).await.ok();
            }
            let Some(room) = room else {
                lane.counters().enqueue_failed.add(arriving.batch.signal, arriving.entry.items);
                let reason = format!("the queue of {} is full: it is behind", lane.name);
                return Err(Refusal::Overloaded { reason, after: AGAIN });
            };
            reserved.push((lane.clone(), room));
        }
        Ok(reserved)
    }
}

/// Counts it, and puts it into the queues in memory. Who waits for results.
fn put(
    arriving: &Arriving,
    in_memory: &InMemory,
    sent: Vec<(Arc<Lane>, u64)>,
    reserved: Vec<(Arc<Lane>, Reserved)>,
) -> Vec<Ends> {
    let number = in_memory.next.fetch_add(1, Relaxed);
    let item = arriving.item(in_memory.ids.name(number));
    in_memory.desk.accept(number, &arriving.entry);
    for (lane, rejected) in sent {
        let dropped = [(DropReason::Rejected, rejected)];
        in_memory.desk.settle(&lane.name, number, &arriving.entry, &dropped);
    }
    let mut results = Vec::new();
    for (lane, room) in reserved {
        let waits = lane.settings().wait_for_result.then(oneshot::channel);
        let (waiter, result) = waits.unzip();
        room.put(item.clone(), waiter);
        results.extend(result);
    }
    results
}

/// Waits until it is delivered.
pub(crate) async fn delivered(results: Vec<Ends>) -> Result<(), Refusal> {
    let until = tokio::time::Instant::now() + WAIT;
    for result in results {
        match timeout_at(until, result).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(reason))) => return Err(Refusal::Internal(reason)),
            Ok(Err(_)) | Err(_) => {
                let reason = "it was taken, but is not delivered yet (wait_for_result)".to_owned();
                return Err(Refusal::Overloaded { reason, after: AGAIN });
            }
        }
    }
    Ok(())
}

/// Gives a batch to a log; waits for room if one of its destinations wants to.
async fn append(store: &Store, lanes: &[Arc<Lane>], arriving: &Arriving) -> Result<Pending, Refusal> {
    let entry = hesper_queue::Entry {
        time_ms: now_ms(),
        header: arriving.header.encode(),
        payload: arriving.batch.payload.clone(),
    };
    let mut appended = store.appender.try_append(entry.clone());
    if matches!(appended, Err(AppendError::Full { .. } | AppendError::Overrun { .. })) {
        store.is_wanting();
        let until = tokio::time::Instant::now() + WAIT;
        while lanes.iter().any(|lane| lane.settings().block_on_overflow)
            && tokio::time::Instant::now() < until
        {
            if let Ok(submitted) = timeout(POLL, store.appender.submit(entry.clone())).await {
                appended = submitted;
                break;
            }
            // What was delivered meanwhile gives room only when it is written down.
            store.is_wanting();
        }
    }
    appended.map_err(|error| {
        let failed = |lane: &Arc<Lane>| {
            lane.counters().enqueue_failed.add(arriving.batch.signal, arriving.entry.items);
        };
        lanes.iter().for_each(failed);
        refusal(&error)
    })
}

fn refusal(error: &AppendError) -> Refusal {
    let after = match error {
        AppendError::TooLarge { max, .. } => {
            return Refusal::TooLarge { limit: usize::try_from(*max).unwrap_or(usize::MAX) };
        }
        AppendError::Overrun { .. } => SOON,
        AppendError::Full { .. } | AppendError::Io(_) | AppendError::Closed => AGAIN,
    };
    Refusal::Overloaded { reason: error.to_string(), after }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is on its way to the logs. If nobody waits for it any more it is counted all the same, and until then nobody else may store it.
struct Landing {
    entry: Arc<Entry>,
    pending: Vec<(Arc<Desk>, Pending)>,
    ticket: Option<Ticket>,
}

impl Landing {
    /// Waits until all logs have it.
    async fn land(&mut self) -> Result<(), Refusal> {
        let mut landed = Ok(());
        while let Some((desk, pending)) = self.pending.last_mut() {
            match pending.await {
                Ok(number) => desk.accept(number, &self.entry),
                Err(error) => landed = Err(refusal(&error)),
            }
            self.pending.pop();
        }
        landed
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let (entry, ticket) = (self.entry.clone(), self.ticket.take());
        if let Some(runtime) = Handle::try_current().ok().filter(|_| !pending.is_empty()) {
            runtime.spawn(async move {
                let _ = Self { entry, pending, ticket }.land().await;
            });
        }
    }
}
