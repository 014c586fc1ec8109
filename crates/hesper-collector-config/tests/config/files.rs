//! Several files, manifests, and what is neither.

use crate::{BASE, env, told};
use hesper_collector_config::{Endpoint, Topic, exporters::Exporter, load};

#[test]
fn the_later_file_wins_mappings_are_merged_and_lists_replaced() {
    let base = "receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:1', include_metadata: true}}}}\n\
                exporters: {debug: {verbosity: detailed}, otlp: {endpoint: 'a:1', timeout: 3s}}\n\
                service: {pipelines: {traces: {receivers: [otlp], exporters: [debug, otlp]}}}\n";
    let over = "receivers: {otlp: {protocols: {grpc: {endpoint: 'localhost:2'}}}}\n\
                exporters: {debug: }\n\
                service: {pipelines: {traces: {exporters: [otlp]}}}\n";
    let (config, _) =
        load(&[("a.yaml", base), ("b.yaml", over)], &env).unwrap_or_else(|f| panic!("{}", told(&f)));
    let hesper_collector_config::receivers::Receiver::Otlp(otlp) =
        &config.receivers[&"otlp".parse().expect("an id")].settings
    else {
        panic!()
    };
    let grpc = otlp.grpc.as_ref().expect("gRPC");
    assert_eq!(grpc.endpoint, Endpoint::parse("localhost:2").expect("an endpoint"));
    assert!(grpc.include_metadata, "what the later file does not say stays");
    let Exporter::Debug(debug) = &config.exporters[&"debug".parse().expect("an id")].settings else {
        panic!()
    };
    assert_eq!(
        debug.verbosity,
        hesper_collector_config::exporters::Verbosity::Basic,
        "nothing replaces a mapping"
    );
    let pipeline = config.service.pipelines.values().next().expect("a pipeline");
    assert_eq!(pipeline.exporters, ["otlp".parse().expect("an id")]);
    assert_eq!(pipeline.receivers, ["otlp".parse().expect("an id")]);
}

#[test]
fn faults_name_their_file_in_the_order_of_the_files() {
    let files = [
        ("z.yaml", "exporters: {debug: {verbosty: basic}}\n"),
        ("a.yaml", "receivers: {otlp: 5}\n"),
        ("b.yaml", BASE),
    ];
    let faults = load(&[files[2], files[0], files[1]], &env).expect_err("faults");
    let places: Vec<String> = faults.iter().map(|fault| fault.place.to_string()).collect();
    assert_eq!(places, ["z.yaml:1:21", "a.yaml:1:19"], "{}", told(&faults));
}

#[test]
fn a_file_without_a_configuration_is_a_fault() {
    for (text, expected) in [
        ("", "f.yaml:1:1: there is no configuration here"),
        ("# nothing\n", "f.yaml:1:1: there is no configuration here"),
        ("[a]\n", "f.yaml:1:1: a configuration must be a mapping"),
        ("a: [\n", "f.yaml:2:1: this is not YAML"),
        ("receivers:\n\totlp:\n", "f.yaml:2:"),
        (
            "kind: OpenTelemetryCollector\napiVersion: opentelemetry.io/v1beta1\nspec: {mode: x}\n",
            "f.yaml:3:7: this manifest has no spec.config",
        ),
        (
            "kind: OpenTelemetryCollector\napiVersion: opentelemetry.io/v7\nspec: {config: {}}\n",
            "f.yaml:2:13: the version opentelemetry.io/v7",
        ),
        (
            "kind: OpenTelemetryCollector\napiVersion: opentelemetry.io/v1beta1\nspec: {config: }\n",
            "f.yaml:3:14: spec.config must hold one document",
        ),
        (
            "kind: OpenTelemetryCollector\napiVersion: opentelemetry.io/v1alpha1\nspec:\n  config: |\n    a: [\n    b\n",
            "f.yaml:",
        ),
    ] {
        let faults = load(&[("f.yaml", text)], &env).expect_err(text);
        assert!(faults[0].to_string().starts_with(expected), "{text}\n{}", told(&faults));
        assert_eq!(faults.len(), 1, "{text}\n{}", told(&faults));
    }
    assert!(load(&[], &env).is_err());
}

