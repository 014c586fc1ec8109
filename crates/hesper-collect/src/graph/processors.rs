//! Processors: made, counted, and for Kubernetes followed by a watch.

use super::StartError;
use hesper_collector_config::{Id, Processor as Settings};
use hesper_kubernetes::{Access, KubernetesAttributes};
use hesper_telemetry::process::{self, Counters, Counting, Processor};
use std::sync::Arc;

/// A processor, and what it counts.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) processor: Arc<dyn Processor>,
    pub(crate) counters: Arc<Counters>,
    /// Of `k8s_attributes`.
    pub(crate) kubernetes: Option<Arc<KubernetesAttributes>>,
}

/// Makes a processor; none for `batch`, which is done behind the queue.
pub(super) async fn make(id: &Id, settings: &Settings) -> Result<Option<Made>, StartError> {
    let name = id.to_string();
    let failed = |error: &dyn std::fmt::Display| StartError::of("processor", id, error);
    let (processor, kubernetes): (Arc<dyn Processor>, _) = match settings {
        Settings::Batch(_) => return Ok(None),
        Settings::K8sAttributes(kubernetes) => {
            let started = KubernetesAttributes::start(&name, kubernetes, &Access::default()).await;
            let started = Arc::new(started.map_err(|error| failed(&error))?);
            (started.clone(), Some(started))
        }
        other => (process::build(&name, other).map_err(|error| failed(&error))?, None),
    };
    let counting = Counting::new(processor);
    let counters = counting.counters();
    Ok(Some(Made { processor: Arc::new(counting), counters, kubernetes }))
}
