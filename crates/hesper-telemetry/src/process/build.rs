//! From settings to processors.

use super::{
    Processor,
    attributes::{Attributes, Resource},
    filter::Filter,
    memory::{self, Limits, MemoryLimiter},
    sampler::Sampler,
};
use hesper_collector_config::processors::Processor as Settings;
use std::{io, sync::Arc};

/// Why a processor cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Memory cannot be measured.
    #[error("processor '{id}': memory cannot be measured ({source}); mount /proc, or take the processor out")]
    Memory {
        /// Which.
        id: String,
        /// Why.
        source: io::Error,
    },
    /// It is not one that stands alone.
    #[error(
        "processor '{id}' is made elsewhere: batch belongs to delivery, k8sattributes to hesper-kubernetes"
    )]
    Elsewhere {
        /// Which.
        id: String,
    },
}

/// Makes the processor of these settings, called `id`. One is enough for all pipelines that name it.
///
/// # Errors
/// It is `batch` or `k8sattributes`, or memory cannot be measured.
pub fn build(id: &str, settings: &Settings) -> Result<Arc<dyn Processor>, BuildError> {
    Ok(match settings {
        Settings::Resource(actions) => Arc::new(Resource::new(actions)),
        Settings::Attributes(settings) => Arc::new(Attributes::new(settings)),
        Settings::Filter(settings) => Arc::new(Filter::new(settings)),
        Settings::ProbabilisticSampler(settings) => Arc::new(Sampler::new(settings)),
        Settings::MemoryLimiter(settings) => {
            use memory::Gauge;
            let fault = |source| BuildError::Memory { id: id.to_owned(), source };
            let limits = Limits::new(settings, memory::available().map_err(fault)?);
            memory::Process.used().map_err(fault)?;
            Arc::new(MemoryLimiter::new(id, limits, settings.check_interval, memory::Process))
        }
        Settings::Batch(_) | Settings::K8sAttributes(_) => {
            return Err(BuildError::Elsewhere { id: id.to_owned() });
        }
    })
}
