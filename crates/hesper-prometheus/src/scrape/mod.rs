//! Makes one OTLP request of each scrape of a target.
//!
//! A scrape that fails in any way (no answer, a line that cannot be read, a limit) counts as a whole: `up` is 0, and every series that there
//! was is marked stale.

mod batch;
mod group;
mod memory;
mod metrics;
mod point;
mod report;
mod role;
mod sample;

pub use group::Server;
pub(crate) use point::TYPE_KEY;
pub use report::Report;

use crate::{
    labels::{Labels, NAME},
    target::Target,
    text::{Format, Kind, Limits, Line, Parser},
};
use batch::Batch;
use group::{GroupKey, resource};
use hesper_collector_config::receivers::PrometheusReceiver;
use memory::{Memory, Seen, Series, nanoseconds};
use metrics::{Metrics, has_points};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
};
use role::{Metas, Role};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

/// What a target answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The format that its `Content-Type` names.
    pub format: Format,
    /// The body, decompressed.
    pub body: &'a [u8],
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// What happened.
    pub reason: String,
    /// Was the body larger than the job allows?
    pub is_too_large: bool,
}

/// What is made of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// To be sent on.
    pub request: ExportMetricsServiceRequest,
    /// How it went.
    pub report: Report,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Samples that could not be said in OTLP, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// The scrapes of one target, one after the other.
#[derive(Debug)]
pub struct Scrapes {
    target: Arc<Target>,
    settings: Arc<PrometheusReceiver>,
    hasher: RandomState,
    memory: Memory,
    /// The series of the last good scrape.
    series: HashSet<u64>,
    /// What `target_info` said last.
    infos: HashMap<(String, String), Vec<(String, String)>>,
    scopes: HashMap<(String, String), Vec<(String, String)>>,
    external: Labels<'static>,
}

/// How many samples there were, of how many series.
#[derive(Default)]
struct Tally {
    scraped: u64,
    kept: u64,
    series: HashSet<u64>,
    /// When the process began, in ns since 1970.
    process_start_ns: Option<u64>,
}

impl Scrapes {
    /// Nothing is known of the target yet.
    pub fn new(target: Arc<Target>, settings: Arc<PrometheusReceiver>) -> Self {
        let external = settings.external_labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        Self {
            target,
            settings,
            hasher: RandomState::new(),
            memory: Memory::default(),
            series: HashSet::new(),
            infos: HashMap::new(),
            scopes: HashMap::new(),
            external,
        }
    }

    /// The target has other settings now; what was remembered stays.
    pub fn reconfigure(&mut self, target: Arc<Target>, settings: Arc<PrometheusReceiver>) {
        self.external = settings.external_labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
        (self.target, self.settings) = (target, settings);
    }

    /// How many series are remembered.
    pub fn remembered(&self) -> usize {
        self.memory.len()
    }

    /// A scrape that began at a time (ms since 1970) and took so long.
    pub fn scraped(
        &mut self,
        at_ms: i64,
        duration: Duration,
        answer: Result<Answer<'_>, NoAnswer>,
    ) -> Outcome {
        let (target, settings) = (self.target.clone(), self.settings.clone());
        let external = self.external.clone();
        let mut report = Report { duration, ..Report::default() };
        let mut tally = Tally::default();
        let mut batch = Batch::new(self.hasher.clone());
        let error = match answer {
            Ok(answer) => {
                report.body_bytes = i64::try_from(answer.body.len()).unwrap_or(i64::MAX);
                let read = self.read(answer, at_ms, &target, &external, &mut batch, &mut tally);
                (report.scraped, report.kept) = (tally.scraped, tally.kept);
                read.err()
            }
            Err(no_answer) => {
                report.body_bytes = if no_answer.is_too_large { -1 } else { 0 };
                Some(no_answer.reason)
            }
        };
        report.up = error.is_none();
        if error.is_some() {
            // Nothing of it counts.
            batch = Batch::new(self.hasher.clone());
            tally.series = HashSet::new();
        } else {
            let new = tally.series.iter().filter(|hash| !self.series.contains(hash)).count();
            report.added = u64::try_from(new).unwrap_or(u64::MAX);
            self.infos = std::mem::take(&mut batch.infos);
            self.scopes = std::mem::take(&mut batch.scopes);
        }
        self.series = tally.series;
        let dropped = std::mem::take(&mut batch.dropped);
        let told = report.series(&target, settings.report_extra_scrape_metrics);
        let mut outcome = Outcome { request: Default::default(), report, error, dropped };
        outcome.request = self.finish(batch, at_ms, &told, tally.process_start_ns, &mut outcome.dropped);
        outcome
    }

