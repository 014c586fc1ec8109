//! What the tunneler counts.
//!
//! | label | what bounds it |
//! |---|---|
//! | `service` | the services of the node's view: what the controller lets this identity dial or bind |
//! | `check` | the health checks that the services' configs have |
//! | `kind` | `local`, `forward`, `connect` |
//! | `status` | the class of the status, `2xx` … `5xx`; of a target's own answer too |
//! | `outcome`, `reason`, `side`, `direction`, `protocol`, `what` | words of ours |
//!
//! Hosts, paths and methods that a client asks the proxy for are never labels.

use hesper_observe::metrics::{Counter, Family, Gauge, Histogram, Registry};
use hesper_sdk::{Context, Copied, Protocol};
use std::time::Duration;

/// The tunneler's metrics; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Streams that arrived for hosted services, by service and outcome.
    pub(crate) hosted: Family<Labels, Counter>,
    /// Hosted streams open now.
    pub(crate) hosted_open: Gauge,
    /// Services bound now.
    pub(crate) bound: Gauge,
    /// Health checks run, by service, check and outcome.
    pub(crate) health_checks: Family<Labels, Counter>,
    /// Did the check pass the last time? By service and check.
    pub(crate) health_passing: Family<Labels, Gauge>,
    /// Events that checks were to send, by service and whether the check passed.
    pub(crate) health_events: Family<Labels, Counter>,
    /// Connections to local listeners, by service and outcome.
    pub(crate) proxied: Family<Labels, Counter>,
    /// Connections to local listeners open now.
    pub(crate) proxied_open: Gauge,
    /// Datagrams carried, by service, side and direction.
    pub(crate) datagrams: Family<Labels, Counter>,
    /// Datagrams dropped, by service, side and reason.
    pub(crate) datagrams_dropped: Family<Labels, Counter>,
    /// Requests to the HTTP proxy, by method and outcome.
    pub(crate) requests: Family<Labels, Counter>,
    /// Until the answer's head, by kind and class of status.
    request_durations: Family<Labels, Histogram>,
    /// Connecting to what is hosted, by protocol and outcome.
    connects: Family<Labels, Histogram>,
    /// Bytes carried, by side and direction.
    bytes: Family<Labels, Counter>,
    /// Connections to the HTTP proxy open now.
    pub(crate) http_open: Gauge,
}

