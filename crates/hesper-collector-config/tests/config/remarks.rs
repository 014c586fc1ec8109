//! What runs, but probably not as meant.

use crate::{over_base, remarks, told};
use hesper_collector_config::Topic;

/// Every remark on a text, with its topic.
fn all(text: &str) -> Vec<(Topic, String)> {
    let (_, remarks) = over_base(text).unwrap_or_else(|faults| panic!("{text}\n{}", told(&faults)));
    remarks.iter().map(|remark| (remark.topic, remark.to_string())).collect()
}

#[test]
fn nothing_is_said_about_what_is_as_it_should_be() {
    assert_eq!(all("processors: {}"), []);
}

#[test]
fn passwords_that_will_not_match_are_told_and_not_shown() {
    let client = |password: &str| {
        format!(
            "extensions:\n  basicauth:\n    client_auth:\n      username: u\n      password: {password}\n"
        )
    };
    for (password, expected) in [
        (
            "\"hunter2\\n\"",
            "f.yaml:5:17: password of client_auth of extension 'basicauth' ends with a line break",
        ),
        (
            "|\n        hunter2\n",
            "f.yaml:6:9: password of client_auth of extension 'basicauth' ends with a line break",
        ),
        (
            "\"hun\\nter2\"",
            "f.yaml:5:17: password of client_auth of extension 'basicauth' has a line break in it",
        ),
        (
            "'\"hunter2\"'",
            "f.yaml:5:17: password of client_auth of extension 'basicauth' has quotes around it",
        ),
        (
            "' hunter2'",
            "f.yaml:5:17: password of client_auth of extension 'basicauth' begins or ends with a space",
        ),
    ] {
        let told = remarks(&client(password));
        assert_eq!(told.len(), 1, "{password}: {told:#?}");
        assert!(told[0].starts_with(expected), "{password}: {told:#?}");
        assert!(!told[0].contains("hunter") && !told[0].contains("ter2"), "{told:#?}");
    }
    for fine in ["hunter2", "'hunter2'", "|-\n        hunter2\n"] {
        assert_eq!(remarks(&client(fine)), [""; 0], "{fine}");
    }
}

#[test]
fn htpasswd_lines_that_let_nobody_in_are_told() {
    let server = |inline: &str| format!("extensions: {{basicauth: {{htpasswd: {{inline: \"{inline}\"}}}}}}");
    for (inline, expected) in [
        (
            "\\\"user-1:1234\\\"",
            "line 1 of inline of htpasswd of extension 'basicauth' has quotes that are part of the name",
        ),
        ("a:b\\n\\nuser\\n", "line 3 of inline of htpasswd of extension 'basicauth' has no colon"),
        ("\\n", "lets nobody in"),
    ] {
        let told = remarks(&server(inline));
        assert_eq!(told.len(), 1, "{inline}: {told:#?}");
        assert!(told[0].contains(expected) && !told[0].contains("user-1"), "{inline}: {told:#?}");
    }
    assert_eq!(remarks(&server("user-1:1234\\n")), [""; 0]);
}

#[test]
fn credentials_in_the_clear_are_told() {
    let otlp = |body: &str| format!("exporters: {{otlp: {{{body}}}}}");
    let http = |body: &str| format!("exporters: {{otlphttp: {{{body}}}}}");
    for text in [
        otlp("endpoint: 'a:1', tls: {insecure: true}, auth: {authenticator: x}"),
        otlp("endpoint: 'a:1', tls: {insecure: true}, headers: {Authorization: x}"),
        otlp("endpoint: 'a:1', tls: {insecure: true}, headers: {x-api-key: x}"),
        http("endpoint: 'http://a', auth: {authenticator: x}"),
        http("endpoint: 'http://u:p@a'"),
        "exporters: {prometheusremotewrite: {endpoint: 'http://a', headers: {x-token: a}}}".into(),
    ] {
        let told = remarks(&text);
        assert_eq!(told.len(), 1, "{text}: {told:#?}");
        assert!(told[0].contains("can be read by anybody on the way"), "{text}: {told:#?}");
    }
    for text in [
        otlp("endpoint: 'a:1', auth: {authenticator: x}"),
        otlp("endpoint: 'a:1', tls: {insecure: true}"),
        otlp("endpoint: 'localhost:1', tls: {insecure: true}, auth: {authenticator: x}"),
        otlp("endpoint: 'hesper://a', auth: {authenticator: x}"),
        http("endpoint: 'https://a', auth: {authenticator: x}"),
        http("endpoint: 'hesper://a', auth: {authenticator: x}"),
    ] {
        assert_eq!(remarks(&text), [""; 0], "{text}");
    }
}

