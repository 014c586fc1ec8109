//! Batches as text for people.

use crate::process::Messages;
use hesper_otlp::{Batch, json};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data},
    resource::v1::Resource,
    trace::v1::Span,
};
use serde_json::Value;
use std::fmt::Write;

/// How much there is, on one line.
pub(super) fn counts(messages: &Messages) -> String {
    match messages {
        Messages::Traces(request) => {
            let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
            format!("Traces: resource spans: {}, spans: {spans}", request.resource_spans.len())
        }
        Messages::Metrics(request) => {
            let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
            let metrics: Vec<&Metric> = scopes.flat_map(|scope| &scope.metrics).collect();
            let points: usize = metrics.iter().map(|metric| points(metric)).sum();
            let resources = request.resource_metrics.len();
            format!(
                "Metrics: resource metrics: {resources}, metrics: {}, data points: {points}",
                metrics.len()
            )
        }
        Messages::Logs(request) => {
            let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
            let records: usize = scopes.map(|scope| scope.log_records.len()).sum();
            format!("Logs: resource logs: {}, log records: {records}", request.resource_logs.len())
        }
        Messages::Profiles(request) => {
            let scopes = request.resource_profiles.iter().flat_map(|resource| &resource.scope_profiles);
            let profiles: usize = scopes.map(|scope| scope.profiles.len()).sum();
            format!("Profiles: resource profiles: {}, profiles: {profiles}", request.resource_profiles.len())
        }
    }
}

/// One line for each resource, scope and item.
pub(super) fn lines(messages: &Messages) -> Vec<String> {
    let mut lines = Vec::new();
    macro_rules! walk {
        ($resources:expr, $scopes:ident, $items:ident, $noun:literal, $line:expr) => {
            for (i, resource) in $resources.iter().enumerate() {
                lines.push(format!("Resource{} #{i}{}", $noun, of_resource(resource.resource.as_ref())));
                for (i, scope) in resource.$scopes.iter().enumerate() {
                    lines.push(format!("Scope{} #{i}{}", $noun, of_scope(scope.scope.as_ref())));
                    lines.extend(scope.$items.iter().map($line));
                }
            }
        };
    }
    match messages {
        Messages::Traces(request) => walk!(request.resource_spans, scope_spans, spans, "Spans", of_span),
        Messages::Metrics(request) => {
            walk!(request.resource_metrics, scope_metrics, metrics, "Metrics", of_metric)
        }
        Messages::Logs(request) => walk!(request.resource_logs, scope_logs, log_records, "Logs", of_record),
        Messages::Profiles(request) => {
            walk!(request.resource_profiles, scope_profiles, profiles, "Profiles", |profile| {
                format!("{} samples: {}", hex(&profile.profile_id), profile.samples.len())
            });
        }
    }
    lines
}

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

fn of_resource(resource: Option<&Resource>) -> String {
    resource.map(|resource| pairs(&resource.attributes)).unwrap_or_default()
}

fn of_scope(scope: Option<&InstrumentationScope>) -> String {
    scope
        .map(|scope| format!(" {}@{}{}", scope.name, scope.version, pairs(&scope.attributes)))
        .unwrap_or_default()
}

fn of_span(span: &Span) -> String {
    format!("{} {} {}{}", span.name, hex(&span.trace_id), hex(&span.span_id), pairs(&span.attributes))
}

fn of_metric(metric: &Metric) -> String {
    let kind = match &metric.data {
        None => "nothing",
        Some(Data::Gauge(_)) => "gauge",
        Some(Data::Sum(_)) => "sum",
        Some(Data::Histogram(_)) => "histogram",
        Some(Data::ExponentialHistogram(_)) => "exponential histogram",
        Some(Data::Summary(_)) => "summary",
    };
    format!("{} {kind} data points: {} unit: {}", metric.name, points(metric), metric.unit)
}

fn of_record(record: &LogRecord) -> String {
    let body = record.body.as_ref().map(shown).unwrap_or_default();
    format!("{} {body}{}", record.severity_text, pairs(&record.attributes))
}

fn pairs(attributes: &[KeyValue]) -> String {
    attributes.iter().fold(String::new(), |mut text, pair| {
        let value = pair.value.as_ref().map(shown).unwrap_or_default();
        // Writing to a text cannot fail.
        let _ = write!(text, " {}={value}", pair.key);
        text
    })
}

