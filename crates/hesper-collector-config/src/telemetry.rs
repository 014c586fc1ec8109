//! `service.telemetry`: the Collector's own metrics and logs.

use crate::{Address, Endpoint, Topic, section::Section};
use std::collections::BTreeMap;

/// Own metrics and logs.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Telemetry {
    /// `metrics`
    pub metrics: OwnMetrics,
    /// `logs`
    pub logs: OwnLogs,
    /// Attributes of our own resource.
    pub resource: BTreeMap<String, String>,
}

/// Own metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnMetrics {
    /// How many.
    pub level: MetricsLevel,
    /// Where Prometheus scrapes them (localhost:8888); none with the level `none`.
    pub endpoint: Option<Endpoint>,
}

impl Default for OwnMetrics {
    fn default() -> Self {
        let endpoint = Some(Endpoint::Underlay(Address::new("localhost", PORT)));
        Self { level: MetricsLevel::Normal, endpoint }
    }
}

/// How many metrics there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum MetricsLevel {
    None,
    Basic,
    Normal,
    Detailed,
}

/// Own logs.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnLogs {
    /// What is told.
    pub level: LogLevel,
    /// How; None: as `hesper` does it everywhere.
    pub encoding: Option<LogEncoding>,
}

impl Default for OwnLogs {
    fn default() -> Self {
        Self { level: LogLevel::Info, encoding: None }
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEncoding {
    /// For people.
    Console,
    /// JSON lines.
    Json,
}

/// The Collector's own port.
const PORT: u16 = 8888;

pub(crate) fn read(s: &Section<'_>) -> Telemetry {
    s.section("traces", Section::anything);
    s.idle("traces", "`hesper` traces itself with --trace");
    s.idle("resource", "metrics carry the names that people alert on, and no resource");
    Telemetry {
        metrics: s.section("metrics", metrics).unwrap_or_default(),
        logs: s.section("logs", logs).unwrap_or_default(),
        resource: s.text_map("resource"),
    }
}

fn metrics(s: &Section<'_>) -> OwnMetrics {
    let default = OwnMetrics::default();
    let levels = [
        ("none", MetricsLevel::None),
        ("basic", MetricsLevel::Basic),
        ("normal", MetricsLevel::Normal),
        ("detailed", MetricsLevel::Detailed),
    ];
    s.idle("views", "there is one view");
    let level = s.one_of("level", &levels, default.level);
    let written = s.scalar("address").and_then(|scalar| match Endpoint::parse(&scalar.text.text) {
        Ok(endpoint) => Some(endpoint),
        Err((reason, next)) => {
            s.refuse("address", reason, next);
            None
        }
    });
    let readers = s.sections("readers", reader);
    if written.is_some() && !readers.is_empty() {
        s.refuse("readers", "given besides address", "keep readers");
    }
    if readers.len() > 1 {
        s.refuse("readers", "more than one", "keep one of them");
    }
    let pulled = readers.into_iter().flatten().next();
    let endpoint = written.or(pulled).or(default.endpoint).filter(|_| level != MetricsLevel::None);
    if endpoint.as_ref().and_then(Endpoint::underlay).is_some_and(Address::is_wildcard) {
        let reason = format!("{} are there for everybody who can reach this machine", s.what);
        let next = "write localhost:8888, or hesper://SERVICE to be scraped over the mesh";
        s.reader.remark(Topic::Reach, &s.place, reason, next);
    }
    OwnMetrics { level, endpoint }
}

/// `pull: {exporter: {prometheus: {host, port}}}`
fn reader(s: &Section<'_>) -> Option<Endpoint> {
    s.unsupported("periodic", "write pull: {exporter: {prometheus: {host: localhost, port: 8888}}}");
    s.group("pull", |s| {
        s.group("exporter", |s| {
            s.section("prometheus", |s| {
                for key in [
                    "without_type_suffix",
                    "without_units",
                    "without_scope_info",
                    "with_resource_constant_labels",
                ] {
                    s.idle(key, "names are those that people alert on");
                }
                let port = u16::try_from(s.count_in("port", u64::from(PORT), 0..=u64::from(u16::MAX)));
                Endpoint::Underlay(Address::new(&s.text_or("host", "localhost"), port.unwrap_or(PORT)))
            })
        })
    })
    .flatten()
    .flatten()
}

fn logs(s: &Section<'_>) -> OwnLogs {
    for key in [
        "development",
        "disable_caller",
        "disable_stacktrace",
        "disable_zap_resource",
        "sampling",
        "output_paths",
        "error_output_paths",
        "initial_fields",
        "processors",
    ] {
        s.idle(key, "logs go where those of `hesper` go");
    }
    let level = |text: &str| match &*text.to_ascii_lowercase() {
        "debug" => Some(LogLevel::Debug),
        "info" => Some(LogLevel::Info),
        "warn" => Some(LogLevel::Warn),
        "error" => Some(LogLevel::Error),
        _ => None,
    };
    s.idle("encoding", "`hesper --log-format json` says how lines are written");
    OwnLogs {
        level: s
            .parsed("level", "a level", "write debug, info, warn or error", level)
            .unwrap_or(LogLevel::Info),
        encoding: s.choice("encoding", &[("console", LogEncoding::Console), ("json", LogEncoding::Json)]),
    }
}
