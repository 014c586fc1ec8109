//! A configuration at work, and how it becomes another one: what does not change is not disturbed, and no queue is lost.
//!
//! Started from the back to the front: components, queues, then receivers; ended from the front to the back. A new configuration
//! is made whole before anything of the old one ends, so that one that does not start changes nothing.

use crate::{
    accounts,
    fullness::QueueWatch,
    gate::Gate,
    graph::{
        Maker, Parts, StartError,
        pipelines::{self, Planned},
        receivers::{self, Running, Scraping, Shared},
    },
    health::{self, Health},
    mesh::MeshConnector,
    own_metrics::{OwnMetrics, Sources},
    spread::{Pipeline, Spread},
};
use hesper_collector_config::{Config, Extension, Id, PipelineId, Receiver, Signal};
use hesper_observe::{
    events::{Event, Events, Kind},
    metrics::Registry,
};
use hesper_sdk::Context;
use hesper_telemetry::{delivery::Delivery, net::underlay::UnderlayConnector, receive::Admission};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio_util::task::AbortOnDropHandle;

/// How long what is in the queues may take to be delivered when the collector ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a collector stands on.
pub struct Setup {
    /// Our identity on the mesh; none: endpoints in the mesh cannot be used.
    pub ctx: Option<Context>,
    /// Who was refused what, and what happens to queues and configurations.
    pub events: Events,
    /// Metrics of this process, to which the collector adds its own.
    pub registry: Registry,
}

/// A running collector.
pub struct Collector {
    shared: Shared,
    connector: Arc<MeshConnector>,
    events: Events,
    health: Health,
    parts: Parts,
    pipelines: BTreeMap<PipelineId, Arc<Pipeline>>,
    receivers: BTreeMap<String, Running>,
    scrapers: BTreeMap<Id, Scraping>,
    checks: BTreeMap<Id, (Extension, AbortOnDropHandle<()>, String)>,
    own: OwnMetrics,
}

impl Collector {
    /// Starts what the configuration says.
    ///
    /// # Errors
    /// The first thing that cannot start. Nothing runs then.
    pub async fn start(config: &Config, setup: Setup) -> Result<Self, StartError> {
        let connector = MeshConnector::new(setup.ctx.clone(), Arc::new(UnderlayConnector::default()));
        let health = Health::default();
        let mut collector = Self {
            shared: Shared {
                admission: Admission::default(),
                gate: Arc::new(Gate::new(setup.events.clone(), setup.ctx.clone())),
                ctx: setup.ctx,
            },
            events: setup.events,
            connector: Arc::new(connector),
            parts: Parts::default(),
            pipelines: BTreeMap::new(),
            receivers: BTreeMap::new(),
            scrapers: BTreeMap::new(),
            checks: BTreeMap::new(),
            own: OwnMetrics::new(setup.registry, health.told()),
            health,
        };
        match collector.reload(config).await {
            Ok(()) => {
                collector.health.set_ready(true);
                Ok(collector)
            }
            Err(error) => {
                collector.stop().await;
                Err(error)
            }
        }
    }

    /// Whether everything has started, and nothing is ending.
    pub fn health(&self) -> hesper_observe::metrics::Health {
        self.health.told()
    }

    /// Where it listens: what is called how, and the address.
    pub fn addresses(&self) -> Vec<(String, String)> {
        let receivers = self.receivers.values().map(|r| (r.name.clone(), r.address.clone()));
        let checks = self.checks.iter().map(|(id, (_, _, address))| (id.to_string(), address.clone()));
        let metrics = self.own.address().map(|address| ("metrics".to_owned(), address));
        receivers.chain(checks).chain(metrics).collect()
    }

    /// Becomes what another configuration says, and tells so as an event.
    ///
    /// # Errors
    /// A component cannot be made, or a queue not be opened: what ran before runs on. Or something cannot be listened at
    /// ([`StartError::is_listening`]): everything else is as the new configuration says.
    pub async fn reload(&mut self, config: &Config) -> Result<(), StartError> {
        let changed = self.change(config).await;
        self.events.record(match &changed {
            Ok(()) => Event::success(Kind::ConfigApplied),
            Err(error) => Event::failure(Kind::ConfigApplied).field("reason", error.to_string()),
        });
        changed
    }

