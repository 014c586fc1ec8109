//! The configurations that the tests share, a mesh with gateways in it, and what their ledgers say.

use hesper_integration::{Collector, Stack, free_port, wait_for};
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// Retries as fast as a test wants them; everything else by default.
const RETRY: &str = "retry_on_failure: {initial_interval: 100ms, max_interval: 1s}";
const PIPELINES: &str = "traces: &p {receivers: [otlp], exporters: [otlp_grpc]}, metrics: *p, logs: *p";

/// From this receiver, by way of a queue on disk, to this exporter.
pub(crate) fn gateway(receiver: &str, exporter: &str) -> String {
    // Asked for the ledger, each must be found at a port of its own.
    let metrics = free_port();
    format!(
        "extensions: {{file_storage: {{directory: DIRECTORY/queue, create_directory: true}}}}
receivers: {{otlp: {{protocols: {{{receiver}}}}}}}
exporters: {{otlp_grpc: {{{exporter}, {RETRY}, sending_queue: {{storage: file_storage}}}}}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{address: '127.0.0.1:{metrics}'}}}}
  pipelines: {{{PIPELINES}}}
"
    )
}

/// From a port of loopback to a service.
pub(crate) fn edge(port: u16, to: &str) -> String {
    gateway(&format!("grpc: {{endpoint: '127.0.0.1:{port}'}}"), &format!("endpoint: hesper://{to}"))
}

/// From a service to another.
pub(crate) fn between(service: &str, to: &str) -> String {
    gateway(&bound(service), &format!("endpoint: hesper://{to}"))
}

/// From a service to a receiver on loopback.
pub(crate) fn centre(service: &str, to: SocketAddr) -> String {
    gateway(&bound(service), &plain(to))
}

/// A receiver of gRPC and HTTP that only the mesh reaches.
pub(crate) fn bound(service: &str) -> String {
    format!("grpc: {{endpoint: hesper://{service}}}, http: {{endpoint: hesper://{service}}}")
}

/// An exporter to loopback.
pub(crate) fn plain(to: SocketAddr) -> String {
    format!("endpoint: '{to}', tls: {{insecure: true}}")
}

/// Creates a service that `binds` may bind and `dials` may dial, and on which gateways (`#gateway`) are believed.
pub(crate) fn service(stack: &Stack, name: &str, binds: &str, dials: &str) {
    let config = format!("{name}.otlp");
    stack.cli(["create", "config", &config, "otlp.v1", r##"{"gateways":["#gateway"]}"##]).ok();
    stack.cli(["create", "service", name, "--configs", &config]).ok();
    stack.allow("Bind", name, binds);
    stack.allow("Dial", name, dials);
}

/// An edge on a port of its own, and a centre, over a mesh: the service is `otlp`.
pub(crate) struct Pair {
    pub(crate) edge: Collector,
    pub(crate) centre: Collector,
    /// Where the edge takes OTLP over gRPC.
    pub(crate) port: SocketAddr,
}

impl Pair {
    /// Starts them; what the centre gets it sends to `to`.
    pub(crate) fn start(stack: &Stack, to: SocketAddr) -> Self {
        let (edge_id, centre_id) = (stack.enroll("edge", &["gateway"]), stack.enroll("centre", &[]));
        service(stack, "otlp", "@centre", "#gateway");
        let port = free_port();
        let centre = Collector::new("centre", &centre("otlp", to)).identity(&centre_id).start();
        let edge = Collector::new("edge", &edge(port, "otlp")).identity(&edge_id).start();
        Self { edge, centre, port: ([127, 0, 0, 1], port).into() }
    }
}

/// A row of a ledger.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Row {
    sender: Sender,
    signal: String,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) queued: u64,
    pub(crate) dropped: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Sender {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Account {
    rows: Vec<Row>,
}

impl Row {
    /// Whatever happens, this holds.
    #[track_caller]
    fn adds_up(&self) {
        let dropped: u64 = self.dropped.values().sum();
        assert_eq!(self.accepted, self.delivered + self.queued + dropped, "{self:?}");
    }
}

/// What a collector says of spans, by the name of who sent them; no name: nobody that it knows.
#[track_caller]
pub(crate) fn ledger(collector: &Collector) -> BTreeMap<String, Row> {
    let file = collector.path("config.yaml").display().to_string();
    let told = collector.cli(["ledger", "--config", &file, "-j"]).ok().json();
    let accounts: Vec<Account> = serde_json::from_value(told).expect("a ledger");
    let rows = accounts.into_iter().flat_map(|account| account.rows).filter(|row| row.signal == "traces");
    rows.inspect(Row::adds_up).map(|row| (row.sender.name.clone(), row)).collect()
}

/// Waits until nothing is queued any more, and gives the row of this sender: what is not dropped has been delivered.
#[track_caller]
pub(crate) fn settled(collector: &Collector, sender: &str, within: Duration) -> Row {
    wait_for(&format!("nothing of {sender:?} is queued"), within, || {
        let row = ledger(collector).remove(sender).ok_or("no such row")?;
        if row.queued == 0 { Ok(row) } else { Err(format!("{row:?}")) }
    })
}
