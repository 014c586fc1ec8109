//! The collector's own metrics, under the names that people alert on for the OpenTelemetry Collector; and the ledger as metrics.
//!
//! Pure: from what receivers and queues have counted to samples.
//!
//! | label | what bounds it |
//! |---|---|
//! | `receiver`, `processor`, `exporter`, `pipeline` | the configuration |
//! | `transport`, `outcome`, `reason`, `data_type`, `otel_signal` | words of ours |
//! | `identity` | the senders that a pipeline's ledger keeps apart, which is bounded; only identities that policy admits are in it |
//!
//! Paths, addresses, attributes and whatever else a sender says are never labels.

use crate::counted::Counts;
use hesper_observe::metrics::{Sample, SampleKind, Tally};
use hesper_otlp::Signal;
use hesper_telemetry::{
    delivery::{DestinationStats, Row},
    distribution::Distribution,
    process,
};
use std::collections::BTreeMap;

type Labels = Vec<(&'static str, String)>;

/// The names of one metric of items, by signal: spans, metric points, log records, profiles.
type Names = [&'static str; Signal::ALL.len()];

const ACCEPTED: Names = [
    "otelcol_receiver_accepted_spans",
    "otelcol_receiver_accepted_metric_points",
    "otelcol_receiver_accepted_log_records",
    "otelcol_receiver_accepted_profiles",
];
const REFUSED: Names = [
    "otelcol_receiver_refused_spans",
    "otelcol_receiver_refused_metric_points",
    "otelcol_receiver_refused_log_records",
    "otelcol_receiver_refused_profiles",
];
const FAILED: Names = [
    "otelcol_receiver_failed_spans",
    "otelcol_receiver_failed_metric_points",
    "otelcol_receiver_failed_log_records",
    "otelcol_receiver_failed_profiles",
];
const SENT: Names = [
    "otelcol_exporter_sent_spans",
    "otelcol_exporter_sent_metric_points",
    "otelcol_exporter_sent_log_records",
    "otelcol_exporter_sent_profiles",
];
const SEND_FAILED: Names = [
    "otelcol_exporter_send_failed_spans",
    "otelcol_exporter_send_failed_metric_points",
    "otelcol_exporter_send_failed_log_records",
    "otelcol_exporter_send_failed_profiles",
];
const ENQUEUE_FAILED: Names = [
    "otelcol_exporter_enqueue_failed_spans",
    "otelcol_exporter_enqueue_failed_metric_points",
    "otelcol_exporter_enqueue_failed_log_records",
    "otelcol_exporter_enqueue_failed_profiles",
];

/// Samples; those of the same metric and labels are added up.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    samples: BTreeMap<(&'static str, Labels), (&'static str, SampleKind, f64)>,
    histograms: BTreeMap<(&'static str, Labels), (&'static str, Distribution)>,
}

impl Numbers {
    /// What a listener of a receiver counted.
    pub(crate) fn receiver(&mut self, receiver: &str, counts: &Counts) {
        let labels =
            |transport: &str| vec![("receiver", receiver.to_owned()), ("transport", transport.to_owned())];
        for ((transport, signal), items) in &counts.items {
            let mut add = |names, help, value| self.items(names, help, *signal, labels(transport), value);
            add(&ACCEPTED, "Items that went into the pipelines.", items.accepted);
            add(
                &REFUSED,
                "Items that were refused: for their sender's fault, or for want of room.",
                items.refused,
            );
            add(&FAILED, "Items that were not taken for a fault of this program.", items.failed);
        }
        for ((transport, outcome), requests) in &counts.requests {
            let mut labels = labels(transport);
            labels.push(("outcome", (*outcome).to_owned()));
            self.count(
                "otelcol_receiver_requests",
                "Requests by what they were answered.",
                labels,
                *requests,
            );
        }
        for ((transport, outcome), durations) in &counts.durations {
            let mut labels = labels(transport);
            labels.push(("outcome", (*outcome).to_owned()));
            let help = "How long requests took until they were answered.";
            self.histogram("hesper_receiver_request_duration_seconds", help, labels, durations);
        }
        for (transport, bytes) in &counts.bytes {
            let help = "How large requests were when they were read.";
            self.histogram("hesper_receiver_request_size_bytes", help, labels(transport), bytes);
        }
        for (reason, connections) in &counts.turned_away {
            let labels = vec![("receiver", receiver.to_owned()), ("reason", (*reason).to_owned())];
            let help = "Connections that were not served.";
            self.count("hesper_receiver_turned_away_connections", help, labels, *connections);
        }
    }

    /// What a processor counted.
    pub(crate) fn processor(&mut self, processor: &str, signal: Signal, counted: process::Counted) {
        if counted == Default::default() {
            return;
        }
        let labels = || vec![("processor", processor.to_owned()), ("otel_signal", signal.name().to_owned())];
        for (name, help, value) in [
            ("otelcol_processor_incoming_items", "Items that came to the processor.", counted.incoming),
            ("otelcol_processor_outgoing_items", "Items that left the processor.", counted.outgoing),
            ("otelcol_processor_refused_items", "Items that the processor refused.", counted.refused),
        ] {
            self.count(name, help, labels(), value);
        }
    }

    /// What a processor knows of pods.
    pub(crate) fn kubernetes(&mut self, processor: &str, counted: &hesper_kubernetes::Counted) {
        let labels = || vec![("processor", processor.to_owned())];
        let help = "Pods that are known.";
        self.add("otelcol_otelsvc_k8s_pod_table_size", help, SampleKind::Gauge, labels(), counted.pods);
        for (name, help, value) in [
            ("otelcol_otelsvc_k8s_pod_added", "Pods told for the first time.", counted.added),
            ("otelcol_otelsvc_k8s_pod_updated", "Pods told again.", counted.updated),
            ("otelcol_otelsvc_k8s_pod_deleted", "Pods deleted.", counted.deleted),
            ("otelcol_otelsvc_k8s_ip_lookup_miss", "Resources whose pod is not known.", counted.missed),
            ("hesper_kubernetes_refused_objects", "Objects not kept: there are too many.", counted.refused),
        ] {
            self.count(name, help, labels(), value);
        }
    }

    /// What a pipeline of a signal counted of a destination, at a time (ms since 1970).
    pub(crate) fn destination(&mut self, signal: Signal, stats: &DestinationStats, now_ms: u64) {
        let exporter = || vec![("exporter", stats.destination.clone())];
        for (names, help, counts) in [
            (&SENT, "Items that arrived at the destination.", &stats.sent),
            (&SEND_FAILED, "Items that were sent and given up.", &stats.send_failed),
            (&ENQUEUE_FAILED, "Items that the queue had no room for.", &stats.enqueue_failed),
        ] {
            for (signal, count) in counts.iter().filter(|(other, _)| *other == signal) {
                self.items(names, help, *signal, exporter(), *count);
            }
        }
        let labels =
            || vec![("exporter", stats.destination.clone()), ("data_type", signal.name().to_owned())];
        for (name, help, value) in [
            ("otelcol_exporter_queue_size", "What is queued, in the queue's own unit.", stats.queue_size),
            (
                "otelcol_exporter_queue_capacity",
                "The most of that; 0 where bytes are what is limited.",
                stats.queue_capacity,
            ),
            ("otelcol_exporter_in_flight_requests", "Requests under way.", stats.in_flight),
            ("hesper_exporter_queue_bytes", "What the queue takes, in memory or on disk.", stats.queue_bytes),
            ("hesper_exporter_queue_max_bytes", "The most of that.", stats.queue_bytes_max),
        ] {
            self.add(name, help, SampleKind::Gauge, labels(), value);
        }
        let age = stats.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
        let help = "Age of the oldest batch that is under way, since the first gateway received it; 0: there is none.";
        self.sum(
            "hesper_exporter_oldest_age_seconds",
            help,
            SampleKind::Gauge,
            labels(),
            age as f64 / 1000.0,
        );
        let distributions = &stats.distributions;
        for (name, help, distribution) in [
            ("otelcol_exporter_queue_batch_send_size", "Items of requests that ended.", &distributions.items),
            (
                "otelcol_exporter_queue_batch_send_size_bytes",
                "Bytes of requests that ended, before compression.",
                &distributions.bytes,
            ),
            (
                "hesper_exporter_delivery_age_seconds",
                "From when the first gateway received a batch to when it arrived at the destination.",
                &distributions.ages,
            ),
        ] {
            self.histogram(name, help, labels(), distribution);
        }
        for (outcome, durations) in &distributions.attempts {
            let mut labels = labels();
            labels.push(("outcome", (*outcome).to_owned()));
            let help = "How long attempts to export took.";
            self.histogram("hesper_exporter_attempt_duration_seconds", help, labels, durations);
        }
        let (requests, items, bytes) = stats.requests;
        for (name, help, value) in [
            ("hesper_exporter_retries", "Requests that were sent again.", stats.retries),
            ("hesper_exporter_requests", "Requests that ended.", requests),
            ("hesper_exporter_request_items", "Items in them.", items),
            ("hesper_exporter_request_bytes", "Their bytes before compression.", bytes),
        ] {
            self.count(name, help, labels(), value);
        }
    }

    /// Lines of a pipeline's ledger.
    pub(crate) fn ledger(&mut self, pipeline: &str, rows: &[Row]) {
        for row in rows {
            let labels = || {
                vec![
                    ("pipeline", pipeline.to_owned()),
                    ("exporter", row.destination.clone()),
                    ("identity", row.sender.to_string()),
                    ("data_type", row.signal.name().to_owned()),
                ]
            };
            let help = "Items that were taken for the destination.";
            self.count("hesper_ledger_accepted_items", help, labels(), row.accepted);
            let help = "Items that the destination has got.";
            self.count("hesper_ledger_delivered_items", help, labels(), row.delivered);
            let help = "Items that the destination has yet to get.";
            self.add("hesper_ledger_queued_items", help, SampleKind::Gauge, labels(), row.queued);
            for (reason, items) in &row.dropped {
                let mut labels = labels();
                labels.push(("reason", reason.name().to_owned()));
                let help = "Items that the destination will not get.";
                self.count("hesper_ledger_dropped_items", help, labels, *items);
            }
        }
    }

    /// All of them.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        let sample = |((name, labels), (help, kind, value))| Sample { name, help, kind, labels, value };
        let histogram = |((name, labels), (help, distribution)): (_, (_, Distribution))| {
            let Distribution { bounds, counts, sum } = distribution;
            Sample { name, help, kind: SampleKind::Histogram(Tally { bounds, counts }), labels, value: sum }
        };
        let samples = self.samples.into_iter().map(sample);
        samples.chain(self.histograms.into_iter().map(histogram)).collect()
    }

    fn items(&mut self, names: &Names, help: &'static str, signal: Signal, labels: Labels, value: u64) {
        let place = Signal::ALL.iter().position(|other| *other == signal);
        if let Some(name) = place.and_then(|place| names.get(place)) {
            self.count(name, help, labels, value);
        }
    }

    pub(crate) fn count(&mut self, name: &'static str, help: &'static str, labels: Labels, value: u64) {
        self.add(name, help, SampleKind::Counter, labels, value);
    }

    fn add(&mut self, name: &'static str, help: &'static str, kind: SampleKind, labels: Labels, value: u64) {
        self.sum(name, help, kind, labels, value as f64);
    }

    fn sum(&mut self, name: &'static str, help: &'static str, kind: SampleKind, labels: Labels, value: f64) {
        let (_, _, sum) = self.samples.entry((name, labels)).or_insert((help, kind, 0.0));
        *sum += value;
    }

    fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels,
        distribution: &Distribution,
    ) {
        let new = || (help, Distribution::new(distribution.bounds));
        self.histograms.entry((name, labels)).or_insert_with(new).1.add(distribution);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counted::Items;

    fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let same = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(k, v)| sample.labels.iter().any(|(key, value)| key == k && value == v))
        };
        samples.iter().find(same).map(|sample| sample.value)
    }

    #[test]
    fn receivers_are_counted_under_the_collectors_names() {
        let mut counts = Counts::default();
        counts.items.insert(("grpc", Signal::Metrics), Items { accepted: 5, refused: 2, failed: 1 });
        counts.requests.insert(("grpc", "accepted"), 3);
        let mut numbers = Numbers::default();
        numbers.receiver("otlp", &counts);
        let samples = numbers.into_samples();
        let labels = [("receiver", "otlp"), ("transport", "grpc")];
        assert_eq!(value(&samples, "otelcol_receiver_accepted_metric_points", &labels), Some(5.0));
        assert_eq!(value(&samples, "otelcol_receiver_refused_metric_points", &labels), Some(2.0));
        assert_eq!(value(&samples, "otelcol_receiver_failed_metric_points", &labels), Some(1.0));
        assert_eq!(value(&samples, "otelcol_receiver_requests", &[("outcome", "accepted")]), Some(3.0));
    }

    #[test]
    fn the_names_are_those_of_the_signals() {
        for (place, signal) in Signal::ALL.into_iter().enumerate() {
            for names in [ACCEPTED, REFUSED, FAILED, SENT, SEND_FAILED, ENQUEUE_FAILED] {
                assert!(names[place].ends_with(signal.otelcol_items()), "{}", names[place]);
            }
        }
    }
}
