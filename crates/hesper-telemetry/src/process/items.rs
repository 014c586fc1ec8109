//! What a request holds: its resources, and the data points of the five kinds of metrics.

use super::Messages;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
    resource::v1::Resource,
};

impl Messages {
    /// Every resource of the request. Where there is none yet, an empty one stands in; it is as good as none.
    pub fn resources(&mut self) -> Vec<&mut Resource> {
        fn some(resource: &mut Option<Resource>) -> &mut Resource {
            resource.get_or_insert_default()
        }
        match self {
            Self::Traces(r) => r.resource_spans.iter_mut().map(|of| some(&mut of.resource)).collect(),
            Self::Metrics(r) => r.resource_metrics.iter_mut().map(|of| some(&mut of.resource)).collect(),
            Self::Logs(r) => r.resource_logs.iter_mut().map(|of| some(&mut of.resource)).collect(),
            Self::Profiles(r) => {
                let table = r.dictionary.as_ref().map_or(&[][..], |dictionary| &dictionary.string_table);
                let mut resources = Vec::new();
                for of in &mut r.resource_profiles {
                    let resource = some(&mut of.resource);
                    resource.attributes.iter_mut().for_each(|pair| write_out(pair, table));
                    resources.push(resource);
                }
                resources
            }
        }
    }

    /// How many spans, data points, log records or profiles there are.
    pub fn items(&self) -> u64 {
        let count: usize = match self {
            Self::Traces(r) => {
                r.resource_spans.iter().flat_map(|of| &of.scope_spans).map(|of| of.spans.len()).sum()
            }
            Self::Metrics(r) => {
                let scopes = r.resource_metrics.iter().flat_map(|of| &of.scope_metrics);
                scopes.flat_map(|of| &of.metrics).map(points).sum()
            }
            Self::Logs(r) => {
                r.resource_logs.iter().flat_map(|of| &of.scope_logs).map(|of| of.log_records.len()).sum()
            }
            Self::Profiles(r) => {
                r.resource_profiles.iter().flat_map(|of| &of.scope_profiles).map(|of| of.profiles.len()).sum()
            }
        };
        count as u64
    }

    /// Takes out metrics without points, and scopes and resources without items.
    pub(super) fn prune(&mut self) {
        match self {
            Self::Traces(r) => {
                r.resource_spans.iter_mut().for_each(|of| of.scope_spans.retain(|of| !of.spans.is_empty()));
                r.resource_spans.retain(|of| !of.scope_spans.is_empty());
            }
            Self::Metrics(r) => {
                for of in &mut r.resource_metrics {
                    of.scope_metrics.iter_mut().for_each(|of| of.metrics.retain(|metric| points(metric) > 0));
                    of.scope_metrics.retain(|of| !of.metrics.is_empty());
                }
                r.resource_metrics.retain(|of| !of.scope_metrics.is_empty());
            }
            Self::Logs(r) => {
                r.resource_logs
                    .iter_mut()
                    .for_each(|of| of.scope_logs.retain(|of| !of.log_records.is_empty()));
                r.resource_logs.retain(|of| !of.scope_logs.is_empty());
            }
            Self::Profiles(_) => {}
        }
    }
}

/// An attribute of a profile may name its key and value by their places in a table. Written out it means the same.
fn write_out(pair: &mut KeyValue, table: &[String]) {
    let at = |place: i32| usize::try_from(place).ok().and_then(|place| table.get(place));
    if let (true, Some(key)) = (pair.key.is_empty() && pair.key_strindex != 0, at(pair.key_strindex)) {
        pair.key.clone_from(key);
        pair.key_strindex = 0;
    }
    if let Some(value) = pair.value.as_mut().and_then(|value| value.value.as_mut())
        && let Value::StringValueStrindex(place) = *value
        && let Some(text) = at(place)
    {
        *value = Value::StringValue(text.clone());
    }
}

/// How many points a metric has.
fn points(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    }
}

/// The number of a metric's kind: 1 gauge, 2 sum, 3 histogram, 4 exponential histogram, 5 summary, 0 none.
pub(super) fn kind(data: Option<&Data>) -> i64 {
    match data {
        None => 0,
        Some(Data::Gauge(_)) => 1,
        Some(Data::Sum(_)) => 2,
        Some(Data::Histogram(_)) => 3,
        Some(Data::ExponentialHistogram(_)) => 4,
        Some(Data::Summary(_)) => 5,
    }
}

/// Keeps the points for whose attributes this holds; it may change them.
pub(super) fn retain_points(data: &mut Data, mut keep: impl FnMut(&mut Vec<KeyValue>) -> bool) {
    match data {
        Data::Gauge(data) => data.data_points.retain_mut(|point| keep(&mut point.attributes)),
        Data::Sum(data) => data.data_points.retain_mut(|point| keep(&mut point.attributes)),
        Data::Histogram(data) => data.data_points.retain_mut(|point| keep(&mut point.attributes)),
        Data::ExponentialHistogram(data) => data.data_points.retain_mut(|point| keep(&mut point.attributes)),
        Data::Summary(data) => data.data_points.retain_mut(|point| keep(&mut point.attributes)),
    }
}
