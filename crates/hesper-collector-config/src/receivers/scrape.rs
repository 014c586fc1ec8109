//! One entry of `scrape_configs`: what is scraped, how often, with which credentials.

use super::{
    discovery::{self, HesperSd, HttpSd, StaticTargets},
    prometheus::Global,
    relabel::{self, Relabel},
};
use crate::{Address, Headers, Secret, common::proxy, section::Section};
use std::{collections::BTreeMap, time::Duration};

/// A job. Defaults are Prometheus', those of `global` are filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeJob {
    /// Its name, the label `job` of its targets.
    pub job_name: String,
    /// How often (1 min).
    pub scrape_interval: Duration,
    /// Longest time for one scrape (10 s, or the interval when that is shorter).
    pub scrape_timeout: Duration,
    /// Where on the target (`/metrics`).
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Parameters of the URL.
    pub params: BTreeMap<String, Vec<String>>,
    /// Labels of the target's own win over ours?
    pub honor_labels: bool,
    /// Take the target's timestamps?
    pub honor_timestamps: bool,
    /// Mark series with their own timestamps stale too?
    pub track_timestamps_staleness: bool,
    /// What is asked for, best first.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// What an answer without a known type is taken for.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Ask for compression?
    pub enable_compression: bool,
    /// Largest body in bytes; zero: no limit of its own.
    pub body_size_limit: u64,
    /// Most samples of a scrape; zero: no limit.
    pub sample_limit: u64,
    /// Most targets of the job; zero: no limit.
    pub target_limit: u64,
    /// Most labels of a sample; zero: no limit.
    pub label_limit: u64,
    /// Longest name of a label; zero: no limit.
    pub label_name_length_limit: u64,
    /// Longest value of a label; zero: no limit.
    pub label_value_length_limit: u64,
    /// How targets are reached.
    pub client: ScrapeClient,
    /// `static_configs`
    pub static_configs: Vec<StaticTargets>,
    /// `http_sd_configs`
    pub http_sd_configs: Vec<HttpSd>,
    /// `hesper_sd_configs`: the mesh's own discovery.
    pub hesper_sd_configs: Vec<HesperSd>,
    /// What becomes of targets.
    pub relabel_configs: Vec<Relabel>,
    /// What becomes of samples.
    pub metric_relabel_configs: Vec<Relabel>,
}

/// How a target, or a discovery, is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeClient {
    /// Who we are, in the header `Authorization`.
    pub credentials: Option<Credentials>,
    /// TLS towards `https`.
    pub tls: ScrapeTls,
    /// An HTTP proxy on the way.
    pub proxy_url: Option<Address>,
    /// Hosts that are reached without it.
    pub no_proxy: Option<String>,
    /// Headers of every request (`http_headers`).
    pub headers: Headers,
    /// Follow redirects?
    pub follow_redirects: bool,
    /// Speak HTTP/2?
    pub enable_http2: bool,
}

/// The header `Authorization`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `basic_auth`; a file counts before the text, and is read at every scrape.
    Basic {
        /// The name.
        username: String,
        /// A file with the name.
        username_file: Option<String>,
        /// The password.
        password: Secret,
        /// A file with the password.
        password_file: Option<String>,
    },
    /// `authorization`, and the older `bearer_token`.
    Token {
        /// What stands before the token (`Bearer`).
        scheme: String,
        /// The token.
        token: Secret,
        /// A file with the token, read at every scrape.
        file: Option<String>,
    },
}

/// `tls_config` as Prometheus writes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScrapeTls {
    /// `ca`
    pub ca: Option<String>,
    /// `ca_file`
    pub ca_file: Option<String>,
    /// `cert`
    pub cert: Option<String>,
    /// `cert_file`
    pub cert_file: Option<String>,
    /// `key`
    pub key: Option<Secret>,
    /// `key_file`
    pub key_file: Option<String>,
    /// `server_name`
    pub server_name: Option<String>,
    /// `insecure_skip_verify`
    pub insecure_skip_verify: bool,
}

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the formats")]
pub enum ScrapeProtocol {
    OpenMetricsText1_0_0,
    OpenMetricsText0_0_1,
    PrometheusText1_0_0,
    PrometheusText0_0_4,
}

