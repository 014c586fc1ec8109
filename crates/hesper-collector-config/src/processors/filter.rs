//! `filter`: what is dropped.
//!
//! Two forms are read. `include` and `exclude` by match (`spans`, `metrics`, `logs`), and conditions (`traces.span`,
//! `logs.log_record` and so on) as far as [`Condition`] goes: comparisons, `IsMatch`, `and`, `or`, `not`. What goes further is a
//! fault, never a condition that is left out: it would let through what was to be dropped.

use super::{
    condition::{self, Condition, Context},
    matching::{self, AttributeMatch, Match, SeverityMatch, TextMatch},
};
use crate::section::Section;

/// What is dropped. Data passes when no condition holds, it matches `include` (if there is one) and not `exclude`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// What happens when a condition cannot be decided.
    pub error_mode: ErrorMode,
    /// `spans`
    pub spans: Sides<Match>,
    /// `metrics`
    pub metrics: Sides<MetricMatch>,
    /// `logs`
    pub logs: Sides<LogMatch>,
    /// Data for which one of these holds is dropped.
    pub conditions: Conditions,
}

/// `include` and `exclude`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sides<T> {
    /// Only what matches passes.
    pub include: Option<T>,
    /// What matches does not pass.
    pub exclude: Option<T>,
}

impl<T> Default for Sides<T> {
    fn default() -> Self {
        Self { include: None, exclude: None }
    }
}

/// What happens when a condition cannot be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorMode {
    /// The request fails.
    Propagate,
    /// It is logged, the next condition decides.
    Ignore,
    /// The next condition decides.
    Silent,
}

/// Which metrics.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct MetricMatch {
    /// One of these names.
    pub metric_names: Vec<TextMatch>,
    /// All of these attributes of the resource.
    pub resource_attributes: Vec<AttributeMatch>,
}

/// Which log records: of every list that is given at least one entry, of attributes all.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LogMatch {
    /// Attributes of the resource.
    pub resource_attributes: Vec<AttributeMatch>,
    /// Attributes of the record.
    pub record_attributes: Vec<AttributeMatch>,
    /// Bodies that are text.
    pub bodies: Vec<TextMatch>,
    /// Severities as text.
    pub severity_texts: Vec<TextMatch>,
    /// Severities as numbers.
    pub severity_number: Option<SeverityMatch>,
}

/// Conditions by what they are about.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Conditions {
    /// `traces.span`
    pub spans: Vec<Condition>,
    /// `traces.spanevent`
    pub span_events: Vec<Condition>,
    /// `metrics.metric`
    pub metrics: Vec<Condition>,
    /// `metrics.datapoint`
    pub data_points: Vec<Condition>,
    /// `logs.log_record`
    pub log_records: Vec<Condition>,
    /// `traces.resource`
    pub trace_resources: Vec<Condition>,
    /// `metrics.resource`
    pub metric_resources: Vec<Condition>,
    /// `logs.resource`
    pub log_resources: Vec<Condition>,
}

pub(crate) fn read(s: &Section<'_>) -> Filter {
    let modes =
        [("propagate", ErrorMode::Propagate), ("ignore", ErrorMode::Ignore), ("silent", ErrorMode::Silent)];
    let mut filter = Filter {
        error_mode: s.one_of("error_mode", &modes, ErrorMode::Propagate),
        spans: Sides::default(),
        metrics: Sides::default(),
        logs: Sides::default(),
        conditions: Conditions::default(),
    };
    s.section("spans", |s| {
        let (include, exclude) = matching::sides(s);
        filter.spans = Sides { include, exclude };
    });
    let conditions = &mut filter.conditions;
    s.section("traces", |s| {
        conditions.spans = list(s, "span", Context::Span);
        conditions.span_events = list(s, "spanevent", Context::SpanEvent);
        conditions.trace_resources = list(s, "resource", Context::Resource);
    });
    s.section("metrics", |s| {
        conditions.metrics = list(s, "metric", Context::Metric);
        conditions.data_points = list(s, "datapoint", Context::DataPoint);
        conditions.metric_resources = list(s, "resource", Context::Resource);
        filter.metrics =
            Sides { include: s.section("include", metrics), exclude: s.section("exclude", metrics) };
    });
    s.section("logs", |s| {
        conditions.log_records = list(s, "log_record", Context::LogRecord);
        conditions.log_resources = list(s, "resource", Context::Resource);
        filter.logs = Sides { include: s.section("include", logs), exclude: s.section("exclude", logs) };
    });
    if s.all().iter().all(|entry| entry.key == "error_mode") {
        s.fault(&s.place, format!("{} drops nothing", s.what), "add spans, traces, metrics or logs");
    }
    filter
}

fn metrics(s: &Section<'_>) -> MetricMatch {
    s.unsupported("expressions", "write them as conditions below metrics.metric or metrics.datapoint");
    let regexp = matching::match_type(s);
    matching::check(s);
    MetricMatch {
        metric_names: matching::texts(s, "metric_names", regexp),
        resource_attributes: matching::attributes(s, "resource_attributes", regexp),
    }
}

fn logs(s: &Section<'_>) -> LogMatch {
    let regexp = matching::match_type(s);
    matching::check(s);
    LogMatch {
        resource_attributes: matching::attributes(s, "resource_attributes", regexp),
        record_attributes: matching::attributes(s, "record_attributes", regexp),
        bodies: matching::texts(s, "bodies", regexp),
        severity_texts: matching::texts(s, "severity_texts", regexp),
        severity_number: s.section("severity_number", matching::severity),
    }
}

fn list(s: &Section<'_>, key: &'static str, context: Context) -> Vec<Condition> {
    let mut conditions = Vec::new();
    for scalar in s.scalars(key) {
        match condition::parse(&scalar.text.text, context) {
            Ok(condition) => conditions.push(condition),
            Err(reason) => {
                let next =
                    "known here: FIELD == != < <= > >= VALUE, IsMatch(FIELD, \"REGEX\"), and, or, not, ( )";
                s.fault(
                    scalar.place,
                    format!("{} in {key} of {}: {reason}", scalar.text.shown(), s.what),
                    next,
                );
            }
        }
    }
    conditions
}
