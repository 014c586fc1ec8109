//! What `filter` drops.

use crate::{
    canonical,
    fixtures::{everything, items, log, metrics, request, span, text},
    made, processor,
};
use hesper_otlp::Signal;
use hesper_telemetry::origin::Origin;
use serde_json::{Value as Json, json};

fn left(signal: Signal, body: &str, before: &Json) -> Option<Json> {
    made(&processor("filter", body), signal, before, &Origin::default())
}

/// Does a condition hold for an item?
fn holds(signal: Signal, item: &Json, condition: &str) -> bool {
    let list = match signal {
        Signal::Traces => "traces: {span",
        Signal::Logs => "logs: {log_record",
        _ => "metrics: {metric",
    };
    let body = format!("{{{list}: ['{condition}']}}}}");
    let before = request(signal, &[text("host", "h-1")], std::slice::from_ref(item));
    left(signal, &body, &before).is_none()
}

#[test]
fn conditions_on_spans() {
    let mut item = span();
    let numbers = [
        json!({"key": "n", "value": {"intValue": "7"}}),
        json!({"key": "d", "value": {"doubleValue": 7.5}}),
        json!({"key": "t", "value": {"boolValue": true}}),
        json!({"key": "none", "value": {}}),
    ];
    item["attributes"].as_array_mut().expect("a list").extend(numbers);
    for (condition, yes) in [
        (r#"name == "GET /""#, true),
        (r#"name != "GET /""#, false),
        (r#"span.name < "H""#, true),
        ("kind == SPAN_KIND_SERVER", true),
        ("kind == 3", false),
        ("status.code == STATUS_CODE_ERROR", true),
        (r#"status.message == "bad""#, true),
        (r#"attributes["n"] == 7"#, true),
        (r#"attributes["n"] == 7.0"#, true),
        (r#"attributes["n"] == "7""#, false),
        (r#"attributes["n"] != "7""#, true),
        (r#"attributes["n"] < "8""#, false),
        (r#"attributes["n"] >= 7 and attributes["n"] <= 7"#, true),
        (r#"attributes["d"] > 7"#, true),
        (r#"attributes["d"] < attributes["n"]"#, false),
        (r#"attributes["t"] == true"#, true),
        (r#"attributes["absent"] == nil"#, true),
        (r#"attributes["none"] == nil"#, true),
        (r#"attributes["absent"] != nil"#, false),
        (r#"attributes["absent"] == """#, false),
        (r#"attributes["absent"] < 1"#, false),
        (r#"resource.attributes["host"] == "h-1""#, true),
        (r#"instrumentation_scope.name == "lib""#, true),
        (r#"scope.version == "1.2""#, true),
        (r#"scope.attributes["scope"] == "s""#, true),
        (r#"IsMatch(name, "^GET")"#, true),
        (r#"IsMatch(attributes["n"], "^7$")"#, true),
        (r#"IsMatch(attributes["absent"], ".*")"#, false),
        (r#"not IsMatch(name, "^GET") or kind == 2"#, true),
        (r#"not (kind == 2 or kind == 3)"#, false),
        ("true", true),
        ("false", false),
        ("-1 < 1", true),
    ] {
        assert_eq!(holds(Signal::Traces, &item, condition), yes, "{condition}");
    }
}

#[test]
fn conditions_on_log_records_and_metrics() {
    for (condition, yes) in [
        (r#"body == "it broke""#, true),
        (r#"IsMatch(body, "broke")"#, true),
        ("severity_number >= SEVERITY_NUMBER_WARN", true),
        ("severity_number < SEVERITY_NUMBER_WARN", false),
        (r#"severity_text == "WARN""#, true),
        (r#"attributes["a"] == "1""#, true),
        (r#"IsMatch(attributes["list"], "^\\[1\\]$")"#, true),
    ] {
        assert_eq!(holds(Signal::Logs, &log(), condition), yes, "{condition}");
    }
    let kinds = ["GAUGE", "SUM", "HISTOGRAM", "EXPONENTIAL_HISTOGRAM", "SUMMARY"];
    for (metric, kind) in metrics().iter().zip(kinds) {
        assert!(holds(Signal::Metrics, metric, &format!("type == METRIC_DATA_TYPE_{kind}")), "{kind}");
    }
    assert!(holds(Signal::Metrics, &metrics()[1], r#"name == "sum" and unit == "By""#));
}

#[test]
fn parts_are_dropped_and_what_is_empty_with_them() {
    let traces = everything(Signal::Traces);
    let without_pong =
        left(Signal::Traces, "{traces: {spanevent: ['name == \"pong\"']}}", &traces).expect("left");
    let mut expected = canonical(Signal::Traces, &traces);
    expected["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["events"].as_array_mut().expect("events").pop();
    assert_eq!(without_pong, expected);

    let points = "{metrics: {datapoint: ['metric.name == \"sum\"', 'attributes[\"n\"] == 2 and metric.type == 1', \
                  'metric.unit == \"By\"']}}";
    let made = left(Signal::Metrics, points, &everything(Signal::Metrics)).expect("left");
    let names: Vec<&str> =
        items(&made).iter().map(|metric| metric["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["gauge", "histogram", "exponential", "summary"], "no empty sum is left");
    assert_eq!(items(&made)[0]["gauge"]["dataPoints"].as_array().expect("points").len(), 1);
    assert_eq!(items(&made)[1]["histogram"]["dataPoints"].as_array().expect("points").len(), 2);

    for (signal, body) in [
        (Signal::Traces, "{traces: {resource: ['attributes[\"service.name\"] == \"shop\"']}}"),
        (Signal::Metrics, "{metrics: {resource: ['attributes[\"service.name\"] == \"shop\"']}}"),
        (Signal::Logs, "{logs: {resource: ['attributes[\"service.name\"] == \"shop\"']}}"),
        (Signal::Metrics, "{metrics: {datapoint: ['true']}}"),
    ] {
        assert_eq!(left(signal, body, &everything(signal)), None, "{body}");
    }
    // Of two resources one is left.
    let mut two = everything(Signal::Logs);
    let other = request(Signal::Logs, &[text("service.name", "cart")], &[log()])["resourceLogs"][0].clone();
    two["resourceLogs"].as_array_mut().expect("a list").push(other);
    let body = "{logs: {resource: ['attributes[\"service.name\"] == \"shop\"']}}";
    let made = left(Signal::Logs, body, &two).expect("left");
    assert_eq!(made["resourceLogs"].as_array().expect("a list").len(), 1);
}

#[test]
fn include_and_exclude() {
    for (signal, body, kept) in [
        (Signal::Traces, "{spans: {include: {match_type: strict, services: [shop]}}}", true),
        (Signal::Traces, "{spans: {include: {match_type: strict, services: [cart]}}}", false),
        (Signal::Traces, "{spans: {exclude: {match_type: strict, services: [shop]}}}", false),
        (Signal::Traces, "{spans: {exclude: {match_type: regexp, span_names: ['POST']}}}", true),
        (Signal::Traces, "{metrics: {include: {match_type: strict, metric_names: [none]}}}", true),
        (Signal::Logs, "{logs: {include: {match_type: regexp, bodies: [broke]}}}", true),
        (Signal::Logs, "{logs: {include: {match_type: strict, severity_texts: [INFO]}}}", false),
        (
            Signal::Logs,
            "{logs: {exclude: {match_type: strict, record_attributes: [{key: a, value: '1'}]}}}",
            false,
        ),
        (Signal::Logs, "{logs: {exclude: {match_type: strict, resource_attributes: [{key: none}]}}}", true),
        (Signal::Metrics, "{metrics: {include: {match_type: strict, metric_names: [none]}}}", false),
        (Signal::Metrics, "{metrics: {exclude: {match_type: regexp, metric_names: ['.*']}}}", false),
        (
            Signal::Metrics,
            "{metrics: {include: {match_type: strict, metric_names: [sum], resource_attributes: [{key: service.name, \
             value: shop}]}}}",
            true,
        ),
    ] {
        assert_eq!(left(signal, body, &everything(signal)).is_some(), kept, "{body}");
    }
    let body = "{metrics: {include: {match_type: strict, metric_names: [sum, summary]}}}";
    assert_eq!(items(&left(Signal::Metrics, body, &everything(Signal::Metrics)).expect("left")).len(), 2);
}
