//! From the configuration of a pipeline to the plan of its way out.

use super::{Maker, StartError};
use hesper_collector_config::{
    Exporter, Extension, Id, Pipeline, PipelineId, Processor, Retry, SendingQueue,
};
use hesper_telemetry::{
    delivery::{Destination, Merge, Plan, Storage},
    export::remote_write::RemoteWrite,
    process,
};
use std::sync::Arc;

/// The processors and the plan of a pipeline.
pub(crate) struct Planned {
    pub(crate) steps: Vec<Arc<dyn process::Processor>>,
    pub(crate) plan: Plan,
}

pub(crate) async fn plan(
    maker: &mut Maker<'_>,
    id: &PipelineId,
    pipeline: &Pipeline,
) -> Result<Planned, StartError> {
    let mut steps = Vec::new();
    let mut merge = None;
    for id in &pipeline.processors {
        steps.extend(maker.processor(id).await?);
        if let Some(Processor::Batch(batch)) = maker.config.processors.get(id).map(|c| &c.settings) {
            merge.get_or_insert_with(|| Merge::from(batch));
        }
    }
    let destinations = pipeline.exporters.iter().map(|exporter| destination(maker, exporter, merge.as_ref()));
    let plan = Plan { pipeline: id.to_string(), destinations: destinations.collect::<Result<_, _>>()? };
    Ok(Planned { steps, plan })
}

fn destination(maker: &mut Maker<'_>, id: &Id, merge: Option<&Merge>) -> Result<Destination, StartError> {
    let exporter = maker.exporter(id)?;
    let settings = maker.config.exporters.get(id).map(|component| &component.settings);
    let settings = settings.ok_or_else(|| StartError::of("exporter", id, "it is not defined"))?;
    let queue = settings.sending_queue();
    let own = queue.and_then(|queue| queue.batch.as_ref()).map(Merge::from);
    Ok(Destination {
        queue: queue.cloned().map(|queue| in_order(queue, settings)).or_else(|| no_queue(settings)),
        retry: settings.retry().cloned().unwrap_or_else(no_retry),
        merge: own.or_else(|| merge.cloned()),
        storage: storage(maker, queue)?,
        gateway: super::parts::is_gateway(settings),
        ..Destination::new(id.to_string(), exporter)
    })
}

/// Receivers of remote write refuse what is older than what they have: one delivery at a time. Consumers are shards inside.
fn in_order(queue: SendingQueue, settings: &Exporter) -> SendingQueue {
    match settings {
        Exporter::PrometheusRemoteWrite(_) => SendingQueue { num_consumers: RemoteWrite::CONSUMERS, ..queue },
        _ => queue,
    }
}

/// What has no queue of its own answers when it is done: the sender waits for the file.
fn no_queue(settings: &Exporter) -> Option<SendingQueue> {
    match settings {
        Exporter::Debug(_) | Exporter::File(_) => None,
        _ => Some(SendingQueue::default()),
    }
}

fn no_retry() -> Retry {
    Retry { enabled: false, ..Retry::default() }
}

fn storage(maker: &Maker<'_>, queue: Option<&SendingQueue>) -> Result<Option<Storage>, StartError> {
    let Some(id) = queue.and_then(|queue| queue.storage.as_ref()) else { return Ok(None) };
    match maker.extension(id)? {
        Extension::FileStorage(storage) => Ok(Some(Storage::from(storage))),
        _ => Err(StartError::of("extension", id, "it is no file_storage")),
    }
}
