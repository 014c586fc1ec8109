//! What the tunneler counts.

use hesper_observe::metrics::{Counter, Family, Gauge, Histogram, Registry};
use hesper_sdk::Context;
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
    /// Until the answer's head.
    pub(crate) request_duration: Histogram,
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
            request_duration: registry
                .durations("tunnel_http_request_duration", "From request to the head of the answer"),
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

    pub(crate) fn request(&self, kind: &'static str, outcome: &'static str) {
        self.requests.get_or_create(&vec![("kind", kind.to_owned()), ("outcome", outcome.to_owned())]).inc();
    }
}

/// Where datagrams of a UDP service are carried or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// At a local listener.
    Proxy,
    /// At the hosting side.
    Host,
}

impl Side {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Host => "host",
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
