//! What became of telemetry that was sent to the controller. Labels are signals, answers and reasons: their number is bounded.

use hesper_observe::metrics::{Counter, Family, Registry, Sample, SampleKind};
use hesper_otlp::Signal;
use hesper_telemetry::{
    delivery::Delivery,
    receive::{Observer, Outcome, Request},
};
use std::{collections::BTreeMap, sync::Arc};

type Labels = Vec<(&'static str, &'static str)>;

/// Counts calls and their items.
pub(super) struct Counted {
    items: Family<Labels, Counter>,
    calls: Family<Labels, Counter>,
}

impl Observer for Counted {
    fn request(&self, request: &Request) {
        let outcome = match request.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Refused(reason) => reason,
            Outcome::Failed => "failed",
            Outcome::Gone => "gone",
        };
        let signal = request.signal.map_or("", Signal::name);
        let labels = |outcome| vec![("signal", signal), ("outcome", outcome)];
        self.calls.get_or_create(&labels(outcome)).inc();
        if request.accepted > 0 {
            self.items.get_or_create(&labels("accepted")).inc_by(request.accepted);
        }
        if request.refused > 0 {
            self.items.get_or_create(&labels(outcome)).inc_by(request.refused);
        }
    }
}

/// Puts the metrics where the controller's are, and those of the queue, if there is one.
pub(super) fn register(registry: &Registry, delivery: Option<&Arc<Delivery>>) -> Counted {
    if let Some(delivery) = delivery {
        let delivery = Arc::downgrade(delivery);
        registry.sampled(move || delivery.upgrade().map_or_else(Vec::new, |delivery| samples(&delivery)));
    }
    Counted {
        items: registry.counters(
            "forward_items",
            "Spans, data points and log records sent to the controller, by what it answered",
        ),
        calls: registry.counters("forward_requests", "Calls that brought them, by what was answered"),
    }
}

fn samples(delivery: &Delivery) -> Vec<Sample> {
    let (mut delivered, mut dropped) = (BTreeMap::<&str, u64>::new(), BTreeMap::<_, u64>::new());
    let mut queued = BTreeMap::<&str, u64>::new();
    for row in delivery.ledger() {
        let signal = row.signal.name();
        *delivered.entry(signal).or_default() += row.delivered;
        *queued.entry(signal).or_default() += row.queued;
        for (reason, items) in row.dropped {
            *dropped.entry((signal, reason.name())).or_default() += items;
        }
    }
    let sample = |name, help, kind: &SampleKind, labels, value: u64| Sample {
        name,
        help,
        kind: kind.clone(),
        labels,
        value: value as f64,
    };
    let of = |signal: &str| vec![("signal", signal.to_owned())];
    let (counter, gauge) = (SampleKind::Counter, SampleKind::Gauge);
    let mut samples = Vec::new();
    samples.extend(delivered.into_iter().map(|(signal, items)| {
        sample("hesper_forward_delivered_items", "Items that the exporter took", &counter, of(signal), items)
    }));
    samples.extend(queued.into_iter().map(|(signal, items)| {
        sample("hesper_forward_queued_items", "Items that wait for the exporter", &gauge, of(signal), items)
    }));
    samples.extend(dropped.into_iter().map(|((signal, reason), items)| {
        let labels = vec![("signal", signal.to_owned()), ("reason", reason.to_owned())];
        sample("hesper_forward_dropped_items", "Items that never arrive, by reason", &counter, labels, items)
    }));
    for of in delivery.stats() {
        let help = "What the queue takes on disk";
        samples.push(sample("hesper_forward_queue_bytes", help, &gauge, Vec::new(), of.queue_bytes));
        let help = "What it may take at most";
        samples.push(sample("hesper_forward_queue_max_bytes", help, &gauge, Vec::new(), of.queue_bytes_max));
        let help = "Deliveries that were tried again";
        samples.push(sample("hesper_forward_retries", help, &counter, Vec::new(), of.retries));
    }
    samples
}
