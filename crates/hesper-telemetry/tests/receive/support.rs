//! A server on a port of its own, sinks that remember, and clients of both protocols.

use bytes::Bytes;
use futures::future::BoxFuture;
use hesper_collector_config::receivers::{OtlpReceiver, Receiver};
use hesper_otlp::{PartialSuccess, Refusal, Signal, status::Status};
use hesper_telemetry::{
    auth::Authenticator,
    flow::{Received, Sink},
    net::{Arrival, BoxIo, Incoming, Peer},
    receive::{Admission, Builder, Ended, Observer, Request as Seen, Server, TurnedAway},
};
use http::{HeaderMap, Method, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits for something that will happen.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LONG, work).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// A port whose peers are all the same.
pub(crate) struct Port {
    listener: TcpListener,
    peer: Peer,
}

impl Incoming for Port {
    fn next(&mut self) -> BoxFuture<'_, Option<Arrival>> {
        Box::pin(async move {
            let (io, from) = self.listener.accept().await.ok()?;
            let peer = Peer { address: Some(from.ip()), ..self.peer.clone() };
            let ready = Box::pin(async move { Ok((Box::new(io) as BoxIo, peer)) });
            Some(Arrival { from: from.to_string(), ready })
        })
    }
}

type Answer = dyn Fn(&Received) -> Result<PartialSuccess, Refusal> + Send + Sync;

/// Remembers what it got, and answers when it is let.
pub(crate) struct Recorder {
    answer: Box<Answer>,
    received: Mutex<Vec<Received>>,
    began: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Recorder {
    pub(crate) fn new(
        answer: impl Fn(&Received) -> Result<PartialSuccess, Refusal> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (began, open) = (watch::Sender::new(0), watch::Sender::new(true));
        Arc::new(Self { answer: Box::new(answer), received: Mutex::default(), began, open })
    }

    pub(crate) fn taking() -> Arc<Self> {
        Self::new(|_| Ok(PartialSuccess::default()))
    }

    /// Lets requests wait (`false`), or end.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Waits until so many requests have reached the sink.
    pub(crate) async fn began(&self, count: usize) {
        let mut began = self.began.subscribe();
        soon("the request", began.wait_for(|now| *now >= count)).await.expect("there is a sender");
    }

    /// What came, once.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().expect("no panic"))
    }

    /// The only thing that came.
    pub(crate) fn only(&self) -> Received {
        let mut all = self.take();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}

impl Sink for Recorder {
    fn accept(&self, received: Received) -> BoxFuture<'_, Result<PartialSuccess, Refusal>> {
        Box::pin(async move {
            self.began.send_modify(|count| *count += 1);
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.expect("there is a sender");
            let answer = (self.answer)(&received);
            self.received.lock().expect("no panic").push(received);
            answer
        })
    }
}

/// Remembers what was counted.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) seen: Mutex<Vec<Seen>>,
    turned_away: watch::Sender<Vec<TurnedAway>>,
}

impl Counter {
    pub(crate) fn last(&self) -> Seen {
        *self.seen.lock().expect("no panic").last().expect("a request")
    }

    pub(crate) async fn turned_away(&self, why: TurnedAway) {
        let mut seen = self.turned_away.subscribe();
        soon("that", seen.wait_for(|all| all.contains(&why))).await.expect("there is a sender");
    }
}

impl Observer for Counter {
    fn request(&self, request: &Seen) {
        self.seen.lock().expect("no panic").push(*request);
    }

    fn turned_away(&self, why: TurnedAway) {
        self.turned_away.send_modify(|all| all.push(why));
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) sink: Arc<Recorder>,
    pub(crate) counter: Arc<Counter>,
    pub(crate) admission: Admission,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Ended>,
}

/// What is to run.
pub(crate) struct Plan {
    /// `protocols:` of the receiver, in YAML.
    pub(crate) protocols: &'static str,
    pub(crate) auth: Option<Arc<dyn Authenticator>>,
    pub(crate) peer: Peer,
    pub(crate) sink: Arc<Recorder>,
    pub(crate) signals: Vec<Signal>,
    pub(crate) admission: Admission,
    pub(crate) more: fn(Builder) -> Builder,
}

/// gRPC, HTTP and both with nothing else said.
pub(crate) const GRPC: &str = "{grpc: }";
pub(crate) const HTTP: &str = "{http: }";
pub(crate) const BOTH: &str = "{grpc: , http: }";

impl Plan {
    pub(crate) fn of(protocols: &'static str) -> Self {
        Self {
            protocols,
            auth: None,
            peer: Peer::default(),
            sink: Recorder::taking(),
            signals: Signal::ALL.to_vec(),
            admission: Admission::default(),
            more: |builder| builder,
        }
    }

