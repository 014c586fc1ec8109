//! A create or update request as it was typed: fields that are ready, and names that must become ids first.

use hesper_model::entity::Kind;
use serde_json::{Map, Value};

/// A field whose value names other entities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The JSON field that gets the ids.
    pub(crate) field: &'static str,
    /// The kind of what is named.
    pub(crate) kind: Kind,
    /// How the names are written, and how the ids are to be.
    pub(crate) names: Names,
}

/// The names of a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    /// One id or name; the field becomes one id.
    One(String),
    /// Ids or names; the field becomes a list of ids.
    Many(Vec<String>),
    /// Policy roles: `@id` or `@name` becomes `@id`, everything else stays.
    Roles(Vec<String>),
}

/// A request body in the making.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draft {
    /// Fields that are ready.
    pub(crate) body: Map<String, Value>,
    /// Fields that still hold names.
    pub(crate) references: Vec<Reference>,
}

impl Draft {
    /// Sets a field.
    pub(crate) fn set(&mut self, field: &str, value: impl Into<Value>) -> &mut Self {
        self.body.insert(field.to_owned(), value.into());
        self
    }

    /// Sets a field when there is a value.
    pub(crate) fn set_some(&mut self, field: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.set(field, value);
        }
        self
    }

    /// Sets a list field when the flag was given; empty entries are dropped, so `-a ''` empties the list.
    pub(crate) fn set_list(&mut self, field: &str, entries: Option<&[String]>) -> &mut Self {
        self.set_some(field, entries.map(|e| Value::from(without_empty(e))))
    }

    /// Sets a field to the id of the entity named.
    pub(crate) fn refer(&mut self, field: &'static str, kind: Kind, name: Option<&str>) -> &mut Self {
        if let Some(name) = name {
            self.references.push(Reference { field, kind, names: Names::One(name.to_owned()) });
        }
        self
    }

    /// Sets a field to the ids of the entities named.
    pub(crate) fn refer_all(
        &mut self,
        field: &'static str,
        kind: Kind,
        names: Option<&[String]>,
    ) -> &mut Self {
        if let Some(names) = names {
            self.references.push(Reference { field, kind, names: Names::Many(without_empty(names)) });
        }
        self
    }

    /// Sets a field to policy roles.
    pub(crate) fn roles(&mut self, field: &'static str, kind: Kind, roles: Option<&[String]>) -> &mut Self {
        if let Some(roles) = roles {
            self.references.push(Reference { field, kind, names: Names::Roles(without_empty(roles)) });
        }
        self
    }

    /// True when nothing was set: an update that changes nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_empty() && self.references.is_empty()
    }
}

fn without_empty(entries: &[String]) -> Vec<String> {
    entries.iter().filter(|e| !e.is_empty()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn absent_flags_leave_no_trace_and_empty_lists_clear() {
        let mut draft = Draft::default();
        draft.set_some("cost", None::<u16>).set_list("roleAttributes", None).roles(
            "identityRoles",
            Kind::Identity,
            None,
        );
        assert!(draft.is_empty());
        draft.set_list("roleAttributes", Some(&[String::new()]));
        assert_eq!(Value::Object(draft.body), json!({"roleAttributes": []}));
    }
}
