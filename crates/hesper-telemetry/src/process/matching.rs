//! Does a span, data point, log record or metric match? (`include` and `exclude`)

use super::value::{as_text, get, get_text, of_setting};
use hesper_collector_config::processors::{
    AttributeMatch, LibraryMatch, LogMatch, Match, MetricMatch, SeverityMatch, TextMatch, ValueMatch,
};
use opentelemetry_proto::tonic::{
    common::v1::{InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::LogRecord,
    trace::v1::{Span, span::Event},
};

/// What is looked at, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// Attributes of its resource.
    pub(super) resource: &'a [KeyValue],
    pub(super) scope: Option<&'a InstrumentationScope>,
    pub(super) thing: Thing<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Thing<'a> {
    Resource,
    Span(&'a Span),
    Event(&'a Event),
    Log(&'a LogRecord),
    Metric { name: &'a str, unit: &'a str, kind: i64 },
    Point { name: &'a str, unit: &'a str, kind: i64, attributes: &'a [KeyValue] },
}

impl<'a> Thing<'a> {
    /// Its own attributes.
    pub(super) fn attributes(&self) -> &'a [KeyValue] {
        match self {
            Self::Span(span) => &span.attributes,
            Self::Event(event) => &event.attributes,
            Self::Log(record) => &record.attributes,
            Self::Point { attributes, .. } => attributes,
            Self::Resource | Self::Metric { .. } => &[],
        }
    }
}

/// Does all that is listed match? What a thing does not have does not match.
pub(super) fn matches(wanted: &Match, subject: &Subject<'_>) -> bool {
    let Subject { resource, scope, thing } = subject;
    let (span, log) = match thing {
        Thing::Span(span) => (Some(*span), None),
        Thing::Log(record) => (None, Some(*record)),
        _ => (None, None),
    };
    let metric = match thing {
        Thing::Metric { name, .. } | Thing::Point { name, .. } => Some(*name),
        _ => None,
    };
    one_of(&wanted.services, get_text(resource, "service.name"))
        && one_of(&wanted.span_names, span.map(|span| span.name.as_str()))
        && one_of(&wanted.span_kinds, span.map(|span| span.kind().as_str_name()))
        && all_of(&wanted.resources, resource)
        && all_of(&wanted.attributes, thing.attributes())
        && (wanted.libraries.is_empty() || wanted.libraries.iter().any(|library| of_library(library, *scope)))
        && one_of(&wanted.log_bodies, log.and_then(body))
        && one_of(&wanted.log_severity_texts, log.map(|record| record.severity_text.as_str()))
        && severity(wanted.log_severity_number, log)
        && one_of(&wanted.metric_names, metric)
}

/// Does a metric match?
pub(super) fn matches_metric(wanted: &MetricMatch, name: &str, resource: &[KeyValue]) -> bool {
    one_of(&wanted.metric_names, Some(name)) && all_of(&wanted.resource_attributes, resource)
}

/// Does a log record match?
pub(super) fn matches_log(wanted: &LogMatch, record: &LogRecord, resource: &[KeyValue]) -> bool {
    all_of(&wanted.resource_attributes, resource)
        && all_of(&wanted.record_attributes, &record.attributes)
        && one_of(&wanted.bodies, body(record))
        && one_of(&wanted.severity_texts, Some(record.severity_text.as_str()))
        && severity(wanted.severity_number, Some(record))
}

/// Is a text one of those, if there are any?
fn one_of(wanted: &[TextMatch], text: Option<&str>) -> bool {
    wanted.is_empty() || text.is_some_and(|text| wanted.iter().any(|wanted| is(wanted, text)))
}

fn is(wanted: &TextMatch, text: &str) -> bool {
    match wanted {
        TextMatch::Is(wanted) => wanted == text,
        TextMatch::Matches(pattern) => pattern.regex().is_match(text),
    }
}

fn all_of(wanted: &[AttributeMatch], attributes: &[KeyValue]) -> bool {
    wanted.iter().all(|wanted| match &wanted.value {
        None => attributes.iter().any(|pair| pair.key == wanted.key),
        Some(value) => get(attributes, &wanted.key).is_some_and(|found| is_value(value, found)),
    })
}

fn is_value(wanted: &ValueMatch, found: &Value) -> bool {
    match wanted {
        ValueMatch::Is(wanted) => of_setting(wanted).value.as_ref() == Some(found),
        // Numbers are matched as they are written; lists, maps and bytes are not matched.
        ValueMatch::Matches(pattern) => match found {
            Value::StringValue(text) => pattern.regex().is_match(text),
            Value::BoolValue(_) | Value::IntValue(_) | Value::DoubleValue(_) => {
                pattern.regex().is_match(&as_text(found))
            }
            _ => false,
        },
    }
}

fn of_library(wanted: &LibraryMatch, scope: Option<&InstrumentationScope>) -> bool {
    let (name, version) = scope.map_or(("", ""), |scope| (&scope.name, &scope.version));
    is(&wanted.name, name) && wanted.version.as_ref().is_none_or(|wanted| is(wanted, version))
}

fn body(record: &LogRecord) -> Option<&str> {
    match record.body.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn severity(wanted: Option<SeverityMatch>, record: Option<&LogRecord>) -> bool {
    let Some(wanted) = wanted else { return true };
    record.is_some_and(|record| match record.severity_number {
        0 => wanted.match_undefined,
        number => number >= i32::from(wanted.min),
    })
}
