//! Receivers that run: one listener for each endpoint, and what is needed to leave it alone, or to end it, when the
//! configuration is read again.

use super::{Maker, StartError};
use crate::{
    counted::Counted,
    discovery::MeshDiscovery,
    gate::Gate,
    intake::{Intake, Own},
    listen::{Listening, listen},
    mesh::MeshConnector,
    spread::Spread,
};
use arc_swap::ArcSwap;
use hesper_collector_config::{
    Auth, Endpoint, Extension, Id, ServerTls, Signal,
    receivers::{OtlpGrpc, OtlpHttp, OtlpReceiver, PrometheusReceiver},
};
use hesper_sdk::Context;
use hesper_telemetry::{
    auth::Authenticator,
    receive::{Admission, Builder, Server},
    scrape::{self, Scraper},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// What a listener is made of. It runs on while this stays the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) grpc: Option<OtlpGrpc>,
    pub(crate) http: Option<OtlpHttp>,
    /// The signals that have a pipeline.
    pub(crate) signals: Vec<Signal>,
    /// Authenticators, with their settings.
    pub(crate) auth: Vec<(Id, Extension)>,
}

/// A listener that runs.
pub(crate) struct Running {
    pub(crate) plan: Plan,
    /// Of which receiver it is.
    pub(crate) id: Id,
    /// What it is called: `otlp/grpc`.
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) counted: Arc<Counted>,
    intakes: BTreeMap<Signal, Arc<Intake>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// A `prometheus` receiver that runs.
pub(crate) struct Scraping {
    scraper: Scraper,
    intake: Arc<Intake>,
}

impl Scraping {
    /// Begins to scrape.
    pub(crate) fn start(
        id: &Id,
        settings: PrometheusReceiver,
        spread: Arc<Spread>,
        connector: Arc<MeshConnector>,
        shared: &Shared,
    ) -> Self {
        let intake = shared.intake(spread, None);
        let seed = intake.own.name().unwrap_or_default();
        let discovery = Arc::new(MeshDiscovery(shared.ctx.clone()));
        let parts = scrape::Parts { connector, discovery, sink: intake.clone() };
        Self { scraper: Scraper::start(&id.to_string(), settings, &seed, parts), intake }
    }

    /// Goes on with other settings and pipelines.
    pub(crate) fn change(&self, settings: PrometheusReceiver, spread: Arc<Spread>) {
        self.intake.spread.store(spread);
        self.scraper.reload(settings);
    }

    /// Scrapes no more; what was scraped is handed over.
    pub(crate) async fn stop(self) {
        if timeout(HANDOVER, self.scraper.shutdown()).await.is_err() {
            tracing::warn!("what was scraped last was not taken in time");
        }
    }
}

/// How long what was scraped may take to reach the queues when a receiver ends.
const HANDOVER: Duration = Duration::from_secs(10);

/// What all receivers share.
pub(crate) struct Shared {
    pub(crate) admission: Admission,
    pub(crate) gate: Arc<Gate>,
    pub(crate) ctx: Option<Context>,
}

impl Shared {
    /// The sink of a receiver, before these pipelines.
    fn intake(&self, spread: Arc<Spread>, authenticator: Option<String>) -> Arc<Intake> {
        let (own, gate) = (Own(self.ctx.clone()), self.gate.clone());
        Arc::new(Intake { spread: ArcSwap::new(spread), authenticator, own, gate })
    }
}

/// Who checks callers, by gRPC and by HTTP.
pub(crate) type Authenticators = (Option<Arc<dyn Authenticator>>, Option<Arc<dyn Authenticator>>);

/// The listeners of a receiver by what they are called: gRPC and HTTP, or both on one where the endpoint is the same.
pub(crate) fn plans(id: &Id, settings: &OtlpReceiver, signals: &[Signal]) -> Vec<(String, Plan)> {
    let (grpc, http) = (settings.grpc.clone(), settings.http.clone());
    let plan = Plan { grpc: None, http: None, signals: signals.to_vec(), auth: Vec::new() };
    let same = matches!((&grpc, &http), (Some(grpc), Some(http)) if grpc.endpoint == http.server.endpoint);
    if same {
        return vec![(id.to_string(), Plan { grpc, http, ..plan.clone() })];
    }
    let grpc = grpc.map(|grpc| (format!("{id}/grpc"), Plan { grpc: Some(grpc), ..plan.clone() }));
    let http = http.map(|http| (format!("{id}/http"), Plan { http: Some(http), ..plan.clone() }));
    grpc.into_iter().chain(http).collect()
}