#[test]
fn who_can_reach_a_listener_is_told() {
    let grpc = |body: &str| format!("receivers: {{otlp: {{protocols: {{grpc: {{{body}}}}}}}}}");
    let server = |body: &str| {
        grpc(body) + "\nextensions: {bearertokenauth: {token: t}}\nservice: {extensions: [bearertokenauth]}\n"
    };
    let auth = "auth: {authenticator: bearertokenauth}";
    for (text, expected) in [
        (grpc("endpoint: '0.0.0.0:4317'"), "listens on every address of this machine"),
        (grpc("endpoint: ':4317'"), "listens on every address of this machine"),
        (grpc("endpoint: '[::]:4317'"), "listens on every address of this machine"),
        (server(auth), "only this machine can call"),
        (server(&format!("endpoint: '10.0.0.1:1', {auth}")), "credentials of callers can be read by anybody"),
    ] {
        let told = remarks(&text);
        assert_eq!(told.len(), 1, "{text}: {told:#?}");
        assert!(told[0].contains(expected), "{text}: {told:#?}");
    }
    for text in [
        grpc("endpoint: 'localhost:1'"),
        server(&format!("endpoint: 'localhost:1', {auth}")),
        server(&format!("endpoint: 'hesper://a', {auth}")),
        server(&format!("endpoint: '10.0.0.1:1', tls: {{cert_file: a, key_file: b}}, {auth}")),
    ] {
        assert_eq!(remarks(&text), [""; 0], "{text}");
    }
}

