//! What requests of OTLP hold, item by item.

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data},
    resource::v1::Resource,
};

/// The attribute by which the tests know data points and log records, which have no ids of their own.
pub(crate) const ID: &str = "test.id";

/// Attributes as they came: in their order, duplicates too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(pub Vec<KeyValue>);

impl Attributes {
    /// The text of this attribute.
    ///
    /// # Panics
    /// When it occurs more than once.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<String> {
        let mut found = self.0.iter().filter(|attribute| attribute.key == key);
        let first = found.next();
        assert!(found.next().is_none(), "{key} occurs more than once: {self:?}");
        first.map(|attribute| text(attribute.value.as_ref()))
    }

    /// All keys, in their order.
    pub fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|attribute| attribute.key.as_str()).collect()
    }
}

/// A value as text: lists in brackets, separated by commas.
fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::ArrayValue(list)) => {
            let values: Vec<_> = list.values.iter().map(|value| text(Some(value))).collect();
            format!("[{}]", values.join(","))
        }
        Some(other) => format!("{other:?}"),
    }
}

/// A span, a data point or a log record.
#[derive(Debug, Clone)]
pub struct Item {
    /// As the senders print it: `span TRACE_ID SPAN_ID`, `point ID`, `log ID`.
    pub line: String,
    /// Its own attributes.
    pub attributes: Attributes,
    /// Those of its resource.
    pub resource: Attributes,
}

/// One request.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Requests {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
    Profiles(ExportProfilesServiceRequest),
}

impl Requests {
    /// Its spans, data points or log records; none of profiles.
    pub fn items(&self) -> Vec<Item> {
        match self {
            Self::Traces(request) => spans(request),
            Self::Metrics(request) => points(request),
            Self::Logs(request) => records(request),
            Self::Profiles(_) => Vec::new(),
        }
    }

    /// The attributes of its resources, one after the other.
    pub fn resources(&self) -> Vec<Attributes> {
        let resources: Vec<Option<&Resource>> = match self {
            Self::Traces(request) => request.resource_spans.iter().map(|r| r.resource.as_ref()).collect(),
            Self::Metrics(request) => request.resource_metrics.iter().map(|r| r.resource.as_ref()).collect(),
            Self::Logs(request) => request.resource_logs.iter().map(|r| r.resource.as_ref()).collect(),
            Self::Profiles(request) => {
                request.resource_profiles.iter().map(|r| r.resource.as_ref()).collect()
            }
        };
        resources.into_iter().map(attributes_of).collect()
    }
}

fn attributes_of(resource: Option<&Resource>) -> Attributes {
    Attributes(resource.map(|resource| resource.attributes.clone()).unwrap_or_default())
}

/// `span TRACE_ID SPAN_ID`.
pub(crate) fn span_line(trace_id: &[u8], span_id: &[u8]) -> String {
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("span {} {}", hex(trace_id), hex(span_id))
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<Item> {
    let mut items = Vec::new();
    for resource in &request.resource_spans {
        let of_resource = attributes_of(resource.resource.as_ref());
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            items.push(Item {
                line: span_line(&span.trace_id, &span.span_id),
                attributes: Attributes(span.attributes.clone()),
                resource: of_resource.clone(),
            });
        }
    }
    items
}

fn points(request: &ExportMetricsServiceRequest) -> Vec<Item> {
    let mut items = Vec::new();
    for resource in &request.resource_metrics {
        let of_resource = attributes_of(resource.resource.as_ref());
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            for attributes in points_of(metric) {
                items.push(named("point", attributes, &of_resource));
            }
        }
    }
    items
}

/// The attributes of each of its points.
fn points_of(metric: &Metric) -> Vec<Vec<KeyValue>> {
    match metric.data.as_ref() {
        Some(Data::Gauge(data)) => data.data_points.iter().map(|p| p.attributes.clone()).collect(),
        Some(Data::Sum(data)) => data.data_points.iter().map(|p| p.attributes.clone()).collect(),
        Some(Data::Histogram(data)) => data.data_points.iter().map(|p| p.attributes.clone()).collect(),
        Some(Data::ExponentialHistogram(data)) => {
            data.data_points.iter().map(|p| p.attributes.clone()).collect()
        }
        Some(Data::Summary(data)) => data.data_points.iter().map(|p| p.attributes.clone()).collect(),
        None => Vec::new(),
    }
}

fn records(request: &ExportLogsServiceRequest) -> Vec<Item> {
    let mut items = Vec::new();
    for resource in &request.resource_logs {
        let of_resource = attributes_of(resource.resource.as_ref());
        for record in resource.scope_logs.iter().flat_map(|scope| &scope.log_records) {
            items.push(named("log", record.attributes.clone(), &of_resource));
        }
    }
    items
}

fn named(noun: &str, attributes: Vec<KeyValue>, resource: &Attributes) -> Item {
    let attributes = Attributes(attributes);
    let line = format!("{noun} {}", attributes.get(ID).unwrap_or_default());
    Item { line, attributes, resource: resource.clone() }
}
