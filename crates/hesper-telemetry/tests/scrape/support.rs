//! Targets, a sink, a mesh, settings.

use futures::future::BoxFuture;
use hesper_collector_config::{
    Endpoint, load,
    receivers::{HesperSd, PrometheusReceiver, Receiver},
};
use hesper_otlp::{PartialSuccess, Refusal};
use hesper_telemetry::{
    flow::{Received, Sink},
    net::{BoxIo, Connector, underlay::UnderlayConnector},
    scrape::{Discovery, Found, Parts, Scraper},
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{NumberDataPoint, metric::Data, number_data_point},
};
use prost::Message;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};

/// Nothing here takes that long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) type Answer = Response<Full<bytes::Bytes>>;

pub(crate) fn answer(status: u16, content_type: &str, body: impl Into<bytes::Bytes>) -> Answer {
    let response = Response::builder().status(status).header("content-type", content_type);
    response.body(Full::new(body.into())).expect("an answer")
}

pub(crate) fn metrics(body: &str) -> Answer {
    answer(200, "text/plain; version=0.0.4", body.to_owned())
}

/// Something that answers on a port of loopback.
pub(crate) struct Target {
    pub(crate) at: SocketAddr,
    /// Connections that it took.
    pub(crate) connections: Arc<AtomicUsize>,
}

type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

impl Target {
    pub(crate) async fn start(handler: impl Fn(Request<Incoming>) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, handler): (_, Handler) = (connections.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(io, handler.clone()));
            }
        });
        Self { at, connections }
    }

    /// Takes connections and never answers.
    pub(crate) async fn silent() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((io, _)) = listener.accept().await {
                held.push(io);
            }
        });
        at
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

pub(crate) async fn serve(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, handler: Handler) {
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer) }
    });
    // The other side may break off at any time.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service).await;
}

/// Sends services of the mesh to ports of loopback.
#[derive(Default)]
pub(crate) struct Mesh {
    services: Mutex<BTreeMap<String, SocketAddr>>,
    underlay: UnderlayConnector,
}

impl Mesh {
    pub(crate) fn with(service: &str, at: SocketAddr) -> Arc<Self> {
        let mesh = Self::default();
        mesh.services.lock().expect("the services").insert(service.into(), at);
        Arc::new(mesh)
    }
}

impl Connector for Mesh {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        let Endpoint::Mesh { service, .. } = endpoint else { return self.underlay.connect(endpoint) };
        let at = self.services.lock().expect("the services").get(service).copied();
        Box::pin(async move {
            let at = at.ok_or_else(|| io::Error::other(format!("nobody hosts {service}")))?;
            Ok(Box::new(TcpStream::connect(at).await?) as BoxIo)
        })
    }
}

/// Finds what the test puts in, whatever is wanted.
pub(crate) struct Finds(pub(crate) watch::Sender<Arc<Found>>);

impl Finds {
    pub(crate) fn new(addresses: &[&str]) -> Arc<Self> {
        Arc::new(Self(watch::channel(found(addresses)).0))
    }
}

pub(crate) fn found(addresses: &[&str]) -> Arc<Found> {
    let labels = |address: &&str| {
        BTreeMap::from([
            ("__address__".to_owned(), (*address).to_owned()),
            ("__meta_hesper_service".to_owned(), "metrics".to_owned()),
        ])
    };
    Arc::new(addresses.iter().map(labels).collect())
}

impl Discovery for Finds {
    fn watch(&self, _: &HesperSd) -> watch::Receiver<Arc<Found>> {
        self.0.subscribe()
    }
}

struct Takes(mpsc::UnboundedSender<ExportMetricsServiceRequest>, bool);

impl Sink for Takes {
    fn accept(&self, received: Received) -> BoxFuture<'_, Result<PartialSuccess, Refusal>> {
        let request = ExportMetricsServiceRequest::decode(received.batch.payload).expect("metrics");
        assert!(received.counts.items > 0 && received.origin.received_ms > 0);
        let sent = self.0.send(request);
        let refused = self.1 || sent.is_err();
        Box::pin(async move {
            match refused {
                true => Err(Refusal::Overloaded { reason: "full".into(), after: Duration::from_secs(1) }),
                false => Ok(PartialSuccess::default()),
            }
        })
    }
}

