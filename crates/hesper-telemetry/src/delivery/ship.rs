//! One request on its way to a destination, until it has arrived or is given up.

use super::{
    accept::now_ms,
    counters::Counters,
    desk::Desk,
    item::Item,
    ledger::DropReason,
    memory::{Ending, Memory},
    merge::{origin_of, share},
    retry::{Backoff, Next},
    settings::Settings,
    trouble::Trouble,
    worker::Phase,
};
use crate::{
    distribution::{self, Distribution},
    export::{Exporter, Failure, Shipment},
};
use bytes::Bytes;
use futures::FutureExt;
use hesper_collector_config::Sizer;
use hesper_otlp::{Batch, PartialSuccess, split, validate};
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// The pause after an exporter has panicked, before the retry's own.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// What all deliveries of a destination have in common.
pub(crate) struct Shipper {
    pub(crate) pipeline: String,
    pub(crate) destination: String,
    pub(crate) desk: Arc<Desk>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    /// The queue, if it is in memory.
    pub(crate) memory: Option<Arc<Memory>>,
    /// Tells of the end, if the queue is on disk: there is no hurry then.
    pub(crate) phase: Option<watch::Receiver<Phase>>,
    /// What is told of failures, and whether there is any.
    pub(crate) trouble: Mutex<Trouble>,
    pub(crate) troubled: AtomicBool,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It arrived, but for so many of its items.
    Arrived(u64),
    /// It did not.
    Dropped(DropReason, String),
    /// It is not known: the destination ends, and the disk keeps it.
    Kept,
}

/// Counts a request as under way until it is dropped.
struct InFlight<'a>(&'a Counters);

impl<'a> InFlight<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.in_flight.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Shipper {
    /// Delivers batches in as few requests as may be, and settles them.
    pub(crate) async fn deliver(&self, items: Vec<Item>) {
        let settings = self.settings.borrow().clone();
        let mut dropped: Vec<(DropReason, u64)> = Vec::new();
        let mut ending: Ending = Ok(());
        for shipment in shipments(&items, &settings) {
            let outcome = if shipment.batch.payload.len() > settings.request_bytes {
                let reason = format!(
                    "{}: {} bytes cannot be divided, and a request may have {}",
                    self.destination,
                    shipment.batch.payload.len(),
                    settings.request_bytes
                );
                Outcome::Dropped(DropReason::TooLarge, reason)
            } else {
                self.ship(&shipment).await
            };
            if outcome == Outcome::Kept {
                return;
            }
            self.count(&shipment, &outcome);
            match outcome {
                Outcome::Arrived(0) | Outcome::Kept => {}
                Outcome::Arrived(rejected) => dropped.push((DropReason::Rejected, rejected)),
                Outcome::Dropped(reason, why) => {
                    dropped.push((reason, shipment.items));
                    ending = Err(why);
                }
            }
        }
        self.settle(&items, &dropped, &ending);
    }

    fn settle(&self, items: &[Item], dropped: &[(DropReason, u64)], ending: &Ending) {
        let shares: Vec<_> = dropped.iter().map(|(reason, lost)| (*reason, share(items, *lost))).collect();
        for (at, item) in items.iter().enumerate() {
            let dropped: Vec<_> = shares.iter().map(|(reason, shares)| (*reason, shares[at])).collect();
            self.desk.settle(&self.destination, item.number, &item.entry, &dropped);
            if let Some(memory) = &self.memory {
                memory.done(item.number, ending.clone());
            }
        }
    }

    /// Counts a request that has ended.
    pub(crate) fn count(&self, shipment: &Shipment, outcome: &Outcome) {
        let lost = match outcome {
            Outcome::Arrived(rejected) => *rejected,
            Outcome::Dropped(..) | Outcome::Kept => shipment.items,
        };
        let counters = &self.counters;
        counters.sent.add(shipment.batch.signal, shipment.items - lost);
        counters.send_failed.add(shipment.batch.signal, lost);
        counters.requests.fetch_add(1, Relaxed);
        counters.request_items.fetch_add(shipment.items, Relaxed);
        counters.request_bytes.fetch_add(shipment.batch.payload.len() as u64, Relaxed);
        let mut observed = counters.observed.lock();
        observed.items.observe(shipment.items as f64);
        observed.bytes.observe(shipment.batch.payload.len() as f64);
        if matches!(outcome, Outcome::Arrived(_)) {
            observed.ages.took(Duration::from_millis(now_ms().saturating_sub(shipment.origin.received_ms)));
        }
        drop(observed);
        if let Outcome::Dropped(reason, why) = outcome {
            let (pipeline, destination, items) = (&self.pipeline, &self.destination, shipment.items);
            tracing::warn!(pipeline, destination, %reason, items, "dropped: {why}");
        }
    }

    /// Sends a request, again and again if need be. A new exporter is tried at once.
    pub(crate) async fn ship(&self, shipment: &Shipment) -> Outcome {
        let _under_way = self.counters.begin(shipment.origin.received_ms);
        let mut settings = self.settings.clone();
        let (mut backoff, began) = (Backoff::default(), Instant::now());
        loop {
            let now = settings.borrow_and_update().clone();
            let (reason, after) = match self.attempt(&now, shipment).await {
                Ok(partial) => {
                    self.tell_over();
                    return self.arrived(shipment, &partial);
                }
                Err(Failure::Never { reason }) => return Outcome::Dropped(DropReason::Rejected, reason),
                Err(Failure::Again { reason, after }) => (reason, after),
            };
            match backoff.failed(&now.retry, began.elapsed(), after, rand::random()) {
                Next::GiveUp => return Outcome::Dropped(DropReason::Expired, reason),
                Next::Wait(wait) => {
                    self.tell(&reason, wait);
                    if self.pause(wait, &mut settings).await {
                        return Outcome::Kept;
                    }
                }
            }
            self.counters.retries.fetch_add(1, Relaxed);
        }
    }

    fn tell(&self, reason: &str, wait: Duration) {
        self.troubled.store(true, Relaxed);
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = trouble.failed(reason, Instant::now());
        drop(trouble);
        let Some(attempts) = failed else { return };
        let (pipeline, destination) = (&self.pipeline, &self.destination);
        tracing::info!(pipeline, destination, attempts, ?wait, "not delivered, tried again later: {reason}");
    }

    fn tell_over(&self) {
        // Mostly there is none, and nobody has to wait for the lock.
        if !self.troubled.swap(false, Relaxed) {
            return;
        }
        let over = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).over();
        if let Some(attempts) = over {
            let (pipeline, destination) = (&self.pipeline, &self.destination);
            tracing::info!(pipeline, destination, attempts, "delivers again");
        }
    }

    /// Waits, but not beyond a change of the settings. Whether the destination ends.
    async fn pause(&self, wait: Duration, settings: &mut watch::Receiver<Arc<Settings>>) -> bool {
        let ends = async {
            match self.phase.clone() {
                // When nobody is left to tell, this ends too.
                Some(mut phase) => drop(phase.wait_for(|phase| *phase == Phase::Drain).await),
                None => std::future::pending().await,
            }
        };
        let changed = async {
            if settings.changed().await.is_err() {
                // The destination was removed: nothing changes any more.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = ends => true,
            () = changed => false,
            () = tokio::time::sleep(wait) => false,
        }
    }

    /// One attempt. A panic is a failure: the batch is as good as before.
    async fn attempt(&self, settings: &Settings, shipment: &Shipment) -> Result<PartialSuccess, Failure> {
        let _in_flight = InFlight::new(&self.counters);
        let exporter: &dyn Exporter = &*settings.exporter;
        let begun = Instant::now();
        let attempt = AssertUnwindSafe(async { exporter.export(shipment).await }).catch_unwind();
        let ended = attempt.await.unwrap_or_else(|_| {
            let reason = format!("{}: the exporter failed (a fault of this program)", self.destination);
            Err(Failure::Again { reason, after: Some(AFTER_PANIC) })
        });
        let outcome = match &ended {
            Ok(_) => "ok",
            Err(Failure::Again { .. }) => "retry",
            Err(Failure::Never { .. }) => "rejected",
        };
        let new = || Distribution::new(&distribution::SECONDS);
        self.counters.observed.lock().attempts.entry(outcome).or_insert_with(new).took(begun.elapsed());
        ended
    }

    fn arrived(&self, shipment: &Shipment, partial: &PartialSuccess) -> Outcome {
        let rejected = u64::try_from(partial.rejected).unwrap_or(0).min(shipment.items);
        if rejected > 0 || !partial.message.is_empty() {
            let (pipeline, destination) = (&self.pipeline, &self.destination);
            tracing::warn!(pipeline, destination, rejected, "the destination says: {}", partial.message);
        }
        Outcome::Arrived(rejected)
    }
}