fn shown(value: &AnyValue) -> String {
    match &value.value {
        None => String::new(),
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::BoolValue(value)) => value.to_string(),
        Some(Any::IntValue(value)) => value.to_string(),
        Some(Any::DoubleValue(value)) => value.to_string(),
        Some(Any::BytesValue(bytes)) => hex(bytes),
        Some(Any::ArrayValue(list)) => {
            format!("[{}]", list.values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Some(Any::KvlistValue(list)) => format!("{{{}}}", pairs(&list.values).trim_start()),
        Some(other) => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Every field, one to a line and indented by what it is in.
pub(super) fn everything(batch: &Batch) -> Result<String, String> {
    let text = json::encode(batch.signal, &batch.payload).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut out = String::new();
    fields(&value, 0, &mut out);
    out.truncate(out.trim_end().len());
    Ok(out)
}

fn fields(value: &Value, depth: usize, out: &mut String) {
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        member(name, value, depth, out);
    }
}

fn member(name: &str, value: &Value, depth: usize, out: &mut String) {
    let indent = "    ".repeat(depth);
    match value {
        Value::Array(list) if list.iter().all(Value::is_object) => {
            for (i, value) in list.iter().enumerate() {
                match (value.get("key"), value.as_object().map(serde_json::Map::len)) {
                    // An attribute is one line, if it is one value.
                    (Some(Value::String(key)), Some(1..=2)) => {
                        member(&format!("{name}.{key}"), one(value.get("value")), depth, out);
                    }
                    _ => {
                        let _ = writeln!(out, "{indent}{name} #{i}");
                        fields(value, depth + 1, out);
                    }
                }
            }
        }
        Value::Object(_) => {
            let _ = writeln!(out, "{indent}{name}");
            fields(value, depth + 1, out);
        }
        Value::String(text) => {
            let _ = writeln!(out, "{indent}{name}: {}", text.escape_debug());
        }
        other => {
            let _ = writeln!(out, "{indent}{name}: {other}");
        }
    }
}

/// What is in an AnyValue that holds no list.
fn one(value: Option<&Value>) -> &Value {
    let inner = value.and_then(Value::as_object).and_then(|object| object.values().next());
    match (inner, value) {
        (Some(inner), _) if !inner.is_object() => inner,
        (_, Some(value)) => value,
        _ => &Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_otlp::Signal;
    use serde_json::json;

    fn batch(signal: Signal, request: &Value) -> Batch {
        Batch { signal, payload: json::decode(signal, request.to_string().as_bytes()).expect("a request") }
    }

    fn messages(batch: &Batch) -> Messages {
        Messages::decode(batch.signal, batch.payload.clone()).expect("a request")
    }

    fn traces() -> Batch {
        let service = json!({"key": "service.name", "value": {"stringValue": "shop"}});
        let list = json!({"key": "list", "value": {"arrayValue": {"values": [{"intValue": 1}, {"boolValue": true}]}}});
        let span = json!({"name": "buy", "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331",
            "attributes": [list], "events": [{"name": "paid\u{1b}"}]});
        let scope = json!({"scope": {"name": "lib", "version": "1"}, "spans": [span, {"name": "pay"}]});
        batch(
            Signal::Traces,
            &json!({"resourceSpans": [{"resource": {"attributes": [service]}, "scopeSpans": [scope]}]}),
        )
    }

    #[test]
    fn counts_are_on_one_line() {
        assert_eq!(counts(&messages(&traces())), "Traces: resource spans: 1, spans: 2");
        let point = json!({"asInt": "7", "timeUnixNano": "1"});
        let metric = json!({"name": "m", "gauge": {"dataPoints": [point, point]}});
        let metrics =
            batch(Signal::Metrics, &json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}));
        assert_eq!(counts(&messages(&metrics)), "Metrics: resource metrics: 1, metrics: 1, data points: 2");
        assert_eq!(lines(&messages(&metrics))[2], "m gauge data points: 2 unit: ");
        let logs = batch(
            Signal::Logs,
            &json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "hi"}}]}]}]}),
        );
        assert_eq!(counts(&messages(&logs)), "Logs: resource logs: 1, log records: 1");
        let profiles = batch(Signal::Profiles, &json!({"resourceProfiles": [{}]}));
        assert_eq!(counts(&messages(&profiles)), "Profiles: resource profiles: 1, profiles: 0");
    }

    #[test]
    fn each_item_has_a_line() {
        let expected = [
            "ResourceSpans #0 service.name=shop",
            "ScopeSpans #0 lib@1",
            "buy 0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 list=[1, true]",
            "pay  ",
        ];
        assert_eq!(lines(&messages(&traces())), expected);
    }

    #[test]
    fn everything_is_told_and_nothing_moves_a_terminal() {
        let text = everything(&traces()).expect("text");
        for line in [
            "attributes.service.name: shop",
            "name: buy",
            "traceId: 0af7651916cd43dd8448eb211c80319c",
            "version: 1",
            "spans #1",
            "name: paid\\u{1b}",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "{line} in\n{text}");
        }
        assert!(text.contains("intValue") && !text.contains('\u{1b}'), "{text}");
    }
}
