//! Labels of series from the attributes of points and resources.

use super::{Options, name};
use base64::{Engine, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use serde_json::json;
use std::collections::BTreeMap;

/// Labels, sorted by name, none empty.
pub(super) type Set = BTreeMap<String, String>;

const SERVICE: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// What a resource gives to each of its series.
#[derive(Debug, Default)]
pub(super) struct Base<'r> {
    attributes: &'r [KeyValue],
    job: String,
    instance: String,
}

impl<'r> Base<'r> {
    pub(super) fn new(resource: Option<&'r Resource>) -> Self {
        let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
        let said = |key: &str| {
            let said = attributes.iter().find(|attribute| attribute.key == key);
            said.map(|attribute| text(attribute.value.as_ref())).unwrap_or_default()
        };
        let [name, namespace, instance] = SERVICE.map(said);
        let job = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
        Self { attributes, job, instance }
    }

    /// The labels of a series, without its name.
    pub(super) fn labels(&self, point: &[KeyValue], options: &Options) -> Set {
        let of_resource: &[KeyValue] =
            if options.resource_to_telemetry_conversion { self.attributes } else { &[] };
        let mut labels = joined(point, of_resource);
        self.finish(&mut labels, options);
        labels
    }

    /// The labels of `target_info`; `None`: there is nothing to tell, or nobody to tell it of.
    pub(super) fn info(&self, options: &Options) -> Option<Set> {
        if self.job.is_empty() && self.instance.is_empty() {
            return None;
        }
        let others: Vec<_> =
            self.attributes.iter().filter(|attribute| !SERVICE.contains(&&*attribute.key)).cloned().collect();
        let mut labels = joined(&others, &[]);
        if labels.is_empty() {
            return None;
        }
        self.finish(&mut labels, options);
        Some(labels)
    }

    fn finish(&self, labels: &mut Set, options: &Options) {
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                labels.insert(name.to_owned(), value.clone());
            }
        }
        for (name, value) in &options.external_labels {
            labels.entry(name::label(name)).or_insert_with(|| value.clone());
        }
        labels.retain(|name, value| !name.is_empty() && !value.is_empty());
    }
}

/// Attributes under the names of labels. Those of the second list win over equal ones of the first. Different ones that get the same name
/// are put together, in the order of their own names.
fn joined(first: &[KeyValue], second: &[KeyValue]) -> Set {
    let all: BTreeMap<&str, Option<&AnyValue>> =
        first.iter().chain(second).map(|attribute| (&*attribute.key, attribute.value.as_ref())).collect();
    let mut labels = Set::new();
    for (key, value) in all {
        let value = text(value);
        labels
            .entry(name::label(key))
            .and_modify(|known| {
                known.push(';');
                known.push_str(&value);
            })
            .or_insert(value);
    }
    labels
}

/// Labels from pairs, as exemplars have them.
pub(super) fn plain(attributes: &[KeyValue]) -> Set {
    joined(attributes, &[])
}

/// A value as text: lists and maps as JSON, bytes in base64 (OpenTelemetry specification, "AnyValue representation for non-OTLP protocols").
fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BytesValue(bytes)) => STANDARD.encode(bytes),
        None => String::new(),
        Some(other) => json_of(Some(other)).to_string(),
    }
}

/// Recursion ends: what was decoded from protobuf is nested at most 100 deep.
fn json_of(value: Option<&Value>) -> serde_json::Value {
    let inner = |value: &AnyValue| json_of(value.value.as_ref());
    match value {
        None | Some(Value::StringValueStrindex(_)) => serde_json::Value::Null,
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::BoolValue(value)) => json!(value),
        Some(Value::IntValue(number)) => json!(number),
        Some(Value::DoubleValue(number)) if number.is_finite() => json!(number),
        Some(Value::DoubleValue(number)) => json!(number.to_string()),
        Some(Value::BytesValue(bytes)) => json!(STANDARD.encode(bytes)),
        Some(Value::ArrayValue(list)) => list.values.iter().map(inner).collect(),
        Some(Value::KvlistValue(list)) => list
            .values
            .iter()
            .map(|pair| (pair.key.clone(), pair.value.as_ref().map_or(serde_json::Value::Null, inner)))
            .collect(),
    }
}
