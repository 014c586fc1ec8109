//! From OTLP metrics to series.

use super::{
    Exemplar, Family, NANO_PER_MS, Options, Sample, Series, Wrote,
    label::{self, Base, Set},
    name, native,
};
use crate::{labels::NAME, scrape::TYPE_KEY, text::Kind, units};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::any_value::Value,
    metrics::v1::{
        AggregationTemporality, DataPointFlags, Exemplar as OtlpExemplar, ExponentialHistogramDataPoint,
        Histogram, HistogramDataPoint, Metric, NumberDataPoint, Summary, SummaryDataPoint, exemplar,
        metric::Data, number_data_point,
    },
};
use std::collections::{BTreeSet, HashMap};

/// Stands for no point: `target_info` is of none.
const NO_POINT: u32 = u32::MAX;

/// The most characters of an exemplar's labels (OpenMetrics, "Exemplars"). Those of longer ones are cut to the trace.
const EXEMPLAR_CHARS: usize = 128;

/// Why counts are refused that are not cumulative.
const DELTA: &str = "counts that are not cumulative: remote write knows no others";

pub(super) struct Converter<'o> {
    options: &'o Options,
    wrote: Wrote,
    /// Numbers and native histograms of the same labels are two series: no message may have both.
    known: HashMap<(Set, bool), usize>,
    families: HashMap<String, usize>,
    refused: BTreeSet<u32>,
    next: u32,
    newest_ns: u64,
}

/// Where a point belongs.
struct Place<'p> {
    base: &'p Base<'p>,
    name: &'p str,
    family: usize,
    point: u32,
}

