//! The tree.

use crate::scalar::core_schema;
use serde_json::{Map, Value};

/// Line and column, counted from one.
pub type At = (usize, usize);

/// A node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: At,
    /// What it is.
    pub data: Data,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may mean a number, a yes or no, or nothing.
    Plain,
    /// In quotes, or with the tag `!!str`.
    Quoted,
    /// A block behind `|`: its lines are lines of the file.
    Literal,
    /// A block behind `>`.
    Folded,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Text.
    Scalar {
        /// What it says: quotes, escapes and indentation are undone, everything else is as it was written.
        text: String,
        /// How it was written.
        style: Style,
    },
    /// `[a, b]`
    Sequence(Vec<Node>),
    /// `{a: b}`; every key is text, none is there twice.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The node as JSON, by YAML's core schema.
    pub fn json(&self) -> Value {
        match &self.data {
            Data::Scalar { text, style: Style::Plain } => core_schema(text),
            Data::Scalar { text, .. } => Value::String(text.clone()),
            Data::Sequence(items) => Value::Array(items.iter().map(Self::json).collect()),
            Data::Mapping(pairs) => {
                let fields = pairs.iter().map(|(key, value)| (key.text().to_owned(), value.json()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// The text of a scalar; empty for everything else.
    pub fn text(&self) -> &str {
        match &self.data {
            Data::Scalar { text, .. } => text,
            Data::Sequence(_) | Data::Mapping(_) => "",
        }
    }

    /// True for nothing, `~` and `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.data, Data::Scalar { text, style: Style::Plain } if core_schema(text).is_null())
    }

    /// The key and value of this name in a mapping.
    pub fn entry(&self, name: &str) -> Option<(&Node, &Node)> {
        let Data::Mapping(pairs) = &self.data else { return None };
        pairs.iter().find(|(key, _)| key.text() == name).map(|(key, value)| (key, value))
    }

    /// Where in the file a place inside the text of this scalar is. Known for a block behind `|`, whose lines are lines of the
    /// file; for everything else it is where the scalar begins.
    pub fn within(&self, inner: At) -> At {
        let Data::Scalar { text, style: Style::Literal } = &self.data else { return self.at };
        // A block begins at its first line that is not empty.
        let empty = text.lines().take_while(|line| line.is_empty()).count();
        ((self.at.0 + inner.0).saturating_sub(1 + empty), self.at.1 + inner.1 - 1)
    }

    /// What it is, for messages.
    pub fn what(&self) -> String {
        match &self.data {
            Data::Sequence(_) => "a list".into(),
            Data::Mapping(_) => "a mapping".into(),
            Data::Scalar { .. } => match self.json() {
                Value::Null => "nothing".into(),
                value => value.to_string(),
            },
        }
    }
}
