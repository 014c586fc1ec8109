//! `include` and `exclude`.

use crate::{
    fixtures::{items, log, metrics, request, span, text},
    made, processor,
};
use hesper_otlp::Signal;
use hesper_telemetry::origin::Origin;
use serde_json::Value as Json;

/// Does a match reach the first item of a request?
fn reaches(signal: Signal, kind: &str, wanted: &str) -> bool {
    let body = format!(
        "{{include: {{match_type: {kind}, {wanted}}}, actions: [{{key: m, value: x, action: insert}}]}}"
    );
    let before = match signal {
        Signal::Traces => vec![span()],
        Signal::Logs => vec![log()],
        // With the first of its points.
        _ => {
            let mut gauge = metrics().remove(0);
            gauge["gauge"]["dataPoints"].as_array_mut().expect("points").pop();
            vec![gauge]
        }
    };
    let resource = [text("service.name", "shop"), text("host", "h-1")];
    let made = made(
        &processor("attributes", &body),
        signal,
        &request(signal, &resource, &before),
        &Origin::default(),
    );
    let made = made.expect("left");
    let marked = |item: &Json| item.to_string().contains(r#""key":"m""#);
    let included = marked(&items(&made)[0]);
    // To exclude is the reverse.
    let excluded = processor("attributes", &body.replace("{include", "{exclude"));
    let request = request(signal, &resource, &before);
    let made = crate::made(&excluded, signal, &request, &Origin::default()).expect("left");
    assert_eq!(marked(&items(&made)[0]), !included, "{wanted}");
    included
}

#[test]
fn spans() {
    for (kind, wanted, yes) in [
        ("strict", "services: [shop]", true),
        ("strict", "services: [sho]", false),
        ("regexp", "services: [sho]", true),
        ("regexp", "services: ['^sho$', x]", false),
        ("strict", "span_names: [x, GET /]", true),
        ("regexp", "span_names: ['^GET']", true),
        ("strict", "span_kinds: [SPAN_KIND_SERVER]", true),
        ("strict", "span_kinds: [SPAN_KIND_CLIENT]", false),
        ("strict", "resources: [{key: host, value: h-1}]", true),
        ("strict", "resources: [{key: host, value: h-1}, {key: none}]", false),
        ("strict", "attributes: [{key: a, value: '1'}]", true),
        ("strict", "attributes: [{key: a, value: 1}]", false),
        ("strict", "attributes: [{key: a}]", true),
        ("regexp", "attributes: [{key: a, value: '[0-9]'}]", true),
        ("strict", "libraries: [{name: lib}]", true),
        ("strict", "libraries: [{name: lib, version: '1.3'}]", false),
        ("regexp", "libraries: [{name: '^l', version: '^1'}]", true),
        ("strict", "services: [shop], span_names: [x]", false),
        ("strict", "log_bodies: [x]", false),
        ("strict", "metric_names: [gauge]", false),
    ] {
        assert_eq!(reaches(Signal::Traces, kind, wanted), yes, "{kind} {wanted}");
    }
}

#[test]
fn log_records_and_points() {
    for (kind, wanted, yes) in [
        ("strict", "log_bodies: [it broke]", true),
        ("regexp", "log_bodies: [broke$]", true),
        ("strict", "log_bodies: [broke]", false),
        ("strict", "log_severity_texts: [WARN]", true),
        ("strict", "log_severity_number: {min: WARN}", true),
        ("strict", "log_severity_number: {min: ERROR}", false),
        ("strict", "attributes: [{key: a, value: '1'}]", true),
        ("regexp", "attributes: [{key: list, value: '1'}]", false),
        ("strict", "span_names: [x]", false),
    ] {
        assert_eq!(reaches(Signal::Logs, kind, wanted), yes, "{kind} {wanted}");
    }
    for (kind, wanted, yes) in [
        ("strict", "metric_names: [gauge]", true),
        ("strict", "metric_names: [sum]", false),
        ("regexp", "metric_names: [^g, x]", true),
        ("strict", "attributes: [{key: n, value: 1}]", true),
        ("regexp", "attributes: [{key: n, value: ^1$}]", true),
        ("strict", "attributes: [{key: n, value: '1'}]", false),
        ("strict", "libraries: [{name: lib}], services: [shop]", true),
        ("strict", "log_severity_number: {min: 1, match_undefined: true}", false),
    ] {
        assert_eq!(reaches(Signal::Metrics, kind, wanted), yes, "{kind} {wanted}");
    }
}

#[test]
fn a_record_without_severity() {
    let mut record = log();
    record["severityNumber"] = 0.into();
    let request = request(Signal::Logs, &[], &[record]);
    for (undefined, yes) in [(true, true), (false, false)] {
        let body = format!(
            "{{logs: {{exclude: {{match_type: strict, severity_number: {{min: 1, match_undefined: {undefined}}}}}}}}}"
        );
        let left = made(&processor("filter", &body), Signal::Logs, &request, &Origin::default());
        assert_eq!(left.is_none(), yes);
    }
}
