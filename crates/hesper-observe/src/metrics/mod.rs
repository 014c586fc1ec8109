//! Metrics, in Prometheus' and OpenMetrics' conventions.
//!
//! Names are given without the `hesper_` prefix and without `_total`: both are added. Counters, gauges and histograms are
//! `prometheus-client`'s, re-exported so that every crate uses the same version.
//!
//! Every label value comes from a bounded set: words of ours, route templates, names that an administrator gave. What a stranger can choose
//! (a path, a method, a host) is never one; the `metrics` module of each role says in a table what its labels are.

mod certificates;
mod classic;
mod negotiate;
mod process;
mod sampled;
mod serve;
mod spans;

pub use prometheus_client::{
    collector::Collector,
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Unit},
};
pub use sampled::{Sample, SampleKind, Tally};
pub use serve::{Health, ServeError, Serving, exposition, routes, serve_loopback};

use prometheus_client::registry::Registry as Inner;
use std::{
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// The type of the text that [`Registry::encode`] gives (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Buckets for how long a request took, in seconds: 1 ms to 10 s.
pub const DURATION_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Buckets for what is done in memory, in seconds: 10 µs to 100 ms.
pub const MEMORY_BUCKETS: [f64; 11] =
    [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.025, 0.1];

/// Buckets for what waits in queues and is tried again, in seconds: 10 ms to an hour.
pub const PATIENT_BUCKETS: [f64; 11] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

/// Buckets for how large something is, in bytes: 256 B to 64 MiB, each four times the one before.
pub const SIZE_BUCKETS: [f64; 10] =
    [256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0, 67108864.0];

/// Buckets for how many items something has: 1 to 100,000.
pub const COUNT_BUCKETS: [f64; 11] =
    [1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0, 50000.0, 100000.0];

/// The metrics of one process. Clones share them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
    builds: Family<Vec<(&'static str, &'static str)>, Gauge>,
    certificates: certificates::Certificates,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl Registry {
    /// A registry with the `process_…` metrics.
    pub fn new() -> Self {
        let mut inner = Inner::default();
        inner.register_collector(Box::new(process::Process::new()));
        let certificates = certificates::Certificates::default();
        inner.register_collector(Box::new(certificates.clone()));
        let registry = Self { inner: Arc::new(Mutex::new(inner)), builds: Family::default(), certificates };
        registry.register(
            "build_info",
            "1 for each role of this process, with its version",
            registry.builds.clone(),
        );
        registry.sampled(spans::numbers);
        registry
    }

    /// A registry for a process of this role, which `hesper_build_info` tells: `controller`, `router`, `node`, `collector`.
    pub fn of_role(role: &'static str) -> Self {
        let registry = Self::new();
        registry.add_role(role);
        registry
    }

    /// The process has this role too.
    pub fn add_role(&self, role: &'static str) {
        self.builds.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION")), ("role", role)]).set(1);
    }

    /// Shows as `hesper_certificate_expiry_timestamp_seconds` when a certificate expires (seconds since the Unix epoch, asked for at each
    /// scrape; none: there is none now).
    pub fn certificate(
        &self,
        holder: &'static str,
        expiry: impl Fn() -> Option<i64> + Send + Sync + 'static,
    ) {
        self.certificates.add(holder, Box::new(expiry));
    }

    /// A new counter `hesper_<name>_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.registered(name, help)
    }

    /// New counters `hesper_<name>_total`, one per set of labels. The label values must come from a bounded set.
    pub fn counters<L: Labels>(&self, name: &str, help: &str) -> Family<L, Counter> {
        self.registered(name, help)
    }

    /// A new gauge `hesper_<name>`.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.registered(name, help)
    }

    /// New gauges `hesper_<name>`, one per set of labels. The label values must come from a bounded set.
    pub fn gauges<L: Labels>(&self, name: &str, help: &str) -> Family<L, Gauge> {
        self.registered(name, help)
    }

    /// A new histogram `hesper_<name>_seconds` with [`DURATION_BUCKETS`]; give the name without its unit.
    pub fn durations(&self, name: &str, help: &str) -> Histogram {
        self.with_unit(name, help, Unit::Seconds, Histogram::new(DURATION_BUCKETS))
    }

    /// New histograms of the same kind, one per set of labels. The label values must come from a bounded set.
    pub fn durations_by<L: Labels>(&self, name: &str, help: &str) -> Family<L, Histogram> {
        let new = Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram);
        self.with_unit(name, help, Unit::Seconds, new)
    }

    /// New histograms `hesper_<name>_seconds` with [`MEMORY_BUCKETS`], one per set of labels.
    pub fn memory_durations_by<L: Labels>(&self, name: &str, help: &str) -> Family<L, Histogram> {
        let new = Family::new_with_constructor((|| Histogram::new(MEMORY_BUCKETS)) as fn() -> Histogram);
        self.with_unit(name, help, Unit::Seconds, new)
    }

    /// New histograms `hesper_<name>_bytes` with [`SIZE_BUCKETS`], one per set of labels.
    pub fn sizes_by<L: Labels>(&self, name: &str, help: &str) -> Family<L, Histogram> {
        let new = Family::new_with_constructor((|| Histogram::new(SIZE_BUCKETS)) as fn() -> Histogram);
        self.with_unit(name, help, Unit::Bytes, new)
    }

    fn with_unit<M: Metric + Clone>(&self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        check_name(name);
        self.with(|inner| inner.register_with_unit(format!("hesper_{name}"), help, unit, metric.clone()));
        metric
    }

    /// Shows a metric that exists elsewhere as `hesper_<name>`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        check_name(name);
        self.with(|inner| inner.register(format!("hesper_{name}"), help, metric));
    }

    /// Shows what `collector` computes at each scrape. Its names must start with `hesper_`.
    pub fn collector(&self, collector: Box<dyn Collector>) {
        self.with(|inner| inner.register_collector(collector));
    }

    /// Shows numbers that somebody else keeps: asked for at each scrape, and named in full, as other programs name them.
    pub fn sampled(&self, numbers: impl Fn() -> Vec<Sample> + Send + Sync + 'static) {
        self.collector(Box::new(sampled::Sampled(numbers)));
    }

    /// All metrics as OpenMetrics text; serve it as [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(fault) = self.with(|inner| prometheus_client::encoding::text::encode(&mut text, inner)) {
            // A collector that cannot be encoded: what came before it is still true, and the missing end marker
            // makes a scraper refuse the page.
            tracing::error!(%fault, "metrics could not be encoded");
        }
        text
    }

    fn registered<M: Metric + Clone + Default>(&self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.register(name, help, metric.clone());
        metric
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What can label a family of metrics: a struct that derives `EncodeLabelSet`, or `Vec<(&str, &str)>`.
pub trait Labels: Clone + Hash + Eq + EncodeLabelSet + Debug + Send + Sync + 'static {}

impl<T: Clone + Hash + Eq + EncodeLabelSet + Debug + Send + Sync + 'static> Labels for T {}

/// Names are constants in our code, so a bad one is caught by any test that registers it.
fn check_name(name: &str) {
    let good = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.starts_with("hesper_")
        && !["_total", "_count", "_sum", "_bucket", "_created"].iter().any(|suffix| name.ends_with(suffix));
    debug_assert!(good, "no metric name: {name:?} (lower case, without hesper_ and _total)");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_follows_open_metrics() {
        let registry = Registry::of_role("router");
        registry.counter("packets_forwarded", "Packets sent on").inc_by(3);
        let drops =
            registry.counters::<Vec<(&str, &str)>>("packets_dropped", "Packets not sent on, by reason");
        drops.get_or_create(&vec![("reason", "no \"tag\"\n")]).inc();
        registry.gauge("sessions", "Attached sessions").set(-2);
        registry.durations("dial_duration", "From request to stream").observe(0.3);
        registry.certificate("router", || Some(1_700_000_000));
        registry.certificate("node", || None);
        let text = registry.encode();
        for line in [
            r#"hesper_certificate_expiry_timestamp_seconds{holder="router"} 1700000000"#,
            "# TYPE hesper_packets_forwarded counter",
            "hesper_packets_forwarded_total 3",
            r#"hesper_packets_dropped_total{reason="no \"tag\"\n"} 1"#,
            "# HELP hesper_sessions Attached sessions.",
            "hesper_sessions -2",
            "# UNIT hesper_dial_duration_seconds seconds",
            r#"hesper_dial_duration_seconds_bucket{le="0.5"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let build =
            concat!("hesper_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",role=\"router\"} 1\n");
        assert!(text.contains(build) && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    #[should_panic(expected = "no metric name")]
    fn a_name_with_our_prefix_is_refused() {
        Registry::new().counter("hesper_dials", "twice prefixed");
    }
}
