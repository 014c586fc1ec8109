//! One destination of a pipeline, running.

use super::{
    counters::{Counters, DestinationStats, QueueKind},
    desk::Desk,
    memory::Memory,
    settings::Settings,
    ship::Shipper,
    source::Source,
    worker::{Phase, Worker},
};
use std::sync::{Arc, Mutex, PoisonError, atomic::AtomicBool};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// A destination and who serves it. Ends when it is dropped.
pub(crate) struct Lane {
    pub(crate) name: String,
    pub(crate) kind: QueueKind,
    pub(crate) shipper: Arc<Shipper>,
    /// Before the ends of what the task listens to.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
    settings: watch::Sender<Arc<Settings>>,
    phase: watch::Sender<Phase>,
}

impl Lane {
    /// Begins to serve a destination from a queue; without one it is served by those who send.
    pub(crate) fn begin(
        pipeline: &str,
        name: &str,
        desk: &Arc<Desk>,
        settings: Arc<Settings>,
        source: Option<Source>,
    ) -> Arc<Self> {
        let (settings, listener) = watch::channel(settings);
        let (phase, phases) = watch::channel(Phase::Run);
        let memory = match &source {
            Some(Source::Memory(memory)) => Some(memory.clone()),
            _ => None,
        };
        let kind = match &source {
            None => QueueKind::None,
            Some(Source::Memory(_)) => QueueKind::Memory,
            Some(Source::Disk(_)) => QueueKind::Disk,
        };
        let shipper = Arc::new(Shipper {
            pipeline: pipeline.to_owned(),
            destination: name.to_owned(),
            desk: desk.clone(),
            counters: Arc::new(Counters::default()),
            settings: listener.clone(),
            memory,
            phase: (kind == QueueKind::Disk).then(|| phases.clone()),
            trouble: Mutex::default(),
            troubled: AtomicBool::new(false),
        });
        let worker = source.map(|source| Worker {
            source,
            shipper: shipper.clone(),
            settings: listener,
            phase: phases,
        });
        let task = worker.map(|worker| AbortOnDropHandle::new(tokio::spawn(worker.run())));
        Arc::new(Self { name: name.to_owned(), kind, shipper, task: Mutex::new(task), settings, phase })
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// From now on it is served so. What waits for another attempt is tried at once.
    pub(crate) fn change(&self, settings: Arc<Settings>) {
        self.settings.send_replace(settings);
    }

    pub(crate) fn memory(&self) -> Option<&Arc<Memory>> {
        self.shipper.memory.as_ref()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shipper.counters
    }

    /// Brings to an end what is under way, and what is queued in memory; until the deadline.
    pub(crate) async fn drain(&self, until: Instant) {
        self.phase.send_replace(Phase::Drain);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Dropped at the deadline, it ends. Its own panics are told by what it leaves.
            let _ = tokio::time::timeout_at(until, task).await;
        }
    }

    pub(crate) fn stats(&self) -> DestinationStats {
        let mut stats = self.counters().stats(&self.name, self.kind);
        if let Some(memory) = self.memory() {
            let (size, capacity) = (memory.size(), memory.capacity());
            stats.queue_size = size.by(capacity.sizer);
            stats.queue_capacity = capacity.max;
            stats.queue_bytes = size.bytes;
        }
        stats
    }
}