const PROTOCOLS: [(&str, ScrapeProtocol); 4] = [
    ("OpenMetricsText1.0.0", ScrapeProtocol::OpenMetricsText1_0_0),
    ("OpenMetricsText0.0.1", ScrapeProtocol::OpenMetricsText0_0_1),
    ("PrometheusText1.0.0", ScrapeProtocol::PrometheusText1_0_0),
    ("PrometheusText0.0.4", ScrapeProtocol::PrometheusText0_0_4),
];

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Reads a job.
pub(super) fn job(s: &Section<'_>, global: &Global) -> ScrapeJob {
    idle(s);
    let interval = s.prometheus_duration("scrape_interval").unwrap_or(global.scrape_interval);
    let written = s.prometheus_duration("scrape_timeout");
    let shorter = |timeout: Duration| timeout.min(interval);
    let size = s.size("body_size_limit");
    let or = |value: u64, global: u64| if value == 0 { global } else { value };
    let job = ScrapeJob {
        job_name: s.needed("job_name", "write a name for these targets"),
        scrape_interval: interval,
        scrape_timeout: written.unwrap_or_else(|| shorter(global.scrape_timeout.unwrap_or(TEN_SECONDS))),
        metrics_path: s.text_or("metrics_path", "/metrics"),
        scheme: s.one_of("scheme", &[("http", "http"), ("https", "https")], "http").into(),
        params: s.section("params", Section::any_lists).unwrap_or_default(),
        honor_labels: s.flag("honor_labels", false),
        honor_timestamps: s.flag("honor_timestamps", true),
        track_timestamps_staleness: s.flag("track_timestamps_staleness", false),
        scrape_protocols: protocols(s),
        fallback_scrape_protocol: s.choice("fallback_scrape_protocol", &PROTOCOLS),
        enable_compression: s.flag("enable_compression", true),
        body_size_limit: or(size, global.body_size_limit),
        sample_limit: s.count("sample_limit", global.sample_limit),
        target_limit: s.count("target_limit", global.target_limit),
        label_limit: s.count("label_limit", global.label_limit),
        label_name_length_limit: s.count("label_name_length_limit", global.label_name_length_limit),
        label_value_length_limit: s.count("label_value_length_limit", global.label_value_length_limit),
        client: client(s),
        static_configs: s.sections("static_configs", discovery::static_targets),
        http_sd_configs: s.sections("http_sd_configs", discovery::http_sd).into_iter().flatten().collect(),
        hesper_sd_configs: s.sections("hesper_sd_configs", discovery::hesper_sd),
        relabel_configs: relabel::list(s, "relabel_configs"),
        metric_relabel_configs: relabel::list(s, "metric_relabel_configs"),
    };
    check(s, &job);
    job
}

fn check(s: &Section<'_>, job: &ScrapeJob) {
    if job.scrape_interval.is_zero() {
        s.refuse("scrape_interval", "zero", "write how often, such as 15s");
    }
    if job.scrape_timeout > job.scrape_interval {
        s.refuse("scrape_timeout", "longer than scrape_interval", "make it shorter");
    }
    if job.static_configs.is_empty() && job.http_sd_configs.is_empty() && job.hesper_sd_configs.is_empty() {
        let known =
            ["static_configs", "http_sd_configs", "hesper_sd_configs"].iter().any(|key| s.is_set(key));
        let other = s.all().iter().any(|entry| entry.key.ends_with("_sd_configs"));
        if !known && !other {
            let next = "add static_configs, http_sd_configs or hesper_sd_configs";
            s.fault(&s.place, format!("job '{}' has no targets", job.job_name), next);
        }
    }
}

