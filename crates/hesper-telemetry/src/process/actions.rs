//! Actions on a list of attributes, as `resource` and `attributes` know them.
//!
//! What begins with `hesper.` says who sent the data: patterns and groups of expressions pass over it, and the configuration takes
//! no action that names it. Where a key occurs several times in a list, an action is about all of them, so that a redaction is one.

use super::value::{as_text, get, is_reserved, of_setting, text_value};
use crate::origin::Origin;
use hesper_collector_config::{
    Pattern,
    processors::{Action, ActionSource, Change, Convert},
};
use hesper_otlp::edit::{self, Edits};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use prost::Message;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// Actions, made ready.
#[derive(Debug)]
pub(super) struct Actions {
    actions: Vec<Action>,
    /// The same as edits of the bytes, where they do not depend on the batch.
    edits: Option<Edits>,
    /// They may be edits of the bytes once the values from the batch's origin are known.
    by_origin: bool,
}

/// Actions with what they take from the origin of a batch.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    actions: &'a [Action],
    /// For each action the value that does not depend on the attributes.
    values: Vec<Option<AnyValue>>,
}

impl Actions {
    pub(super) fn new(actions: &[Action]) -> Self {
        let source = |action: &Action| match &action.change {
            Change::Insert(source) | Change::Update(source) | Change::Upsert(source) => Some(source.clone()),
            _ => None,
        };
        let plain = |action: &Action| match source(action) {
            Some(source) => !matches!(source, ActionSource::Attribute { .. }),
            None => action.change == Change::Delete(None),
        };
        let of_origin = |action: &Action| matches!(source(action), Some(ActionSource::Context { .. }));
        let mut ready = Self { actions: actions.to_vec(), edits: None, by_origin: actions.iter().all(plain) };
        if ready.by_origin && !actions.iter().any(of_origin) {
            ready.edits = ready.ready(&Origin::default()).edits();
            ready.by_origin = false;
        }
        ready
    }

    /// The actions as edits of bytes; `None` when messages must be decoded for them.
    pub(super) fn edits(&self, origin: &Origin) -> Option<std::borrow::Cow<'_, Edits>> {
        match &self.edits {
            Some(edits) => Some(std::borrow::Cow::Borrowed(edits)),
            None if self.by_origin => self.ready(origin).edits().map(std::borrow::Cow::Owned),
            None => None,
        }
    }

    pub(super) fn ready(&self, origin: &Origin) -> Ready<'_> {
        let value = |action: &Action| match &action.change {
            Change::Insert(source) | Change::Update(source) | Change::Upsert(source) => match source {
                ActionSource::Value(value) => Some(of_setting(value)),
                ActionSource::Context { key, default } => {
                    from_origin(origin, key).map(text_value).or_else(|| default.as_ref().map(of_setting))
                }
                ActionSource::Attribute { default, .. } => default.as_ref().map(of_setting),
            },
            _ => None,
        };
        Ready { actions: &self.actions, values: self.actions.iter().map(value).collect() }
    }
}

impl Ready<'_> {
    fn edits(&self) -> Option<Edits> {
        let mut changes = Vec::new();
        for (action, value) in self.actions.iter().zip(&self.values) {
            let bytes = value.as_ref().map(Message::encode_to_vec);
            let change = match (&action.change, bytes) {
                (Change::Delete(_), _) => edit::Change::Delete,
                (Change::Insert(_), Some(value)) => edit::Change::Insert(value),
                (Change::Update(_), Some(value)) => edit::Change::Update(value),
                (Change::Upsert(_), Some(value)) => edit::Change::Upsert(value),
                // Without a value nothing is set.
                _ => continue,
            };
            changes.push((action.key.clone(), change));
        }
        Edits::new(&changes)
    }

    /// Takes the actions, one after the other.
    pub(super) fn apply(&self, attributes: &mut Vec<KeyValue>) {
        for (action, value) in self.actions.iter().zip(&self.values) {
            let key = action.key.as_str();
            match &action.change {
                Change::Insert(source) | Change::Update(source) | Change::Upsert(source) => {
                    let found = match source {
                        ActionSource::Attribute { key, .. } => {
                            get(attributes, key).map(|value| AnyValue { value: Some(value.clone()) })
                        }
                        _ => None,
                    };
                    let Some(value) = found.or_else(|| value.clone()) else { continue };
                    let update = !matches!(action.change, Change::Insert(_));
                    let insert = !matches!(action.change, Change::Update(_));
                    set(attributes, key, &value, update, insert);
                }
                Change::Delete(pattern) => {
                    attributes.retain(|pair| !is_meant(pair, key, pattern.as_ref()));
                }
                Change::Hash(pattern) => {
                    for pair in attributes.iter_mut().filter(|pair| is_meant(pair, key, pattern.as_ref())) {
                        pair.value = pair.value.take().map(|value| hash(&value));
                    }
                }
                Change::Extract(pattern) => extract(attributes, key, pattern),
                Change::Convert(to) => {
                    for pair in attributes.iter_mut().filter(|pair| pair.key == key) {
                        if let Some(value) = pair.value.as_mut().and_then(|value| value.value.as_mut()) {
                            convert(value, *to);
                        }
                    }
                }
            }
        }
    }
}

