//! What a queue keeps for an exporter that is no more.

use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::{Config, Extension, PipelineId};
use hesper_otlp::PartialSuccess;
use hesper_telemetry::{
    delivery::{Delivery, Destination, OpenError, Plan, Storage},
    export::{Exporter, Failure, Shipment},
};
use std::{sync::Arc, time::Duration};

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// No such pipeline.
    #[error("there is no pipeline '{0}' in the configuration; name one, such as traces")]
    NoPipeline(String),
    /// It is served.
    #[error("pipeline '{pipeline}' sends to '{exporter}'; take it out of the pipeline first")]
    Served {
        /// The pipeline.
        pipeline: String,
        /// The exporter.
        exporter: String,
    },
    /// The pipeline has no queue on disk.
    #[error("pipeline '{0}' has no queue on disk")]
    NoQueue(String),
    /// Nothing is kept for it.
    #[error("the queue of pipeline '{pipeline}' keeps nothing for '{exporter}'")]
    Unknown {
        /// The pipeline.
        pipeline: String,
        /// The exporter.
        exporter: String,
    },
    /// The queue cannot be opened, for example because a collector has it open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Forgets what a pipeline's queue keeps for an exporter that the pipeline does not have any more. The collector must not run.
///
/// # Errors
/// Why nothing was forgotten.
pub async fn forget(config: &Config, pipeline: &str, exporter: &str) -> Result<(), ForgetError> {
    let found = config.service.pipelines.keys().find(|id| id.to_string() == pipeline);
    let id = found.ok_or_else(|| ForgetError::NoPipeline(pipeline.to_owned()))?;
    let destinations = on_disk(config, id);
    if destinations.is_empty() {
        return Err(ForgetError::NoQueue(pipeline.to_owned()));
    }
    let named = || (pipeline.to_owned(), exporter.to_owned());
    if config.service.pipelines[id].exporters.iter().any(|id| id.to_string() == exporter) {
        let (pipeline, exporter) = named();
        return Err(ForgetError::Served { pipeline, exporter });
    }
    let delivery = Delivery::open(Plan { pipeline: pipeline.to_owned(), destinations }).await?;
    let forgotten = delivery.forget(exporter).await;
    delivery.close(Duration::ZERO).await;
    if !forgotten? {
        let (pipeline, exporter) = named();
        return Err(ForgetError::Unknown { pipeline, exporter });
    }
    Ok(())
}

/// The destinations of a pipeline that have a queue on disk; none of them is sent to.
fn on_disk(config: &Config, id: &PipelineId) -> Vec<Destination> {
    let exporters = config.service.pipelines[id].exporters.iter();
    let destination = |id| {
        let exporter = &config.exporters.get(id)?.settings;
        let queue = exporter.sending_queue()?;
        let extension = config.extensions.get(queue.storage.as_ref()?)?;
        let Extension::FileStorage(storage) = &extension.settings else { return None };
        Some(Destination {
            queue: Some(queue.clone()),
            storage: Some(Storage::from(storage)),
            ..Destination::new(id.to_string(), Arc::new(Nowhere))
        })
    };
    exporters.filter_map(destination).collect()
}

/// Sends nothing: what is queued stays queued.
struct Nowhere;

impl Exporter for Nowhere {
    fn export<'a>(&'a self, _: &'a Shipment) -> BoxFuture<'a, Result<PartialSuccess, Failure>> {
        std::future::ready(Err(Failure::Again { reason: "nothing is sent now".into(), after: None })).boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
