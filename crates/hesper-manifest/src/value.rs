//! From a node of YAML to the value of a field in named form: checked, sorted, with the places of the names in it.

use crate::{
    Fault, Place, SET_TAG,
    fields::{Field, Key, Shape},
};
use hesper_model::{
    entity::Kind,
    id::MAX_NAME_LEN,
    role::{Role, Roles, check_attribute},
};
use hesper_yaml::{At, Data, Flaw, Node, advice};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// Longest free text, in bytes, as the management API has it.
const MAX_TEXT: usize = 4096;
/// Most entries of a list, as the management API has it.
const MAX_ENTRIES: usize = 1000;

/// A name in a file that must be the name of something.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) to: Key,
    pub(crate) place: Place,
}

/// Reads one file: where faults and references go.
pub(crate) struct Reader {
    pub(crate) file: Arc<str>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) references: Vec<Reference>,
}

/// A value that does not fit has left a fault behind.
pub(crate) struct Refused;

type Read<T> = Result<T, Refused>;

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.into(), faults: Vec::new(), references: Vec::new() }
    }

    pub(crate) fn place(&self, at: At) -> Place {
        Place { file: self.file.clone(), line: at.0, column: at.1 }
    }

    pub(crate) fn fault(&mut self, at: At, reason: impl Into<String>, next: impl Into<String>) -> Refused {
        self.faults.push(Fault::new(self.place(at), reason, next));
        Refused
    }

    /// A flaw of the text as YAML. Roles begin with characters that mean something else there: say so where one is near.
    pub(crate) fn flaw(&mut self, flaw: Flaw) {
        let next = match flaw.sign {
            Some('@') => "a role that begins with @ must be in quotes: \"@name\"".into(),
            Some(_) => {
                "a role that begins with # must be in quotes, or it is a comment: \"#attribute\"".into()
            }
            None => flaw.next,
        };
        self.fault(flaw.at, flaw.reason, next);
    }

    /// The entries of a list; a single value stands for a list of one.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, what: &str) -> Read<Vec<&'n Node>> {
        match &node.data {
            Data::Sequence(items) if items.len() > MAX_ENTRIES => {
                let reason = format!("{what} has more than {MAX_ENTRIES} entries");
                Err(self.fault(node.at, reason, "use role attributes"))
            }
            Data::Sequence(items) => Ok(items.iter().collect()),
            Data::Scalar { .. } if !node.is_null() => Ok(vec![node]),
            _ => {
                let next = if node.is_null() {
                    "write [] for none; what begins with # must be in quotes, or it is a comment"
                } else {
                    "write it as [a, b]"
                };
                Err(self.fault(node.at, format!("{what} must be a list, not {}", node.what()), next))
            }
        }
    }

    /// A text that is not empty.
    pub(crate) fn word<'n>(&mut self, node: &'n Node, what: &str) -> Read<&'n str> {
        match node.json() {
            Value::String(text) if !text.is_empty() => Ok(node.text()),
            Value::Null => {
                let next = "what begins with # or @ must be in quotes: # begins a comment in YAML";
                Err(self.fault(node.at, format!("{what} is empty"), next))
            }
            _ => Err(self.fault(
                node.at,
                format!("{what} must be a text, not {}", node.what()),
                "put it in quotes",
            )),
        }
    }

    /// The unique name of an entity, as the management API takes it.
    pub(crate) fn name(&mut self, node: &Node, what: &str) -> Read<String> {
        let name = self.word(node, what)?;
        let reason = if name.len() > MAX_NAME_LEN {
            format!("{what} is longer than {MAX_NAME_LEN} bytes")
        } else if name.chars().any(char::is_control) {
            format!("{what} contains control characters")
        } else if name.trim() != name {
            format!("{what} begins or ends with a space")
        } else {
            return Ok(name.to_owned());
        };
        Err(self.fault(node.at, reason, "choose another name"))
    }

    /// A field's value in named form.
    pub(crate) fn value(&mut self, field: &Field, node: &Node) -> Read<Value> {
        let what = field.name;
        match field.shape {
            Shape::Text => {
                let text = self.word(node, what)?;
                if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                    let reason =
                        format!("{what} is longer than {MAX_TEXT} bytes or contains control characters");
                    return Err(self.fault(node.at, reason, "make it one short line"));
                }
                Ok(json!(text))
            }
            Shape::Bool => match node.json() {
                Value::Bool(yes) => Ok(json!(yes)),
                _ => Err(self.fault(node.at, format!("{what} is {}", node.what()), "write true or false")),
            },
            Shape::Integer(max) => match node.json().as_u64() {
                Some(n) if n <= max => Ok(json!(n)),
                _ => {
                    let next = format!("write a whole number from 0 to {max}");
                    Err(self.fault(node.at, format!("{what} is {}", node.what()), next))
                }
            },
            Shape::OneOf(words) => self.choice(node, what, words).map(|word| json!(word)),
            Shape::SomeOf(words) => {
                let mut some = BTreeSet::new();
                for node in self.list(node, what)? {
                    some.insert(self.choice(node, what, words)?);
                }
                Ok(json!(some))
            }
            Shape::Attributes => self.attributes(node, what),
            Shape::Roles(kind) => self.roles(node, what, kind),
            Shape::Name(kind) => {
                let name = self.name(node, what)?;
                let place = self.place(node.at);
                self.references.push(Reference { to: Key::new(kind, name.clone()), place });
                Ok(json!(name))
            }
            Shape::Names(kind) => {
                let mut names = BTreeSet::new();
                for node in self.list(node, what)? {
                    let name = self.name(node, what)?;
                    let place = self.place(node.at);
                    self.references.push(Reference { to: Key::new(kind, name.clone()), place });
                    names.insert(name);
                }
                Ok(json!(names))
            }
            Shape::Object | Shape::Tags => self.object(node, what, field.shape == Shape::Tags),
        }
    }

    fn choice(&mut self, node: &Node, what: &str, words: &[&str]) -> Read<String> {
        let word = self.word(node, what)?;
        if words.contains(&word) {
            return Ok(word.to_owned());
        }
        let next = advice(word, "choices", words);
        Err(self.fault(node.at, format!("{what} cannot be '{word}'"), next))
    }

    fn object(&mut self, node: &Node, what: &str, tags: bool) -> Read<Value> {
        let Data::Mapping(_) = node.data else {
            let reason = format!("{what} must be a mapping, not {}", node.what());
            return Err(self.fault(node.at, reason, "write it as {key: value}"));
        };
        if let Some((key, _)) = node.entry(SET_TAG).filter(|_| tags) {
            let reason = format!("the tag {SET_TAG} is kept by 'policy apply' itself");
            return Err(self.fault(key.at, reason, "say `set: NAME` at the top of the document"));
        }
        Ok(node.json())
    }

    fn attributes(&mut self, node: &Node, what: &str) -> Read<Value> {
        let mut attributes = BTreeSet::new();
        for node in self.list(node, what)? {
            let attribute = self.word(node, what)?;
            if check_attribute(attribute).is_err() {
                let reason = format!("the role attribute '{attribute}' begins with # or @");
                return Err(self.fault(node.at, reason, "leave the sign out; only roles have it"));
            }
            attributes.insert(attribute.to_owned());
        }
        Ok(json!(attributes))
    }

    fn roles(&mut self, node: &Node, what: &str, kind: Kind) -> Read<Value> {
        let mut roles = Vec::new();
        for node in self.list(node, what)? {
            roles.push(self.role(node, what, kind)?);
        }
        match Roles::new(roles) {
            Ok(roles) => Ok(json!(roles)),
            Err(e) => Err(self.fault(node.at, format!("{what}: {e}"), "leave #all or the others out")),
        }
    }

    /// One role: `@name`, `#attribute` or `#all`.
    fn role(&mut self, node: &Node, what: &str, kind: Kind) -> Read<Role> {
        let text = self.word(node, what)?;
        match text.parse::<Role>() {
            Ok(role) => {
                if let Role::Entity(name) = &role {
                    let place = self.place(node.at);
                    self.references.push(Reference { to: Key::new(kind, name.clone()), place });
                }
                Ok(role)
            }
            Err(_) if text.starts_with(['#', '@']) => {
                Err(self.fault(node.at, format!("the role '{text}' names nothing"), "write a name behind it"))
            }
            Err(_) => {
                let reason = format!("'{text}' is no role");
                let next =
                    format!("write \"@{text}\" for the {kind} of that name, \"#{text}\" for the attribute");
                Err(self.fault(node.at, reason, next))
            }
        }
    }
}
