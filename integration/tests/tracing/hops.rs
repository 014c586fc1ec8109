//! OTLP through two gateways, and the share of requests that is recorded.

use crate::ground::{spans, way};
use hesper_integration::{
    Collector, Stack, http,
    otlp::{Load, OtlpSink},
    wait_for, wait_until,
};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPANS: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"work","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;

/// From HTTP or the mesh to another place, by way of a queue on disk.
fn config(receiver: &str, exporter: &str) -> String {
    format!(
        "extensions: {{file_storage: {{directory: DIRECTORY/queue, create_directory: true}}}}
receivers: {{otlp: {{protocols: {{{receiver}}}}}}}
exporters: {{otlp_grpc: {{{exporter}, sending_queue: {{storage: file_storage}}}}}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}
"
    )
}

/// A collector that sends its own spans to `own`, and begins no traces unless `sampler` says so.
fn traced(name: &str, config: &str, own: &OtlpSink, sampler: (&str, &str)) -> Collector {
    Collector::new(name, config)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", own.http()))
        .env("OTEL_TRACES_SAMPLER", sampler.0)
        .env("OTEL_TRACES_SAMPLER_ARG", sampler.1)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_SERVICE_NAME", name)
}

#[test]
fn a_request_through_two_gateways_is_one_trace_and_others_are_none() {
    let (stack, sink, own) = (Stack::start(), OtlpSink::start(), OtlpSink::start());
    let (edge_id, centre_id) = (stack.enroll("edge", &[]), stack.enroll("centre", &[]));
    stack.cli(["create", "service", "otlp"]).ok();
    stack.allow("Bind", "otlp", "@centre");
    stack.allow("Dial", "otlp", "@edge");
    let off = ("always_off", "");
    let out = format!("endpoint: '{}', tls: {{insecure: true}}", sink.grpc());
    let centre = config("grpc: {endpoint: hesper://otlp}", &out);
    let _centre = traced("centre", &centre, &own, off).identity(&centre_id).start();
    let edge = config("http: {endpoint: '127.0.0.1:0'}", "endpoint: hesper://otlp");
    let edge = traced("edge", &edge, &own, off).identity(&edge_id).start();
    let to = format!("http://{}/v1/traces", edge.told("otlp/http"));
    let post = |headers: &[&str]| {
        let mut arguments = vec!["-H", "content-type: application/json", "-d", SPANS, &to];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        assert_eq!(http::curl(None, &arguments).expect("an answer").status, 200);
    };
    post(&[]);
    post(&["traceparent: nonsense"]);
    post(&[PARENT]);
    let all = wait_for("the trace", PATIENCE, || {
        let all = spans(&own);
        if all.len() >= 4 { Ok(all) } else { Err(format!("{all:?}")) }
    });
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(all.iter().all(|span| hex(&span.raw.trace_id) == TRACE), "only what was asked for: {all:?}");
    let last = all
        .iter()
        .find(|span| span.service == "centre" && span.name() == "otlp send traces")
        .expect("the last span");
    let wanted = [
        "…",
        "edge: otlp receive traces",
        "edge: otlp send traces",
        "centre: otlp receive traces",
        "centre: otlp send traces",
    ];
    assert_eq!(way(&all, last), wanted);
    assert_eq!(last.get("mesh.items"), "1");
    assert_eq!(all.len(), 4, "and no spans of the spans' own way: {all:?}");
    wait_until("the data", PATIENCE, || sink.items().len() == 3);
}

#[test]
fn a_share_of_what_begins_here_is_recorded() {
    let (sink, own) = (OtlpSink::start(), OtlpSink::start());
    let out = format!("endpoint: '{}', tls: {{insecure: true}}", sink.grpc());
    let config = config("grpc: {endpoint: '127.0.0.1:0'}", &out);
    let collector = traced("one", &config, &own, ("traceidratio", "0.05")).start();
    let load = Load::start(collector.told("otlp/grpc"), "shop", 1, 16);
    load.wait_acknowledged(4000);
    let sent = load.stop().acknowledged.len();
    // 5 %, and six deviations: sqrt(n p q).
    let (mean, deviation) = (sent as f64 * 0.05, (sent as f64 * 0.05 * 0.95).sqrt());
    let receives = || spans(&own).iter().filter(|span| span.name() == "otlp receive traces").count();
    wait_until("most of them", PATIENCE, || receives() as f64 > mean - 6.0 * deviation);
    assert!((receives() as f64) < mean + 6.0 * deviation, "{} of {sent}", receives());
}
