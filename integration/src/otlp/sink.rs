//! An OTLP receiver that keeps everything, and fails on command.

use super::{
    arrived::{Item, Requests},
    rpc::RpcStatus,
};
use crate::{Netns, netns::enter, ports::free_port, wait_for};
use axum::{
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    profiles::v1development::{
        ExportProfilesServiceRequest, ExportProfilesServiceResponse,
        profiles_service_server::{ProfilesService, ProfilesServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::codec::CompressionEncoding;

/// What it does with a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Failure {
    /// Takes and acknowledges it.
    #[default]
    None,
    /// Takes nothing: UNAVAILABLE or 503, with a hint when to come back if there is one.
    Unavailable(Option<Duration>),
    /// Takes nothing, and says that coming back is of no use: INVALID_ARGUMENT or 400.
    Invalid,
    /// Takes it, and answers only after this time.
    Slow(Duration),
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// The headers (over gRPC: the metadata).
    pub headers: BTreeMap<String, String>,
    /// What it holds.
    pub request: Requests,
}

#[derive(Default)]
struct Shared {
    failure: Mutex<Failure>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    requests: Vec<Received>,
    /// How often each item came, by its line.
    counts: BTreeMap<String, usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A receiver of all signals over gRPC and HTTP on loopback, on ports that it keeps while it is stopped.
pub struct OtlpSink {
    shared: Arc<Shared>,
    grpc: SocketAddr,
    http: SocketAddr,
    /// The namespace that it listens in.
    netns: Option<String>,
    /// While it serves.
    runtime: Option<Runtime>,
}

impl Default for OtlpSink {
    fn default() -> Self {
        Self::start()
    }
}

impl OtlpSink {
    /// Serves.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn start() -> Self {
        let [grpc, http] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        Self::listen(None, grpc, http)
    }

    /// Serves in a namespace (which must outlive it), on OTLP's own ports of this address.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn start_in(netns: &Netns, address: Ipv4Addr) -> Self {
        Self::listen(Some(netns.name()), (address, 4317).into(), (address, 4318).into())
    }

    #[track_caller]
    fn listen(netns: Option<&str>, grpc: SocketAddr, http: SocketAddr) -> Self {
        let netns = netns.map(str::to_owned);
        let mut sink = Self { shared: Arc::default(), grpc, http, netns, runtime: None };
        sink.resume();
        sink
    }

    /// Where it listens for gRPC.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it listens for HTTP: `http://ADDRESS/v1/traces`, protobuf.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// From now on does this with requests.
    pub fn fail(&self, failure: Failure) {
        *lock(&self.shared.failure) = failure;
    }

    /// Closes all connections at once, and listens no longer.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Serves again, on the same ports.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn resume(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        // Connections of before may linger for a moment.
        let bind = |address| {
            let listener = wait_for("the sink's port is free", Duration::from_secs(30), || {
                let bound = || {
                    self.netns.as_deref().into_iter().for_each(enter);
                    std::net::TcpListener::bind(address).map_err(|e| e.to_string())
                };
                thread::scope(|scope| scope.spawn(bound).join()).expect("a thread")
            });
            listener.set_nonblocking(true).expect("a socket that does not block");
            let _in_runtime = runtime.enter();
            TcpListener::from_std(listener).expect("a listener")
        };
        let (grpc, http) = (bind(self.grpc), bind(self.http));
        runtime.spawn(serve_grpc(grpc, self.shared.clone()));
        runtime.spawn(serve_http(http, self.shared.clone()));
        self.runtime = Some(runtime);
    }

    /// All requests that it took, in the order in which they came.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.taken).requests.clone()
    }

    /// All items of them.
    pub fn items(&self) -> Vec<Item> {
        lock(&self.shared.taken).requests.iter().flat_map(|received| received.request.items()).collect()
    }

    /// How often each item came, by its line.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        lock(&self.shared.taken).counts.clone()
    }

    /// Waits until everything that was acknowledged (lines of senders) has arrived, and checks that nothing came twice and nothing
    /// that nobody sent: what is `unsure` was sent without an answer and may have come.
    ///
    /// # Panics
    /// When something does not arrive `within` that time, came twice or is unknown.
    #[track_caller]
    pub fn wait_exactly(&self, acknowledged: &[String], unsure: &[String], within: Duration) {
        let counts = self.wait_counts(acknowledged, unsure, within);
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{} of {} came more than once: {:?}", twice.len(), counts.len(), twice[0]);
    }

    /// As [`OtlpSink::wait_exactly`], where this sink was cut off meanwhile: what it had taken and not answered comes again. How many different
    /// ones came.
    ///
    /// # Panics
    /// When something is missing, or came from nobody.
    #[track_caller]
    pub fn wait_all(&self, acknowledged: &[String], unsure: &[String], within: Duration) -> u64 {
        self.wait_counts(acknowledged, unsure, within).len() as u64
    }

    #[track_caller]
    fn wait_counts(
        &self,
        acknowledged: &[String],
        unsure: &[String],
        within: Duration,
    ) -> BTreeMap<String, usize> {
        let wanted: BTreeSet<&str> = acknowledged.iter().map(String::as_str).collect();
        assert_eq!(wanted.len(), acknowledged.len(), "the sender used an id twice");
        let counts = wait_for("everything acknowledged has arrived", within, || {
            let taken = lock(&self.shared.taken);
            let (came, all) = (taken.counts.len(), wanted.len());
            // Only then is it worth a look at each, which keeps the sink waiting.
            if came < all {
                return Err(format!("{came} items, {all} were acknowledged"));
            }
            match wanted.iter().find(|line| !taken.counts.contains_key(**line)) {
                None => Ok(taken.counts.clone()),
                Some(line) => Err(format!("{line} is missing among {came} items")),
            }
        });
        let maybe: BTreeSet<&str> = unsure.iter().map(String::as_str).collect();
        let strange =
            counts.keys().find(|line| !wanted.contains(line.as_str()) && !maybe.contains(line.as_str()));
        assert!(strange.is_none(), "nobody sent {strange:?}");
        counts
    }
}

