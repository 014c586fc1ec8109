//! The two configurations of the article, plain and in the operator's manifests: they load, and the remarks say what their
//! author did not see.

use crate::{env, told};
use hesper_collector_config::{
    Address, Config, Endpoint, Pattern, Remark, Signal, Topic,
    exporters::{Exporter, Verbosity},
    extensions::{BasicAuth, Extension},
    load,
    processors::{Action, ActionSource, Change, K8sAttributes, Processor},
    receivers::Receiver,
};

const SERVER: [(&str, &str); 3] = [
    ("server.yaml", include_str!("../../../../examples/collector/article/server.yaml")),
    ("server-v1alpha1.yaml", include_str!("../../../../examples/collector/operator/server-v1alpha1.yaml")),
    ("server-v1beta1.yaml", include_str!("../../../../examples/collector/operator/server-v1beta1.yaml")),
];
const EDGE: [(&str, &str); 3] = [
    ("edge.yaml", include_str!("../../../../examples/collector/article/edge.yaml")),
    ("edge-v1alpha1.yaml", include_str!("../../../../examples/collector/operator/edge-v1alpha1.yaml")),
    ("edge-v1beta1.yaml", include_str!("../../../../examples/collector/operator/edge-v1beta1.yaml")),
];

fn loaded(file: (&str, &str)) -> (Config, Vec<Remark>) {
    load(&[file], &env).unwrap_or_else(|faults| panic!("{}", told(&faults)))
}

/// Topic, line and what the remark is about.
fn check(file: (&str, &str), expected: &[(Topic, &str, &str)]) {
    let (_, remarks) = loaded(file);
    assert_eq!(remarks.len(), expected.len(), "{}: {remarks:#?}", file.0);
    for (remark, (topic, line, reason)) in remarks.iter().zip(expected) {
        assert_eq!(remark.topic, *topic, "{remark}");
        assert!(remark.reason.contains(reason), "{remark}");
        let at = file.1.lines().nth(remark.place.line - 1).unwrap_or_default();
        assert_eq!(at.trim(), *line, "{remark}");
        let behind = at.chars().skip(remark.place.column - 1).collect::<String>();
        assert!(line.ends_with(&behind) && !behind.is_empty(), "{remark}: {behind}");
        assert!(!remark.next.is_empty());
    }
}

#[test]
fn the_server_loads_with_three_remarks() {
    let remarks = [
        (Topic::Reach, "authenticator: basicauth/server", "only this machine can call"),
        (Topic::Renamed, "otlp/jaeger:", "otlp is called otlp_grpc"),
        (Topic::NoEffect, "insecure_skip_verify: true", "no TLS at all"),
    ];
    check(SERVER[0], &remarks);
    check(SERVER[2], &remarks);
    let mut manifest = vec![(Topic::Source, "apiVersion: jaegertracing.io/v1", "kind Jaeger")];
    manifest.extend(remarks);
    check(SERVER[1], &manifest);
}

#[test]
fn the_edge_loads_and_is_told_that_resource_does_nothing() {
    let remarks = [
        (Topic::Unused, "resource:", "processor 'resource' is defined, but is in no pipeline"),
        (Topic::Renamed, "k8sattributes:", "called k8s_attributes"),
        (Topic::Renamed, "otlp:", "called otlp_grpc"),
        (Topic::Renamed, "logging:", "called debug"),
    ];
    for file in EDGE {
        check(file, &remarks);
    }
}

#[test]
fn the_server_says_what_it_said() {
    let configs = SERVER.map(|file| loaded(file).0);
    for config in &configs {
        let id = |text: &str| text.parse().expect("an id");
        let Receiver::Otlp(otlp) = &config.receivers[&id("otlp/basicauth")].settings else { panic!() };
        let grpc = otlp.grpc.as_ref().expect("gRPC");
        assert_eq!(grpc.endpoint, Endpoint::Underlay(Address::new("localhost", 4317)));
        assert_eq!(
            grpc.auth.as_ref().map(|auth| auth.authenticator.to_string()),
            Some("basicauth/server".into())
        );
        assert_eq!(otlp.http, None);
        let Exporter::Otlp(exporter) = &config.exporters[&id("otlp/jaeger")].settings else { panic!() };
        assert!(!exporter.client.speaks_tls());
        let Extension::BasicAuth(BasicAuth::Server(auth)) =
            &config.extensions[&id("basicauth/server")].settings
        else {
            panic!()
        };
        assert_eq!(auth.inline.as_ref().map(|inline| inline.expose()), Some("user-1:1234\n"));
    }
}

