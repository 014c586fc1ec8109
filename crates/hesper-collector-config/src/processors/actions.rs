//! `resource` and `attributes`: ordered actions on attributes.

use super::matching::{Match, sides};
use crate::{
    Pattern, Value,
    common::{pattern, value},
    section::Section,
};
use hesper_otlp::stamp::RESERVED_PREFIX;

/// The `attributes` processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes {
    /// What is done, in order.
    pub actions: Vec<Action>,
    /// Only to what matches.
    pub include: Option<Match>,
    /// Not to what matches.
    pub exclude: Option<Match>,
}

/// One action.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The attribute; empty where only a pattern names attributes.
    pub key: String,
    /// What is done with it.
    pub change: Change,
}

/// What is done with an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Set it when it is not there.
    Insert(ActionSource),
    /// Set it when it is there.
    Update(ActionSource),
    /// Set it.
    Upsert(ActionSource),
    /// Take it away, and those whose names match.
    Delete(Option<Pattern>),
    /// Put the SHA-1 of it in its place, and of those whose names match.
    Hash(Option<Pattern>),
    /// Set one attribute per named group of the expression.
    Extract(Pattern),
    /// Make it another type.
    Convert(Convert),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionSource {
    /// `value`
    Value(Value),
    /// `from_attribute`
    Attribute {
        /// The attribute.
        key: String,
        /// What stands in when it is not there.
        default: Option<Value>,
    },
    /// `from_context`: `metadata.<header>`, `auth.<attribute>`, `client.address`.
    Context {
        /// Which.
        key: String,
        /// What stands in when it is not there.
        default: Option<Value>,
    },
}

/// `converted_type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convert {
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// Text.
    Text,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Insert,
    Update,
    Upsert,
    Delete,
    Hash,
    Extract,
    Convert,
}

const VERBS: [(&str, Verb); 7] = [
    ("insert", Verb::Insert),
    ("update", Verb::Update),
    ("upsert", Verb::Upsert),
    ("delete", Verb::Delete),
    ("hash", Verb::Hash),
    ("extract", Verb::Extract),
    ("convert", Verb::Convert),
];

/// Reads the `attributes` processor.
pub(crate) fn attributes(s: &Section<'_>) -> Attributes {
    let (include, exclude) = sides(s);
    Attributes { actions: actions(s, "actions"), include, exclude }
}

/// Reads a list of actions.
pub(crate) fn actions(s: &Section<'_>, key: &'static str) -> Vec<Action> {
    if s.items(key).is_empty() && !s.is_set(key) {
        let next = format!("add {key}: [{{key: …, value: …, action: upsert}}]");
        s.fault(s.place_of(key), format!("{} does nothing", s.what), next);
    }
    s.sections(key, action).into_iter().flatten().collect()
}

fn action(s: &Section<'_>) -> Option<Action> {
    s.require("action", "write insert, update, upsert, delete, hash, extract or convert");
    let verb = s.choice("action", &VERBS);
    let key = s.text_or("key", "");
    let pattern = s.scalar("pattern").and_then(|scalar| pattern(s, scalar));
    let source = source(s);
    let converted = convert(s);
    // All keys are asked for; what follows says which of them belong together.
    let verb = verb?;
    let by_name = matches!(verb, Verb::Delete | Verb::Hash) && s.is_set("pattern");
    if key.is_empty() && !by_name {
        s.fault(s.place_of("key"), format!("{} names no attribute", s.what), "add key");
    }
    reserved(s, "key", &key);
    let sets = matches!(verb, Verb::Insert | Verb::Update | Verb::Upsert);
    for (name, fits) in [
        ("value", sets),
        ("from_attribute", sets),
        ("from_context", sets),
        ("default_value", sets),
        ("pattern", matches!(verb, Verb::Delete | Verb::Hash | Verb::Extract)),
        ("converted_type", verb == Verb::Convert),
    ] {
        if s.is_set(name) && !fits {
            s.refuse(name, "does not belong to this action", "leave it out, or choose another action");
        }
    }
    if sets
        && source.is_none()
        && !["value", "from_attribute", "from_context"].iter().any(|key| s.is_set(key))
    {
        s.fault(
            &s.place,
            format!("{} gives '{key}' no value", s.what),
            "add value, from_attribute or from_context",
        );
    }
    let change = match verb {
        Verb::Insert => Change::Insert(source?),
        Verb::Update => Change::Update(source?),
        Verb::Upsert => Change::Upsert(source?),
        Verb::Delete => Change::Delete(pattern),
        Verb::Hash => Change::Hash(pattern),
        Verb::Extract => Change::Extract(extract(s, pattern)?),
        Verb::Convert => {
            s.require("converted_type", "write int, double or string");
            Change::Convert(converted?)
        }
    };
    Some(Action { key, change })
}

/// An attribute that says who sent the data is nobody's to change.
pub(super) fn reserved(s: &Section<'_>, key: &'static str, name: &str) {
    if name.starts_with(RESERVED_PREFIX) {
        let reason = format_args!("'{name}' is set from the sender's certificate, and by nothing else");
        s.refuse(key, reason, format!("choose a name that does not begin with {RESERVED_PREFIX}"));
    }
}

fn reserved_inside(s: &Section<'_>, key: &'static str, value: &Value) {
    match value {
        Value::List(items) => items.iter().for_each(|value| reserved_inside(s, key, value)),
        Value::Map(entries) => entries.iter().for_each(|(name, value)| {
            reserved(s, key, name);
            reserved_inside(s, key, value);
        }),
        _ => {}
    }
}

fn source(s: &Section<'_>) -> Option<ActionSource> {
    let given = |key| s.get(key).map(value).inspect(|value| reserved_inside(s, key, value));
    let plain = given("value").map(ActionSource::Value);
    let default = given("default_value");
    let attribute =
        s.text("from_attribute").map(|key| ActionSource::Attribute { key, default: default.clone() });
    let context = s.text("from_context").map(|key| {
        let fits = key.starts_with("metadata.") || key.starts_with("auth.") || key == "client.address";
        if !fits {
            let next = "write metadata.HEADER, auth.ATTRIBUTE or client.address";
            s.refuse("from_context", "not known here", next);
        }
        ActionSource::Context { key, default }
    });
    let given: Vec<ActionSource> = [plain, attribute, context].into_iter().flatten().collect();
    if given.len() > 1 {
        s.fault(&s.place, format!("{} has two values", s.what), "keep value, from_attribute or from_context");
    }
    given.into_iter().next()
}

fn convert(s: &Section<'_>) -> Option<Convert> {
    s.choice(
        "converted_type",
        &[("int", Convert::Int), ("double", Convert::Double), ("string", Convert::Text)],
    )
}

fn extract(s: &Section<'_>, pattern: Option<Pattern>) -> Option<Pattern> {
    s.require("pattern", "write an expression with named groups: (?P<name>…)");
    let pattern = pattern?;
    if pattern.regex().capture_names().skip(1).any(|name| name.is_none())
        || pattern.regex().captures_len() < 2
    {
        s.refuse("pattern", "every group needs a name", "write (?P<name>…), and (?:…) for a group without");
    }
    pattern.regex().capture_names().flatten().for_each(|name| reserved(s, "pattern", name));
    Some(pattern)
}
