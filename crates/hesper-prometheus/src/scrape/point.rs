//! Points as OTLP has them.

use super::{
    batch::{Family, Point},
    group::attribute,
    memory::nanoseconds,
};
use crate::{labels::Labels, text::Kind, units};
use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, DataPointFlags, Exemplar, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar, metric::Data, number_data_point,
        summary_data_point::ValueAtQuantile,
    },
};

/// The key of a metric's metadata that keeps what Prometheus called its type.
pub(crate) const TYPE_KEY: &str = "prometheus.type";

/// A metric without points.
pub(super) fn metric(name: String, description: String, unit: String, kind: Kind) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match kind {
        Kind::Unknown | Kind::Gauge | Kind::GaugeHistogram => Data::Gauge(Gauge::default()),
        Kind::Counter | Kind::Info | Kind::StateSet => Data::Sum(Sum {
            aggregation_temporality: cumulative,
            is_monotonic: kind == Kind::Counter,
            data_points: Vec::new(),
        }),
        Kind::Histogram => {
            Data::Histogram(Histogram { aggregation_temporality: cumulative, data_points: Vec::new() })
        }
        Kind::Summary => Data::Summary(Summary::default()),
    };
    let metadata = vec![attribute(TYPE_KEY, kind.name())];
    Metric { name, description, unit, metadata, data: Some(data) }
}

/// The metric of a family. `trim`: its name without unit and `_total`.
pub(super) fn metric_of(family: &Family<'_>, trim: bool) -> Metric {
    let name = if trim { trimmed(family) } else { &family.name };
    let unit = units::abbreviated(family.meta.unit);
    metric(name.to_owned(), family.meta.help.clone().into_owned(), unit, family.kind)
}

fn trimmed<'f>(family: &'f Family<'_>) -> &'f str {
    let mut name = &*family.name;
    if family.kind == Kind::Counter {
        name = name.strip_suffix("_total").filter(|rest| !rest.is_empty()).unwrap_or(name);
    }
    if !family.meta.unit.is_empty() {
        let rest = name.strip_suffix(family.meta.unit).and_then(|rest| rest.strip_suffix('_'));
        name = rest.filter(|rest| !rest.is_empty()).unwrap_or(name);
    }
    name
}

/// What a point counts, to find resets; `None`: it does not count up.
pub(super) fn count(point: &Point<'_>, kind: Kind) -> Option<f64> {
    match kind {
        Kind::Counter => Some(point.value),
        Kind::Histogram | Kind::Summary => point.count,
        _ => None,
    }
}

/// Adds a point to its metric.
pub(super) fn push(metric: &mut Metric, point: Point<'_>, start_ns: u64) {
    let time = nanoseconds(point.time_ms);
    let attributes = attributes(&point.attributes);
    let exemplars = point.exemplars.iter().map(to_exemplar).collect();
    match &mut metric.data {
        Some(Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. })) => {
            data_points.push(NumberDataPoint {
                attributes,
                start_time_unix_nano: start_ns,
                time_unix_nano: time,
                exemplars,
                flags: 0,
                value: Some(number_data_point::Value::AsDouble(point.value)),
            });
        }
        Some(Data::Histogram(Histogram { data_points, .. })) => {
            let (explicit_bounds, bucket_counts, count) = buckets(&point);
            data_points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano: start_ns,
                time_unix_nano: time,
                count,
                sum: point.sum,
                bucket_counts,
                explicit_bounds,
                exemplars,
                ..HistogramDataPoint::default()
            });
        }
        Some(Data::Summary(Summary { data_points })) => data_points.push(SummaryDataPoint {
            attributes,
            start_time_unix_nano: start_ns,
            time_unix_nano: time,
            count: whole(point.count.unwrap_or_default()),
            sum: point.sum.unwrap_or_default(),
            quantile_values: point
                .steps
                .iter()
                .map(|(quantile, value)| ValueAtQuantile { quantile: *quantile, value: *value })
                .collect(),
            flags: 0,
        }),
        Some(Data::ExponentialHistogram(_)) | None => {}
    }
}

