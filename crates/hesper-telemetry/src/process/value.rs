//! Values of attributes: from the configuration, as text, looked up.

use base64::{Engine, prelude::BASE64_STANDARD};
use hesper_collector_config::Value as Setting;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use serde_json::Value as Json;

/// What may not be set, changed or taken away: it says who sent the data.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with(hesper_otlp::stamp::RESERVED_PREFIX)
}

/// A value that is a text.
pub fn text_value(text: impl Into<String>) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

/// An attribute.
pub fn attribute(key: impl Into<String>, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), key_strindex: 0 }
}

/// The value of an attribute; `None` when it is not there, or has no value.
pub fn get<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

/// The value of an attribute that is a text.
pub fn get_text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match get(attributes, key)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// A value as the configuration has it.
pub(super) fn of_setting(setting: &Setting) -> AnyValue {
    let value = match setting {
        Setting::Text(text) => Value::StringValue(text.clone()),
        Setting::Int(n) => Value::IntValue(*n),
        Setting::Double(n) => Value::DoubleValue(*n),
        Setting::Bool(yes) => Value::BoolValue(*yes),
        Setting::List(items) => {
            Value::ArrayValue(ArrayValue { values: items.iter().map(of_setting).collect() })
        }
        Setting::Map(entries) => Value::KvlistValue(KeyValueList {
            values: entries.iter().map(|(key, value)| attribute(key.clone(), of_setting(value))).collect(),
        }),
    };
    AnyValue { value: Some(value) }
}

/// A value as text, as the Collector writes it: numbers without needless digits, lists and maps as JSON, bytes in base64.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(yes) => yes.to_string(),
        Value::IntValue(n) => n.to_string(),
        Value::DoubleValue(n) => double_text(*n),
        Value::BytesValue(bytes) => BASE64_STANDARD.encode(bytes),
        Value::ArrayValue(_) | Value::KvlistValue(_) => json(Some(value)).to_string(),
        Value::StringValueStrindex(_) => String::new(),
    }
}

/// Plain between a millionth and 10^21, with an exponent beyond.
fn double_text(n: f64) -> String {
    let size = n.abs();
    if size != 0.0 && n.is_finite() && !(1e-6..1e21).contains(&size) {
        let text = format!("{n:e}");
        return if size < 1.0 { text } else { text.replace('e', "e+") };
    }
    n.to_string()
}

fn json(value: Option<&Value>) -> Json {
    match value {
        None | Some(Value::StringValueStrindex(_)) => Json::Null,
        Some(Value::StringValue(text)) => text.as_str().into(),
        Some(Value::BoolValue(yes)) => (*yes).into(),
        Some(Value::IntValue(n)) => (*n).into(),
        Some(Value::DoubleValue(n)) => (*n).into(),
        Some(Value::BytesValue(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(|value| json(value.value.as_ref())).collect(),
        Some(Value::KvlistValue(map)) => {
            let entry = |pair: &KeyValue| {
                (pair.key.clone(), json(pair.value.as_ref().and_then(|value| value.value.as_ref())))
            };
            Json::Object(map.values.iter().map(entry).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_collector_writes_them() {
        let list = Setting::List(vec![Setting::Int(1), Setting::Text("a\"".into()), Setting::Bool(true)]);
        let map = Setting::Map(vec![("k".into(), list.clone()), ("n".into(), Setting::Double(0.5))]);
        for (setting, text) in [
            (Setting::Text("x".into()), "x"),
            (Setting::Int(-7), "-7"),
            (Setting::Double(1.0), "1"),
            (Setting::Double(0.000_001), "0.000001"),
            (Setting::Double(1e-7), "1e-7"),
            (Setting::Double(1e20), "100000000000000000000"),
            (Setting::Double(1.5e21), "1.5e+21"),
            (Setting::Double(0.0), "0"),
            (Setting::Bool(false), "false"),
            (list, r#"[1,"a\"",true]"#),
            (map, r#"{"k":[1,"a\"",true],"n":0.5}"#),
        ] {
            let value = of_setting(&setting).value.expect("a value");
            assert_eq!(as_text(&value), text);
        }
        assert_eq!(as_text(&Value::BytesValue(vec![0xff, 0])), "/wA=");
    }
}