impl Drop for OtlpSink {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Takes it or fails, as commanded.
    async fn take(&self, headers: BTreeMap<String, String>, request: Requests) -> Result<(), Failure> {
        let failure = *lock(&self.failure);
        match failure {
            Failure::None => {}
            Failure::Slow(time) => tokio::time::sleep(time).await,
            Failure::Unavailable(_) | Failure::Invalid => return Err(failure),
        }
        let mut taken = lock(&self.taken);
        request.items().into_iter().for_each(|item| *taken.counts.entry(item.line).or_default() += 1);
        taken.requests.push(Received { headers, request });
        Ok(())
    }
}

/// What it fails with.
fn refusal(failure: Failure) -> RpcStatus {
    let Failure::Unavailable(again) = failure else {
        return RpcStatus::new(tonic::Code::InvalidArgument, "as commanded");
    };
    let status = RpcStatus::new(tonic::Code::Unavailable, "as commanded");
    again.map_or(status.clone(), |after| status.with_retry(after))
}

#[derive(Clone)]
struct Grpc(Arc<Shared>);

async fn serve_grpc(listener: TcpListener, shared: Arc<Shared>) {
    const LIMIT: usize = 64 << 20;
    macro_rules! service {
        ($server:ident) => {
            $server::new(Grpc(shared.clone()))
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(LIMIT)
        };
    }
    let server = tonic::transport::Server::builder()
        .add_service(service!(TraceServiceServer))
        .add_service(service!(MetricsServiceServer))
        .add_service(service!(LogsServiceServer))
        .add_service(service!(ProfilesServiceServer));
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    server.serve_with_incoming(incoming).await.expect("serve gRPC");
}

impl Grpc {
    async fn take<T, R: Default>(
        &self,
        request: tonic::Request<T>,
        kind: fn(T) -> Requests,
    ) -> Result<tonic::Response<R>, tonic::Status> {
        let headers = texts(&request.metadata().clone().into_headers());
        match self.0.take(headers, kind(request.into_inner())).await {
            Ok(()) => Ok(tonic::Response::new(R::default())),
            Err(failure) => Err(refusal(failure).into()),
        }
    }
}

/// The headers that are text.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    headers.iter().filter_map(text).collect()
}

macro_rules! grpc {
    ($service:ident, $request:ident, $response:ident, $kind:ident) => {
        #[tonic::async_trait]
        impl $service for Grpc {
            async fn export(
                &self,
                request: tonic::Request<$request>,
            ) -> Result<tonic::Response<$response>, tonic::Status> {
                self.take(request, Requests::$kind).await
            }
        }
    };
}

grpc!(TraceService, ExportTraceServiceRequest, ExportTraceServiceResponse, Traces);
grpc!(MetricsService, ExportMetricsServiceRequest, ExportMetricsServiceResponse, Metrics);
grpc!(LogsService, ExportLogsServiceRequest, ExportLogsServiceResponse, Logs);
grpc!(ProfilesService, ExportProfilesServiceRequest, ExportProfilesServiceResponse, Profiles);

