//! Filters, sorts and pages.

use crate::{Direction, Query, eval};
use serde_json::Value;
use std::cmp::Ordering;

/// One page of the items that match.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The items of the page.
    pub items: Vec<Value>,
    /// How many match in all.
    pub total: u64,
}

pub(crate) fn apply(query: &Query, mut items: Vec<Value>) -> Page {
    items.retain(|item| query.matches(item));
    let total = items.len() as u64;
    if !query.sort.is_empty() {
        items.sort_by(|a, b| by_fields(&query.sort, a, b));
    }
    let skip = usize::try_from(query.skip.unwrap_or(0)).unwrap_or(usize::MAX);
    let size = query.page_size().map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    Page { items: items.into_iter().skip(skip).take(size).collect(), total }
}

fn by_fields(sort: &[(String, Direction)], a: &Value, b: &Value) -> Ordering {
    sort.iter().fold(Ordering::Equal, |order, (path, direction)| {
        order.then_with(|| {
            let order = by_value(first(a, path), first(b, path));
            if *direction == Direction::Desc { order.reverse() } else { order }
        })
    })
}

fn first<'a>(item: &'a Value, path: &str) -> &'a Value {
    eval::values(item, path).into_iter().next().unwrap_or(&Value::Null)
}

/// Null before false before true before numbers before texts before all else.
fn by_value(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    }
}