fn is_meant(pair: &KeyValue, key: &str, pattern: Option<&Pattern>) -> bool {
    let named = !key.is_empty() && pair.key == key;
    named || pattern.is_some_and(|p| p.regex().is_match(&pair.key)) && !is_reserved(&pair.key)
}

/// Sets an attribute where it is, or adds it where it is not.
fn set(attributes: &mut Vec<KeyValue>, key: &str, value: &AnyValue, update: bool, insert: bool) {
    let mut found = false;
    for pair in attributes.iter_mut().filter(|pair| pair.key == key) {
        found = true;
        if update {
            *pair = super::value::attribute(key, value.clone());
        }
    }
    if insert && !found {
        attributes.push(super::value::attribute(key, value.clone()));
    }
}

/// The SHA-1 of a value in hexadecimal: of the text, of eight bytes in little-endian order for a number, of one byte for yes and no, as
/// the Collector takes it. Other than there, lists and maps are hashed too, as they are encoded.
fn hash(value: &AnyValue) -> AnyValue {
    let bytes = match &value.value {
        None => Vec::new(),
        Some(Value::StringValue(text)) => text.clone().into_bytes(),
        Some(Value::BoolValue(yes)) => vec![u8::from(*yes)],
        Some(Value::IntValue(n)) => n.to_le_bytes().into(),
        Some(Value::DoubleValue(n)) => n.to_le_bytes().into(),
        Some(Value::BytesValue(bytes)) => bytes.clone(),
        Some(_) => value.encode_to_vec(),
    };
    if bytes.is_empty() {
        return text_value("");
    }
    let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    text_value(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Sets one attribute per named group, if the value is a text in which the expression is found.
fn extract(attributes: &mut Vec<KeyValue>, key: &str, pattern: &Pattern) {
    let Some(text) = super::value::get_text(attributes, key) else { return };
    let Some(captures) = pattern.regex().captures(text) else { return };
    let group = |name| captures.name(name).map_or("", |found| found.as_str()).to_owned();
    let names = pattern.regex().capture_names().flatten().filter(|name| !is_reserved(name));
    let found: Vec<(String, String)> = names.map(|name| (name.to_owned(), group(name))).collect();
    for (name, text) in found {
        set(attributes, &name, &text_value(text), true, true);
    }
}

/// Makes a value another type; what cannot be one stays as it is.
fn convert(value: &mut Value, to: Convert) {
    let new = match (to, &*value) {
        (Convert::Text, Value::StringValue(_)) => return,
        (Convert::Text, value) => Some(Value::StringValue(as_text(value))),
        (Convert::Int, Value::DoubleValue(n)) => Some(Value::IntValue(*n as i64)),
        (Convert::Int, Value::BoolValue(yes)) => Some(Value::IntValue(i64::from(*yes))),
        (Convert::Int, Value::StringValue(text)) => text.parse().ok().map(Value::IntValue),
        (Convert::Double, Value::IntValue(n)) => Some(Value::DoubleValue(*n as f64)),
        (Convert::Double, Value::BoolValue(yes)) => Some(Value::DoubleValue(f64::from(u8::from(*yes)))),
        (Convert::Double, Value::StringValue(text)) => text.parse().ok().map(Value::DoubleValue),
        _ => None,
    };
    if let Some(new) = new {
        *value = new;
    }
}

/// What is known of the sender: `metadata.<header>`, several values joined by `;`, `auth.<attribute>`, `client.address`.
fn from_origin(origin: &Origin, key: &str) -> Option<String> {
    if let Some(header) = key.strip_prefix("metadata.") {
        let values = origin.metadata.iter().filter(|(name, _)| name.eq_ignore_ascii_case(header));
        let values: Vec<_> = values.map(|(_, value)| String::from_utf8_lossy(value)).collect();
        return Some(values.join(";")).filter(|_| !values.is_empty());
    }
    match key.strip_prefix("auth.") {
        Some(name) => origin.auth.get(name).cloned(),
        None => origin.peer.filter(|_| key == "client.address").map(|ip| ip.to_string()),
    }
}