    async fn change(&mut self, config: &Config) -> Result<(), StartError> {
        let mut maker = Maker {
            config,
            before: &self.parts.clone(),
            connector: &self.connector.clone(),
            parts: Parts::default(),
        };
        let mut planned = BTreeMap::new();
        for (id, pipeline) in &config.service.pipelines {
            planned.insert(id.clone(), pipelines::plan(&mut maker, id, pipeline).await?);
        }
        let wanted = self.wanted(&mut maker)?;
        let parts = maker.parts;
        let old = self.change_pipelines(planned).await?;
        self.change_scrapers(config).await;
        let listening = self.change_receivers(config, wanted).await;
        // Nobody brings anything to these any more, whether what is to follow them can listen or not.
        futures::future::join_all(old.iter().map(|pipeline| pipeline.delivery.close(FAREWELL))).await;
        self.parts = parts;
        let receivers = self.receivers.values().map(|r| (r.id.to_string(), r.counted.clone())).collect();
        let pipelines = self.pipelines.values().cloned().collect();
        let processors = self.parts.processors().map(|(id, made)| (id.to_string(), made.clone())).collect();
        let storages = accounts::storages(config);
        self.own.show(Sources { receivers, processors, pipelines, storages });
        self.own.serve(&config.service.telemetry.metrics, self.shared.ctx.as_ref()).await;
        let checked = self.change_checks(config).await;
        listening.and(checked)
    }

    /// The pipelines as they are to be; those that are no more are returned, still working.
    async fn change_pipelines(
        &mut self,
        planned: BTreeMap<PipelineId, Planned>,
    ) -> Result<Vec<Arc<Pipeline>>, StartError> {
        let mut next = BTreeMap::new();
        for (id, Planned { steps, plan }) in planned {
            let failed =
                |error: &dyn std::fmt::Display| StartError::Pipeline(id.to_string(), error.to_string());
            let (delivery, queues) = match self.pipelines.get(&id) {
                Some(pipeline) => {
                    pipeline.delivery.replan(plan).await.map_err(|error| failed(&error))?;
                    (pipeline.delivery.clone(), pipeline.queues.clone())
                }
                None => {
                    let delivery = Delivery::open(plan).await.map_err(|error| failed(&error))?;
                    (Arc::new(delivery), Arc::new(QueueWatch::new(id.to_string(), self.events.clone())))
                }
            };
            next.insert(id.clone(), Arc::new(Pipeline { id, steps, delivery, queues }));
        }
        for pipeline in next.values() {
            tell_unserved(pipeline);
        }
        let before = std::mem::replace(&mut self.pipelines, next);
        Ok(before.into_iter().filter(|(id, _)| !self.pipelines.contains_key(id)).map(|(_, p)| p).collect())
    }
}

/// A listener as it is to be.
struct Wanted {
    plan: receivers::Plan,
    auth: receivers::Authenticators,
    /// The receiver in the configuration.
    id: Id,
}

impl Collector {
    /// The listeners of a configuration, by what they are called.
    fn wanted(&self, maker: &mut Maker<'_>) -> Result<BTreeMap<String, Wanted>, StartError> {
        let mut wanted = BTreeMap::new();
        for (id, component) in &maker.config.receivers {
            let signals = signals(maker.config, id);
            let Receiver::Otlp(otlp) = &component.settings else { continue };
            if signals.is_empty() {
                continue;
            }
            for (name, mut plan) in receivers::plans(id, otlp, &signals) {
                let auth = plan.authenticators(maker)?;
                wanted.insert(name, Wanted { plan, auth, id: id.clone() });
            }
        }
        Ok(wanted)
    }

