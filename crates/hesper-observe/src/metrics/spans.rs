//! What becomes of the process's own spans. Without tracing there is nothing to tell.

use super::{Sample, SampleKind};

/// `hesper_trace_spans_ended_total`, `hesper_trace_spans_sent_total`, and `hesper_trace_spans_dropped_total` by reason: `queue_full` (the exporter is
/// slower than the spans come), `not_taken` (it did not take them).
pub(super) fn numbers() -> Vec<Sample> {
    let Some(counters) = hesper_trace::counters() else { return Vec::new() };
    let sample = |name, help, labels, value: u64| Sample {
        name,
        help,
        kind: SampleKind::Counter,
        labels,
        value: value as f64,
    };
    let dropped = |reason: &str, value| {
        let labels = vec![("reason", reason.to_owned())];
        sample("hesper_trace_spans_dropped", "Own spans that were not exported, by reason", labels, value)
    };
    vec![
        sample("hesper_trace_spans_ended", "Own spans that were recorded", Vec::new(), counters.ended()),
        sample(
            "hesper_trace_spans_sent",
            "Own spans that the exporter's destination took",
            Vec::new(),
            counters.sent(),
        ),
        dropped("queue_full", counters.dropped_full()),
        dropped("not_taken", counters.dropped_refused()),
    ]
}
