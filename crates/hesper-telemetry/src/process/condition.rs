//! Does a condition hold? The rules of comparison are those of the Collector's transformation language: numbers compare across
//! their types; what is of different types is not equal and has no order; `nil` is equal to `nil` only. So every condition can be decided, and
//! `error_mode` has nothing to rule.

use super::{
    matching::{Subject, Thing},
    value::{as_text, get, of_setting},
};
use hesper_collector_config::processors::{Comparison, Condition, Field, Operand};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use std::{borrow::Cow, cmp::Ordering};

/// Does it hold?
pub(super) fn holds(condition: &Condition, subject: &Subject<'_>) -> bool {
    match condition {
        Condition::All(parts) => parts.iter().all(|part| holds(part, subject)),
        Condition::Any(parts) => parts.iter().any(|part| holds(part, subject)),
        Condition::Not(inner) => !holds(inner, subject),
        Condition::Always(always) => *always,
        Condition::Compare(left, comparison, right) => {
            compare(operand(left, subject).as_deref(), *comparison, operand(right, subject).as_deref())
        }
        Condition::IsMatch(field, pattern) => match value(field, subject).as_deref() {
            None => false,
            Some(Value::StringValue(text)) => pattern.regex().is_match(text),
            Some(value) => pattern.regex().is_match(&as_text(value)),
        },
    }
}

/// Does one of them hold?
pub(super) fn any(conditions: &[Condition], subject: &Subject<'_>) -> bool {
    conditions.iter().any(|condition| holds(condition, subject))
}

fn operand<'a>(operand: &Operand, subject: &Subject<'a>) -> Option<Cow<'a, Value>> {
    match operand {
        Operand::Field(field) => value(field, subject),
        Operand::Value(setting) => of_setting(setting).value.map(Cow::Owned),
        Operand::Nil => None,
    }
}

fn compare(left: Option<&Value>, comparison: Comparison, right: Option<&Value>) -> bool {
    let order = match (left, right) {
        (None, None) => return comparison == Comparison::Equal,
        (None, _) | (_, None) => return comparison == Comparison::NotEqual,
        (Some(left), Some(right)) => order(left, right),
    };
    let equal = order == Some(Ordering::Equal) || order.is_none() && left == right;
    match comparison {
        Comparison::Equal => equal,
        Comparison::NotEqual => !equal,
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::StringValue(a), Value::StringValue(b)) => Some(a.cmp(b)),
        (Value::BoolValue(a), Value::BoolValue(b)) => Some(a.cmp(b)),
        (Value::BytesValue(a), Value::BytesValue(b)) => Some(a.cmp(b)),
        (Value::IntValue(a), Value::IntValue(b)) => Some(a.cmp(b)),
        (Value::DoubleValue(a), Value::DoubleValue(b)) => a.partial_cmp(b),
        (Value::IntValue(a), Value::DoubleValue(b)) => (*a as f64).partial_cmp(b),
        (Value::DoubleValue(a), Value::IntValue(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

fn value<'a>(field: &Field, subject: &Subject<'a>) -> Option<Cow<'a, Value>> {
    let Subject { resource, scope, thing } = subject;
    let text = |text: &str| Some(Cow::Owned(Value::StringValue(text.to_owned())));
    let number = |n: i64| Some(Cow::Owned(Value::IntValue(n)));
    match (field, thing) {
        (Field::Attribute(key), thing) => get(thing.attributes(), key).map(Cow::Borrowed),
        (Field::ResourceAttribute(key), _) => get(resource, key).map(Cow::Borrowed),
        (Field::ScopeAttribute(key), _) => get(&(*scope)?.attributes, key).map(Cow::Borrowed),
        (Field::ScopeName, _) => text(scope.map_or("", |scope| &scope.name)),
        (Field::ScopeVersion, _) => text(scope.map_or("", |scope| &scope.version)),
        (Field::Name, Thing::Span(span)) => text(&span.name),
        (Field::Name, Thing::Event(event)) => text(&event.name),
        (Field::Name | Field::MetricName, Thing::Metric { name, .. } | Thing::Point { name, .. }) => {
            text(name)
        }
        (Field::Kind, Thing::Span(span)) => number(span.kind.into()),
        (Field::StatusCode, Thing::Span(span)) => {
            number(span.status.as_ref().map_or(0, |status| status.code.into()))
        }
        (Field::StatusMessage, Thing::Span(span)) => {
            text(span.status.as_ref().map_or("", |status| &status.message))
        }
        (Field::Body, Thing::Log(record)) => record.body.as_ref()?.value.as_ref().map(Cow::Borrowed),
        (Field::SeverityNumber, Thing::Log(record)) => number(record.severity_number.into()),
        (Field::SeverityText, Thing::Log(record)) => text(&record.severity_text),
        (Field::MetricType, Thing::Metric { kind, .. } | Thing::Point { kind, .. }) => number(*kind),
        (Field::MetricUnit, Thing::Metric { unit, .. } | Thing::Point { unit, .. }) => text(unit),
        // The configuration takes no field that its subject does not have.
        _ => None,
    }
}