impl Plan {
    fn endpoint(&self) -> Option<(&Endpoint, Option<&ServerTls>)> {
        let grpc = self.grpc.as_ref().map(|grpc| (&grpc.endpoint, grpc.tls.as_ref()));
        grpc.or_else(|| self.http.as_ref().map(|http| (&http.server.endpoint, http.server.tls.as_ref())))
    }

    fn grpc_auth(&self) -> Option<&Auth> {
        self.grpc.as_ref().and_then(|grpc| grpc.auth.as_ref())
    }

    fn http_auth(&self) -> Option<&Auth> {
        self.http.as_ref().and_then(|http| http.server.auth.as_ref())
    }

    /// Makes the authenticators, and notes their settings: with other ones it is another plan.
    pub(crate) fn authenticators(&mut self, maker: &mut Maker<'_>) -> Result<Authenticators, StartError> {
        let (grpc, http) = (self.grpc_auth().cloned(), self.http_auth().cloned());
        for auth in [&grpc, &http].into_iter().flatten() {
            let settings = maker.extension(&auth.authenticator)?.clone();
            self.auth.push((auth.authenticator.clone(), settings));
        }
        Ok((maker.authenticator(grpc.as_ref())?, maker.authenticator(http.as_ref())?))
    }

    /// Who names the identity where no certificate does.
    fn authenticator(&self) -> Option<String> {
        self.grpc_auth().or_else(|| self.http_auth()).map(|auth| auth.authenticator.to_string())
    }
}

impl Running {
    /// Listens and serves.
    ///
    /// # Errors
    /// It cannot be listened there, or the settings contradict each other.
    pub(crate) async fn start(
        (id, name): (Id, String),
        plan: Plan,
        auth: Authenticators,
        spreads: &BTreeMap<Signal, Arc<Spread>>,
        shared: &Shared,
    ) -> Result<Self, StartError> {
        let failed = |error: &dyn std::fmt::Display| StartError::Receiver(name.clone(), error.to_string());
        let (endpoint, tls) = plan.endpoint().ok_or_else(|| failed(&"it speaks no protocol"))?;
        let counted = Arc::<Counted>::default();
        let intake = |(signal, spread): (&Signal, &Arc<Spread>)| {
            (*signal, shared.intake(spread.clone(), plan.authenticator()))
        };
        let intakes: BTreeMap<Signal, Arc<Intake>> = spreads.iter().map(intake).collect();
        let server = server(&plan, auth, &intakes, &counted, shared).map_err(|error| failed(&error))?;
        let Listening { incoming, address } =
            listen(endpoint, tls, shared.ctx.as_ref()).await.map_err(|error| failed(&error))?;
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let task = tokio::spawn(async move {
            server.serve(incoming, asked).await;
        });
        Ok(Self { plan, id, name, address, counted, intakes, stop, task })
    }

    /// Hands what comes from now on to other pipelines. They are of the same signals: that is part of the plan.
    pub(crate) fn lead_to(&self, spreads: &BTreeMap<Signal, Arc<Spread>>) {
        for (signal, intake) in &self.intakes {
            if let Some(spread) = spreads.get(signal) {
                intake.spread.store(spread.clone());
            }
        }
    }

    /// Takes nothing more, finishes what is under way, and closes its port.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(receiver = self.name, %error, "a receiver ended by a fault");
        }
    }
}

fn server(
    plan: &Plan,
    (grpc_auth, http_auth): Authenticators,
    intakes: &BTreeMap<Signal, Arc<Intake>>,
    counted: &Arc<Counted>,
    shared: &Shared,
) -> Result<Server, hesper_telemetry::receive::BuildError> {
    let mut builder: Builder =
        Server::builder().admission(shared.admission.clone()).observer(counted.clone());
    if let Some(grpc) = &plan.grpc {
        builder = builder.grpc(grpc.clone(), grpc_auth);
    }
    if let Some(http) = &plan.http {
        builder = builder.http(http.clone(), http_auth);
    }
    for (signal, intake) in intakes {
        builder = builder.sink(*signal, intake.clone());
    }
    builder.build()
}
