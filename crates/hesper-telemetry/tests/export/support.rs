//! Settings, shipments and servers.

use bytes::Bytes;
use futures::future::BoxFuture;
use hesper_collector_config::{Endpoint, Exporter as Settings, exporters::OtlpExporter, load};
use hesper_otlp::{Batch, Signal, validate};
use hesper_telemetry::{
    auth::{ClientAuth, ClientAuthError},
    export::{Exporter, Failure, Shipment, otlp},
    net::{BoxIo, Connector, underlay::UnderlayConnector},
    origin::{BatchId, Origin},
};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data},
    profiles::v1development::{Profile, ResourceProfiles, ScopeProfiles},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::{TcpListener, TcpStream};

/// PEM as a value of YAML between braces.
pub(crate) fn quoted(pem: &str) -> String {
    format!("\"{}\"", pem.replace('\n', "\\n"))
}

/// What the reader of configurations makes of an exporter.
pub(crate) fn settings(kind: &str, body: &str) -> Settings {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{{kind}: {body}}}\n\
         service: {{pipelines: {{metrics: {{receivers: [otlp], exporters: [{kind}]}}}}}}"
    );
    let (config, _) = load(&[("test.yaml", text.as_str())], &|_| None).expect("a configuration");
    config.exporters.into_iter().next().expect("an exporter").1.settings
}

/// Settings of `otlp` with an endpoint and more keys.
pub(crate) fn otlp_settings(endpoint: &str, more: &str) -> OtlpExporter {
    match settings("otlp", &format!("{{endpoint: '{endpoint}'{more}}}")) {
        Settings::Otlp(settings) => *settings,
        other => panic!("{other:?}"),
    }
}

/// An exporter of gRPC without TLS to a port of this machine.
pub(crate) fn grpc(at: SocketAddr, more: &str) -> Arc<dyn Exporter> {
    let settings = otlp_settings(&at.to_string(), &format!(", tls: {{insecure: true}}{more}"));
    let connector = Arc::new(UnderlayConnector::default());
    otlp::Grpc::new("otlp/test", &settings, connector, None, otlp::Hop::Receiver).expect("an exporter")
}

/// Sends everything to one port, whatever the endpoint: the mesh of these tests.
pub(crate) struct To(pub(crate) SocketAddr);

impl Connector for To {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async { Ok(Box::new(TcpStream::connect(self.0).await?) as BoxIo) })
    }
}

/// Credentials that say whose data they go with.
pub(crate) struct Credentials;

impl ClientAuth for Credentials {
    fn needs_secrecy(&self) -> bool {
        true
    }

    fn apply<'a>(
        &'a self,
        headers: &'a mut HeaderMap,
        origin: &'a Origin,
    ) -> BoxFuture<'a, Result<(), ClientAuthError>> {
        Box::pin(async {
            if origin.received_ms == u64::MAX {
                return Err(ClientAuthError("the file is gone".into()));
            }
            headers.insert("authorization", HeaderValue::from_static("Basic dXNlci0xOjEyMzQ="));
            Ok(())
        })
    }
}

/// A batch of `items` items whose names have some bytes.
pub(crate) fn payload(signal: Signal, items: usize, name_len: usize) -> Bytes {
    let name = |i: usize| format!("{i:08}{}", "x".repeat(name_len.saturating_sub(8)));
    let bytes = match signal {
        Signal::Traces => {
            let span = |i| Span { name: name(i), ..Default::default() };
            let scope = ScopeSpans { spans: (0..items).map(span).collect(), ..Default::default() };
            let resource = ResourceSpans { scope_spans: vec![scope], ..Default::default() };
            ExportTraceServiceRequest { resource_spans: vec![resource] }.encode_to_vec()
        }
        Signal::Metrics => {
            let point = |i| NumberDataPoint { time_unix_nano: i as u64 + 1, ..Default::default() };
            let data = Data::Gauge(Gauge { data_points: (0..items).map(point).collect() });
            let metric = Metric { name: name(0), data: Some(data), ..Default::default() };
            let scope = ScopeMetrics { metrics: vec![metric], ..Default::default() };
            let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
            ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec()
        }
        Signal::Logs => {
            let record = |i| LogRecord { event_name: name(i), ..Default::default() };
            let scope = ScopeLogs { log_records: (0..items).map(record).collect(), ..Default::default() };
            let resource = ResourceLogs { scope_logs: vec![scope], ..Default::default() };
            ExportLogsServiceRequest { resource_logs: vec![resource] }.encode_to_vec()
        }
        Signal::Profiles => {
            let profile = |i| Profile { time_unix_nano: i as u64 + 1, ..Default::default() };
            let scope = ScopeProfiles { profiles: (0..items).map(profile).collect(), ..Default::default() };
            let resource = ResourceProfiles { scope_profiles: vec![scope], ..Default::default() };
            ExportProfilesServiceRequest { resource_profiles: vec![resource], dictionary: None }
                .encode_to_vec()
        }
    };
    bytes.into()
}

pub(crate) fn shipment(signal: Signal, items: usize, name_len: usize) -> Shipment {
    let payload = payload(signal, items, name_len);
    Shipment {
        items: validate(signal, &payload).expect("a request").items,
        batch: Batch { signal, payload },
        origin: Arc::new(Origin { received_ms: 7, ..Origin::default() }),
        id: Some(BatchId { queue: [7; 16], number: 3 }),
    }
}

/// A batch of two spans.
pub(crate) fn spans() -> Shipment {
    shipment(Signal::Traces, 2, 8)
}

/// It may be sent again; what was said.
pub(crate) fn again<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Again { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// It is dropped; what was said.
pub(crate) fn never<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Never { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) uri: http::Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) version: http::Version,
    pub(crate) body: Bytes,
}

pub(crate) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// A server of HTTP whose answers a function makes; it speaks HTTP/1.1 and HTTP/2.
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Seen) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        Self::start_with(None, answer).await
    }

    /// With TLS for localhost that speaks these protocols; also the PEM of what signed its certificate.
    pub(crate) async fn start_tls<F, A>(alpn: &[&[u8]], answer: F) -> (Self, String)
    where
        F: Fn(Seen) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let made = rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]);
        let made = made.expect("a certificate");
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate that fits its key");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        (Self::start_with(Some(Arc::new(config).into()), answer).await, made.cert.pem())
    }

    async fn start_with<F, A>(tls: Option<tokio_rustls::TlsAcceptor>, answer: F) -> Self
    where
        F: Fn(Seen) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (answer, tls) = (answer.clone(), tls.clone());
                tokio::spawn(async move {
                    let io: BoxIo = match tls {
                        Some(tls) => match tls.accept(io).await {
                            Ok(io) => Box::new(io),
                            Err(_) => return,
                        },
                        None => Box::new(io),
                    };
                    serve(io, answer).await;
                });
            }
        });
        Self { at, connections, task }
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F, A>(io: BoxIo, answer: F)
where
    F: Fn(Seen) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let seen = Seen { uri: parts.uri, headers: parts.headers, version: parts.version, body };
            Ok::<_, Infallible>(answer(seen).await)
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    // Clients of these tests go away as they like.
    let _ = builder.serve_connection(TokioIo::new(io), service).await;
}

/// A body of some bytes, perhaps with trailers.
pub(crate) fn body(bytes: impl Into<Bytes>, trailers: Option<HeaderMap>) -> BoxBody<Bytes, io::Error> {
    let body = Full::new(bytes.into()).map_err(|never| match never {});
    match trailers {
        Some(trailers) => body.with_trailers(async { Some(Ok(trailers)) }).boxed(),
        None => body.boxed(),
    }
}