/// A running receiver and what comes out of it.
pub(crate) struct Run {
    pub(crate) scraper: Scraper,
    taken: mpsc::UnboundedReceiver<ExportMetricsServiceRequest>,
}

impl Run {
    pub(crate) fn start(settings: PrometheusReceiver) -> Self {
        Self::with(settings, Arc::new(Mesh::default()), Finds::new(&[]), false)
    }

    pub(crate) fn with(
        settings: PrometheusReceiver,
        connector: Arc<dyn Connector>,
        discovery: Arc<dyn Discovery>,
        refuses: bool,
    ) -> Self {
        let (sender, taken) = mpsc::unbounded_channel();
        let parts = Parts { connector, discovery, sink: Arc::new(Takes(sender, refuses)) };
        Self { scraper: Scraper::start("prometheus/test", settings, "seed", parts), taken }
    }

    /// The next request, as lines.
    pub(crate) async fn next(&mut self) -> Vec<String> {
        let request = timeout(DEADLINE, self.taken.recv()).await.expect("a scrape in time");
        shown(&request.expect("a scrape"))
    }

    /// The next request with a line that has this text.
    pub(crate) async fn until(&mut self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let lines = timeout(DEADLINE, self.next()).await;
            let lines = lines.unwrap_or_else(|_| panic!("no {text} in {seen:#?}"));
            if lines.iter().any(|line| line.contains(text)) {
                return lines;
            }
            seen.push(lines);
        }
    }

    /// Nothing comes any more, once everything is ended.
    pub(crate) async fn end(mut self) -> Vec<Vec<String>> {
        timeout(DEADLINE, self.scraper.shutdown()).await.expect("an end in time");
        let mut rest = Vec::new();
        while let Ok(request) = self.taken.try_recv() {
            rest.push(shown(&request));
        }
        rest
    }
}

/// One line for each number: resource's instance, name, attributes, value or STALE, start or not.
fn shown(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let mut lines = Vec::new();
    for resource in &request.resource_metrics {
        let attributes = &resource.resource.as_ref().expect("a resource").attributes;
        let instance =
            attributes.iter().find(|a| a.key == "service.instance.id").map(text).unwrap_or_default();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let points: &[NumberDataPoint] = match metric.data.as_ref().expect("data") {
                Data::Gauge(gauge) => &gauge.data_points,
                Data::Sum(sum) => &sum.data_points,
                _ => &[],
            };
            for point in points {
                let labels: Vec<_> =
                    point.attributes.iter().map(|a| format!("{}={}", a.key, text(a))).collect();
                let value = match point.value {
                    Some(number_data_point::Value::AsDouble(value)) => value.to_string(),
                    _ => "STALE".into(),
                };
                let start = point.start_time_unix_nano;
                lines.push(format!("{instance} {}{{{}}} {value} {start}", metric.name, labels.join(",")));
            }
        }
    }
    lines
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// A receiver with these jobs, each scraped as often as a test wants it unless it says otherwise.
pub(crate) fn settings(jobs: &[&str]) -> PrometheusReceiver {
    let default = |job: &str| if job.contains("scrape_interval") { "" } else { "scrape_interval: 500ms, " };
    let jobs: Vec<_> = jobs.iter().map(|job| format!("{{{}{job}}}", default(job))).collect();
    let text = format!(
        "receivers: {{prometheus: {{config: {{scrape_configs: [{}]}}}}}}\nexporters: {{debug: }}\n\
         service: {{pipelines: {{metrics: {{receivers: [prometheus], exporters: [debug]}}}}}}\n",
        jobs.join(", ")
    );
    let (config, _) = load(&[("f.yaml", &text)], &|_| None).unwrap_or_else(|f| panic!("{text}\n{f:#?}"));
    match config.receivers.into_values().next().map(|component| component.settings) {
        Some(Receiver::Prometheus(receiver)) => receiver,
        other => panic!("{other:?}"),
    }
}

/// A job with one target.
pub(crate) fn job(name: &str, at: SocketAddr, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!("job_name: {name}, static_configs: [{{targets: ['{at}']}}]{comma}{keys}")
}
