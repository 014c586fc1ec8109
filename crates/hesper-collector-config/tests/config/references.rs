//! Names that must fit together.

use crate::{BASE, config, env, faults};
use hesper_collector_config::{Class, load};

const AUTH: &str = "extensions: {basicauth/server: {htpasswd: {inline: 'a:b'}}, basicauth/client: {client_auth: {username: a, \
                    password: b}}, file_storage: , bearertokenauth: {token: t}}\n";

#[test]
fn an_authenticator_must_be_defined_run_and_be_of_the_right_kind() {
    let receiver = |id: &str| {
        format!("{AUTH}receivers: {{otlp: {{protocols: {{grpc: {{auth: {{authenticator: {id}}}}}}}}}}}\n")
    };
    let exporter = |id: &str| {
        format!(
            "{AUTH}exporters: {{debug: , otlp: {{endpoint: 'a:1', auth: {{authenticator: {id}}}}}}}\nservice: {{pipelines: {{traces: {{exporters: [otlp]}}}}}}\n"
        )
    };
    let all = "service: {extensions: [basicauth/server, basicauth/client, file_storage, bearertokenauth]}\n";
    let running = |text: String| match text.contains("\nservice: {") {
        true => text
            .replace("service: {", all.trim_end().trim_end_matches('}'))
            .replace("]pipelines", "], pipelines"),
        false => text + all,
    };
    for (text, expected) in [
        (
            receiver("basicauth/sever"),
            "f.yaml:2:61: authenticator 'basicauth/sever' is not defined; did you mean 'basicauth/server'?",
        ),
        (receiver("oidc"), "f.yaml:2:61: authenticator 'oidc' is not defined; define it under extensions"),
        (
            receiver("basicauth/server") + "service: {extensions: [file_storage]}",
            "f.yaml:2:61: authenticator 'basicauth/server' is defined at f.yaml:1:14, but not in service.extensions (f.yaml:3:23); add basicauth/server",
        ),
        (
            receiver("basicauth/server"),
            "f.yaml:2:61: authenticator 'basicauth/server' is defined at f.yaml:1:14, but not in service.extensions (base.yaml:3:10)",
        ),
        (
            running(receiver("basicauth/client")),
            "f.yaml:2:61: 'basicauth/client' (at f.yaml:1:61) checks no callers; name basicauth with htpasswd",
        ),
        (running(receiver("file_storage")), "f.yaml:2:61: 'file_storage' (at f.yaml:1:"),
        (
            running(exporter("basicauth/server")),
            "f.yaml:2:68: 'basicauth/server' (at f.yaml:1:14) does not say who we are",
        ),
        (
            exporter("'basicauth/'"),
            "f.yaml:2:68: authenticator of auth of exporter 'otlp': 'basicauth/' is no id",
        ),
    ] {
        let faults = faults(&text);
        assert_eq!(faults.len(), 1, "{text}{faults:#?}");
        assert!(faults[0].starts_with(expected), "{text}{faults:#?}");
    }
    for fine in [
        receiver("basicauth/server"),
        receiver("bearertokenauth"),
        exporter("basicauth/client"),
        exporter("bearertokenauth"),
    ] {
        config(&running(fine));
    }
}

#[test]
fn a_storage_must_be_one() {
    let text = |id: &str, running: &str| {
        format!(
            "{AUTH}exporters: {{otlp: {{endpoint: 'a:1', sending_queue: {{storage: {id}}}}}}}\n\
             service: {{extensions: [{running}], pipelines: {{traces: {{exporters: [otlp]}}}}}}\n"
        )
    };
    config(&text("file_storage", "file_storage"));
    assert!(faults(&text("file_storage", ""))[0].contains("storage 'file_storage' is defined at f.yaml"));
    assert!(faults(&text("file_storage/x", ""))[0].contains("storage 'file_storage/x' is not defined"));
    assert!(faults(&text("bearertokenauth", "bearertokenauth"))[0].contains("stores nothing"));
}

#[test]
fn what_does_not_run_refers_to_nothing() {
    config(
        "exporters: {otlp: {endpoint: 'a:1', auth: {authenticator: nobody}, sending_queue: {storage: nothing}}}",
    );
}

