//! Typing errors: wherever they are, they are told with their place and the key that was probably meant.

use crate::faults;

/// A text with one key that nobody knows, and the fault.
const UNKNOWN: &[(&str, &str)] = &[
    ("recievers: {}", "f.yaml:1:1: 'recievers' is no key of the configuration; did you mean 'receivers'?"),
    (
        "service: {pipeline: {}}",
        "f.yaml:1:11: 'pipeline' is no key of service of the configuration; did you mean 'pipelines'?",
    ),
    (
        "service: {telemetry: {metric: {}}}",
        "f.yaml:1:23: 'metric' is no key of telemetry of service of the configuration; did you mean 'metrics'?",
    ),
    (
        "service:\n  pipelines:\n    traces:\n      exporter: [debug]\n",
        "f.yaml:4:7: 'exporter' is no key of pipeline 'traces'; did you mean 'exporters'?",
    ),
    ("receivers: {otlpp: }", "f.yaml:1:13: receiver type 'otlpp' is not known here; did you mean 'otlp'?"),
    (
        "processors: {tail_sampling: }",
        "f.yaml:1:14: processor type 'tail_sampling' is not known here; the types of processors are attributes, ",
    ),
    (
        "exporters: {otlp_htp: }",
        "f.yaml:1:13: exporter type 'otlp_htp' is not known here; did you mean 'otlp_http'?",
    ),
    (
        "extensions: {basic_auth: }",
        "f.yaml:1:14: extension type 'basic_auth' is not known here; did you mean 'basicauth'?",
    ),
    ("receivers: {1otlp: }", "f.yaml:1:13: '1otlp' is no id; write TYPE or TYPE/NAME"),
    ("connectors: {spanmetrics: }", "f.yaml:1:14: connectors are not known here"),
    (
        "receivers: {otlp: {protocols: {http: {enpoint: x}}}}",
        "f.yaml:1:39: 'enpoint' is no key of http of receiver 'otlp'; did you mean 'endpoint'?",
    ),
    (
        "receivers: {otlp: {protocols: {grpc: {max_recv_msg_size: 1}}}}",
        "f.yaml:1:39: 'max_recv_msg_size' is no key of grpc of receiver 'otlp'",
    ),
    (
        "receivers: {otlp: {protocols: {grpc: {tls: {cert_flie: a, key_file: b, cert_file: a}}}}}",
        "f.yaml:1:45: 'cert_flie' is no key of tls of grpc of receiver 'otlp'; did you mean 'cert_file'?",
    ),
    (
        "receivers: {otlp: {protocols: {grpc: {keepalive: {server_parameters: {tme: 1s}}}}}}",
        "f.yaml:1:71: 'tme' is no key of server_parameters of keepalive of grpc of receiver 'otlp'; did you mean 'time'?",
    ),
    (
        "receivers: {otlp: {protocols: {http: {cors: {allowed_origin: [x]}}}}}",
        "f.yaml:1:46: 'allowed_origin' is no key of cors of http of receiver 'otlp'; did you mean 'allowed_origins'?",
    ),
    (
        "receivers: {prometheus: {config: {scrape_configs: [{job_name: a, static_configs: [{targets: ['a:1']}], metric_path: x}]}}}",
        "f.yaml:1:104: 'metric_path' is no key of an entry of scrape_configs of receiver 'prometheus'; did you mean 'metrics_path'?",
    ),
    (
        "exporters: {otlp: {endpoint: 'a:1', sending_queue: {queue_sise: 1}}}",
        "f.yaml:1:53: 'queue_sise' is no key of sending_queue of exporter 'otlp'; did you mean 'queue_size'?",
    ),
    (
        "exporters: {otlp: {endpoint: 'a:1', retry_on_failure: {max_elapsed: 1s}}}",
        "f.yaml:1:56: 'max_elapsed' is no key of retry_on_failure of exporter 'otlp'",
    ),
    (
        "exporters: {otlp: {endpoint: 'a:1', tls: {insecur: true}}}",
        "f.yaml:1:43: 'insecur' is no key of tls of exporter 'otlp'; did you mean 'insecure'?",
    ),
    (
        "exporters: {otlp: {endpoint: 'a:1', headers: {}, header: {}}}",
        "f.yaml:1:50: 'header' is no key of exporter 'otlp'; did you mean 'headers'?",
    ),
    (
        "exporters: {otlphttp: {endpoint: 'http://a', trace_endpoint: x}}",
        "f.yaml:1:46: 'trace_endpoint' is no key of exporter 'otlphttp'; did you mean 'traces_endpoint'?",
    ),
    (
        "exporters: {file: {path: x, rotation: {max_megabyte: 1}}}",
        "f.yaml:1:40: 'max_megabyte' is no key of rotation of exporter 'file'; did you mean 'max_megabytes'?",
    ),
    (
        "exporters: {prometheusremotewrite: {endpoint: 'http://a', external_label: {}}}",
        "f.yaml:1:59: 'external_label' is no key of exporter 'prometheusremotewrite'; did you mean 'external_labels'?",
    ),
    (
        "exporters: {debug: {verbosty: basic}}",
        "f.yaml:1:21: 'verbosty' is no key of exporter 'debug'; did you mean 'verbosity'?",
    ),
    (
        "processors: {batch: {timout: 1s}}",
        "f.yaml:1:22: 'timout' is no key of processor 'batch'; did you mean 'timeout'?",
    ),
    (
        "processors: {memory_limiter: {check_interval: 1s, limit_mib: 1, limit_mb: 2}}",
        "f.yaml:1:65: 'limit_mb' is no key of processor 'memory_limiter'; did you mean 'limit_mib'?",
    ),
    (
        "processors: {k8sattributes: {filter: {node_from_env: X}}}",
        "f.yaml:1:39: 'node_from_env' is no key of filter of processor 'k8sattributes'",
    ),
    (
        "processors: {resource: {attribute: []}}",
        "f.yaml:1:25: 'attribute' is no key of processor 'resource'; did you mean 'attributes'?",
    ),
    (
        "processors: {probabilistic_sampler: {sampling_percentage: 1, hashseed: 2}}",
        "f.yaml:1:62: 'hashseed' is no key of processor 'probabilistic_sampler'; did you mean 'hash_seed'?",
    ),
];