impl<'o> Converter<'o> {
    pub(super) fn run(request: &ExportMetricsServiceRequest, options: &'o Options) -> Wrote {
        let mut converter = Self {
            options,
            wrote: Wrote::default(),
            known: HashMap::new(),
            families: HashMap::new(),
            refused: BTreeSet::new(),
            next: 0,
            newest_ns: 0,
        };
        for resource in &request.resource_metrics {
            let base = Base::new(resource.resource.as_ref());
            converter.newest_ns = 0;
            for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
                converter.metric(metric, &base);
            }
            converter.info(&base);
        }
        converter.finish()
    }

    fn refuse(&mut self, point: u32, why: &'static str) {
        if point == NO_POINT || self.refused.insert(point) {
            *self.wrote.refused.entry(why).or_default() += 1;
        }
    }

    fn metric(&mut self, metric: &Metric, base: &Base<'_>) {
        let kind = kind(metric);
        let name = name::metric(
            &metric.name,
            &self.options.namespace,
            &metric.unit,
            kind,
            self.options.add_metric_suffixes,
        );
        let family = self.family(&name, kind, metric);
        let is_cumulative = |temporality: i32| temporality == AggregationTemporality::Cumulative as i32;
        let place = |converter: &mut Self| {
            let point = converter.next;
            converter.next += 1;
            Place { base, name: &name, family, point }
        };
        match &metric.data {
            Some(Data::Gauge(gauge)) => {
                for point in &gauge.data_points {
                    let place = place(self);
                    self.number(point, &place, false);
                }
            }
            Some(Data::Sum(sum)) => {
                for point in &sum.data_points {
                    let place = place(self);
                    match is_cumulative(sum.aggregation_temporality) {
                        true => self.number(point, &place, sum.is_monotonic),
                        false => self.refuse(place.point, DELTA),
                    }
                }
            }
            Some(Data::Histogram(Histogram { data_points, aggregation_temporality })) => {
                for point in data_points {
                    let place = place(self);
                    match is_cumulative(*aggregation_temporality) {
                        true => self.histogram(point, &place),
                        false => self.refuse(place.point, DELTA),
                    }
                }
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                for point in &histogram.data_points {
                    let place = place(self);
                    match is_cumulative(histogram.aggregation_temporality) {
                        true => self.exponential(point, &place),
                        false => self.refuse(place.point, DELTA),
                    }
                }
            }
            Some(Data::Summary(Summary { data_points })) => {
                for point in data_points {
                    let place = place(self);
                    self.summary(point, &place);
                }
            }
            None => {}
        }
    }

    fn number(&mut self, point: &NumberDataPoint, place: &Place<'_>, is_counter: bool) {
        let value = match point.value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            Some(number_data_point::Value::AsInt(value)) => value as f64,
            None if is_stale(point.flags) => 0.0,
            None => return self.refuse(place.point, "a point without a value"),
        };
        let times = Times::new(point.time_unix_nano, point.start_time_unix_nano, point.flags, is_counter);
        self.newest_ns = self.newest_ns.max(point.time_unix_nano);
        let labels = place.base.labels(&point.attributes, self.options);
        let series = self.series(labels, place.name, None, place.family, false);
        series.samples.push(times.sample(value, place.point));
        if is_counter {
            series.exemplars.extend(point.exemplars.iter().map(|e| exemplar(e, point.time_unix_nano)));
        }
    }

    fn histogram(&mut self, point: &HistogramDataPoint, place: &Place<'_>) {
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        if !(counts.is_empty() && bounds.is_empty()) && counts.len() != bounds.len() + 1 {
            return self.refuse(place.point, "a histogram whose buckets do not fit its bounds");
        }
        let times = Times::new(point.time_unix_nano, point.start_time_unix_nano, point.flags, true);
        self.newest_ns = self.newest_ns.max(point.time_unix_nano);
        let labels = place.base.labels(&point.attributes, self.options);
        let mut exemplars: Vec<_> =
            point.exemplars.iter().map(|e| exemplar(e, point.time_unix_nano)).collect();
        let mut add = |suffix: &str, le: Option<f64>, value: f64| {
            let name = format!("{}{suffix}", place.name);
            let series =
                self.series(labels.clone(), &name, le.map(|le| ("le", step(le))), place.family, false);
            series.samples.push(times.sample(value, place.point));
            if let Some(le) = le {
                let (here, above) = exemplars.drain(..).partition(|exemplar| exemplar.value <= le);
                exemplars = above;
                series.exemplars.extend::<Vec<_>>(here);
            }
        };
        // A mark is set on the sum too: nobody knows whether there was one.
        if point.sum.is_some() || times.is_stale {
            add("_sum", None, point.sum.unwrap_or_default());
        }
        add("_count", None, point.count as f64);
        let mut below = 0_u64;
        for (bound, count) in bounds.iter().zip(counts) {
            below = below.saturating_add(*count);
            add("_bucket", Some(*bound), below as f64);
        }
        add("_bucket", Some(f64::INFINITY), point.count as f64);
    }

    fn exponential(&mut self, point: &ExponentialHistogramDataPoint, place: &Place<'_>) {
        self.newest_ns = self.newest_ns.max(point.time_unix_nano);
        match native::histogram(point) {
            Ok(histogram) => {
                let labels = place.base.labels(&point.attributes, self.options);
                let series = self.series(labels, place.name, None, place.family, true);
                series.histograms.push((histogram, place.point));
                series.exemplars.extend(point.exemplars.iter().map(|e| exemplar(e, point.time_unix_nano)));
            }
            Err(why) => self.refuse(place.point, why),
        }
    }

    fn summary(&mut self, point: &SummaryDataPoint, place: &Place<'_>) {
        let times = Times::new(point.time_unix_nano, point.start_time_unix_nano, point.flags, true);
        self.newest_ns = self.newest_ns.max(point.time_unix_nano);
        let labels = place.base.labels(&point.attributes, self.options);
        let mut add = |suffix: &str, quantile: Option<f64>, value: f64| {
            let extra = quantile.map(|quantile| ("quantile", step(quantile)));
            let name = format!("{}{suffix}", place.name);
            let series = self.series(labels.clone(), &name, extra, place.family, false);
            series.samples.push(times.sample(value, place.point));
        };
        add("_sum", None, point.sum);
        add("_count", None, point.count as f64);
        for value in &point.quantile_values {
            add("", Some(value.quantile), value.value);
        }
    }

    /// `target_info`: what is known of the resource, at the time of its newest point.
    fn info(&mut self, base: &Base<'_>) {
        if !self.options.target_info || self.newest_ns == 0 {
            return;
        }
        let Some(labels) = base.info(self.options) else { return };
        let name = name::metric("target_info", &self.options.namespace, "", Kind::Info, false);
        let about =
            Metric { name: "target_info".into(), description: "Target metadata".into(), ..Metric::default() };
        let family = self.family(&name, Kind::Gauge, &about);
        let times = Times::new(self.newest_ns, 0, 0, false);
        self.series(labels, &name, None, family, false).samples.push(times.sample(1.0, NO_POINT));
    }

    fn family(&mut self, name: &str, kind: Kind, metric: &Metric) -> usize {
        if let Some(family) = self.families.get(name) {
            return *family;
        }
        let families = &mut self.wrote.families;
        families.push(Family {
            name: name.to_owned(),
            kind,
            help: metric.description.clone(),
            unit: units::words(&metric.unit),
        });
        self.families.insert(name.to_owned(), families.len() - 1);
        families.len() - 1
    }

    fn series(
        &mut self,
        mut labels: Set,
        name: &str,
        extra: Option<(&str, String)>,
        family: usize,
        is_native: bool,
    ) -> &mut Series {
        labels.insert(NAME.to_owned(), name.to_owned());
        if let Some((name, value)) = extra {
            labels.insert(name.to_owned(), value);
        }
        let key = (labels, is_native);
        let at = match self.known.get(&key) {
            Some(at) => *at,
            None => {
                let pairs = key.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                self.wrote.series.push(Series { labels: pairs, family, ..Series::default() });
                self.known.insert(key, self.wrote.series.len() - 1);
                self.wrote.series.len() - 1
            }
        };
        &mut self.wrote.series[at]
    }

    /// Puts each series into the order of time, each time once.
    fn finish(mut self) -> Wrote {
        let mut doubled = Vec::new();
        for series in &mut self.wrote.series {
            series.samples.sort_by_key(|sample| sample.time_ms);
            series.samples.dedup_by(|second, first| {
                let is_double = second.time_ms == first.time_ms;
                if is_double && second.point != NO_POINT {
                    doubled.push(second.point);
                }
                is_double
            });
            series.histograms.sort_by_key(|(histogram, _)| histogram.timestamp);
            series.histograms.dedup_by(|(second, point), (first, _)| {
                let is_double = second.timestamp == first.timestamp;
                if is_double {
                    doubled.push(*point);
                }
                is_double
            });
            series.exemplars.sort_by_key(|exemplar| exemplar.time_ms);
        }
        for point in doubled {
            self.refuse(point, "two points of one series at one time");
        }
        self.wrote.points = u64::from(self.next);
        self.wrote
    }
}

