//! `${env:X}` and its kin.

use crate::{config, faults, remarks};
use hesper_collector_config::{
    Endpoint, Value,
    exporters::Exporter,
    extensions::{BasicAuth, Extension},
    processors::{ActionSource, Change, Processor},
    receivers::Receiver,
};

/// A configuration with this behind `password:`, in line 5 and column 17.
fn with_password(source: &str) -> String {
    format!("extensions:\n  basicauth:\n    client_auth: \n      username: u\n      password: {source}\n")
}

/// The password that a source text stands for.
fn password(source: &str) -> String {
    let text = with_password(source);
    let config = config(&text);
    match &config.extensions[&"basicauth".parse().expect("an id")].settings {
        Extension::BasicAuth(BasicAuth::Client(client)) => client.password.expose().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_keeps_its_source() {
    for (source, text) in [
        ("1234", "1234"),
        ("0123", "0123"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("0x1F", "0x1F"),
        ("'quoted'", "quoted"),
        ("1.10", "1.10"),
    ] {
        assert_eq!(password(source), text, "{source}");
    }
}

#[test]
fn references_are_replaced() {
    for (source, text) in [
        ("${env:PASSWORD}", "0123"),
        ("${PASSWORD}", "0123"),
        ("\"${env:PASSWORD}\"", "0123"),
        ("a${env:PASSWORD}b", "a0123b"),
        ("${env:NONE:-default}", "default"),
        ("${NONE:-a-b}", "a-b"),
        ("${env:PASSWORD:-default}", "0123"),
        ("${env:NONE:-${env:PASSWORD}}", "0123"),
        ("a${env:EMPTY}b", "ab"),
        ("a$$b", "a$b"),
        ("$${env:PASSWORD}", "${env:PASSWORD}"),
        ("a$1", "a$1"),
        ("a$", "a$"),
        ("${env:LIST}", "[otlp]"),
        ("${env:YES}", "true"),
    ] {
        assert_eq!(password(source), text, "{source}");
    }
    assert_eq!(password("${env:DOLLAR}"), "a$$b${env:PASSWORD}", "what a variable says is taken as it is");
}

#[test]
fn a_whole_value_is_read_as_yaml() {
    let config = config(
        "receivers: {otlp/x: {protocols: \"${env:MAP}\"}}\nexporters: {otlp: {endpoint: \"${env:ENDPOINT}\", tls: {insecure: '${env:YES}'}}}\n\
         processors: {resource: {attributes: [{key: a, value: \"${env:YES}\", action: insert}, {key: b, value: \"x${env:YES}\", action: insert}]}}\n\
         service: {pipelines: {traces: {receivers: '${env:LIST}'}}}",
    );
    let id = |text: &str| text.parse().expect("an id");
    let Receiver::Otlp(otlp) = &config.receivers[&id("otlp/x")].settings else { panic!() };
    let endpoint = otlp.grpc.as_ref().map(|grpc| grpc.endpoint.clone());
    assert_eq!(endpoint, Endpoint::parse("localhost:1").ok());
    let Exporter::Otlp(otlp) = &config.exporters[&id("otlp")].settings else { panic!() };
    assert!(otlp.client.tls.insecure);
    let Processor::Resource(actions) = &config.processors[&id("resource")].settings else { panic!() };
    let values: Vec<_> = actions.iter().map(|action| action.change.clone()).collect();
    let insert = |value| Change::Insert(ActionSource::Value(value));
    assert_eq!(values, [insert(Value::Bool(true)), insert(Value::Text("xtrue".into()))]);
    let pipeline = config.service.pipelines.values().next().expect("a pipeline");
    assert_eq!(pipeline.receivers, [id("otlp")]);
}

#[test]
fn what_cannot_be_replaced_is_a_fault_and_said_once() {
    for (source, expected) in [
        ("${env:NONE}", "${env:NONE}: this environment variable is not set; set it, or give a default"),
        ("${NONE}", "${NONE}: this environment variable is not set"),
        ("a${env:NONE}", "${env:NONE}: this environment variable is not set"),
        ("a${env:X", "a ${ is never closed"),
        ("${env:}", "${env:} names no environment variable"),
        ("${env:1X}", "${env:1X} names no environment variable"),
        ("${}", "${} names no environment variable"),
        ("${file:/etc/passwd}", "${file:/etc/passwd} asks a provider that is not known here"),
        ("${env:NONE:-${env:NONE2}}", "${env:NONE2}: this environment variable is not set"),
    ] {
        let faults = faults(&with_password(source));
        assert_eq!(faults.len(), 1, "{faults:#?}");
        assert!(faults[0].starts_with(&format!("f.yaml:5:17: {expected}")), "{source}: {}", faults[0]);
    }
    let deep = "${a:-".repeat(20) + "x" + &"}".repeat(20);
    assert!(faults(&format!("exporters: {{otlp: {{endpoint: \"{deep}\"}}}}"))[0].contains("too deep"));
}

#[test]
fn a_bare_dollar_with_a_name_is_a_remark_that_does_not_show_it() {
    let told = remarks("extensions: {basicauth: {client_auth: {username: u, password: a$SECRET}}}");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("bare $") && !told[0].contains("SECRET"), "{told:#?}");
}

#[test]
fn the_environment_is_never_shown() {
    let faults = faults("exporters: {otlp: {endpoint: 'a:1', timeout: '${env:PASSWORD}'}}");
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains("what the environment says is not a duration"), "{faults:#?}");
    assert!(!faults[0].contains("0123"));
}

#[test]
fn the_environment_cannot_fill_the_memory() {
    let large = "x".repeat(1 << 20);
    let env = |_: &str| Some(large.clone());
    let text = format!("exporters: {{otlp: {{headers: {{a: '{}'}}}}}}", "${x}".repeat(1000));
    let faults = hesper_collector_config::load(&[("f.yaml", &text)], &env).expect_err("too much");
    assert!(
        faults.iter().any(|fault| fault.reason.contains("larger than 16 MiB")),
        "{}",
        crate::told(&faults)
    );
}