/// Keys that are known and change nothing, and kinds of discovery that there are elsewhere.
fn idle(s: &Section<'_>) {
    for key in [
        "scrape_classic_histograms",
        "always_scrape_classic_histograms",
        "convert_classic_histograms_to_nhcb",
        "scrape_native_histograms",
        "native_histogram_bucket_limit",
        "native_histogram_min_bucket_factor",
    ] {
        s.idle(key, "histograms are taken from the text formats, as they come");
    }
    for key in ["metric_name_validation_scheme", "metric_name_escaping_scheme"] {
        s.idle(key, "names are taken as they come");
    }
    for key in ["keep_dropped_targets", "scrape_failure_log_file"] {
        s.idle(key, "the state of targets is told by 'hesper collect' itself");
    }
    for key in
        ["file_sd_configs", "kubernetes_sd_configs", "dns_sd_configs", "consul_sd_configs", "ec2_sd_configs"]
    {
        s.unsupported(key, "use static_configs, http_sd_configs or hesper_sd_configs");
    }
}

fn protocols(s: &Section<'_>) -> Vec<ScrapeProtocol> {
    let mut words: Vec<(&'static str, Option<ScrapeProtocol>)> = vec![("PrometheusProto", None)];
    words.extend(PROTOCOLS.map(|(word, protocol)| (word, Some(protocol))));
    let written: Vec<_> = s.some_of("scrape_protocols", &words).into_iter().flatten().collect();
    match written.is_empty() {
        true => PROTOCOLS.map(|(_, protocol)| protocol).into(),
        false => written,
    }
}

/// Reads how a target, or a discovery, is reached (Prometheus' `HTTPClientConfig`).
pub(super) fn client(s: &Section<'_>) -> ScrapeClient {
    s.unsupported("oauth2", "use authorization with a token in a file");
    s.unsupported("proxy_from_environment", "write proxy_url");
    s.unsupported("proxy_connect_header", "leave it out");
    let basic = s.section("basic_auth", |s| Credentials::Basic {
        username: s.text_or("username", ""),
        username_file: s.text("username_file"),
        password: s.secret("password").unwrap_or_default(),
        password_file: s.text("password_file"),
    });
    let authorization = s.section("authorization", |s| Credentials::Token {
        scheme: s.text_or("type", "Bearer"),
        token: s.secret("credentials").unwrap_or_default(),
        file: s.text("credentials_file"),
    });
    let (token, file) = (s.secret("bearer_token"), s.text("bearer_token_file"));
    let older = (token.is_some() || file.is_some()).then(|| Credentials::Token {
        scheme: "Bearer".into(),
        token: token.unwrap_or_default(),
        file,
    });
    let mut given: Vec<Credentials> = [basic, authorization, older].into_iter().flatten().collect();
    if given.len() > 1 {
        s.fault(
            &s.place,
            format!("{} has two kinds of credentials", s.what),
            "keep basic_auth or authorization",
        );
    }
    ScrapeClient {
        credentials: given.pop(),
        tls: s.section("tls_config", tls).unwrap_or_default(),
        proxy_url: proxy(s),
        no_proxy: s.text("no_proxy"),
        headers: s.section("http_headers", http_headers).unwrap_or_default(),
        follow_redirects: s.flag("follow_redirects", true),
        enable_http2: s.flag("enable_http2", true),
    }
}

fn tls(s: &Section<'_>) -> ScrapeTls {
    for key in ["min_version", "max_version"] {
        s.idle(key, "TLS 1.2 and 1.3 are spoken");
    }
    for key in ["ca_ref", "cert_ref", "key_ref"] {
        s.unsupported(key, "name a file");
    }
    ScrapeTls {
        ca: s.text("ca"),
        ca_file: s.text("ca_file"),
        cert: s.text("cert"),
        cert_file: s.text("cert_file"),
        key: s.secret("key"),
        key_file: s.text("key_file"),
        server_name: s.text("server_name"),
        insecure_skip_verify: s.flag("insecure_skip_verify", false),
    }
}

/// `{NAME: {values: […], secrets: […], files: […]}}`
fn http_headers(s: &Section<'_>) -> Headers {
    let mut headers = Headers::new();
    s.any_sections(|name, s| {
        s.unsupported("files", "write the values");
        for scalar in s.scalars("values").into_iter().chain(s.scalars("secrets")) {
            headers.push((name.to_owned(), Secret::new(scalar.text.text.clone())));
        }
    });
    headers
}
