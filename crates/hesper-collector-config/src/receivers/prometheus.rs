//! `prometheus`: scrapes targets, on the network and in the mesh.

use super::scrape::{self, ScrapeJob};
use crate::{Pattern, common::pattern, section::Section};
use hesper_yaml::Place;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusReceiver {
    /// The jobs, with the settings of `global` filled in.
    pub jobs: Vec<ScrapeJob>,
    /// Labels of everything that is scraped (`global.external_labels`).
    pub external_labels: BTreeMap<String, String>,
    /// Take units and `_total` off the names?
    pub trim_metric_suffixes: bool,
    /// Take the start of counters from `process_start_time_seconds`?
    pub use_start_time_metric: bool,
    /// Or from a metric whose name matches.
    pub start_time_metric_regex: Option<Pattern>,
    /// Tell the timeout, limits and body size of every scrape too?
    pub report_extra_scrape_metrics: bool,
}

/// What `global` says for jobs that say nothing.
pub(super) struct Global {
    pub(super) scrape_interval: Duration,
    pub(super) scrape_timeout: Option<Duration>,
    pub(super) body_size_limit: u64,
    pub(super) sample_limit: u64,
    pub(super) target_limit: u64,
    pub(super) label_limit: u64,
    pub(super) label_name_length_limit: u64,
    pub(super) label_value_length_limit: u64,
}

pub(crate) fn read(s: &Section<'_>) -> PrometheusReceiver {
    s.unsupported(
        "target_allocator",
        "write the targets as static_configs, http_sd_configs or hesper_sd_configs",
    );
    s.idle("api_server", "the state of targets is told by 'hesper collect' itself");
    let mut receiver = PrometheusReceiver {
        jobs: Vec::new(),
        external_labels: BTreeMap::new(),
        trim_metric_suffixes: s.flag("trim_metric_suffixes", false),
        use_start_time_metric: s.flag("use_start_time_metric", false),
        start_time_metric_regex: s.scalar("start_time_metric_regex").and_then(|scalar| pattern(s, scalar)),
        report_extra_scrape_metrics: s.flag("report_extra_scrape_metrics", false),
    };
    s.group("config", |s| {
        for key in ["rule_files", "alerting", "remote_write", "remote_read", "storage", "otlp"] {
            s.unsupported(key, "leave it out: a receiver only scrapes");
        }
        s.unsupported(
            "scrape_config_files",
            "put the jobs below scrape_configs; several files are merged with --config",
        );
        let global = s.section("global", |s| global(s, &mut receiver.external_labels)).unwrap_or_default();
        let jobs = s.sections("scrape_configs", |s| (s.place.clone(), scrape::job(s, &global)));
        unique(s, &jobs);
        receiver.jobs = jobs.into_iter().map(|(_, job)| job).collect();
    });
    if receiver.jobs.is_empty() {
        let next = "add config: {scrape_configs: [{job_name: …, static_configs: [{targets: [HOST:PORT]}]}]}";
        s.fault(s.place_of("config"), format!("{} scrapes nothing", s.what), next);
    }
    receiver
}

/// The name of a job is a label: two of one name could not be told apart.
fn unique(s: &Section<'_>, jobs: &[(Place, ScrapeJob)]) {
    let mut names = BTreeSet::new();
    for (place, job) in jobs {
        if !names.insert(&job.job_name) && !job.job_name.is_empty() {
            let reason = format!("{} has two jobs '{}'", s.what, job.job_name);
            s.fault(place, reason, "give one of them another job_name");
        }
    }
}

impl Default for Global {
    fn default() -> Self {
        Self {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: None,
            body_size_limit: 0,
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
        }
    }
}

fn global(s: &Section<'_>, external_labels: &mut BTreeMap<String, String>) -> Global {
    for key in ["evaluation_interval", "rule_query_offset", "query_log_file", "scrape_failure_log_file"] {
        s.idle(key, "rules and queries are Prometheus' own");
    }
    for key in ["metric_name_validation_scheme", "metric_name_escaping_scheme", "keep_dropped_targets"] {
        s.idle(key, "names are taken as they come");
    }
    *external_labels = s.text_map("external_labels");
    let default = Global::default();
    Global {
        scrape_interval: s.prometheus_duration("scrape_interval").unwrap_or(default.scrape_interval),
        scrape_timeout: s.prometheus_duration("scrape_timeout"),
        body_size_limit: s.size("body_size_limit"),
        sample_limit: s.count("sample_limit", 0),
        target_limit: s.count("target_limit", 0),
        label_limit: s.count("label_limit", 0),
        label_name_length_limit: s.count("label_name_length_limit", 0),
        label_value_length_limit: s.count("label_value_length_limit", 0),
    }
}
