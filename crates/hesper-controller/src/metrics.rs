//! What the controller counts. Labels come from bounded sets: route patterns, statuses, results.

use crate::state::State;
use hesper_model::entity::Kind;
use hesper_observe::metrics::{Counter, Family, Gauge, Histogram, Registry, Sample, SampleKind};
use std::sync::Arc;

/// Labels of one family.
type LabelSet = Vec<(&'static str, &'static str)>;

/// The controller's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Where all metrics of this controller are.
    pub(crate) registry: Registry,
    /// REST requests by method, route and status.
    pub(crate) requests: Family<Vec<(&'static str, String)>, Counter>,
    /// How long REST requests took.
    pub(crate) request_duration: Histogram,
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
        Self {
            requests: registry.counters("http_requests", "REST requests by method, route and status"),
            request_duration: registry.durations("http_request_duration", "How long REST requests took"),
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