    pub(crate) async fn run(self) -> Running {
        let settings = settings(self.protocols);
        let counter = Arc::new(Counter::default());
        let observer = Arc::clone(&counter) as Arc<dyn Observer>;
        let mut builder = Server::builder().admission(self.admission.clone()).observer(observer);
        for signal in self.signals {
            builder = builder.sink(signal, Arc::clone(&self.sink) as Arc<dyn Sink>);
        }
        if let Some(grpc) = settings.grpc {
            builder = builder.grpc(grpc, self.auth.clone());
        }
        if let Some(http) = settings.http {
            builder = builder.http(http, self.auth);
        }
        let server = (self.more)(builder).build().expect("a server");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let (incoming, token) = (Box::new(Port { listener, peer: self.peer }), stop.clone());
        let task = tokio::spawn(async move { server.serve(incoming, token).await });
        Running { address, sink: self.sink, counter, admission: self.admission, stop, task }
    }
}

/// The settings of a receiver, as a configuration has them.
pub(crate) fn settings(protocols: &str) -> OtlpReceiver {
    let text = format!(
        "extensions: {{basicauth/server: {{htpasswd: {{inline: 'user:secret'}}}}}}\n\
         receivers: {{otlp: {{protocols: {protocols}}}}}\n\
         exporters: {{debug: }}\n\
         service: {{extensions: [basicauth/server], pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}}}\n"
    );
    let (config, _) =
        hesper_collector_config::load(&[("test.yaml", &text)], &|_| None).expect("a configuration");
    match &config.receivers.values().next().expect("a receiver").settings {
        Receiver::Otlp(otlp) => (**otlp).clone(),
        other => panic!("{other:?}"),
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Reply {
    /// A header; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The body as a google.rpc.Status of the encoding that its header names.
    pub(crate) fn failure(&self) -> Status {
        let content_type = self.headers["content-type"].to_str().expect("text");
        let encoding = hesper_otlp::Encoding::of_content_type(content_type).expect("an encoding");
        Status::from_bytes(encoding, &self.body).expect("a status")
    }

    /// What a gRPC call ended with.
    pub(crate) fn grpc(&self) -> Status {
        let all = if self.trailers.is_empty() { &self.headers } else { &self.trailers };
        let text = |name: &str| all.get(name).map(|value| value.to_str().expect("text"));
        if let Some(details) = text("grpc-status-details-bin") {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(details).expect("base64");
            return Status::from_bytes(hesper_otlp::Encoding::Protobuf, &bytes).expect("a status");
        }
        let code = text("grpc-status").expect("a status").parse().expect("a number");
        Status { code, message: text("grpc-message").unwrap_or_default().to_owned(), details: vec![] }
    }
}

/// A client that keeps its connections.
pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn http1() -> Http {
    Client::builder(TokioExecutor::new()).build_http()
}

pub(crate) fn http2() -> Http {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// Sends a request.
pub(crate) async fn send(
    client: &Http,
    method: Method,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, hyper_util::client::legacy::Error> {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let (head, body) = soon("an answer", client.request(request)).await?.into_parts();
    let collected = soon("its body", body.collect()).await.expect("a body");
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let body = collected.to_bytes();
    Ok(Reply { status: head.status.as_u16(), version: head.version, headers: head.headers, body, trailers })
}

impl Running {
    /// Posts a body, over HTTP/1.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        send(&http1(), Method::POST, self.address, path, headers, body).await.expect("an answer")
    }

    /// Posts protobuf.
    pub(crate) async fn proto(&self, path: &str, more: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        self.post(path, &[&[("content-type", "application/x-protobuf")], more].concat(), body).await
    }

    /// Calls with these bytes as the body.
    pub(crate) async fn call(&self, path: &str, more: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let headers = [&[("content-type", "application/grpc"), ("te", "trailers")], more].concat();
        send(&http2(), Method::POST, self.address, path, &headers, body).await.expect("an answer")
    }
}

/// A message in its frame.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[flag][..], &len, message].concat().into()
}

/// Requests with so many items.
pub(crate) fn spans(count: usize) -> ExportTraceServiceRequest {
    let span = |i: usize| Span {
        trace_id: vec![1; 16],
        span_id: (i as u64 + 1).to_be_bytes().to_vec(),
        name: format!("span {i}"),
        ..Span::default()
    };
    let scope = ScopeSpans { spans: (0..count).map(span).collect(), ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }],
    }
}

pub(crate) fn points(count: usize) -> ExportMetricsServiceRequest {
    let gauge = Gauge { data_points: vec![NumberDataPoint::default(); count] };
    let metric = Metric { name: "m".into(), data: Some(Data::Gauge(gauge)), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() }],
    }
}

pub(crate) fn records(count: usize) -> ExportLogsServiceRequest {
    let scope = ScopeLogs { log_records: vec![LogRecord::default(); count], ..ScopeLogs::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }],
    }
}

/// A request of a signal with so many items, encoded.
pub(crate) fn payload(signal: Signal, count: usize) -> Bytes {
    match signal {
        Signal::Traces => spans(count).encode_to_vec().into(),
        Signal::Metrics => points(count).encode_to_vec().into(),
        Signal::Logs => records(count).encode_to_vec().into(),
        Signal::Profiles => Bytes::from_static(b"\x0a\x04\x12\x02\x12\x00"),
    }
}

pub(crate) const TRACES: &str = "/v1/traces";

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("gzip")
}
