//! What a scalar without quotes means.

use serde_json::{Number, Value};

/// What a scalar without quotes means by YAML's core schema (YAML 1.2.2, 10.3).
pub fn core_schema(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let radix = |prefix: &str, radix| {
            digits.strip_prefix(prefix).filter(|_| digits == text).map(|d| u64::from_str_radix(d, radix))
        };
        if let Some(Ok(n)) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return n.into();
        }
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            let unsigned = text.strip_prefix('+').unwrap_or(text);
            let number = unsigned.parse::<u64>().map(Number::from);
            if let Ok(n) = number.or_else(|_| unsigned.parse::<i64>().map(Number::from)) {
                return n.into();
            }
        }
        let float = digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        if let Some(n) = text.parse::<f64>().ok().filter(|_| float).and_then(Number::from_f64) {
            return n.into();
        }
    }
    Value::String(text.into())
}
