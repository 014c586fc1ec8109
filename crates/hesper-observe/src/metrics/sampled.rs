//! Numbers that somebody else keeps, shown as metrics at each scrape.

use super::Collector;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use std::{collections::BTreeMap, fmt};

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The whole name of its metric, without `_total`.
    pub name: &'static str,
    /// What the metric is, a sentence; the same for all its samples.
    pub help: &'static str,
    /// Does it only rise?
    pub kind: SampleKind,
    /// Names and values. The values must come from a bounded set.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// How a number moves.
#[derive(Clone, Debug, PartialEq)]
pub enum SampleKind {
    /// It only rises; `_total` is added to its name.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is the sum of what was observed.
    Histogram(Tally),
}

/// How often what was observed, by its size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Upper bounds, rising; what is above the last is counted all the same.
    pub bounds: &'static [f64],
    /// For each bound, and beyond the last: how many were not above it, and above the one before.
    pub counts: Vec<u64>,
}

impl Tally {
    fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied().chain(std::iter::repeat(0))).collect()
    }
}

/// Asks for the numbers at each scrape.
pub(super) struct Sampled<F>(pub(super) F);

impl<F> fmt::Debug for Sampled<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sampled")
    }
}

impl<F: Fn() -> Vec<Sample> + Send + Sync + 'static> Collector for Sampled<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A metric is one block, however its samples came.
        let mut metrics: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
        for sample in (self.0)() {
            metrics.entry(sample.name).or_default().push(sample);
        }
        for (name, samples) in metrics {
            let Some(first) = samples.first() else { continue };
            let kind = match &first.kind {
                SampleKind::Counter => MetricType::Counter,
                SampleKind::Gauge => MetricType::Gauge,
                SampleKind::Histogram(_) => MetricType::Histogram,
            };
            let mut block = encoder.encode_descriptor(name, first.help, None, kind)?;
            for sample in &samples {
                show(&mut block, sample)?;
            }
        }
        Ok(())
    }
}

fn show(block: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    let labels: Vec<(&str, &str)> =
        sample.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut encoder = block.encode_family(&labels)?;
    match &sample.kind {
        SampleKind::Counter => ConstCounter::new(sample.value).encode(encoder),
        SampleKind::Gauge => ConstGauge::new(sample.value).encode(encoder),
        SampleKind::Histogram(tally) => {
            let buckets = tally.buckets();
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<Vec<(&str, &str)>>(sample.value, count, &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Registry;

    #[test]
    fn each_metric_is_one_block() {
        let registry = Registry::new();
        let sample = |name, kind, who: &str, value| Sample {
            name,
            help: "What it is.",
            kind,
            labels: vec![("who", who.to_owned())],
            value,
        };
        registry.sampled(move || {
            vec![
                sample("otelcol_sent", SampleKind::Counter, "a", 1.0),
                sample("otelcol_queue_size", SampleKind::Gauge, "a", 2.5),
                sample("otelcol_sent", SampleKind::Counter, "b\"\n", 3.0),
            ]
        });
        let text = registry.encode();
        let sent = "# HELP otelcol_sent What it is.\n# TYPE otelcol_sent counter\n\
                    otelcol_sent_total{who=\"a\"} 1.0\notelcol_sent_total{who=\"b\\\"\\n\"} 3.0\n";
        assert!(text.contains(sent), "{text}");
        assert!(
            text.contains("# TYPE otelcol_queue_size gauge\notelcol_queue_size{who=\"a\"} 2.5\n"),
            "{text}"
        );
    }

    #[test]
    fn a_histogram_is_told_cumulatively() {
        let registry = Registry::new();
        registry.sampled(|| {
            let tally = Tally { bounds: &[1.0, 5.0], counts: vec![2, 0, 1] };
            let kind = SampleKind::Histogram(tally);
            vec![Sample {
                name: "hesper_size_items",
                help: "Sizes.",
                kind,
                labels: vec![("to", "x".into())],
                value: 12.0,
            }]
        });
        let text = registry.encode();
        for line in [
            "# TYPE hesper_size_items histogram",
            r#"hesper_size_items_bucket{le="1.0",to="x"} 2"#,
            r#"hesper_size_items_bucket{le="5.0",to="x"} 2"#,
            r#"hesper_size_items_bucket{le="+Inf",to="x"} 3"#,
            r#"hesper_size_items_sum{to="x"} 12.0"#,
            r#"hesper_size_items_count{to="x"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
