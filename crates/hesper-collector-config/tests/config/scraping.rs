//! `prometheus`: every key, every default.

use crate::{faults, receiver};
use hesper_collector_config::{
    Address, Endpoint, Pattern, Secret,
    receivers::{
        Credentials, HesperSd, HttpSd, PrometheusReceiver, Receiver, Relabel, RelabelAction, ScrapeClient,
        ScrapeJob, ScrapeProtocol, ScrapeTls, StaticTargets,
    },
};
use std::{collections::BTreeMap, time::Duration};

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn prometheus(body: &str) -> PrometheusReceiver {
    match receiver("prometheus", body) {
        Receiver::Prometheus(prometheus) => prometheus,
        other => panic!("{other:?}"),
    }
}

/// The only job, from its body without the name.
fn job(body: &str) -> ScrapeJob {
    let mut jobs = prometheus(&format!("{{config: {{scrape_configs: [{{job_name: j, {body}}}]}}}}")).jobs;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn default_client() -> ScrapeClient {
    ScrapeClient {
        credentials: None,
        tls: ScrapeTls::default(),
        proxy_url: None,
        no_proxy: None,
        headers: Vec::new(),
        follow_redirects: true,
        enable_http2: true,
    }
}

fn targets(target: &str) -> StaticTargets {
    StaticTargets { targets: vec![target.into()], labels: BTreeMap::new() }
}

#[test]
fn the_defaults_are_those_of_prometheus() {
    let job = job("static_configs: [{targets: ['a:1']}]");
    let expected = ScrapeJob {
        job_name: "j".into(),
        scrape_interval: seconds(60),
        scrape_timeout: seconds(10),
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        params: BTreeMap::new(),
        honor_labels: false,
        honor_timestamps: true,
        track_timestamps_staleness: false,
        scrape_protocols: vec![
            ScrapeProtocol::OpenMetricsText1_0_0,
            ScrapeProtocol::OpenMetricsText0_0_1,
            ScrapeProtocol::PrometheusText1_0_0,
            ScrapeProtocol::PrometheusText0_0_4,
        ],
        fallback_scrape_protocol: None,
        enable_compression: true,
        body_size_limit: 0,
        sample_limit: 0,
        target_limit: 0,
        label_limit: 0,
        label_name_length_limit: 0,
        label_value_length_limit: 0,
        client: default_client(),
        static_configs: vec![targets("a:1")],
        http_sd_configs: Vec::new(),
        hesper_sd_configs: Vec::new(),
        relabel_configs: Vec::new(),
        metric_relabel_configs: Vec::new(),
    };
    assert_eq!(job, expected);
}

#[test]
fn every_key_of_a_job() {
    let job = job(
        "scrape_interval: 1m30s, scrape_timeout: 5s, metrics_path: /federate, scheme: https, params: {'match[]': \
         ['{job=~\".+\"}'], one: x}, honor_labels: true, honor_timestamps: false, track_timestamps_staleness: true, \
         scrape_protocols: [PrometheusProto, PrometheusText0.0.4], fallback_scrape_protocol: PrometheusText1.0.0, \
         enable_compression: false, body_size_limit: 10MB, sample_limit: 1, target_limit: 2, label_limit: 3, \
         label_name_length_limit: 4, label_value_length_limit: 5, proxy_url: 'http://u:p@127.0.0.1:9180', no_proxy: x, \
         follow_redirects: false, enable_http2: false, http_headers: {X-A: {values: [1], secrets: [2]}}, \
         basic_auth: {username: u, password: 0123, username_file: f, password_file: g}, tls_config: {ca: a, ca_file: b, \
         cert: c, cert_file: d, key: e, key_file: f, server_name: g, insecure_skip_verify: true, min_version: TLS12}, \
         hesper_sd_configs: [{}]",
    );
    let expected = ScrapeJob {
        job_name: "j".into(),
        scrape_interval: seconds(90),
        scrape_timeout: seconds(5),
        metrics_path: "/federate".into(),
        scheme: "https".into(),
        params: BTreeMap::from([
            ("match[]".into(), vec!["{job=~\".+\"}".into()]),
            ("one".into(), vec!["x".into()]),
        ]),
        honor_labels: true,
        honor_timestamps: false,
        track_timestamps_staleness: true,
        scrape_protocols: vec![ScrapeProtocol::PrometheusText0_0_4],
        fallback_scrape_protocol: Some(ScrapeProtocol::PrometheusText1_0_0),
        enable_compression: false,
        body_size_limit: 10 << 20,
        sample_limit: 1,
        target_limit: 2,
        label_limit: 3,
        label_name_length_limit: 4,
        label_value_length_limit: 5,
        client: ScrapeClient {
            credentials: Some(Credentials::Basic {
                username: "u".into(),
                username_file: Some("f".into()),
                password: Secret::new("0123"),
                password_file: Some("g".into()),
            }),
            tls: ScrapeTls {
                ca: Some("a".into()),
                ca_file: Some("b".into()),
                cert: Some("c".into()),
                cert_file: Some("d".into()),
                key: Some(Secret::new("e")),
                key_file: Some("f".into()),
                server_name: Some("g".into()),
                insecure_skip_verify: true,
            },
            proxy_url: Some(Address {
                scheme: Some("http".into()),
                user_info: Some(Secret::new("u:p")),
                ..Address::new("127.0.0.1", 9180)
            }),
            no_proxy: Some("x".into()),
            headers: vec![("X-A".into(), Secret::new("1")), ("X-A".into(), Secret::new("2"))],
            follow_redirects: false,
            enable_http2: false,
        },
        static_configs: Vec::new(),
        http_sd_configs: Vec::new(),
        hesper_sd_configs: vec![HesperSd::default()],
        relabel_configs: Vec::new(),
        metric_relabel_configs: Vec::new(),
    };
    assert_eq!(job, expected);
}

#[test]
fn tokens_have_two_forms() {
    let credentials = |body: &str| job(&format!("{body}, hesper_sd_configs: [{{}}]")).client.credentials;
    let token = |scheme: &str, token: &str, file: Option<&str>| Credentials::Token {
        scheme: scheme.into(),
        token: Secret::new(token),
        file: file.map(str::to_owned),
    };
    for (body, expected) in [
        ("authorization: {credentials: t}", token("Bearer", "t", None)),
        ("authorization: {type: X, credentials_file: f}", token("X", "", Some("f"))),
        ("bearer_token: t", token("Bearer", "t", None)),
        ("bearer_token_file: f", token("Bearer", "", Some("f"))),
    ] {
        assert_eq!(credentials(body), Some(expected), "{body}");
    }
}

#[test]
fn targets_are_listed_asked_for_or_found_in_the_mesh() {
    let job = job("static_configs: [{targets: ['a:1', 'hesper://eu@metrics'], labels: {env: prod, n: 1}}], \
         http_sd_configs: [{url: 'http://127.0.0.1:9180/sd?role=%23scrape', refresh_interval: 15s, proxy_url: 'http://p:1'}, \
         {url: 'https://x/sd'}], hesper_sd_configs: [{service: [metrics], role: ['#scrape']}]");
    let expected = StaticTargets {
        targets: vec!["a:1".into(), "hesper://eu@metrics".into()],
        labels: labels(&[("env", "prod"), ("n", "1")]),
    };
    assert_eq!(job.static_configs, [expected]);
    let url = |text: &str| Endpoint::parse(text).expect("a URL");
    let proxied = ScrapeClient {
        proxy_url: Some(Address { scheme: Some("http".into()), ..Address::new("p", 1) }),
        ..default_client()
    };
    let expected = [
        HttpSd {
            url: url("http://127.0.0.1:9180/sd?role=%23scrape"),
            refresh_interval: seconds(15),
            client: proxied,
        },
        HttpSd { url: url("https://x/sd"), refresh_interval: seconds(60), client: default_client() },
    ];
    assert_eq!(job.http_sd_configs, expected);
    let mesh = HesperSd { services: vec!["metrics".into()], attributes: vec!["scrape".into()] };
    assert_eq!(job.hesper_sd_configs, [mesh]);
}

#[test]
fn relabelling() {
    let job = job(
        "static_configs: [{targets: ['a:1']}], relabel_configs: [{}, {source_labels: [a, b], separator: '-', regex: \
         'x(.*)', modulus: 2, target_label: t, replacement: '$$1$1', action: hashmod}, {action: labelmap, regex: \
         __meta_hesper_attr_(.+)}], metric_relabel_configs: [{source_labels: [__name__], regex: go_.*, action: drop}]"
            .replace("{},", "{target_label: x},")
            .as_str(),
    );
    let default = Relabel {
        source_labels: Vec::new(),
        separator: ";".into(),
        regex: Pattern::new("^(?s:(.*))$").expect("an expression"),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".into(),
        action: RelabelAction::Replace,
    };
    let regex = |text: &str| Pattern::new(&format!("^(?s:{text})$")).expect("an expression");
    let expected = [
        Relabel { target_label: "x".into(), ..default.clone() },
        Relabel {
            source_labels: vec!["a".into(), "b".into()],
            separator: "-".into(),
            regex: regex("x(.*)"),
            modulus: 2,
            target_label: "t".into(),
            replacement: "$1$1".into(),
            action: RelabelAction::HashMod,
        },
        Relabel {
            regex: regex("__meta_hesper_attr_(.+)"),
            action: RelabelAction::LabelMap,
            ..default.clone()
        },
    ];
    assert_eq!(job.relabel_configs, expected);
    let drop = Relabel {
        source_labels: vec!["__name__".into()],
        regex: regex("go_.*"),
        action: RelabelAction::Drop,
        ..default
    };
    assert_eq!(job.metric_relabel_configs, [drop]);
}

#[test]
fn jobs_take_what_global_says() {
    let receiver = prometheus(
        "{trim_metric_suffixes: true, use_start_time_metric: true, start_time_metric_regex: '^s', \
         report_extra_scrape_metrics: true, config: {global: {scrape_interval: 5s, scrape_timeout: 4s, external_labels: \
         {a: 1}, body_size_limit: 1KB, sample_limit: 1, target_limit: 2, label_limit: 3, label_name_length_limit: 4, \
         label_value_length_limit: 5, evaluation_interval: 1m}, scrape_configs: [{job_name: a, hesper_sd_configs: [{}]}, \
         {job_name: b, scrape_interval: 3s, hesper_sd_configs: [{}]}]}}",
    );
    assert_eq!(receiver.external_labels, labels(&[("a", "1")]));
    assert!(
        receiver.trim_metric_suffixes
            && receiver.use_start_time_metric
            && receiver.report_extra_scrape_metrics
    );
    assert_eq!(receiver.start_time_metric_regex, Pattern::new("^s").ok());
    let times: Vec<_> = receiver.jobs.iter().map(|job| (job.scrape_interval, job.scrape_timeout)).collect();
    assert_eq!(times, [(seconds(5), seconds(4)), (seconds(3), seconds(3))]);
    let job = &receiver.jobs[0];
    let limits = [
        job.body_size_limit,
        job.sample_limit,
        job.target_limit,
        job.label_limit,
        job.label_name_length_limit,
    ];
    assert_eq!(limits, [1024, 1, 2, 3, 4]);
    assert_eq!(job.label_value_length_limit, 5);
}

#[test]
fn bad_jobs() {
    let ok = "static_configs: [{targets: ['a:1']}]";
    for (jobs, reason) in [
        ("[]".to_owned(), "scrapes nothing"),
        ("[{job_name: a}]".into(), "job 'a' has no targets"),
        (format!("[{{{ok}}}]"), "has no job_name"),
        (format!("[{{job_name: a, {ok}}}, {{job_name: a, {ok}}}]"), "has two jobs 'a'"),
        (
            format!("[{{job_name: a, scrape_interval: 5s, scrape_timeout: 6s, {ok}}}]"),
            "longer than scrape_interval",
        ),
        (
            format!("[{{job_name: a, scrape_interval: 0s, scrape_timeout: 0s, {ok}}}]"),
            "scrape_interval of an entry",
        ),
        (format!("[{{job_name: a, scrape_interval: 1.5h, {ok}}}]"), "'1.5h' is not a duration"),
        (format!("[{{job_name: a, scheme: ftp, {ok}}}]"), "'ftp' is no choice"),
        (
            format!("[{{job_name: a, basic_auth: {{}}, authorization: {{}}, {ok}}}]"),
            "two kinds of credentials",
        ),
        (format!("[{{job_name: a, oauth2: {{client_id: x}}, {ok}}}]"), "not supported here"),
        ("[{job_name: a, kubernetes_sd_configs: [{role: pod}]}]".into(), "not supported here"),
        ("[{job_name: a, static_configs: [{targets: ['http://a:1']}]}]".into(), "is a URL"),
        ("[{job_name: a, static_configs: [{}]}]".into(), "has no targets"),
        ("[{job_name: a, http_sd_configs: [{}]}]".into(), "has no url"),
        ("[{job_name: a, hesper_sd_configs: [{role: [scrape]}]}]".into(), "'scrape' is no role attribute"),
        (format!("[{{job_name: a, relabel_configs: [{{}}], {ok}}}]"), "has no target_label"),
        (
            format!("[{{job_name: a, relabel_configs: [{{action: keep, regex: '('}}], {ok}}}]"),
            "no regular expression",
        ),
        (
            format!("[{{job_name: a, relabel_configs: [{{action: hashmod, target_label: x}}], {ok}}}]"),
            "has no modulus",
        ),
        (
            format!("[{{job_name: a, relabel_configs: [{{action: labeldrop, separator: x}}], {ok}}}]"),
            "does not belong",
        ),
    ] {
        let faults = faults(&format!("receivers: {{prometheus: {{config: {{scrape_configs: {jobs}}}}}}}"));
        assert_eq!(faults.len(), 1, "{jobs}: {faults:#?}");
        assert!(faults[0].contains(reason), "{jobs}: {faults:#?}");
    }
}