#[test]
fn faults_inside_a_manifests_text_have_the_lines_of_the_file() {
    let text = "apiVersion: opentelemetry.io/v1alpha1\nkind: OpenTelemetryCollector\nspec:\n  config: |\n\n    \
                receivers:\n      otlp:\n        protokols:\n";
    let faults = load(&[("base.yaml", BASE), ("f.yaml", text)], &env).expect_err("a fault");
    assert!(
        told(&faults)
            .contains("f.yaml:8:9: 'protokols' is no key of receiver 'otlp'; did you mean 'protocols'?"),
        "{}",
        told(&faults)
    );
}

#[test]
fn two_configurations_in_one_file_are_a_fault_and_other_manifests_are_not() {
    let two = format!("{BASE}---\n{BASE}");
    let faults = load(&[("f.yaml", &two)], &env).expect_err("two");
    assert!(
        told(&faults)
            .starts_with("f.yaml:5:1: a second configuration in one file, the first is at f.yaml:1:1")
    );
    let other = format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: x}}\n---\n{BASE}");
    let (_, remarks) = load(&[("f.yaml", &other)], &env).unwrap_or_else(|f| panic!("{}", told(&f)));
    let topics: Vec<_> = remarks.iter().map(|remark| remark.topic).collect();
    assert_eq!(topics, [Topic::Source]);
}

#[test]
fn all_faults_are_told_at_once() {
    let text = "receivers: {otlp: {protocols: {grpc: {endpoint: x, colour: red}, htpt: }}}\n\
                processors: {batch: {timeout: 5}}\nexporters: {debgu: }\n\
                service: {pipelines: {traces: {receivers: [nothing]}, spans: {}}}\n";
    let faults = load(&[("f.yaml", text)], &env).expect_err("faults");
    let places: Vec<String> = faults.iter().map(|fault| fault.place.to_string()).collect();
    let expected = [
        "f.yaml:1:49",
        "f.yaml:1:52",
        "f.yaml:1:66",
        "f.yaml:2:31",
        "f.yaml:3:13",
        "f.yaml:4:31",
        "f.yaml:4:44",
        "f.yaml:4:55",
    ];
    assert_eq!(places, expected, "{}", told(&faults));
}

#[test]
fn anchors_and_merge_keys_work() {
    let text = "exporters:\n  otlp/a: &common\n    endpoint: a:1\n    timeout: 3s\n    headers: &headers {x: y}\n  otlp/b:\n    \
                <<: *common\n    endpoint: b:1\n  otlp/c:\n    <<: [{timeout: 7s, endpoint: c:1}, *common]\n    headers: {}\n";
    let (config, _) =
        load(&[("base.yaml", BASE), ("f.yaml", text)], &env).unwrap_or_else(|f| panic!("{}", told(&f)));
    let said: Vec<_> = ["otlp/a", "otlp/b", "otlp/c"]
        .map(|id| match &config.exporters[&id.parse().expect("an id")].settings {
            Exporter::Otlp(otlp) => {
                (otlp.client.endpoint.to_string(), otlp.timeout.as_secs(), otlp.client.headers.len())
            }
            other => panic!("{other:?}"),
        })
        .into();
    assert_eq!(said, [("a:1".into(), 3, 1), ("b:1".into(), 3, 1), ("c:1".into(), 7, 0)]);
    let faults = load(&[("f.yaml", "exporters: {debug: {<<: x}}")], &env).expect_err("no mapping");
    assert!(told(&faults).contains("'<<' is no key of exporter 'debug'"), "{}", told(&faults));
}