#[test]
fn pipelines_name_what_there_is() {
    for (pipelines, expected) in [
        (
            "{traces: {receivers: [otpl]}}",
            "f.yaml:1:44: pipeline 'traces' names receiver 'otpl', which is not defined; did you mean 'otlp'?",
        ),
        (
            "{traces: {receivers: [debug]}}",
            "f.yaml:1:44: pipeline 'traces' names receiver 'debug', which is not defined; there is exporter 'debug'",
        ),
        (
            "{traces: {processors: [batch]}}",
            "f.yaml:1:45: pipeline 'traces' names processor 'batch', which is not defined; define it under processors",
        ),
        ("{traces: {receivers: []}}", "f.yaml:1:43: pipeline 'traces' has no receivers; add receivers: [ID]"),
        ("{traces: {exporters: }}", "f.yaml:1:32: pipeline 'traces' has no exporters"),
        (
            "{traces: {exporters: [debug, debug]}}",
            "f.yaml:1:51: 'debug' is in exporters of pipeline 'traces' twice",
        ),
        (
            "{spans: {receivers: [otlp], exporters: [debug]}}",
            "f.yaml:1:23: 'spans' is no signal; the signals are traces, metrics, logs, profiles",
        ),
        (
            "{metric: {receivers: [otlp], exporters: [debug]}}",
            "f.yaml:1:23: 'metric' is no signal; did you mean 'metrics'?",
        ),
        ("{logs/: {receivers: [otlp], exporters: [debug]}}", "f.yaml:1:23: 'logs/' is no pipeline"),
        ("{logs/a: {exporters: [debug]}}", "f.yaml:1:31: pipeline 'logs/a' has no receivers"),
    ] {
        let faults = faults(&format!("service: {{pipelines: {pipelines}}}"));
        assert_eq!(faults.len(), 1, "{pipelines}: {faults:#?}");
        assert!(faults[0].starts_with(expected), "{pipelines}: {faults:#?}");
    }
}

#[test]
fn components_carry_only_their_signals() {
    let text = "receivers: {prometheus: {config: {scrape_configs: [{job_name: a, hesper_sd_configs: [{}]}]}}}\n\
                processors: {probabilistic_sampler: {sampling_percentage: 1}}\n\
                exporters: {prometheusremotewrite: {endpoint: 'http://a'}}\n\
                service: {pipelines: {logs: {receivers: [prometheus], exporters: [prometheusremotewrite]}, \
                metrics: {receivers: [prometheus], processors: [probabilistic_sampler], exporters: [prometheusremotewrite]}}}\n";
    let faults = faults(text);
    let expected = [
        "receiver 'prometheus' does not carry logs",
        "exporter 'prometheusremotewrite' does not carry logs",
        "processor 'probabilistic_sampler' does not carry metrics",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn a_service_without_pipelines_is_none() {
    let components = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n";
    for (service, expected) in [
        ("", "f.yaml:1:1: there is no service"),
        ("service: ", "f.yaml:3:8: the service has no pipelines"),
        ("service: {pipelines: }", "f.yaml:3:11: the service has no pipelines"),
        ("service: {pipelines: {}}", "f.yaml:3:22: the service has no pipelines"),
        (
            "service: {extensions: [x], pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}",
            "f.yaml:3:24: service.extensions names 'x', which is not defined",
        ),
    ] {
        let faults = load(&[("f.yaml", &format!("{components}{service}"))], &env).expect_err(service);
        assert_eq!(faults.len(), 1, "{service}: {faults:#?}");
        assert!(faults[0].to_string().starts_with(expected), "{service}: {faults:#?}");
    }
}

#[test]
fn two_listeners_cannot_have_one_address() {
    let text = "receivers: {otlp/2: {protocols: {grpc: }}}\nservice: {pipelines: {traces: {receivers: [otlp, otlp/2]}}}\n";
    let faults = faults(text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains("listens on localhost:4317, and so does the one at"), "{faults:#?}");
    config(&text.replace("grpc: }", "grpc: {endpoint: 'localhost:1'}}"));
}

#[test]
fn a_component_is_used_when_a_pipeline_names_it() {
    let (config, _) = load(&[("f.yaml", BASE)], &env).expect("it is fine");
    let id = |text: &str| text.parse().expect("an id");
    assert!(config.uses(Class::Receiver, &id("otlp")) && config.uses(Class::Exporter, &id("debug")));
    assert!(!config.uses(Class::Processor, &id("batch")) && !config.uses(Class::Receiver, &id("debug")));
}

#[test]
fn an_id_is_defined_once() {
    assert!(
        faults("receivers: {otlp/a: {protocols: {grpc: }}, 'otlp / a': {protocols: {grpc: }}}")[0]
            .contains("receiver 'otlp/a' is defined twice, the first time at f.yaml:1:13")
    );
}
