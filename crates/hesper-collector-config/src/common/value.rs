//! The value of an attribute in a configuration.

use crate::tree::{Body, Tree};
use serde_json::Value as Json;

/// A value as OTLP's attributes have it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Yes or no.
    Bool(bool),
    /// A list.
    List(Vec<Self>),
    /// A mapping, in the order of the file.
    Map(Vec<(String, Self)>),
}

/// Reads a value. What has quotes is text; so is a number with a leading zero (`0123`), which would mean different things to
/// different readers, and one that 64 bits cannot hold.
pub(crate) fn value(tree: &Tree) -> Value {
    match &tree.structure().body {
        Body::List(items) => Value::List(items.iter().map(value).collect()),
        Body::Map(entries) => Value::Map(entries.iter().map(|e| (e.key.clone(), value(&e.value))).collect()),
        Body::Text(text) => {
            let digits = text.text.strip_prefix(['-', '+']).unwrap_or(&text.text);
            let zero =
                digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
            if !text.plain || zero {
                return Value::Text(text.text.clone());
            }
            match hesper_yaml::core_schema(&text.text) {
                Json::Bool(yes) => Value::Bool(yes),
                Json::Number(n) if n.is_f64() => Value::Double(n.as_f64().unwrap_or_default()),
                Json::Number(n) => n.as_i64().map_or_else(|| Value::Text(text.text.clone()), Value::Int),
                _ => Value::Text(text.text.clone()),
            }
        }
    }
}