/// The requests that batches go out in: one, unless that would be too large or they cannot be put together.
pub(crate) fn shipments(items: &[Item], settings: &Settings) -> Vec<Shipment> {
    let one = |item: &Item| Shipment {
        batch: item.batch(),
        items: item.entry.items,
        origin: item.origin.clone(),
        id: Some(item.id),
    };
    let (Some(first), Some(merge)) = (items.first(), &settings.merge) else {
        return items.iter().flat_map(|item| divided(one(item), settings)).collect();
    };
    let payloads: Vec<Bytes> = items.iter().map(|item| item.payload.clone()).collect();
    let merged = (items.len() > 1).then(|| split::merge(first.entry.signal, &payloads)).flatten();
    let Some(payload) = merged else {
        return items.iter().flat_map(|item| divided(one(item), settings)).collect();
    };
    let whole = Shipment {
        batch: Batch { signal: first.entry.signal, payload },
        items: items.iter().map(|item| item.entry.items).sum(),
        origin: origin_of(items, merge),
        id: None,
    };
    divided(whole, settings)
}

/// Divides what is too large; towards a gateway nothing is, since it knows batches by their ids.
fn divided(whole: Shipment, settings: &Settings) -> Vec<Shipment> {
    if settings.gateway {
        return vec![whole];
    }
    let signal = whole.batch.signal;
    let (max_items, max_bytes) = match settings.merge.as_ref().map(|merge| (merge.sizer, merge.max)) {
        Some((Sizer::Bytes, max)) if max > 0 => (0, usize::try_from(max).unwrap_or(usize::MAX)),
        Some((_, max)) => (max, usize::MAX),
        None => (0, usize::MAX),
    };
    let max_bytes = max_bytes.min(settings.request_bytes);
    let by_items = max_items > 0 && whole.items > max_items;
    if !by_items && whole.batch.payload.len() <= max_bytes {
        return vec![whole];
    }
    let payload = whole.batch.payload.clone();
    let pieces = if by_items { split::split_items(signal, &payload, max_items) } else { vec![payload] };
    let pieces: Vec<_> = pieces.iter().flat_map(|piece| split::split(signal, piece, max_bytes)).collect();
    if pieces.len() < 2 {
        return vec![whole];
    }
    let piece = |payload: Bytes| Shipment {
        items: validate(signal, &payload).map_or(0, |counts| counts.items),
        batch: Batch { signal, payload },
        origin: whole.origin.clone(),
        id: None,
    };
    pieces.into_iter().map(piece).collect()
}
