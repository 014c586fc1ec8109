//! From one receiver to every pipeline that names it.

use crate::fullness::QueueWatch;
use futures::future::try_join_all;
use hesper_collector_config::PipelineId;
use hesper_otlp::{Batch, Refusal, validate};
use hesper_telemetry::{
    delivery::Delivery,
    origin::{BatchId, Origin},
    process::{self, Processor},
};
use std::sync::Arc;

/// A pipeline: its processors, and the way to its exporters.
pub(crate) struct Pipeline {
    pub(crate) id: PipelineId,
    /// In their order; `batch` is not among them: it works behind the queue.
    pub(crate) steps: Vec<Arc<dyn Processor>>,
    pub(crate) delivery: Arc<Delivery>,
    /// Who tells when its queues have no room.
    pub(crate) queues: Arc<QueueWatch>,
}

/// The pipelines of one signal behind one receiver.
#[derive(Default)]
pub(crate) struct Spread {
    pub(crate) pipelines: Vec<Arc<Pipeline>>,
}

impl Spread {
    /// Gives a batch to all of them. It is taken when all have taken it; when one refuses, the sender comes again, and the
    /// others take it twice unless it has a name.
    pub(crate) async fn accept(
        &self,
        batch: Batch,
        items: u64,
        origin: Arc<Origin>,
        id: Option<BatchId>,
    ) -> Result<(), Refusal> {
        if let [pipeline] = &*self.pipelines {
            return pipeline.accept(batch, items, origin, id).await;
        }
        let all = self.pipelines.iter().map(|p| p.accept(batch.clone(), items, origin.clone(), id));
        try_join_all(all).await.map(|_| ())
    }
}

impl Pipeline {
    async fn accept(
        &self,
        batch: Batch,
        items: u64,
        origin: Arc<Origin>,
        id: Option<BatchId>,
    ) -> Result<(), Refusal> {
        if self.steps.is_empty() {
            return self.deliver(batch, items, origin, id).await;
        }
        let before = batch.payload.clone();
        let Some(batch) = process::run(&self.steps, batch, &origin)? else { return Ok(()) };
        let untouched = batch.payload.as_ptr() == before.as_ptr() && batch.payload.len() == before.len();
        let items = if untouched { items } else { count(&batch)? };
        self.deliver(batch, items, origin, id).await
    }

    async fn deliver(
        &self,
        batch: Batch,
        items: u64,
        origin: Arc<Origin>,
        id: Option<BatchId>,
    ) -> Result<(), Refusal> {
        let taken = self.delivery.accept(batch, items, origin, id).await;
        match &taken {
            Ok(()) => self.queues.taken(),
            Err(Refusal::Overloaded { reason, .. }) => self.queues.refused(&self.delivery, reason),
            Err(_) => {}
        }
        taken
    }
}

/// Processors may have dropped some.
fn count(batch: &Batch) -> Result<u64, Refusal> {
    let counts = validate(batch.signal, &batch.payload);
    counts.map(|counts| counts.items).map_err(|error| {
        Refusal::Internal(format!("the processors made {} that cannot be read: {error}", batch.signal))
    })
}
