//! What a node shows of itself as metrics (feature `metrics`).
//!
//! | metric | labels |
//! |---|---|
//! | `hesper_node_dial_duration_seconds` | `outcome`: `ok`, or the kind of failure (7) |
//! | `hesper_node_dial_step_duration_seconds` | `step`: `grant`, `pass`, `connect`, `accept`; `outcome`: `ok`, `failed` |
//! | `hesper_node_accept_duration_seconds` | `outcome`: `ok`, `failed` |
//! | `hesper_node_controller_connected`, `hesper_node_routers_attached` | |
//! | `hesper_node_services` | `may`: `dial`, `bind` |
//! | `hesper_certificate_expiry_timestamp_seconds` | `holder` |

use crate::{Context, DialErrorKind, DialStep, Observer};
use hesper_observe::metrics::{Family, Histogram, Registry, Sample, SampleKind};
use std::{sync::Arc, time::Duration};

type Labels = Vec<(&'static str, &'static str)>;

/// Counts dials and accepts; give it to the context as its observer.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    dials: Family<Labels, Histogram>,
    steps: Family<Labels, Histogram>,
    accepts: Family<Labels, Histogram>,
}

impl NodeMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Arc<Self> {
        Arc::new(Self {
            dials: registry.durations_by(
                "node_dial_duration",
                "From a program's dial to its stream or failure, every retry included",
            ),
            steps: registry.durations_by(
                "node_dial_step_duration",
                "How long each step of a dial took: grant, pass, connect, accept",
            ),
            accepts: registry.durations_by(
                "node_accept_duration",
                "From the moment that the hosting program gets a dial to its yes",
            ),
        })
    }

    /// Shows what the node is at each scrape, for as long as its context is there.
    pub fn show(ctx: &Context, registry: &Registry, holder: &'static str) {
        let node = Arc::downgrade(&ctx.inner);
        registry.certificate(holder, move || {
            Some(node.upgrade()?.credentials.current().not_after.unix_timestamp())
        });
        let node = Arc::downgrade(&ctx.inner);
        registry.sampled(move || {
            let Some(node) = node.upgrade() else { return Vec::new() };
            let view = node.view.borrow().clone();
            let gauge = |name, help, labels, value: usize| Sample {
                name,
                help,
                kind: SampleKind::Gauge,
                labels,
                value: value as f64,
            };
            let may = |what: &str| vec![("may", what.to_owned())];
            let services = ("hesper_node_services", "Services that this identity may dial, or bind");
            let dials = view.services.iter().filter(|s| s.may_dial).count();
            let binds = view.services.iter().filter(|s| s.may_bind).count();
            vec![
                gauge(
                    "hesper_node_controller_connected",
                    "1 while a controller is connected",
                    Vec::new(),
                    usize::from(view.connected),
                ),
                gauge(
                    "hesper_node_routers_attached",
                    "Edge routers that the node is attached to",
                    Vec::new(),
                    view.attached.len(),
                ),
                gauge(services.0, services.1, may("dial"), dials),
                gauge(services.0, services.1, may("bind"), binds),
            ]
        });
    }
}

impl Observer for NodeMetrics {
    fn dialed(&self, failed: Option<DialErrorKind>, took: Duration) {
        let outcome = failed.map_or("ok", DialErrorKind::as_str);
        self.dials.get_or_create(&vec![("outcome", outcome)]).observe(took.as_secs_f64());
    }

    fn step(&self, step: DialStep, is_ok: bool, took: Duration) {
        let labels = vec![("step", step.as_str()), ("outcome", word(is_ok))];
        self.steps.get_or_create(&labels).observe(took.as_secs_f64());
    }

    fn accepted(&self, is_ok: bool, took: Duration) {
        self.accepts.get_or_create(&vec![("outcome", word(is_ok))]).observe(took.as_secs_f64());
    }
}

const fn word(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "failed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_as_many_as_there_are_kinds() {
        let registry = Registry::new();
        let metrics = NodeMetrics::new(&registry);
        let took = Duration::from_millis(3);
        for _ in 0..3 {
            metrics.dialed(None, took);
            for kind in DialErrorKind::ALL {
                metrics.dialed(Some(kind), took);
            }
            for step in DialStep::ALL {
                metrics.step(step, true, took);
                metrics.step(step, false, took);
            }
            metrics.accepted(true, took);
        }
        let text = registry.encode();
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series("hesper_node_dial_duration_seconds_count"), 1 + DialErrorKind::ALL.len());
        assert_eq!(series("hesper_node_dial_step_duration_seconds_count"), 8);
        assert!(text.contains("hesper_node_dial_duration_seconds_count{outcome=\"no-route\"} 3\n"), "{text}");
    }
}
