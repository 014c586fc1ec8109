//! The collector under test: one port for both protocols, the exporters of the test, and what it counts.

use hesper_integration::{Collector, Stack, http, wait_for};
use std::net::SocketAddr;

/// Both protocols on one port that the system chooses; the collector calls it `otlp`.
pub(crate) const BOTH: &str = "grpc: {endpoint: '127.0.0.1:0'}, http: {endpoint: '127.0.0.1:0'}";
/// The sender is answered when the destination has taken it.
pub(crate) const AT_ONCE: &str = "sending_queue: {enabled: false}";
/// Tries again as fast as a test wants it.
pub(crate) const QUICK: &str = "retry_on_failure: {initial_interval: 20ms, max_interval: 100ms}";

/// An exporter over HTTP that sends the bytes as they are.
pub(crate) fn to_http(peer: SocketAddr, more: &str) -> String {
    format!("otlp_http: {{endpoint: 'http://{peer}', compression: none, {more}}}")
}

/// The same over gRPC.
pub(crate) fn to_grpc(peer: SocketAddr, more: &str) -> String {
    format!("otlp_grpc: {{endpoint: '{peer}', tls: {{insecure: true}}, compression: none, {more}}}")
}

/// The four signals from a receiver of these protocols to each of these exporters.
pub(crate) fn config(protocols: &str, exporters: &[impl AsRef<str>]) -> String {
    let name = |exporter: &str| exporter.split(':').next().unwrap_or_default().to_owned();
    let names: Vec<_> = exporters.iter().map(|exporter| name(exporter.as_ref())).collect();
    let lines: String = exporters.iter().map(|exporter| format!("  {}\n", exporter.as_ref())).collect();
    format!(
        "receivers: {{otlp: {{protocols: {{{protocols}}}}}}}
exporters:
{lines}service:
  telemetry: {{metrics: {{address: '127.0.0.1:0'}}}}
  pipelines: {{traces: &p {{receivers: [otlp], exporters: [{}]}}, metrics: *p, logs: *p, profiles: *p}}
",
        names.join(", ")
    )
}

/// A running one with such a configuration.
#[track_caller]
pub(crate) fn collector(protocols: &str, exporters: &[impl AsRef<str>]) -> Collector {
    Collector::new("collector", &config(protocols, exporters)).start()
}

/// One that hands what it takes to this peer at once, and where it listens.
#[track_caller]
pub(crate) fn gateway(peer: SocketAddr) -> (Collector, SocketAddr) {
    let collector = collector(BOTH, &[to_http(peer, AT_ONCE)]);
    let at = collector.told("otlp");
    (collector, at)
}

/// The sum of a metric of it.
///
/// # Errors
/// It cannot be asked.
pub(crate) fn metric(collector: &Collector, name: &str, labels: &str) -> Result<u64, String> {
    let page = http::get(&format!("http://{}/metrics", collector.told("metrics")))?.body;
    Ok(http::sum(&page, name, labels) as u64)
}

/// What became of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
}

/// Waits until so many items have come to their end, over all pipelines and exporters.
#[track_caller]
pub(crate) fn settled(collector: &Collector, items: u64) -> Ledger {
    settled_of(collector, "", items)
}

/// The same for what has these labels.
#[track_caller]
pub(crate) fn settled_of(collector: &Collector, labels: &str, items: u64) -> Ledger {
    wait_for(&format!("{items} items are delivered or dropped"), Stack::PATIENCE, || {
        let page = http::get(&format!("http://{}/metrics", collector.told("metrics")))?.body;
        let sum = |what: &str| http::sum(&page, &format!("hesper_ledger_{what}_items_total"), labels) as u64;
        let ledger = Ledger { delivered: sum("delivered"), dropped: sum("dropped") };
        let ended = ledger.delivered + ledger.dropped;
        if ended == items { Ok(ledger) } else { Err(format!("{ledger:?} of {}", sum("accepted"))) }
    })
}
