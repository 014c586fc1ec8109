//! The processor: tables that are followed in the background, and batches that go by.

use crate::{
    client::{Access, AccessError},
    enrich::{Outcome, enrich, pass},
    rules::Rules,
    table::Table,
    watch,
};
use hesper_collector_config::processors::K8sAttributes;
use hesper_otlp::Refusal;
use hesper_telemetry::{
    origin::Origin,
    process::{Processor, Work},
};
use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch as signal, task::JoinSet};

/// The `k8sattributes` processor. What it follows in the background ends with it.
pub struct KubernetesAttributes {
    mode: Mode,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Outside Kubernetes: data passes as it is.
    Idle,
    /// Only the address is noted.
    Pass,
    Enrich,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are strict, and this is not Kubernetes.
    #[error(
        "processor '{id}' is strict and cannot ask Kubernetes: {source}; run it in a cluster, or take strict out"
    )]
    Outside {
        /// Which.
        id: String,
        /// Why.
        source: AccessError,
    },
    /// `wait_for_metadata` is set, and the pods are not known in time.
    #[error(
        "processor '{id}' waits for metadata, but Kubernetes has not told its pods within {}; see the log for why, make \
         wait_for_metadata_timeout longer, or take wait_for_metadata out", humantime(.waited)
    )]
    NotReady {
        /// Which.
        id: String,
        /// How long it waited.
        waited: Duration,
    },
}

fn humantime(time: &Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Pods that are known, also for two minutes after they were deleted.
    pub pods: u64,
    /// Pods that were told for the first time.
    pub added: u64,
    /// Pods that were told again.
    pub updated: u64,
    /// Pods that were deleted.
    pub deleted: u64,
    /// Resources whose pod is not known.
    pub missed: u64,
    /// Pods and other objects that were not kept because there are too many.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    added: AtomicU64,
    updated: AtomicU64,
    deleted: AtomicU64,
    missed: AtomicU64,
}

impl Counters {
    /// A pod was told; is it new?
    pub(crate) fn put(&self, new: Option<bool>) {
        match new {
            Some(true) => self.added.fetch_add(1, Ordering::Relaxed),
            Some(false) => self.updated.fetch_add(1, Ordering::Relaxed),
            None => 0,
        };
    }

    pub(crate) fn delete(&self, pods: usize) {
        self.deleted.fetch_add(pods as u64, Ordering::Relaxed);
    }
}

/// What the watchers and the processor have in common.
pub(crate) struct Shared {
    table: RwLock<Table>,
    pub(crate) counters: Counters,
    /// All pods have been told once.
    pub(crate) ready: signal::Sender<bool>,
}

impl Shared {
    fn new(settings: &K8sAttributes) -> Self {
        let table = Table::new(Rules::new(settings), settings.associations.clone());
        Self { table: RwLock::new(table), counters: Counters::default(), ready: signal::Sender::new(false) }
    }

    pub(crate) fn read<T>(&self, with: impl FnOnce(&Table) -> T) -> T {
        with(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<T>(&self, with: impl FnOnce(&mut Table) -> T) -> T {
        with(&mut self.table.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KubernetesAttributes {
    /// Starts the processor called `id`. Outside Kubernetes it warns, and data passes as it is, unless the settings are strict.
    ///
    /// # Errors
    /// Strict and outside Kubernetes; or the pods are not known within `wait_for_metadata_timeout`, if that is waited for.
    pub async fn start(id: &str, settings: &K8sAttributes, access: &Access) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(settings));
        let idle = |mode| Self { mode, shared: shared.clone(), _tasks: JoinSet::new() };
        if settings.passthrough {
            return Ok(idle(Mode::Pass));
        }
        let client = match access.client(settings).await {
            Ok(client) => client,
            Err(source) if settings.strict => return Err(StartError::Outside { id: id.to_owned(), source }),
            Err(error) => {
                tracing::warn!(
                    processor = id,
                    %error,
                    "Kubernetes cannot be asked: data passes without its attributes. Set strict to stop instead"
                );
                return Ok(idle(Mode::Idle));
            }
        };
        let tasks = watch::start(&client, settings, &shared);
        let waited = settings.wait_for_metadata_timeout;
        if settings.wait_for_metadata {
            let mut ready = shared.ready.subscribe();
            let wait = tokio::time::timeout(waited, ready.wait_for(|ready| *ready)).await;
            if wait.is_err() {
                return Err(StartError::NotReady { id: id.to_owned(), waited });
            }
        }
        Ok(Self { mode: Mode::Enrich, shared, _tasks: tasks })
    }

    /// What has been counted so far.
    pub fn counted(&self) -> Counted {
        let (pods, refused) = self.shared.read(|table| (table.pods() as u64, table.refused()));
        let counters = &self.shared.counters;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            pods,
            added: read(&counters.added),
            updated: read(&counters.updated),
            deleted: read(&counters.deleted),
            missed: read(&counters.missed),
            refused,
        }
    }
}

impl fmt::Debug for KubernetesAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesAttributes").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Processor for KubernetesAttributes {
    fn process(&self, mut work: Work, origin: &Origin) -> Result<Option<Work>, Refusal> {
        if self.mode == Mode::Idle {
            return Ok(Some(work));
        }
        let resources = work.messages()?.resources();
        let missed = self.shared.read(|table| {
            let mut missed = 0;
            for resource in resources {
                match self.mode {
                    Mode::Enrich => {
                        let outcome = enrich(table, &mut resource.attributes, origin.peer);
                        missed += u64::from(outcome == Outcome::Missed);
                    }
                    _ => pass(table, &mut resource.attributes, origin.peer),
                }
            }
            missed
        });
        self.shared.counters.missed.fetch_add(missed, Ordering::Relaxed);
        Ok(Some(work))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hesper_collector_config::{load, processors::Processor as Settings};

    /// Settings from the body of a processor in flow style.
    pub(crate) fn settings(body: &str) -> K8sAttributes {
        let base = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
                    service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";
        let text = format!("processors: {{k8sattributes: {body}}}");
        let files = [("base.yaml", base), ("f.yaml", text.as_str())];
        let (config, _) = load(&files, &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
        match config.processors.into_values().next().map(|processor| processor.settings) {
            Some(Settings::K8sAttributes(settings)) => *settings,
            other => panic!("{other:?}"),
        }
    }
}
