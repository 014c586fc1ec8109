//! Requests with everything in them that a signal knows.

use hesper_otlp::Signal;
use serde_json::{Value as Json, json};

/// An attribute that is a text.
pub(crate) fn text(key: &str, value: &str) -> Json {
    json!({"key": key, "value": {"stringValue": value}})
}

fn n(value: i64) -> Json {
    json!({"key": "n", "value": {"intValue": value.to_string()}})
}

/// One resource with one scope and these items.
pub(crate) fn request(signal: Signal, resource: &[Json], items: &[Json]) -> Json {
    let (resources, scopes, name) = match signal {
        Signal::Traces => ("resourceSpans", "scopeSpans", "spans"),
        Signal::Metrics => ("resourceMetrics", "scopeMetrics", "metrics"),
        Signal::Logs => ("resourceLogs", "scopeLogs", "logRecords"),
        Signal::Profiles => ("resourceProfiles", "scopeProfiles", "profiles"),
    };
    let scope = json!({"name": "lib", "version": "1.2", "attributes": [text("scope", "s")]});
    json!({resources: [{"resource": {"attributes": resource}, "schemaUrl": "u",
        scopes: [{"scope": scope, name: items, "schemaUrl": "v"}]}]})
}

/// The items of a request of [`request`].
pub(crate) fn items(request: &Json) -> &Vec<Json> {
    let scopes = request.as_object().expect("an object").values().next().expect("resources")[0].as_object();
    let scope =
        scopes.expect("an object").iter().find(|(key, _)| key.starts_with("scope")).expect("scopes").1;
    let items = scope[0].as_object().expect("an object").values().find(|value| value.is_array());
    items.expect("items").as_array().expect("a list")
}

pub(crate) fn span() -> Json {
    json!({
        "traceId": "0102030405060708099b8233f7e3a151", "spanId": "0102030405060708", "traceState": "a=b",
        "name": "GET /", "kind": 2, "startTimeUnixNano": "1", "endTimeUnixNano": "2",
        "attributes": [text("a", "1"), text("hesper.keep", "h")],
        "events": [{"timeUnixNano": "1", "name": "ping", "attributes": [text("a", "e")]},
            {"timeUnixNano": "2", "name": "pong"}],
        "links": [{"traceId": "0102030405060708090a0b0c0d0e0f11", "spanId": "0102030405060709",
            "attributes": [text("a", "l")]}],
        "status": {"code": 2, "message": "bad"}
    })
}

pub(crate) fn log() -> Json {
    json!({"timeUnixNano": "1", "severityNumber": 13, "severityText": "WARN", "body": {"stringValue": "it broke"},
        "traceId": "0102030405060708099b8233f7e3a151",
        "attributes": [text("a", "1"), {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}}]})
}

/// Metrics of all five kinds, each with two points.
pub(crate) fn metrics() -> Vec<Json> {
    let exemplar = json!({"timeUnixNano": "1", "asDouble": 0.5, "filteredAttributes": [text("a", "x")],
        "spanId": "0102030405060708", "traceId": "0102030405060708090a0b0c0d0e0f10"});
    let points = |extra: Json| -> Vec<Json> {
        let point = |i: i64| {
            let mut point = json!({"timeUnixNano": "3", "attributes": [text("a", "1"), n(i)]});
            let more = extra.as_object().expect("an object").clone();
            point.as_object_mut().expect("an object").extend(more);
            point
        };
        vec![point(1), point(2)]
    };
    let number = points(json!({"asInt": "7", "exemplars": [exemplar]}));
    let histogram = json!({"count": "2", "sum": 1.5, "bucketCounts": ["1", "1"], "explicitBounds": [1.0],
        "exemplars": [exemplar]});
    let exponential = json!({"count": "2", "sum": 1.5, "scale": 1, "positive": {"bucketCounts": ["2"]}});
    let summary = json!({"count": "2", "sum": 1.5, "quantileValues": [{"quantile": 0.5, "value": 1.0}]});
    vec![
        json!({"name": "gauge", "unit": "1", "gauge": {"dataPoints": number}}),
        json!({"name": "sum", "unit": "By", "sum": {"dataPoints": number, "aggregationTemporality": 2,
            "isMonotonic": true}}),
        json!({"name": "histogram", "histogram": {"dataPoints": points(histogram), "aggregationTemporality": 2}}),
        json!({"name": "exponential", "exponentialHistogram": {"dataPoints": points(exponential),
            "aggregationTemporality": 1}}),
        json!({"name": "summary", "summary": {"dataPoints": points(summary)}}),
    ]
}

/// Everything that a signal knows.
pub(crate) fn everything(signal: Signal) -> Json {
    let resource = [text("service.name", "shop"), text("hesper.identity.name", "shop-1"), n(7)];
    match signal {
        Signal::Traces => request(signal, &resource, &[span()]),
        Signal::Metrics => request(signal, &resource, &metrics()),
        Signal::Logs => request(signal, &resource, &[log()]),
        Signal::Profiles => {
            let mut request =
                request(signal, &resource, &[json!({"profileId": "0102030405060708090a0b0c0d0e0f10"})]);
            request["dictionary"] = json!({"stringTable": ["", "a"]});
            request
        }
    }
}