async fn serve_http(listener: TcpListener, shared: Arc<Shared>) {
    let app = axum::Router::new().fallback(export).layer(DefaultBodyLimit::disable()).with_state(shared);
    axum::serve(listener, app).await.expect("serve HTTP");
}

async fn export(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let request = match read(uri.path(), &headers, &body) {
        Ok(request) => request,
        Err(wrong) => return (StatusCode::BAD_REQUEST, wrong).into_response(),
    };
    let protobuf = [(CONTENT_TYPE, "application/x-protobuf")];
    match shared.take(texts(&headers), request).await {
        // The answer to full success is empty for every signal.
        Ok(()) => protobuf.into_response(),
        Err(failure @ Failure::Unavailable(again)) => {
            let after = again.map(|after| [("retry-after", after.as_secs().to_string())]);
            (StatusCode::SERVICE_UNAVAILABLE, protobuf, after, refusal(failure).encode_to_vec())
                .into_response()
        }
        Err(failure) => (StatusCode::BAD_REQUEST, protobuf, refusal(failure).encode_to_vec()).into_response(),
    }
}

fn read(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Requests, String> {
    let mut plain = Vec::new();
    match headers.get("content-encoding").map_or(Ok("identity"), |value| value.to_str()) {
        Ok("identity") => plain.extend_from_slice(body),
        Ok("gzip") => {
            flate2::read::GzDecoder::new(body).read_to_end(&mut plain).map_err(|e| e.to_string())?;
        }
        other => return Err(format!("compressed by {other:?}")),
    }
    let plain = plain.as_slice();
    let read = match path {
        "/v1/traces" => ExportTraceServiceRequest::decode(plain).map(Requests::Traces),
        "/v1/metrics" => ExportMetricsServiceRequest::decode(plain).map(Requests::Metrics),
        "/v1/logs" => ExportLogsServiceRequest::decode(plain).map(Requests::Logs),
        "/v1development/profiles" => ExportProfilesServiceRequest::decode(plain).map(Requests::Profiles),
        _ => return Err(format!("no signal at {path}")),
    };
    read.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{Load, Sdk};

    /// Without Hesper between them, so that a failure with Hesper is Hesper's.
    #[test]
    fn the_sdks_and_the_sink_understand_each_other() {
        let sink = OtlpSink::start();
        let mut sent = Vec::new();
        for further in [&[][..], &["gzip", "x-test=a b"]] {
            let name = |of: &str| format!("{of}-{}", further.len());
            let (grpc, http) = (format!("http://{}", sink.grpc()), format!("http://{}", sink.http()));
            for sdk in [Sdk::Python, Sdk::JavaScript] {
                for (protocol, endpoint) in [("grpc", &grpc), ("http", &http)] {
                    let service = name(&format!("{sdk:?}-{protocol}"));
                    sent.extend(sdk.send(protocol, endpoint, 700, &service, further).acknowledged(2_100));
                }
            }
        }
        sink.wait_exactly(&sent, &[], Duration::from_secs(60));
        let with_header =
            sink.received().iter().filter(|r| r.headers.get("x-test").is_some_and(|x| x == "a b")).count();
        assert!(with_header >= 4 * 3, "{with_header} requests with the header");
        assert_eq!(sink.items()[0].resource.get("service.name").as_deref(), Some("Python-grpc-0"));
    }

    #[test]
    fn it_fails_on_command_and_comes_back() {
        let mut sink = OtlpSink::start();
        for failure in [Failure::Invalid, Failure::Unavailable(Some(Duration::from_secs(1)))] {
            sink.fail(failure);
            let load = Load::start(sink.grpc(), "refused", 10, 1);
            wait_for("a batch is refused", Duration::from_secs(30), || {
                load.last_error().ok_or("none".into())
            });
            assert!(load.stop().acknowledged.is_empty());
        }
        sink.fail(Failure::None);
        let load = Load::start(sink.grpc(), "taken", 10, 2);
        load.wait_acknowledged(100);
        sink.stop();
        wait_for("a batch fails", Duration::from_secs(30), || load.last_error().ok_or("none".into()));
        sink.resume();
        load.wait_acknowledged(load.acknowledged() + 100);
        let sent = load.stop();
        assert!(!sent.unsure.is_empty());
        sink.wait_exactly(&sent.acknowledged, &sent.unsure, Duration::from_secs(30));
    }
}
