//! The collector's own metrics: where they are served, and what they are taken from.

use crate::{
    accounts::{Account, LEDGER_PATH, Ledger},
    counted::Counted,
    graph::processors::Made,
    listen::{Listening, Served, listen},
    numbers::Numbers,
    spread::Pipeline,
};
use arc_swap::ArcSwap;
use axum::{Json, routing::get};
use hesper_collector_config::{Endpoint, MetricsLevel, OwnMetrics as Settings, Signal};
use hesper_observe::metrics::{self, Registry, Sample};
use hesper_sdk::Context;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio_util::task::AbortOnDropHandle;

/// Between two attempts to bind the service at which they are served.
const REBIND: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct OwnMetrics {
    registry: Registry,
    health: metrics::Health,
    sources: Arc<ArcSwap<Sources>>,
    serving: Option<Serving>,
}

struct Serving {
    endpoint: Endpoint,
    address: String,
    _task: AbortOnDropHandle<()>,
}

/// What runs.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) receivers: Vec<(String, Arc<Counted>)>,
    pub(crate) processors: Vec<(String, Made)>,
    pub(crate) pipelines: Vec<Arc<Pipeline>>,
    pub(crate) storages: BTreeSet<String>,
}

impl OwnMetrics {
    pub(crate) fn new(registry: Registry, health: metrics::Health) -> Self {
        let sources = Arc::<ArcSwap<Sources>>::default();
        let shown = sources.clone();
        registry.sampled(move || shown.load().samples());
        Self { registry, health, sources, serving: None }
    }

    /// Shows what these count from now on.
    pub(crate) fn show(&self, sources: Sources) {
        self.sources.store(Arc::new(sources));
    }

    /// Serves them where the settings say. A port that is taken is no reason not to collect: it is told.
    pub(crate) async fn serve(&mut self, settings: &Settings, ctx: Option<&Context>) {
        let endpoint = settings.endpoint.as_ref().filter(|_| settings.level != MetricsLevel::None);
        if self.serving.as_ref().map(|serving| &serving.endpoint) == endpoint {
            return;
        }
        self.serving = None;
        let Some(endpoint) = endpoint else { return };
        let sources = self.sources.clone();
        let ledger = get(move || async move { Json(sources.load().ledger()) });
        let app = metrics::routes(self.registry.clone(), self.health.clone()).route(LEDGER_PATH, ledger);
        let listening = listen(endpoint, None, ctx).await;
        if let Err(reason) = &listening {
            tracing::warn!(%reason, "the own metrics are not served; set service.telemetry.metrics");
            if !endpoint.is_mesh() || ctx.is_none() {
                return;
            }
        }
        let address =
            listening.as_ref().map_or_else(|_| String::new(), |listening| listening.address.clone());
        let task = tokio::spawn(keep_serving(listening.ok(), endpoint.clone(), ctx.cloned(), app));
        self.serving =
            Some(Serving { endpoint: endpoint.clone(), address, _task: AbortOnDropHandle::new(task) });
    }

    pub(crate) fn address(&self) -> Option<String> {
        self.serving.as_ref().map(|serving| serving.address.clone()).filter(|address| !address.is_empty())
    }
}

/// Serves; a service that cannot be bound is tried again, since policies change.
async fn keep_serving(
    listening: Option<Listening>,
    endpoint: Endpoint,
    ctx: Option<Context>,
    app: axum::Router,
) {
    let listening = match listening {
        Some(listening) => listening,
        None => loop {
            tokio::time::sleep(REBIND).await;
            match listen(&endpoint, None, ctx.as_ref()).await {
                Ok(listening) => break listening,
                Err(reason) => tracing::debug!(%reason, "the own metrics are not served yet"),
            }
        },
    };
    tracing::info!(address = listening.address, "the own metrics are served");
    if let Err(error) = axum::serve(Served(listening), app).await {
        tracing::error!(%error, "the own metrics are not served any more");
    }
}

impl Sources {
    fn ledger(&self) -> Ledger {
        let account = |pipeline: &Arc<Pipeline>| Account {
            pipeline: pipeline.id.to_string(),
            rows: pipeline.delivery.ledger(),
        };
        let accounts = self.pipelines.iter().map(account).collect();
        Ledger { storages: self.storages.clone(), accounts }
    }

    fn samples(&self) -> Vec<Sample> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let mut numbers = Numbers::default();
        for (receiver, counted) in &self.receivers {
            numbers.receiver(receiver, &counted.counts());
        }
        for (processor, made) in &self.processors {
            for signal in Signal::ALL {
                numbers.processor(processor, signal, made.counters.of(signal));
            }
            if let Some(kubernetes) = &made.kubernetes {
                numbers.kubernetes(processor, &kubernetes.counted());
            }
        }
        for pipeline in &self.pipelines {
            for stats in pipeline.delivery.stats() {
                numbers.destination(pipeline.id.signal, &stats, now_ms);
            }
            numbers.ledger(&pipeline.id.to_string(), &pipeline.delivery.ledger());
        }
        numbers.into_samples()
    }
}