/// Adds a mark that a series is gone: a point without value.
pub(super) fn push_stale(
    metric: &mut Metric,
    attributes: Vec<KeyValue>,
    steps: &[f64],
    start_ns: u64,
    time: u64,
) {
    let flags = DataPointFlags::NoRecordedValueMask as u32;
    match &mut metric.data {
        Some(Data::Gauge(Gauge { data_points }) | Data::Sum(Sum { data_points, .. })) => {
            data_points.push(NumberDataPoint {
                attributes,
                start_time_unix_nano: start_ns,
                time_unix_nano: time,
                flags,
                ..NumberDataPoint::default()
            });
        }
        Some(Data::Histogram(Histogram { data_points, .. })) => data_points.push(HistogramDataPoint {
            attributes,
            start_time_unix_nano: start_ns,
            time_unix_nano: time,
            explicit_bounds: steps.to_vec(),
            bucket_counts: vec![0; steps.len() + 1],
            flags,
            ..HistogramDataPoint::default()
        }),
        Some(Data::Summary(Summary { data_points })) => data_points.push(SummaryDataPoint {
            attributes,
            start_time_unix_nano: start_ns,
            time_unix_nano: time,
            quantile_values: steps.iter().map(|q| ValueAtQuantile { quantile: *q, value: 0.0 }).collect(),
            flags,
            ..SummaryDataPoint::default()
        }),
        Some(Data::ExponentialHistogram(_)) | None => {}
    }
}

/// Puts the steps of a point in order. Why it makes no sense, if it does not.
pub(super) fn check(point: &mut Point<'_>, kind: Kind) -> Result<(), &'static str> {
    if !matches!(kind, Kind::Histogram | Kind::Summary) {
        return Ok(());
    }
    point.steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    point.steps.dedup_by(|a, b| a.0 == b.0);
    let Some(count) = point.count else { return Err("a histogram or summary without _count") };
    let is_count = |count: f64| count.is_finite() && count >= 0.0;
    if !is_count(count) {
        return Err("a count that is none");
    }
    if kind == Kind::Summary {
        return Ok(());
    }
    match point.steps.iter().all(|(_, count)| is_count(*count)) {
        true => Ok(()),
        false => Err("a count that is none"),
    }
}

/// The bounds besides infinity or the quantiles of a point.
pub(super) fn steps(point: &Point<'_>) -> Vec<f64> {
    point.steps.iter().map(|(step, _)| *step).filter(|step| step.is_finite()).collect()
}

/// Bounds, count of each bucket, and the whole count. A target that counts while it answers may show buckets that do not add up: each
/// is taken to be no less than the one before.
fn buckets(point: &Point<'_>) -> (Vec<f64>, Vec<u64>, u64) {
    let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0);
    let mut count = whole(point.count.unwrap_or_default());
    for (bound, cumulative) in &point.steps {
        let cumulative = whole(*cumulative).max(below);
        if *bound == f64::INFINITY {
            count = count.max(cumulative);
            break;
        }
        bounds.push(*bound);
        counts.push(cumulative - below);
        below = cumulative;
    }
    count = count.max(below);
    counts.push(count - below);
    (bounds, counts, count)
}

/// A count that was written as a float.
fn whole(count: f64) -> u64 {
    // Saturates; what is negative or no number was refused before.
    count.round() as u64
}

pub(super) fn attributes(labels: &Labels<'_>) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| attribute(name, value)).collect()
}

fn to_exemplar((labels, value, time_ms): &(Labels<'_>, f64, i64)) -> Exemplar {
    let mut exemplar = Exemplar {
        time_unix_nano: nanoseconds(*time_ms),
        value: Some(exemplar::Value::AsDouble(*value)),
        ..Exemplar::default()
    };
    for (name, value) in labels.iter() {
        match name {
            "trace_id" if hex(value, 16).is_some() => exemplar.trace_id = hex(value, 16).unwrap_or_default(),
            "span_id" if hex(value, 8).is_some() => exemplar.span_id = hex(value, 8).unwrap_or_default(),
            _ => exemplar.filtered_attributes.push(attribute(name, value)),
        }
    }
    exemplar
}

/// An id in hexadecimal, of exactly so many bytes.
fn hex(text: &str, len: usize) -> Option<Vec<u8>> {
    if text.len() != 2 * len || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..len).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}
