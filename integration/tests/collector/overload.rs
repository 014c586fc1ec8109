//! More than can be sent on: senders are asked to wait, and memory stays bounded.

use crate::ground::plain;
use hesper_integration::{
    Collector, Stack,
    otlp::{Failure, Load, OtlpSink},
    wait_until,
};

/// The promise, bytes.
const BOUND: u64 = 200 << 20;
/// Batches that are refused before we look.
const REFUSED: usize = 40;
/// Spans of a batch, and bytes of each: more than three megabytes, so that bytes are what is counted, and not requests.
const BATCH: usize = 100;
const WEIGHT: usize = 35_000;

/// The destination takes nothing, there is no disk, and 32 senders do not stop.
#[test]
fn memory_stays_bounded_when_nothing_can_be_sent_on() {
    let sink = OtlpSink::start();
    let config = format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters: {{otlp_grpc: {{{}, compression: none, timeout: 60s, retry_on_failure: {{initial_interval: 100ms, max_interval: 1s}}}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}}}
",
        plain(sink.grpc())
    );
    let mut collector = Collector::new("collector", &config).start();
    sink.fail(Failure::Unavailable(None));
    let load = Load::heavy(collector.told("otlp/grpc"), "flood", BATCH, 32, WEIGHT);
    wait_until("the senders are asked to wait", Stack::PATIENCE, || load.refused() >= REFUSED * BATCH);
    let error = load.last_error().expect("a reason");
    assert!(error.starts_with("Unavailable") || error.starts_with("ResourceExhausted"), "{error}");
    let used = collector.process().memory_peak();
    println!("{} MiB at most, {} spans acknowledged", used >> 20, load.acknowledged());
    assert!(used < BOUND, "{} MiB were in use at most", used >> 20);
    // What was taken is not lost.
    let sent = load.stop();
    sink.fail(Failure::None);
    sink.wait_exactly(&sent.acknowledged, &sent.unsure, Stack::PATIENCE);
    assert!(collector.terminate().success());
}
