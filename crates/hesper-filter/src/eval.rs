//! Decides a predicate on one JSON object.

use crate::predicate::{Comparison, Literal, Operand, Predicate};
use serde_json::Value;
use std::cmp::Ordering;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) fn matches(predicate: &Predicate, item: &Value) -> bool {
    match predicate {
        Predicate::Constant(value) => *value,
        Predicate::And(all) => all.iter().all(|p| matches(p, item)),
        Predicate::Or(any) => any.iter().any(|p| matches(p, item)),
        Predicate::Not(inner) => !matches(inner, item),
        Predicate::IsEmpty(path) => values(item, path).iter().all(|v| is_empty(v)),
        Predicate::Flag(path) => values(item, path).iter().any(|v| **v == Value::Bool(true)),
        Predicate::Test { left, comparison } => test(left, comparison, item),
    }
}

fn test(left: &Operand, comparison: &Comparison, item: &Value) -> bool {
    match left {
        Operand::Path(path) => {
            let found = values(item, path);
            if found.is_empty() {
                holds(&Value::Null, comparison)
            } else {
                found.iter().any(|v| holds(v, comparison))
            }
        }
        Operand::AnyOf(path) => entries(item, path).iter().any(|v| holds(v, comparison)),
        Operand::AllOf(path) => entries(item, path).iter().all(|v| holds(v, comparison)),
        Operand::Count(path, predicate) => {
            let count = entries(item, path)
                .iter()
                .filter(|entry| predicate.as_ref().is_none_or(|p| matches(p, entry)))
                .count();
            holds(&Value::from(count), comparison)
        }
    }
}

/// The values at a dotted path. A key that itself holds dots is found too; a list on the way means each of its entries.
pub(crate) fn values<'a>(item: &'a Value, path: &str) -> Vec<&'a Value> {
    match item {
        Value::Object(map) => {
            if let Some(value) = map.get(path) {
                return vec![value];
            }
            path.match_indices('.')
                .find_map(|(dot, _)| Some(values(map.get(&path[..dot])?, &path[dot + 1..])))
                .unwrap_or_default()
        }
        Value::Array(list) => list.iter().flat_map(|entry| values(entry, path)).collect(),
        _ => Vec::new(),
    }
}

/// The same, with lists taken apart.
fn entries<'a>(item: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut entries = Vec::new();
    for value in values(item, path) {
        match value {
            Value::Array(list) => entries.extend(list),
            Value::Null => {}
            other => entries.push(other),
        }
    }
    entries
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn holds(value: &Value, comparison: &Comparison) -> bool {
    let order = |literal| compare(value, literal);
    let between =
        |low, high| order(low).is_some_and(Ordering::is_ge) && order(high).is_some_and(Ordering::is_lt);
    match comparison {
        Comparison::Equal(literal) => order(literal) == Some(Ordering::Equal),
        Comparison::NotEqual(literal) => order(literal) != Some(Ordering::Equal),
        Comparison::Less(literal) => order(literal).is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual(literal) => order(literal).is_some_and(Ordering::is_le),
        Comparison::Greater(literal) => order(literal).is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual(literal) => order(literal).is_some_and(Ordering::is_ge),
        Comparison::In(list) => list.iter().any(|l| order(l) == Some(Ordering::Equal)),
        Comparison::NotIn(list) => list.iter().all(|l| order(l) != Some(Ordering::Equal)),
        Comparison::Between(low, high) => between(low, high),
        Comparison::NotBetween(low, high) => !between(low, high),
        Comparison::Contains(part) => contains(value, part, false),
        Comparison::NotContains(part) => !contains(value, part, false),
        Comparison::IContains(part) => contains(value, part, true),
        Comparison::NotIContains(part) => !contains(value, part, true),
    }
}

/// How a value compares with a literal of its own type; none for another type.
fn compare(value: &Value, literal: &Literal) -> Option<Ordering> {
    match (value, literal) {
        (Value::String(text), Literal::Text(wanted)) => Some(text.as_str().cmp(wanted)),
        (Value::Number(number), Literal::Number(wanted)) => number.as_f64()?.partial_cmp(wanted),
        (Value::String(text), Literal::DateTime(wanted)) => {
            Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.cmp(wanted))
        }
        (Value::Bool(flag), Literal::Bool(wanted)) => Some(flag.cmp(wanted)),
        (Value::Null, Literal::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

fn contains(value: &Value, part: &str, ignore_case: bool) -> bool {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return false,
    };
    if ignore_case { text.to_lowercase().contains(&part.to_lowercase()) } else { text.contains(part) }
}