    async fn change_scrapers(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.scrapers);
        for (id, component) in &config.receivers {
            let Receiver::Prometheus(settings) = &component.settings else { continue };
            let Some(spread) = self.spreads(config, id).remove(&Signal::Metrics) else { continue };
            let scraping = match before.remove(id) {
                Some(scraping) => {
                    scraping.change(settings.clone(), spread);
                    scraping
                }
                None => Scraping::start(id, settings.clone(), spread, self.connector.clone(), &self.shared),
            };
            self.scrapers.insert(id.clone(), scraping);
        }
        futures::future::join_all(before.into_values().map(Scraping::stop)).await;
    }

    async fn change_receivers(
        &mut self,
        config: &Config,
        mut wanted: BTreeMap<String, Wanted>,
    ) -> Result<(), StartError> {
        let mut ended = Vec::new();
        for (name, running) in std::mem::take(&mut self.receivers) {
            match wanted.get(&name) {
                Some(same) if same.plan == running.plan => {
                    running.lead_to(&self.spreads(config, &same.id));
                    wanted.remove(&name);
                    self.receivers.insert(name, running);
                }
                _ => ended.push(running.stop()),
            }
        }
        // All at once: each waits for what is under way.
        futures::future::join_all(ended).await;
        // All at once here too: one that waits for the mesh does not keep the others closed.
        let starting = wanted.into_iter().map(|(name, Wanted { plan, auth, id })| {
            let spreads = self.spreads(config, &id);
            let shared = &self.shared;
            async move { Running::start((id, name), plan, auth, &spreads, shared).await }
        });
        let started = futures::future::join_all(starting).await;
        let mut failed = None;
        for running in started {
            match running {
                Ok(running) => {
                    tracing::info!(receiver = running.name, address = running.address, "receiving");
                    self.receivers.insert(running.name.clone(), running);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The pipelines behind a receiver, by signal.
    fn spreads(&self, config: &Config, receiver: &Id) -> BTreeMap<Signal, Arc<Spread>> {
        let mut spreads: BTreeMap<Signal, Spread> = BTreeMap::new();
        for (id, pipeline) in &config.service.pipelines {
            if let Some(running) = self.pipelines.get(id).filter(|_| pipeline.receivers.contains(receiver)) {
                spreads.entry(id.signal).or_default().pipelines.push(running.clone());
            }
        }
        spreads.into_iter().map(|(signal, spread)| (signal, Arc::new(spread))).collect()
    }

    async fn change_checks(&mut self, config: &Config) -> Result<(), StartError> {
        let wanted: BTreeMap<&Id, &Extension> = config
            .service
            .extensions
            .iter()
            .filter_map(|id| Some((id, &config.extensions.get(id)?.settings)))
            .filter(|(_, settings)| matches!(settings, Extension::HealthCheck(_)))
            .collect();
        self.checks.retain(|id, (settings, _, _)| wanted.get(id).is_some_and(|wanted| *wanted == settings));
        for (id, settings) in wanted {
            let Extension::HealthCheck(check) = settings else { continue };
            if self.checks.contains_key(id) {
                continue;
            }
            let served = health::serve(check, self.health.clone(), self.shared.ctx.as_ref()).await;
            let (task, address) =
                served.map_err(|error| StartError::Check(id.to_string(), error.to_string()))?;
            self.checks.insert(id.clone(), (settings.clone(), task, address));
        }
        Ok(())
    }

    /// Takes nothing more, and delivers what it can in a short time; the rest stays on disk, or is told as lost.
    pub async fn stop(self) {
        self.health.set_ready(false);
        let scrapers = futures::future::join_all(self.scrapers.into_values().map(Scraping::stop));
        let receivers = futures::future::join_all(self.receivers.into_values().map(Running::stop));
        tokio::join!(scrapers, receivers);
        let closing = self.pipelines.into_values().map(|pipeline| async move {
            pipeline.delivery.close(FAREWELL).await;
        });
        futures::future::join_all(closing).await;
        futures::future::join_all(self.parts.exporters().map(|exporter| exporter.shutdown())).await;
    }
}

/// What a queue keeps for exporters that its pipeline does not have any more holds room until somebody decides.
fn tell_unserved(pipeline: &Pipeline) {
    for exporter in pipeline.delivery.unserved() {
        tracing::warn!(
            pipeline = %pipeline.id,
            exporter,
            "the queue keeps batches for an exporter that the pipeline does not have: put it back, or drop them with 'hesper collect forget'"
        );
    }
}

/// The signals that a receiver has a pipeline for.
fn signals(config: &Config, receiver: &Id) -> Vec<Signal> {
    let pipelines = config.service.pipelines.iter();
    let named = pipelines.filter(|(_, pipeline)| pipeline.receivers.contains(receiver));
    let signals: BTreeSet<Signal> = named.map(|(id, _)| id.signal).collect();
    signals.into_iter().collect()
}