#[test]
fn unknown_keys_are_told_with_the_nearest_one() {
    let mut wrong = String::new();
    for (text, expected) in UNKNOWN {
        let faults = faults(text);
        if !faults.iter().any(|fault| fault.starts_with(expected)) {
            wrong += &format!("{text}\nexpected {expected}\n     got {faults:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn values_of_another_kind_are_told() {
    for (text, expected) in [
        ("receivers: []", "f.yaml:1:12: receivers of the configuration must be a mapping, not a list"),
        ("receivers: {otlp: yes}", "f.yaml:1:19: receiver 'otlp' must be a mapping, not a single value"),
        (
            "processors: {batch: {timeout: [1s]}}",
            "f.yaml:1:31: timeout of processor 'batch' must be a single value, not a list",
        ),
        (
            "processors: {batch: {timeout: 5}}",
            "f.yaml:1:31: timeout of processor 'batch': '5' is not a duration; write a number with its unit",
        ),
        (
            "processors: {batch: {timeout: -1s}}",
            "f.yaml:1:31: timeout of processor 'batch': '-1s' is not a duration",
        ),
        (
            "processors: {batch: {send_batch_size: many}}",
            "f.yaml:1:39: send_batch_size of processor 'batch': 'many' is not such a number; write a whole number from 0 on",
        ),
        (
            "processors: {batch: {metadata_keys: a}}",
            "f.yaml:1:37: metadata_keys of processor 'batch': must be a list, not a single value; write it as [a, b]",
        ),
        (
            "exporters: {otlp: {endpoint: 'a:1', tls: {insecure: 'yes'}}}",
            "f.yaml:1:53: insecure of tls of exporter 'otlp': 'yes' is not true or false",
        ),
        (
            "exporters: {otlp: {endpoint: 'a:1', headers: secret}}",
            "f.yaml:1:46: headers of exporter 'otlp': must be a mapping, not a single value",
        ),
        (
            "exporters: {otlp: {endpoint: 'a:1', sending_queue: {num_consumers: 0}}}",
            "f.yaml:1:68: num_consumers of sending_queue of exporter 'otlp': '0' is not such a number",
        ),
        (
            "exporters: {otlp: {endpoint: 'a:1', retry_on_failure: {randomization_factor: 2}}}",
            "f.yaml:1:78: randomization_factor of retry_on_failure of exporter 'otlp': not between 0 and 1",
        ),
        (
            "service: {extensions: otlp}",
            "f.yaml:1:23: extensions of service of the configuration: must be a list",
        ),
    ] {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
        assert!(faults[0].starts_with(expected), "{text}: {faults:#?}");
    }
}

#[test]
fn tls_that_cannot_be_is_told() {
    for (tls, expected) in [
        ("", "has no certificate"),
        ("{}", "has no certificate"),
        ("{cert_file: a}", "has only a certificate; add key_file"),
        ("{key_file: a}", "has only a key; add cert_file"),
        ("{cert_file: a, cert_pem: b, key_file: c}", "given twice"),
        ("{cert_file: a, key_file: b, max_version: '1.1'}", "no version is left"),
        ("{cert_file: a, key_file: b, min_version: '1.3', max_version: '1.2'}", "no version is left"),
        ("{cert_file: a, key_file: b, min_version: TLS12}", "'TLS12' is no choice"),
        ("{cert_file: a, key_file: b, tpm: {enabled: true}}", "not supported here"),
    ] {
        let faults = faults(&format!("receivers: {{otlp: {{protocols: {{grpc: {{tls: {tls}}}}}}}}}"));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{tls}: {faults:#?}");
        assert!(faults.len() <= 2, "{tls}: {faults:#?}");
    }
}

#[test]
fn auth_that_names_nobody_does_not_mean_everybody() {
    for auth in ["", "{}", "{authenticator: }"] {
        let faults = faults(&format!("receivers: {{otlp: {{protocols: {{grpc: {{auth: {auth}}}}}}}}}"));
        assert!(
            faults[0].contains("has no authenticator; name an extension, or leave auth out"),
            "{faults:#?}"
        );
    }
}