#[test]
fn the_edge_says_what_it_said() {
    for config in EDGE.map(|file| loaded(file).0) {
        let id = |text: &str| text.parse().expect("an id");
        let Extension::BasicAuth(BasicAuth::Client(auth)) =
            &config.extensions[&id("basicauth/client")].settings
        else {
            panic!()
        };
        assert_eq!((&*auth.username, auth.password.expose()), ("user-1", "1234"));
        let Processor::K8sAttributes(k8s) = &config.processors[&id("k8sattributes")].settings else {
            panic!()
        };
        let K8sAttributes { filter, strict, exclude, .. } = &**k8s;
        assert_eq!((filter.node.as_deref(), *strict), (Some("node-7"), false));
        assert_eq!(exclude.first(), Pattern::new("jaeger-agent").ok().as_ref());
        let Processor::Resource(actions) = &config.processors[&id("resource")].settings else { panic!() };
        let insert = |key: &str, value: &str| Action {
            key: key.into(),
            change: Change::Insert(ActionSource::Value(hesper_collector_config::Value::Text(value.into()))),
        };
        let expected =
            [insert("cloud.availability_zone", "eu-west-1"), insert("k8s.cluster.name", "edge-cluster-1")];
        assert_eq!(actions[..], expected);
        let Exporter::Otlp(otlp) = &config.exporters[&id("otlp")].settings else { panic!() };
        assert_eq!(otlp.client.endpoint, Endpoint::Underlay(Address::new("traces.example.com", 443)));
        assert!(otlp.client.speaks_tls());
        let Exporter::Debug(debug) = &config.exporters[&id("logging")].settings else { panic!() };
        assert_eq!((debug.verbosity, debug.sampling_thereafter), (Verbosity::Basic, 500));
        let pipelines: Vec<_> = config.service.pipelines.iter().collect();
        let [(name, pipeline)] = pipelines[..] else { panic!("{pipelines:?}") };
        assert_eq!((name.signal, name.to_string()), (Signal::Traces, "traces".into()));
        assert_eq!(pipeline.exporters, [id("otlp"), id("logging")]);
        assert_eq!(pipeline.processors, [id("k8sattributes")]);
    }
}

#[test]
fn a_service_of_the_mesh_takes_the_place_of_an_address() {
    let text = EDGE[0].1.replace("\"traces.example.com:443\"", "hesper://traces");
    let (config, _) = loaded(("edge.yaml", &text));
    let Exporter::Otlp(otlp) = &config.exporters[&"otlp".parse().expect("an id")].settings else { panic!() };
    let mesh = Endpoint::Mesh { service: "traces".into(), instance: None, path: String::new(), query: None };
    assert_eq!(otlp.client.endpoint, mesh);
    assert!(!otlp.client.speaks_tls(), "the mesh is secure by itself");
}

#[test]
fn resource_in_the_pipeline_takes_the_remark_away() {
    let text = EDGE[0].1.replace("[k8sattributes]", "[k8sattributes, resource]");
    let (_, remarks) = loaded(("edge.yaml", &text));
    assert!(remarks.iter().all(|remark| remark.topic == Topic::Renamed), "{remarks:#?}");
}

#[test]
fn what_was_to_be_replaced_is_told() {
    let text =
        SERVER[0].1.replace("user-1:1234", "<REPLACE: your backend credentials, e.g.: \"user-1:1234\">");
    let faults = load(&[("server.yaml", &text)], &env).expect_err("a placeholder");
    assert!(told(&faults).starts_with("server.yaml:5:9: inline of htpasswd"), "{}", told(&faults));
    assert_eq!(faults.len(), 1);
}

#[test]
fn the_dark_pair_loads_without_a_remark() {
    for (name, text) in [
        ("edge.yaml", include_str!("../../../../examples/collector/dark/edge.yaml")),
        ("centre.yaml", include_str!("../../../../examples/collector/dark/centre.yaml")),
    ] {
        let (config, remarks) = loaded((name, text));
        assert!(remarks.is_empty(), "{remarks:#?}");
        let mesh = config.exporters.values().flat_map(|e| e.settings.endpoints()).any(Endpoint::is_mesh)
            || matches!(&config.receivers.values().next().expect("a receiver").settings,
                Receiver::Otlp(otlp) if otlp.grpc.as_ref().is_some_and(|grpc| grpc.endpoint.is_mesh()));
        assert!(mesh, "{name}");
    }
}
