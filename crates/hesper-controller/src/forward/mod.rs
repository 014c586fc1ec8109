//! Telemetry by way of the controller: who cannot reach the backend sends OTLP/gRPC to the controller's port, which forwards it.
//!
//! - [`judge`]: who calls, by api-session or certificate, and by which rule that may forward or not.
//! - [`stamp`]: whose it is, on every resource; what claims to be such a mark is taken out (pure).
//! - [`Forward`]: one call: judged, read within limits, within what its sender may send in a time, stamped, and queued on disk;
//!   answered when it is safe there. Behind the queue the exporter gets it, and gets it again until it took it.
//! - [`metrics`]: what became of all that.
//!
//! Receiver, quota, queue and ledger are those of `hesper-telemetry`.

mod judge;
mod metrics;
mod stamp;

use crate::{events, state::State};
use futures::{FutureExt as _, future::BoxFuture};
use hesper_collector_config::{Address, Endpoint, GrpcServer, KeepaliveServer, extensions::WhenFull};
use hesper_model::config::otlp::{Charge, Limits, Rate};
use hesper_observe::events::{Denial, Event, Kind, Named};
use hesper_otlp::{PartialSuccess, Refusal, Signal};
use hesper_pki::credentials::PeerIdentity;
use hesper_telemetry::{
    delivery::{Delivery, Destination, OpenError, Plan, Storage},
    export::Exporter,
    flow::{Received, Sink},
    net::{MeshPeer, Peer},
    quota::Quota,
    receive::{Admission, Answer, BuildError, Server},
};
use http::{Request, Response};
use hyper::body::Incoming;
use judge::{Judged, Refused};
use std::{
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What every path of the services begins with.
const SERVICES: &str = "/opentelemetry.proto.collector.";
/// Largest message, before and after decompression: exporters send some hundred items at a time.
const MESSAGE_MAX: u64 = 4 << 20;
/// All messages that are being read or stored.
const IN_FLIGHT_MAX: usize = 32 << 20;
/// The queue on disk. What is oldest is dropped and counted when it is full: the newest tells most about a network in trouble.
const QUEUE_MAX: u64 = 256 << 20;
/// What one identity or router may send: a node that traces every dial sends some thousand spans a second at its worst.
const ITEMS: Rate = Rate { per_second: 10_000, burst: 50_000 };
const BYTES: Rate = Rate { per_second: 2 << 20, burst: 8 << 20 };
/// How long the queue waits for another process to leave its directory.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long what is under way may take when the controller stops; the rest is on disk.
const FAREWELL: Duration = Duration::from_secs(2);
/// A refused identity is told of as an event so often, and each time counted.
const TOLD: Duration = Duration::from_secs(10);
/// Refused identities that are remembered for that.
const TOLD_MAX: usize = 1024;
/// Who is told what is missing.
const NOT_CONFIGURED: &str = "the controller has no exporter for telemetry that it is to forward: start it with \
     --tracing-exporter-url URL (or exporter_url in its block 'tracing'), or send elsewhere with --trace-exporter URL";

/// Where telemetry goes that is sent to the controller.
#[derive(Clone)]
pub enum Forwarding {
    /// To this exporter.
    To(Arc<dyn Exporter>),
    /// Nowhere: its exporter cannot be made, for this reason. Whoever sends some is told it; the controller does its other work.
    Broken(String),
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::To(_) => "To(..)",
            Self::Broken(_) => "Broken(..)",
        })
    }
}