/// How often what the node refused is counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Shows as `hesper_node_refused_total` what the node has refused to its peers (dials without a good grant, streams, peers and handshakes
/// beyond its limits), as long as it is polled.
pub async fn show_refused(ctx: Context, registry: &Registry) {
    let refused = registry.counters::<Labels>("node_refused", "What was refused to peers, by kind");
    let mut known: Vec<u64> = Vec::new();
    loop {
        let now = ctx.refused();
        known.resize(now.len(), 0);
        for (known, (what, count)) in known.iter_mut().zip(now) {
            // A node that replaced another begins at nothing.
            let more = count.checked_sub(*known).unwrap_or(count);
            refused.get_or_create(&vec![("what", what.to_owned())]).inc_by(more);
            *known = count;
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// Label names with their values: a service's name (from the node's view, so bounded), a method, an outcome (`ok`, or why not).
type Labels = Vec<(&'static str, String)>;

impl Metrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Self {
        Self {
            hosted: registry.counters("tunnel_hosted_streams", "Streams that arrived for hosted services"),
            hosted_open: registry.gauge("tunnel_hosted_streams_open", "Hosted streams open now"),
            bound: registry.gauge("tunnel_bound_services", "Services bound now"),
            health_checks: registry
                .counters("tunnel_health_check_results", "Health checks run for hosted services, by outcome"),
            health_passing: registry.gauges(
                "tunnel_health_check_passing",
                "Did the health check pass the last time (1) or fail (0)",
            ),
            health_events: registry
                .counters("tunnel_health_check_events", "Events that health checks were configured to send"),
            proxied: registry.counters("tunnel_proxied_connections", "Connections to local listeners"),
            proxied_open: registry
                .gauge("tunnel_proxied_connections_open", "Connections to local listeners open now"),
            datagrams: registry
                .counters("tunnel_datagrams", "Datagrams of UDP services carried, by direction"),
            datagrams_dropped: registry
                .counters("tunnel_datagrams_dropped", "Datagrams of UDP services dropped, by reason"),
            requests: registry.counters("tunnel_http_requests", "Requests to the HTTP proxy"),
            request_durations: registry.durations_by(
                "tunnel_http_request_duration",
                "From a request to the HTTP proxy to the head of the answer, by class of status",
            ),
            connects: registry.durations_by(
                "tunnel_connect_duration",
                "How long it took to connect to the program behind a hosted service",
            ),
            bytes: registry.counters(
                "tunnel_bytes",
                "Bytes carried: of the HTTP proxy's answers as they come, of streams when they have ended well",
            ),
            http_open: registry
                .gauge("tunnel_http_connections_open", "Connections to the HTTP proxy open now"),
        }
    }

    pub(crate) fn hosted(&self, service: &str, outcome: &'static str) {
        self.hosted
            .get_or_create(&vec![("service", service.to_owned()), ("outcome", outcome.to_owned())])
            .inc();
    }

    pub(crate) fn health_check(&self, service: &str, check: &str, passed: bool) {
        let outcome = if passed { "pass" } else { "fail" };
        let labels = [("service", service), ("check", check), ("outcome", outcome)];
        self.health_checks.get_or_create(&labels.map(|(n, v)| (n, v.to_owned())).into()).inc();
    }

    pub(crate) fn health_passing(&self, service: &str, check: &str, passing: bool) {
        let labels = vec![("service", service.to_owned()), ("check", check.to_owned())];
        self.health_passing.get_or_create(&labels).set(passing.into());
    }

    pub(crate) fn health_event(&self, service: &str, healthy: bool) {
        let outcome = if healthy { "pass" } else { "fail" };
        self.health_events
            .get_or_create(&vec![("service", service.to_owned()), ("outcome", outcome.to_owned())])
            .inc();
    }

    pub(crate) fn datagram(&self, service: &str, side: Side, direction: &str) {
        let labels = [("service", service), ("side", side.as_str()), ("direction", direction)];
        self.datagrams.get_or_create(&labels.map(|(n, v)| (n, v.to_owned())).into()).inc();
    }

    pub(crate) fn dropped(&self, service: &str, side: Side, reason: &str, count: u64) {
        let labels = [("service", service), ("side", side.as_str()), ("reason", reason)];
        self.datagrams_dropped.get_or_create(&labels.map(|(n, v)| (n, v.to_owned())).into()).inc_by(count);
    }

    pub(crate) fn proxied(&self, service: &str, outcome: &'static str) {
        self.proxied
            .get_or_create(&vec![("service", service.to_owned()), ("outcome", outcome.to_owned())])
            .inc();
    }

    /// A request was answered with this status, or failed for this reason.
    pub(crate) fn request(&self, kind: &str, outcome: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&vec![("kind", kind.to_owned()), ("outcome", outcome.to_owned())]).inc();
        // A target may answer with any number.
        let class = (status / 100).clamp(1, 5);
        let labels = vec![("kind", kind.to_owned()), ("status", format!("{class}xx"))];
        self.request_durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The program behind a hosted service was reached, or not.
    pub(crate) fn connected(&self, protocol: Protocol, is_ok: bool, took: Duration) {
        let outcome = if is_ok { "ok" } else { "failed" };
        let labels = vec![("protocol", protocol.to_string()), ("outcome", outcome.to_owned())];
        self.connects.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A stream has ended well.
    pub(crate) fn copied(&self, side: Side, copied: Copied) {
        self.bytes_of(side, "sent").inc_by(copied.sent);
        self.bytes_of(side, "received").inc_by(copied.received);
    }

    /// The bytes of a side: `sent` into the mesh, `received` from it.
    pub(crate) fn bytes_of(&self, side: Side, direction: &'static str) -> Counter {
        let labels = vec![("side", side.as_str().to_owned()), ("direction", direction.to_owned())];
        self.bytes.get_or_create_owned(&labels)
    }
}

/// Where bytes and datagrams are carried or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// At a local listener.
    Proxy,
    /// At the hosting side.
    Host,
    /// In the HTTP proxy.
    Http,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Host => "host",
            Self::Http => "http",
        }
    }
}

/// Counts one while it lives.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_answers_makes_no_series_of_its_own() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        for status in (0..2000).chain([u16::MAX]) {
            metrics.request("forward", "ok", status, Duration::from_millis(1));
        }
        let text = registry.encode();
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series("hesper_tunnel_http_request_duration_seconds_count"), 5, "{text}");
        assert_eq!(series("hesper_tunnel_http_requests_total"), 1);
    }
}