#[test]
fn what_has_no_effect_is_told() {
    for (text, key) in [
        ("extensions: {file_storage: {fsync: false}}", "fsync"),
        ("extensions: {file_storage: {compaction: {on_start: true}}}", "compaction"),
        ("receivers: {otlp: {protocols: {grpc: {read_buffer_size: 1}}}}", "read_buffer_size"),
        ("exporters: {prometheusremotewrite: {endpoint: 'https://a', wal: {directory: x}}}", "wal"),
        ("exporters: {otlp: {endpoint: 'a:1', tls: {cipher_suites: [a]}}}", "cipher_suites"),
        (
            "{extensions: {file_storage: }, exporters: {otlp: {endpoint: 'a:1', sending_queue: {queue_size: 9, storage: file_storage}}}, \
             service: {extensions: [file_storage]}}",
            "queue_size of sending_queue of exporter 'otlp' has no effect here: with storage",
        ),
        ("exporters: {otlp: {endpoint: 'a:1', tls: {min_version: '1.0'}}}", "TLS before 1.2"),
        ("exporters: {otlp: {endpoint: 'hesper://a', tls: {insecure: true}}}", "tls of exporter 'otlp'"),
        (
            "exporters: {otlp: {endpoint: 'a:1', tls: {insecure: true, ca_file: a}}}",
            "insecure has no effect beside a CA",
        ),
        (
            "exporters: {otlp: {endpoint: 'http://a:1'}}",
            "http:// has no effect in the endpoint of exporter 'otlp'",
        ),
        ("service: {telemetry: {traces: {propagators: [b3]}}}", "traces"),
        ("service: {telemetry: {logs: {output_paths: [x]}}}", "output_paths"),
    ] {
        let told = all(text);
        let found = told.iter().filter(|(topic, _)| *topic == Topic::NoEffect).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{text}: {told:#?}");
        assert!(found[0].1.contains(key), "{text}: {told:#?}");
    }
}

#[test]
fn older_names_are_told() {
    let k8s = "processors: {k8sattributes: }";
    for (text, expected) in [
        ("exporters: {otlp: {endpoint: 'a:1'}}", "the exporter type otlp is called otlp_grpc now"),
        (
            "exporters: {otlphttp: {endpoint: 'https://a'}}",
            "the exporter type otlphttp is called otlp_http now",
        ),
        ("exporters: {logging: }", "the exporter type logging is called debug now"),
        (k8s, "the processor type k8sattributes is called k8s_attributes now"),
        (
            "exporters: {otlp_grpc: {endpoint: 'a:1', sending_queue: {blocking: true}}}",
            "blocking is called block_on_overflow now",
        ),
    ] {
        let told = all(text);
        let found: Vec<_> = told.iter().filter(|(topic, _)| *topic == Topic::Renamed).collect();
        assert_eq!(found.len(), 1, "{text}: {told:#?}");
        assert!(found[0].1.contains(expected), "{text}: {told:#?}");
    }
}

#[test]
fn what_is_defined_for_nothing_is_told_with_its_twin() {
    let text = "receivers: {otlp/b: {protocols: {grpc: }}}\nextensions: {file_storage: , bearertokenauth: {token: t}}\n\
                service: {extensions: [bearertokenauth]}\n";
    let told = all(text);
    let expected = [
        "receiver 'otlp/b' is defined, but is in no pipeline: it does nothing ('otlp' of the same type runs)",
        "extension 'file_storage' is defined, but is not in service.extensions: it does nothing;",
        "extension 'bearertokenauth' runs, but no component names it: it does nothing",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((topic, remark), expected) in told.iter().zip(expected) {
        assert_eq!(*topic, Topic::Unused);
        assert!(remark.contains(expected), "{remark}");
    }
}

#[test]
fn when_data_is_on_disk_is_told() {
    let text = "extensions: {file_storage: }\nprocessors: {batch: }\n\
                exporters: {otlp_grpc: {endpoint: 'a:1', sending_queue: {storage: file_storage}}}\n\
                service: {extensions: [file_storage], pipelines: {traces: {processors: [batch], exporters: [otlp_grpc]}}}\n";
    let told = all(text);
    let found: Vec<_> = told.iter().filter(|(topic, _)| *topic == Topic::Durability).collect();
    assert_eq!(found.len(), 1, "{told:#?}");
    assert!(found[0].1.starts_with("f.yaml:4:73: 'batch' stands before a queue on disk"), "{told:#?}");
}

#[test]
fn the_node_of_kubernetes_is_told_when_it_is_not_known() {
    let told = remarks("processors: {k8s_attributes: {filter: {node_from_env_var: NODE}}}");
    assert!(
        told[0].contains("NODE is not set in the environment: pods of every node are watched"),
        "{told:#?}"
    );
}

#[test]
fn a_server_that_is_not_checked_is_told() {
    let told = remarks("exporters: {otlp: {endpoint: 'a:1', tls: {insecure_skip_verify: true}}}");
    assert!(told[0].contains("the server's certificate is not checked"), "{told:#?}");
}

#[test]
fn keys_of_a_provider_without_tls_are_told() {
    let insecure = |settings: &str| {
        let told = all(&format!("extensions: {{oidc: {{audience: a, {settings}}}}}"));
        told.into_iter()
            .filter(|(topic, _)| *topic == Topic::Insecure)
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
    };
    let told = insecure("issuer_url: 'http://keycloak:8080/realms/x'");
    assert!(told.len() == 1 && told[0].contains("without TLS"), "{told:#?}");
    for fine in ["issuer_url: 'https://i'", "issuer_url: 'http://i', public_keys_file: /keys.json"] {
        assert_eq!(insecure(fine), [""; 0], "{fine}");
    }
}

#[test]
fn what_kubernetes_attributes_cannot_do_is_told() {
    let told = remarks(
        "processors: {k8sattributes: {watch_sync_period: 1m, extract: {metadata: [k8s.cluster.name]}}}",
    );
    assert_eq!(told.len(), 2, "{told:#?}");
    for reason in
        ["watch_sync_period of processor 'k8sattributes' has no effect here", "k8s.cluster.name is never set"]
    {
        assert!(told.iter().any(|remark| remark.contains(reason)), "{told:#?}");
    }
}
