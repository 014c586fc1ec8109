//! What the controller counts.
//!
//! | metric | labels, and what bounds them |
//! |---|---|
//! | `hesper_http_requests_total` | `method`, `route`: of the table of routes, else `other` and `unknown`; `status` |
//! | `hesper_http_request_duration_seconds` | the same, with the class of the status: `2xx` … `5xx` |
//! | `hesper_grpc_request_duration_seconds` | `method`: of the services that we serve, else `unknown`; `code`: gRPC's 17 |
//! | `hesper_store_operation_duration_seconds` | `operation` (5), `outcome`: `ok`, `conflict`, `failed` |
//! | `hesper_policy_decision_duration_seconds` | `kind`: `dial`, `bind`; `outcome`: `allowed`, `refused` |
//! | `hesper_grant_duration_seconds`, `hesper_bind_duration_seconds`, `hesper_enrollment_duration_seconds` | `outcome`: `success`, `denied`, `failure` |
//! | `hesper_dials_total`, `hesper_binds_total`, `hesper_renewals_total` | `outcome`, `code`: words of ours |
//! | `hesper_forward_requests_total`, `hesper_forward_items_total` | `signal` (4, or none), `outcome`: `accepted`, or the reason of the refusal (14) |
//! | `hesper_forward_delivered_items_total`, `hesper_forward_queued_items` | `signal` |
//! | `hesper_forward_dropped_items_total` | `signal`, `reason` (8) |
//! | `hesper_forward_queue_bytes`, `hesper_forward_queue_max_bytes`, `hesper_forward_retries_total` | |
//! | `hesper_entities` | `kind` |
//! | `hesper_certificate_expiry_timestamp_seconds` | `holder`: `controller`, `ca` |

use crate::state::State;
use hesper_model::entity::Kind;
use hesper_observe::metrics::{Counter, Family, Gauge, Histogram, Registry, Sample, SampleKind};
use std::{sync::Arc, time::Duration};

/// Labels of one family.
pub(crate) type LabelSet = Vec<(&'static str, &'static str)>;

/// Why connections are dropped before a request.
const CONNECTIONS_REFUSED: [&str; 7] = [
    "accept",
    "handshake",
    "handshake_deadline",
    "handshake_displaced",
    "anonymous",
    "anonymous_address",
    "peer",
];

/// The controller's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Where all metrics of this controller are.
    pub(crate) registry: Registry,
    /// REST requests by method, route and status.
    pub(crate) requests: Family<Vec<(&'static str, String)>, Counter>,
    /// How long REST requests took, by method, route and class of status.
    pub(crate) request_durations: Family<Vec<(&'static str, String)>, Histogram>,
    /// How long gRPC calls took until their answer began, by method and code.
    pub(crate) calls: Family<LabelSet, Histogram>,
    /// How long the store took, by operation and outcome.
    pub(crate) store: Family<LabelSet, Histogram>,
    /// How long it took to decide, by what was decided and outcome.
    decisions: Family<LabelSet, Histogram>,
    /// How long grants took, waiting for somebody who is about to come included, by outcome.
    pub(crate) grants: Family<LabelSet, Histogram>,
    /// The same of binds.
    pub(crate) binds: Family<LabelSet, Histogram>,
    /// The same of enrollments.
    pub(crate) enrollment_durations: Family<LabelSet, Histogram>,
    /// Logins by method and result.
    pub(crate) logins: Family<LabelSet, Counter>,
    /// Enrollments by result.
    pub(crate) enrollments: Family<LabelSet, Counter>,
    /// Revision of the model in use.
    pub(crate) model_revision: Gauge,
    /// Connections now open, by who opened them.
    pub(crate) connections: Family<LabelSet, Gauge>,
    /// Connections dropped before a request, by reason.
    pub(crate) connections_refused: Family<LabelSet, Counter>,
}

impl Metrics {
    /// New metrics in a registry.
    pub(crate) fn new(registry: Registry) -> Self {
        let metrics = Self::of(registry);
        // Shown from the start, so that a first increase is seen.
        for reason in CONNECTIONS_REFUSED {
            metrics.connections_refused.get_or_create(&vec![("reason", reason)]).inc_by(0);
        }
        metrics
    }

    fn of(registry: Registry) -> Self {
        Self {
            requests: registry.counters("http_requests", "REST requests by method, route and status"),
            request_durations: registry.durations_by(
                "http_request_duration",
                "How long REST requests took, by route and class of status",
            ),
            calls: registry.durations_by(
                "grpc_request_duration",
                "How long gRPC calls took until their answer began, by method and code",
            ),
            store: registry.durations_by(
                "store_operation_duration",
                "How long operations of the store took, by outcome",
            ),
            decisions: registry.memory_durations_by(
                "policy_decision_duration",
                "How long it took to decide dials and binds, the choice of terminator and path included",
            ),
            grants: registry.durations_by("grant_duration", "How long dials took to be granted, by outcome"),
            binds: registry.durations_by("bind_duration", "How long binds took, by outcome"),
            enrollment_durations: registry
                .durations_by("enrollment_duration", "How long enrollments took, by outcome"),
            logins: registry.counters("logins", "Logins to the management API by method and result"),
            enrollments: registry.counters("enrollments", "Enrollment tokens shown, by result"),
            model_revision: registry.gauge("model_revision", "Revision of the model in use"),
            connections: registry.gauges("controller_connections", "Open connections by who opened them"),
            connections_refused: registry.counters(
                "controller_connections_refused",
                "Connections dropped before a request, by reason",
            ),
            registry,
        }
    }

    /// A REST request was answered with this status.
    pub(crate) fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let mut labels =
            vec![("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        self.requests.get_or_create(&labels).inc();
        if let Some((_, class)) = labels.last_mut() {
            *class = format!("{}xx", status / 100);
        }
        self.request_durations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Something was decided: `dial`, `bind`.
    pub(crate) fn decided(&self, kind: &'static str, is_allowed: bool, took: Duration) {
        let labels = vec![("kind", kind), ("outcome", if is_allowed { "allowed" } else { "refused" })];
        self.decisions.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// Observes a duration by its outcome alone.
pub(crate) fn observe(family: &Family<LabelSet, Histogram>, outcome: &'static str, took: Duration) {
    family.get_or_create(&vec![("outcome", outcome)]).observe(took.as_secs_f64());
}

/// Shows how many entities of each kind there are at each scrape, for as long as the state is there.
pub(crate) fn show_entities(state: &Arc<State>) {
    let counted = Arc::downgrade(state);
    state.metrics.registry.sampled(move || {
        let Some(state) = counted.upgrade() else { return Vec::new() };
        let model = state.model();
        let sample = |kind: Kind| Sample {
            name: "hesper_entities",
            help: "Entities by kind",
            kind: SampleKind::Gauge,
            labels: vec![("kind", kind.singular().to_owned())],
            value: crate::api::count(&model, kind) as f64,
        };
        Kind::ALL.map(sample).into()
    });
}
