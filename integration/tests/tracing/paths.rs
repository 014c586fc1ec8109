//! One dial and one scrape, over every role as a process of its own: one trace each. All of them record nothing by themselves; a sampled parent is
//! honoured by all.

use crate::ground::{Span, spans, way};
use hesper_integration::{
    NodeExporter, Otelcol, Place, Process, Prometheus, Stack, StackOptions, free_port, otlp::OtlpSink, run,
    wait_for,
};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

const PATIENCE: Duration = Duration::from_secs(60);
const ALL: &str = "1000000";

/// A mesh whose roles send their spans to an OpenTelemetry Collector and on to a sink (where there is no Go, to the sink at once), with a
/// program behind the service `web`.
struct World {
    sink: OtlpSink,
    _collector: Option<Otelcol>,
    /// Where spans go.
    url: String,
    exporter: NodeExporter,
    stack: Stack,
    /// The identity file of the one who may dial.
    client: String,
    _host: Process,
}

impl World {
    fn start() -> Self {
        let (sink, exporter) = (OtlpSink::start(), NodeExporter::start());
        let collector = Otelcol::start(&format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_grpc: {{endpoint: '{}', tls: {{insecure: true}}}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}
",
            sink.grpc()
        ));
        let receiver = collector.as_ref().map_or_else(|| sink.grpc(), |collector| collector.told("GRPC"));
        let url = format!("grpc://{receiver}");
        let block = serde_json::json!({"enabled": true, "exporter_url": url});
        let flags = ["--tracing-exporter-url", &url];
        let stack = StackOptions::default().setting("tracing", block).router_arguments(&flags).start();
        let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
        stack.publish("web", exporter.address, "@host");
        stack.allow("Dial", "web", "@client");
        let mut command = stack.hesper(&Place::host(), ["tunnel", "host", "-i", &host]);
        command.args(flags).env("OTEL_BSP_SCHEDULE_DELAY", "100");
        let mut host = Process::ours("host", command);
        host.wait_for_line("it has bound", PATIENCE, |line| line.contains("service bound").then_some(()));
        Self { sink, _collector: collector, url, exporter, stack, client, _host: host }
    }

    /// The spans, once the backend's connection is on the way from `root`, and the roles that have a part in it.
    #[track_caller]
    fn connected(&self, root: &str, connect: &[&str]) -> Vec<Span> {
        let last = format!("connect {}", self.exporter.address);
        wait_for("one connected trace", PATIENCE, || {
            let all = spans(&self.sink);
            let Some(first) = all.iter().find(|span| span.name() == root) else {
                return Err(format!("no {root} among {:?}", all.iter().map(Span::name).collect::<Vec<_>>()));
            };
            let trace: Vec<Span> =
                all.iter().filter(|span| span.raw.trace_id == first.raw.trace_id).cloned().collect();
            let ways: Vec<_> = trace.iter().map(|span| way(&trace, span)).collect();
            let wanted: Vec<String> =
                connect.iter().map(|s| (*s).to_owned()).chain([format!("hesper-tunnel: {last}")]).collect();
            let roles: BTreeSet<&str> = trace.iter().map(|span| span.service.as_str()).collect();
            let everybody = ["hesper-controller", "hesper-router", "hesper-tunnel"]
                .iter()
                .all(|role| roles.contains(role));
            let whole = ways.iter().all(|way| !way.contains(&"…".to_owned()));
            if ways.contains(&wanted) && everybody && whole { Ok(trace) } else { Err(format!("{ways:#?}")) }
        })
    }
}

/// The way to a span of this name and role.
fn way_to(trace: &[Span], service: &str, name: &str) -> Vec<String> {
    let found = trace.iter().find(|span| span.service == service && span.name() == name);
    way(trace, found.unwrap_or_else(|| panic!("no {service}: {name} in {trace:#?}")))
}

#[test]
fn a_dial_from_the_command_line_is_one_trace_over_every_role() {
    let world = World::start();
    let arguments = ["dial", "web", "-i", &world.client, "--trace", "--trace-exporter", &world.url];
    let command = world.stack.hesper(&Place::host(), arguments);
    let answer = run(command, "GET /metrics HTTP/1.0\r\n\r\n", PATIENCE).ok();
    assert!(answer.stdout.contains("node_"), "{}", answer.stdout);
    let dial = ["hesper: hesper dial", "hesper: dial web"];
    let trace = world
        .connected("hesper dial", &[&dial[..], &["hesper: accept", "hesper-tunnel: accept web"]].concat());
    let call = "hesper.control.v1.NodeControl/Dial";
    let (asking, answering) = (format!("hesper: {call}"), format!("hesper-controller: {call}"));
    let grant = [&dial[..], &["hesper: grant", &asking, &answering]].concat();
    assert_eq!(way_to(&trace, "hesper-controller", call), grant);
    assert_eq!(way_to(&trace, "hesper-controller", "policy decide")[..grant.len()], grant);
    assert_eq!(
        way_to(&trace, "hesper-router", "admit"),
        [&dial[..], &["hesper: pass", "hesper-router: admit"]].concat()
    );
    let decided = trace
        .iter()
        .find(|span| span.name() == "policy decide" && span.get("mesh.policy.rule").contains("web.dial"));
    assert!(decided.is_some(), "the rule that decided is told: {trace:#?}");
}

#[test]
fn a_scrape_through_the_proxy_is_one_trace_over_every_role() {
    let world = World::start();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = world
        .stack
        .hesper(&Place::host(), ["tunnel", "run", "-i", &world.client, "--proxy", &address.to_string()]);
    command.args(["--tracing-exporter-url", &world.url, "--tracing-sampling-rate-per-million", ALL]);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let mut proxy = Process::ours("proxy", command);
    proxy.wait_for_line("it is ready", PATIENCE, |line| line.starts_with("ready ").then_some(()));
    let prometheus = Prometheus::start(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: mesh, proxy_url: 'http://{address}', static_configs: [{{targets: ['web']}}]}}]
"
    ));
    prometheus.wait_all_up(r#"up{job="mesh"}"#, 1);
    let dial = ["hesper-tunnel: GET", "hesper-tunnel: dial web"];
    let trace = world
        .connected("GET", &[&dial[..], &["hesper-tunnel: accept", "hesper-tunnel: accept web"]].concat());
    assert_eq!(
        way_to(&trace, "hesper-router", "admit"),
        [&dial[..], &["hesper-tunnel: pass", "hesper-router: admit"]].concat()
    );
    let root = trace.iter().find(|span| span.name() == "GET").expect("the scrape");
    assert_eq!(root.get("http.response.status_code"), "200");
}
