//! `service.telemetry`: the Collector's own metrics and logs.

use crate::{config, faults, remarks};
use hesper_collector_config::{
    Address, Endpoint, LogEncoding, LogLevel, MetricsLevel, OwnLogs, OwnMetrics, Telemetry,
};
use std::collections::BTreeMap;

fn telemetry(body: &str) -> Telemetry {
    config(&format!("service: {{telemetry: {body}}}")).service.telemetry
}

fn metrics(level: MetricsLevel, endpoint: Option<Endpoint>) -> OwnMetrics {
    OwnMetrics { level, endpoint }
}

fn at(host: &str, port: u16) -> Option<Endpoint> {
    Some(Endpoint::Underlay(Address::new(host, port)))
}

#[test]
fn metrics_are_on_loopback_unless_something_else_is_written() {
    for body in ["", "{}", "{metrics: }", "{metrics: {level: normal}}"] {
        assert_eq!(telemetry(body), Telemetry::default(), "{body}");
    }
    assert_eq!(Telemetry::default().metrics, metrics(MetricsLevel::Normal, at("localhost", 8888)));
    let reader =
        "{readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: 9, without_units: true}}}}]}";
    for (body, expected) in [
        ("{level: none}", metrics(MetricsLevel::None, None)),
        ("{level: basic, address: 'localhost:1'}", metrics(MetricsLevel::Basic, at("localhost", 1))),
        (
            "{level: detailed, address: 'hesper://m'}",
            metrics(MetricsLevel::Detailed, Endpoint::parse("hesper://m").ok()),
        ),
        (reader, metrics(MetricsLevel::Normal, at("127.0.0.1", 9))),
    ] {
        assert_eq!(telemetry(&format!("{{metrics: {body}}}")).metrics, expected, "{body}");
    }
    let told = remarks("service: {telemetry: {metrics: {address: '0.0.0.0:8888'}}}");
    assert!(told[0].contains("are there for everybody"), "{told:#?}");
}

#[test]
fn logs_have_a_level_and_an_encoding() {
    assert_eq!(telemetry("").logs, OwnLogs { level: LogLevel::Info, encoding: None });
    for (body, level, encoding) in [
        ("{level: DEBUG, encoding: json}", LogLevel::Debug, Some(LogEncoding::Json)),
        ("{level: warn, encoding: console}", LogLevel::Warn, Some(LogEncoding::Console)),
        ("{level: error}", LogLevel::Error, None),
    ] {
        assert_eq!(telemetry(&format!("{{logs: {body}}}")).logs, OwnLogs { level, encoding }, "{body}");
    }
    let resource = BTreeMap::from([("service.name".to_owned(), "x".to_owned())]);
    assert_eq!(telemetry("{resource: {service.name: x}}").resource, resource);
}

#[test]
fn what_cannot_be_is_told() {
    for (body, reason) in [
        ("{metrics: {level: loud}}", "'loud' is no choice"),
        ("{metrics: {address: x y}}", "has spaces in it"),
        ("{metrics: {readers: [{periodic: {interval: 1s}}]}}", "not supported here"),
        (
            "{metrics: {address: 'a:1', readers: [{pull: {exporter: {prometheus: }}}]}}",
            "given besides address",
        ),
        ("{logs: {level: loud}}", "'loud' is not a level"),
        ("{logs: {encodign: json}}", "did you mean 'encoding'?"),
    ] {
        let faults = faults(&format!("service: {{telemetry: {body}}}"));
        assert_eq!(faults.len(), 1, "{body}: {faults:#?}");
        assert!(faults[0].contains(reason), "{body}: {faults:#?}");
    }
}