    /// The target is there no more: the marks of everything that it had. `None`: it had nothing.
    pub fn gone(&mut self, at_ms: i64) -> Option<ExportMetricsServiceRequest> {
        let batch = Batch::new(self.hasher.clone());
        let request = self.finish(batch, at_ms, &[], None, &mut BTreeMap::new());
        self.series.clear();
        Some(request).filter(|request| !request.resource_metrics.is_empty())
    }

    /// Reads an answer into a batch.
    fn read<'a>(
        &self,
        answer: Answer<'a>,
        at_ms: i64,
        target: &'a Target,
        external: &'a Labels<'static>,
        batch: &mut Batch<'a>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let job = &*target.job;
        let mut metas = Metas::new();
        let lines = Parser::of_bytes(answer.body, answer.format, Limits::default());
        for line in lines.map_err(|error| error.to_string())? {
            let sample = match line.map_err(|error| error.to_string())? {
                Line::Type { family, kind } => {
                    metas.entry(family).or_default().kind = kind;
                    continue;
                }
                Line::Help { family, text } => {
                    metas.entry(family).or_default().help = text;
                    continue;
                }
                Line::Unit { family, unit } => {
                    metas.entry(family).or_default().unit = unit;
                    continue;
                }
                Line::Sample(sample) => sample,
            };
            tally.scraped += 1;
            let own_time = sample.time_ms.filter(|_| job.honor_timestamps);
            let mut labels = sample::label(sample.labels.clone(), &target.labels, job.honor_labels);
            labels.set(NAME, sample.name.clone());
            let Some(mut labels) = sample::keep(labels, job)? else { continue };
            tally.kept += 1;
            if job.sample_limit > 0 && tally.kept > job.sample_limit {
                return Err(format!("there are more samples than sample_limit {}", job.sample_limit));
            }
            add_external(&mut labels, external);
            let place = role::place(&sample.name, &metas);
            if place.role != Role::Created {
                tally.series.insert(self.hasher.hash_one(&labels));
            }
            self.note_start(&sample.name, sample.value, tally);
            batch.add(labels, &sample, &place, (own_time.unwrap_or(at_ms), own_time.is_some()));
        }
        Ok(())
    }

    fn note_start(&self, name: &str, seconds: f64, tally: &mut Tally) {
        if !self.settings.use_start_time_metric || tally.process_start_ns.is_some() {
            return;
        }
        let is_it = match &self.settings.start_time_metric_regex {
            Some(pattern) => pattern.regex().is_match(name),
            None => name == "process_start_time_seconds",
        };
        if is_it {
            tally.process_start_ns = created_ns(seconds);
        }
    }

    /// Makes the request: points with their start, what is gone, and what is told of the scrape.
    fn finish(
        &mut self,
        mut batch: Batch<'_>,
        at_ms: i64,
        told: &[((&'static str, &'static str, &'static str), f64)],
        process_start_ns: Option<u64>,
        dropped: &mut BTreeMap<&'static str, u64>,
    ) -> ExportMetricsServiceRequest {
        self.memory.begin();
        let mut metrics = Metrics::default();
        let is_watched_always = self.target.job.track_timestamps_staleness;
        for family in std::mem::take(&mut batch.families) {
            let group = Arc::new(batch.groups[family.group].clone());
            let kind = family.kind;
            let mut metric = point::metric_of(&family, self.settings.trim_metric_suffixes);
            let description = metric.clone();
            for mut point in family.points {
                if let Err(why) = point::check(&mut point, kind) {
                    *dropped.entry(why).or_default() += 1;
                    continue;
                }
                let created_ns = family.created.get(&point.hash).and_then(|s| created_ns(*s));
                let seen = Seen {
                    hash: point.hash,
                    time_ms: point.time_ms,
                    count: point::count(&point, kind),
                    created_ns: created_ns.or(process_start_ns),
                    is_watched: !point.has_own_time || is_watched_always,
                };
                let steps = point::steps(&point);
                let series = || Series {
                    group: group.clone(),
                    name: description.name.clone(),
                    kind,
                    description: description.description.clone(),
                    unit: description.unit.clone(),
                    attributes: point::attributes(&point.attributes),
                    steps: steps.clone(),
                };
                let start_ns = self.memory.saw(&seen, series, &steps);
                point::push(&mut metric, point, start_ns);
            }
            metrics.put(family.group, kind, metric);
        }
        self.tell(&mut batch, &mut metrics, at_ms, told);
        for (series, start_ns) in self.memory.end(at_ms) {
            let group = batch.group((*series.group).clone());
            let metric = metrics.get(group, &series.name, series.kind, || {
                let (name, description) = (series.name.clone(), series.description.clone());
                point::metric(name, description, series.unit.clone(), series.kind)
            });
            point::push_stale(metric, series.attributes.clone(), &series.steps, start_ns, nanoseconds(at_ms));
        }
        self.assemble(&batch.groups, metrics)
    }

    /// Adds `up` and its companions.
    fn tell(
        &mut self,
        batch: &mut Batch<'_>,
        metrics: &mut Metrics,
        at_ms: i64,
        told: &[((&'static str, &'static str, &'static str), f64)],
    ) {
        let mut labels = self.target.labels.clone();
        add_external(&mut labels, &self.external);
        let group = GroupKey::take(&mut labels);
        let number = batch.group(group.clone());
        let group = Arc::new(group);
        for ((name, description, unit), value) in told {
            let hash = self.hasher.hash_one((&*group, name, &labels, "told"));
            let point = batch::Point::number(hash, labels.clone(), at_ms, *value);
            let seen = Seen { hash, time_ms: at_ms, count: None, created_ns: None, is_watched: true };
            let series = || Series {
                group: group.clone(),
                name: (*name).to_owned(),
                kind: Kind::Gauge,
                description: (*description).to_owned(),
                unit: (*unit).to_owned(),
                attributes: point::attributes(&labels),
                steps: Vec::new(),
            };
            self.memory.saw(&seen, series, &[]);
            let metric = metrics.get(number, name, Kind::Gauge, || {
                let (description, unit) = ((*description).to_owned(), (*unit).to_owned());
                point::metric((*name).to_owned(), description, unit, Kind::Gauge)
            });
            point::push(metric, point, 0);
        }
    }

    fn assemble(&self, groups: &[GroupKey], metrics: Metrics) -> ExportMetricsServiceRequest {
        let server = self.target.server();
        let mut resources: Vec<ResourceMetrics> = Vec::new();
        let mut known = HashMap::new();
        for (group, list) in metrics.groups {
            let list: Vec<_> = list.into_iter().filter(has_points).collect();
            if list.is_empty() {
                continue;
            }
            let key = &groups[group];
            let at = *known.entry((&key.job, &key.instance)).or_insert_with(|| {
                let info = self.infos.get(&(key.job.clone(), key.instance.clone()));
                let resource = Some(resource(&key.job, &key.instance, &server, info));
                resources.push(ResourceMetrics { resource, ..ResourceMetrics::default() });
                resources.len() - 1
            });
            let info = self.scopes.get(&(key.scope.name.clone(), key.scope.version.clone()));
            let (scope, schema_url) = key.scope.to_otlp(info);
            resources[at].scope_metrics.push(ScopeMetrics { scope: Some(scope), metrics: list, schema_url });
        }
        ExportMetricsServiceRequest { resource_metrics: resources }
    }
}

/// Adds labels that are not there.
fn add_external<'a>(labels: &mut Labels<'a>, external: &'a Labels<'static>) {
    for (name, value) in external.iter() {
        if labels.get(name).is_empty() {
            labels.set(name, value);
        }
    }
}

/// Seconds since 1970 as nanoseconds; `None`: that is no time.
fn created_ns(seconds: f64) -> Option<u64> {
    // To the millisecond: a float of this size does not know more than the microsecond anyhow.
    let ms = (seconds * 1000.0).round();
    (ms > 0.0 && ms < 9e15).then(|| nanoseconds(ms as i64))
}