/// Why nothing can be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The queue in the home directory.
    #[error(transparent)]
    Queue(#[from] OpenError),
    /// The receiver.
    #[error(transparent)]
    Receiver(#[from] BuildError),
}

/// What serves the calls.
pub(crate) struct Forward {
    server: Server,
    /// Or why there is none.
    delivery: Result<Arc<Delivery>, String>,
    told: Mutex<Vec<(String, Instant)>>,
}

impl Forward {
    /// Opens the queue in `dir`, if there is an exporter.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub(crate) async fn open(
        state: &State,
        dir: &Path,
        forwarding: Option<Forwarding>,
    ) -> Result<Self, ForwardError> {
        let delivery = match forwarding {
            Some(Forwarding::To(exporter)) => Ok(Arc::new(Delivery::open(plan(dir, exporter)).await?)),
            Some(Forwarding::Broken(reason)) => {
                tracing::warn!(reason, "telemetry that is sent to the controller is not forwarded");
                Err(format!("the controller cannot use its exporter for telemetry: {reason}"))
            }
            None => Err(NOT_CONFIGURED.to_owned()),
        };
        let counted = metrics::register(&state.metrics.registry, delivery.as_ref().ok());
        let outlet = Arc::new(Outlet { delivery: delivery.clone().ok(), quota: Mutex::default() });
        let mut builder = Server::builder()
            .grpc(settings(), None)
            .admission(Admission::new(IN_FLIGHT_MAX))
            .observer(Arc::new(counted));
        for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
            builder = builder.sink(signal, outlet.clone());
        }
        Ok(Self { server: builder.build()?, delivery, told: Mutex::default() })
    }

    /// Is it a call of OTLP?
    pub(crate) fn is_for(path: &str) -> bool {
        path.starts_with(SERVICES)
    }

    /// Answers a call.
    pub(crate) async fn call(
        &self,
        state: &State,
        peer: Option<&PeerIdentity>,
        address: IpAddr,
        request: Request<Incoming>,
    ) -> Response<Answer> {
        let judged = judge::judge(state, request.headers(), peer).await;
        let from = match judged {
            Ok(judged) => self.admit(judged, address),
            Err(refused) => Err(self.refuse(state, refused)),
        };
        self.server.call(from, request).await
    }

    fn admit(&self, judged: Judged, address: IpAddr) -> Result<Arc<Peer>, Refusal> {
        tracing::debug!(sender = judged.sender.name, rule = judged.rule, "telemetry may be forwarded");
        if let Err(missing) = &self.delivery {
            return Err(Refusal::NotConfigured(missing.clone()));
        }
        let mesh = MeshPeer { sender: judged.sender, terms: Arc::default() };
        Ok(Arc::new(Peer { address: Some(address), mesh: Some(mesh), tls_subject: None }))
    }

    /// A denial is an event, at most once in a while for each identity.
    fn refuse(&self, state: &State, refused: Refused) -> Refusal {
        let (identity, rule, message) = match refused {
            Refused::Unknown(message) => return Refusal::Unauthenticated(message),
            Refused::Fault(message) => return Refusal::Internal(message),
            Refused::Denied { identity, rule, message } => (identity, rule, message),
        };
        if self.is_news(identity.id.as_deref().unwrap_or_default(), Instant::now()) {
            tracing::info!(identity = identity.name, rule, "telemetry is not forwarded");
            let actor = identity.id.clone().unwrap_or_default();
            let service = Named::name(events::TELEMETRY_API);
            let event = Event::denied(Kind::Send, Denial { identity, service, rule });
            state.record(event.actor(actor).field("code", "permission").field("reason", message.clone()));
        }
        Refusal::Denied(message)
    }

    fn is_news(&self, identity: &str, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| now.saturating_duration_since(*at) < TOLD);
        if told.iter().any(|(known, _)| known == identity) {
            return false;
        }
        if told.len() < TOLD_MAX {
            told.push((identity.to_owned(), now));
        }
        true
    }

    /// Lets what is under way arrive, and closes the queue; what has not arrived stays in it.
    pub(crate) async fn close(&self) {
        if let Ok(delivery) = &self.delivery {
            delivery.close(FAREWELL).await;
        }
    }
}

fn settings() -> GrpcServer {
    GrpcServer {
        // The controller listens.
        endpoint: Endpoint::Underlay(Address::default()),
        tls: None,
        auth: None,
        max_message_size: MESSAGE_MAX,
        max_concurrent_streams: None,
        keepalive: KeepaliveServer::default(),
        include_metadata: false,
    }
}

fn plan(dir: &Path, exporter: Arc<dyn Exporter>) -> Plan {
    let storage = Storage {
        directory: dir.to_owned(),
        create: Some(0o700),
        timeout: LOCK_WAIT,
        max_bytes: QUEUE_MAX,
        max_age: None,
        when_full: WhenFull::DropOldest,
    };
    let destination = Destination { storage: Some(storage), ..Destination::new("exporter", exporter) };
    Plan { pipeline: "forward".to_owned(), destinations: vec![destination] }
}

/// Takes what was read.
struct Outlet {
    delivery: Option<Arc<Delivery>>,
    quota: Mutex<Quota>,
}

impl Outlet {
    async fn take(&self, received: Received) -> Result<PartialSuccess, Refusal> {
        let Received { batch, counts, mut origin, peer, .. } = received;
        let (Some(delivery), Some(mesh)) = (&self.delivery, &peer.mesh) else {
            return Err(Refusal::NotConfigured(NOT_CONFIGURED.to_owned()));
        };
        let sender = &mesh.sender;
        // What has no items costs something, too.
        self.charge(sender, counts.items.max(1), batch.payload.len() as u64)?;
        let batch = stamp::stamp(batch, sender).map_err(|error| Refusal::Malformed(error.to_string()))?;
        origin.forwarded_for = vec![sender.name.clone()];
        delivery.accept(batch, counts.items, Arc::new(origin), None).await?;
        Ok(PartialSuccess::default())
    }

    fn charge(
        &self,
        sender: &hesper_telemetry::origin::Sender,
        items: u64,
        bytes: u64,
    ) -> Result<(), Refusal> {
        let charge = Charge { rule: 0, limits: Limits { items: Some(ITEMS), bytes: Some(BYTES) } };
        let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
        quota.take(&sender.id, &[charge], items, bytes, Instant::now()).map_err(|after| Refusal::Quota {
            reason: format!(
                "'{}' sends more than the controller forwards for one sender, {} items and {} bytes a second; come again later",
                sender.name, ITEMS.per_second, BYTES.per_second
            ),
            after,
        })
    }
}

impl Sink for Outlet {
    fn accept(&self, received: Received) -> BoxFuture<'_, Result<PartialSuccess, Refusal>> {
        self.take(received).boxed()
    }
}
