//! A snapshot as files: one document for what no set owns, then one for each set. Defaults are left out.

use crate::{
    Snapshot,
    fields::{self, Absent, Fields, KINDS, Key, Shape},
};
use hesper_model::entity::Kind;
use serde_json::Value;
use std::{collections::BTreeSet, fmt::Write};

/// Words that mean something else than themselves, here or in older YAML.
const RESERVED: [&str; 12] =
    ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];

/// The text. Reads back to the same entities; empty when there is nothing to declare.
pub fn render(snapshot: &Snapshot) -> String {
    let sets: BTreeSet<Option<&str>> = snapshot.entities.values().map(|p| p.set.as_deref()).collect();
    let mut text = String::new();
    for set in sets {
        let mut document = String::new();
        for kind in KINDS {
            let of_kind = snapshot.entities.iter().filter(|(key, present)| {
                key.kind == kind && present.set.as_deref() == set && !is_part_of_hesper(key)
            });
            for (n, (key, present)) in of_kind.enumerate() {
                if n == 0 {
                    let _ = writeln!(document, "{}:", kind.plural());
                }
                entity(&mut document, key, &present.fields);
            }
        }
        if document.is_empty() {
            continue;
        }
        text.push_str("---\n");
        if let Some(set) = set {
            let _ = writeln!(text, "set: {}", scalar(set));
        }
        text.push_str(&document);
    }
    text
}

fn is_part_of_hesper(key: &Key) -> bool {
    key.kind == Kind::ConfigType && fields::is_builtin(&key.name)
}

fn entity(text: &mut String, key: &Key, fields: &Fields) {
    let _ = writeln!(text, "  - name: {}", scalar(&key.name));
    for field in fields::of(key.kind) {
        let Some(value) = fields.get(field.name) else { continue };
        let required = field.absent == Absent::Refused;
        if *value == field.default() && !required {
            continue;
        }
        match (field.shape, value) {
            (Shape::Object | Shape::Tags, Value::Object(map)) if !map.is_empty() => {
                let _ = writeln!(text, "    {}:", field.name);
                block(text, value, 6);
            }
            _ => {
                let _ = writeln!(text, "    {}: {}", field.name, flow(value));
            }
        }
    }
}

/// A mapping or list in block style, each line indented.
fn block(text: &mut String, value: &Value, indent: usize) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let nested = matches!(value, Value::Object(m) if !m.is_empty());
                if nested || is_long_list(value) {
                    let _ = writeln!(text, "{pad}{}:", scalar(key));
                    block(text, value, indent + 2);
                } else {
                    let _ = writeln!(text, "{pad}{}: {}", scalar(key), flow(value));
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let _ = writeln!(text, "{pad}- {}", flow(item));
            }
        }
        other => {
            let _ = writeln!(text, "{pad}{}", flow(other));
        }
    }
}

/// A list of mappings reads better with a line for each.
fn is_long_list(value: &Value) -> bool {
    matches!(value, Value::Array(items) if items.iter().any(Value::is_object))
}

/// A value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A text: plain where that cannot mean anything else, in double quotes otherwise.
fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts && text.chars().all(safe) && !RESERVED.contains(&text.to_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
