//! Conditions in the notation of the Collector's transformation language (OTTL), as far as filters commonly use it:
//! comparisons of a field with a value, `IsMatch`, `and`, `or`, `not`, parentheses.

mod parse;

pub(super) use parse::parse;

use crate::{Pattern, Value};

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All hold.
    All(Vec<Self>),
    /// One holds.
    Any(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// Two things compare so.
    Compare(Operand, Comparison, Operand),
    /// The text of a field matches.
    IsMatch(Field, Pattern),
    /// `true` and `false`.
    Always(bool),
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A field of the data.
    Field(Field),
    /// A value; `SPAN_KIND_…`, `STATUS_CODE_…`, `SEVERITY_NUMBER_…` and `METRIC_DATA_TYPE_…` are their numbers.
    Value(Value),
    /// `nil`: what is not there.
    Nil,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A field of the data. An attribute without more is one of the span, event, data point or log record itself, or of the
/// resource where the condition is about resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `attributes["…"]`
    Attribute(String),
    /// `resource.attributes["…"]`
    ResourceAttribute(String),
    /// `instrumentation_scope.attributes["…"]`
    ScopeAttribute(String),
    /// `instrumentation_scope.name`
    ScopeName,
    /// `instrumentation_scope.version`
    ScopeVersion,
    /// `name` of a span, event or metric.
    Name,
    /// `kind` of a span, a number.
    Kind,
    /// `status.code` of a span, a number.
    StatusCode,
    /// `status.message` of a span.
    StatusMessage,
    /// `body` of a log record.
    Body,
    /// `severity_number` of a log record.
    SeverityNumber,
    /// `severity_text` of a log record.
    SeverityText,
    /// `metric.name` of a data point.
    MetricName,
    /// `type` of a metric, a number.
    MetricType,
    /// `unit` of a metric.
    MetricUnit,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    Span,
    SpanEvent,
    Metric,
    DataPoint,
    LogRecord,
    Resource,
}