/// When a point is, when its counting began, and whether it is a mark.
struct Times {
    time_ms: i64,
    start_ms: i64,
    is_stale: bool,
}

impl Times {
    fn new(time_ns: u64, start_ns: u64, flags: u32, counts: bool) -> Self {
        let start_ns = if counts { start_ns } else { 0 };
        Self {
            time_ms: (time_ns / NANO_PER_MS).cast_signed(),
            start_ms: (start_ns / NANO_PER_MS).cast_signed(),
            is_stale: is_stale(flags),
        }
    }

    fn sample(&self, value: f64, point: u32) -> Sample {
        let value = if self.is_stale { f64::from_bits(super::STALE) } else { value };
        Sample { value, time_ms: self.time_ms, start_ms: self.start_ms, point }
    }
}

/// A bound or a quantile as the value of a label.
fn step(step: f64) -> String {
    if step == f64::INFINITY { "+Inf".into() } else { step.to_string() }
}

fn is_stale(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

/// What Prometheus calls a metric.
fn kind(metric: &Metric) -> Kind {
    let said = metric.metadata.iter().find(|attribute| attribute.key == TYPE_KEY);
    let said = match said.and_then(|said| said.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.as_str(),
        _ => "",
    };
    match (&metric.data, said) {
        (Some(Data::Gauge(_)), "unknown") => Kind::Unknown,
        (Some(Data::Gauge(_)), _) => Kind::Gauge,
        (Some(Data::Sum(sum)), _) if sum.is_monotonic => Kind::Counter,
        (Some(Data::Sum(_)), "info") => Kind::Info,
        (Some(Data::Sum(_)), "stateset") => Kind::StateSet,
        (Some(Data::Sum(_)), _) => Kind::Gauge,
        (Some(Data::Histogram(_) | Data::ExponentialHistogram(_)), _) => Kind::Histogram,
        (Some(Data::Summary(_)), _) => Kind::Summary,
        (None, _) => Kind::Unknown,
    }
}

fn exemplar(of: &OtlpExemplar, point_ns: u64) -> Exemplar {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let ids = [("trace_id", hex(&of.trace_id)), ("span_id", hex(&of.span_id))];
    let mut labels: Set =
        ids.into_iter().filter(|(_, id)| !id.is_empty()).map(|(name, id)| (name.to_owned(), id)).collect();
    let mut others = label::plain(&of.filtered_attributes);
    others.retain(|_, value| !value.is_empty());
    let chars = |set: &Set| -> usize {
        set.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
    };
    if chars(&labels) + chars(&others) <= EXEMPLAR_CHARS {
        others.extend(labels);
        labels = others;
    }
    let value = match of.value {
        Some(exemplar::Value::AsDouble(value)) => value,
        Some(exemplar::Value::AsInt(value)) => value as f64,
        None => 0.0,
    };
    let time_ns = if of.time_unix_nano == 0 { point_ns } else { of.time_unix_nano };
    let labels = labels.into_iter().collect();
    Exemplar { labels, value, time_ms: (time_ns / NANO_PER_MS).cast_signed() }
}
