//! More than can be sent on: senders are asked to wait, and memory stays bounded.

use crate::ground::plain;
use hesper_integration::{
    Collector, Stack,
    otlp::{Body, Failure, Load, OtlpSink},
    wait_until,
};

/// The promise, bytes.
const BOUND: u64 = 200 << 20;
/// Batches that are refused before we look.
const REFUSED: usize = 40;
/// Spans of a batch, and bytes of each: more than three megabytes, so that bytes are what is counted, and not requests.
const BATCH: usize = 100;
const WEIGHT: usize = 35_000;

/// A collector with one receiver (`grpc` or `http`) and a queue in memory; and where it sends to, which takes nothing.
fn stuck(protocol: &str) -> (Collector, OtlpSink) {
    let sink = OtlpSink::start();
    sink.fail(Failure::Unavailable(None));
    let config = format!(
        "receivers: {{otlp: {{protocols: {{{protocol}: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_grpc: {{{}, compression: none, timeout: 60s, retry_on_failure: {{initial_interval: 100ms, max_interval: 1s}}}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}}}
",
        plain(sink.grpc())
    );
    (Collector::new("collector", &config).start(), sink)
}

/// Memory is bounded, and what was taken is not lost.
#[track_caller]
fn holds(mut collector: Collector, sink: &OtlpSink, loads: Vec<Load>) {
    let used = collector.process().memory_peak();
    let taken: usize = loads.iter().map(Load::acknowledged).sum();
    println!("{} MiB at most, {taken} spans acknowledged", used >> 20);
    assert!(used < BOUND, "{} MiB were in use at most", used >> 20);
    let sent: Vec<_> = loads.into_iter().map(Load::stop).collect();
    sink.fail(Failure::None);
    let acknowledged: Vec<_> = sent.iter().flat_map(|sent| sent.acknowledged.clone()).collect();
    let unsure: Vec<_> = sent.iter().flat_map(|sent| sent.unsure.clone()).collect();
    sink.wait_exactly(&acknowledged, &unsure, Stack::PATIENCE);
    assert!(collector.terminate().success());
}

/// The destination takes nothing, there is no disk, and 32 senders do not stop.
#[test]
fn memory_stays_bounded_when_nothing_can_be_sent_on() {
    let (collector, sink) = stuck("grpc");
    let load = Load::heavy(collector.told("otlp/grpc"), "flood", BATCH, 32, WEIGHT);
    wait_until("the senders are asked to wait", Stack::PATIENCE, || load.refused() >= REFUSED * BATCH);
    let error = load.last_error().expect("a reason");
    assert!(error.starts_with("Unavailable") || error.starts_with("ResourceExhausted"), "{error}");
    holds(collector, &sink, vec![load]);
}

/// The same over HTTP: as it is, compressed, and slowly; whoever is not served is told when to come again.
#[test]
fn memory_stays_bounded_over_http_too() {
    let (collector, sink) = stuck("http");
    let to = collector.told("otlp/http");
    let load = |name: &str, at_once, body| Load::post(to, name, BATCH, at_once, WEIGHT, body);
    // Slow ones hold most: together they have more under way than is allowed in memory.
    let loads =
        vec![load("slow", 64, Body::Slow), load("plain", 8, Body::Plain), load("gzip", 4, Body::Gzip)];
    for load in &loads {
        wait_until("the senders are asked to wait", Stack::PATIENCE, || load.refused() >= REFUSED * BATCH);
        let failures = load.failures();
        println!("{failures:?}");
        let told = |failure: &String| {
            let is_told = ["429", "503"].iter().any(|status| failure.starts_with(status))
                && failure.to_ascii_lowercase().contains("; retry-after: ");
            // A busy machine is no answer.
            is_told || failure.starts_with("no answer in")
        };
        assert!(failures.keys().all(told), "{failures:?}");
    }
    holds(collector, &sink, loads);
}
