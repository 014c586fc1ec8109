//! What a controller has now, in named form.

use crate::{
    SET_TAG,
    fields::{self, Field, Fields, KINDS, Key, Shape},
};
use hesper_model::entity::Kind;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One entity that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// Its id.
    pub id: String,
    /// Its `updatedAt`: what a change must expect to find.
    pub version: String,
    /// The set that made it.
    pub set: Option<String>,
    /// Every field in named form; the set's tag is not among the tags.
    pub fields: Fields,
}

/// Everything that is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The entities.
    pub entities: BTreeMap<Key, Present>,
}

/// An answer that is not what the management API gives.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the controller listed {0} without id, name or updatedAt")]
pub struct Unreadable(&'static str);

impl Snapshot {
    /// From the lists of the management API, one for each of [`KINDS`].
    ///
    /// # Errors
    /// An entity without id, name or time.
    pub fn read(lists: &BTreeMap<Kind, Vec<Value>>) -> Result<Self, Unreadable> {
        let mut names: BTreeMap<(Kind, &str), &str> = BTreeMap::new();
        for (kind, item) in lists.iter().flat_map(|(k, items)| items.iter().map(move |i| (*k, i))) {
            let bad = || Unreadable(kind.plural());
            names.insert((kind, text(item, "id").ok_or_else(bad)?), text(item, "name").ok_or_else(bad)?);
        }
        let mut entities = BTreeMap::new();
        for kind in KINDS {
            for item in lists.get(&kind).into_iter().flatten().filter(|i| !is_of_a_router(i)) {
                let bad = || Unreadable(kind.plural());
                let mut tags = item.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
                let set = tags.remove(SET_TAG).and_then(|v| v.as_str().map(str::to_owned));
                let named = |field: &Field| match field.shape {
                    Shape::Tags => Value::Object(tags.clone()),
                    _ => named_form(field, item, &names),
                };
                let present = Present {
                    id: text(item, "id").ok_or_else(bad)?.to_owned(),
                    version: text(item, "updatedAt").ok_or_else(bad)?.to_owned(),
                    set,
                    fields: fields::of(kind).iter().map(|f| (f.name, named(f))).collect(),
                };
                entities.insert(Key::new(kind, text(item, "name").ok_or_else(bad)?), present);
            }
        }
        Ok(Self { entities })
    }

    /// The id of everything.
    pub fn ids(&self) -> BTreeMap<Key, String> {
        self.entities.iter().map(|(key, present)| (key.clone(), present.id.clone())).collect()
    }
}

fn text<'a>(item: &'a Value, field: &str) -> Option<&'a str> {
    item.get(field).and_then(Value::as_str)
}

/// Identities of routers come and go with their routers.
fn is_of_a_router(item: &Value) -> bool {
    text(item, "type") == Some("Router")
}

fn named_form(field: &Field, item: &Value, names: &BTreeMap<(Kind, &str), &str>) -> Value {
    let value = item.get(field.api).unwrap_or(&Value::Null);
    let name =
        |kind: Kind, id: &str| names.get(&(kind, id)).map_or_else(|| id.to_owned(), |n| (*n).to_owned());
    let list = || value.as_array().into_iter().flatten().filter_map(Value::as_str);
    match field.shape {
        Shape::Name(kind) => json!(value.as_str().map(|id| name(kind, id))),
        Shape::Names(kind) => json!(list().map(|id| name(kind, id)).collect::<BTreeSet<_>>()),
        Shape::Attributes | Shape::SomeOf(_) => json!(list().collect::<BTreeSet<_>>()),
        Shape::Roles(kind) => {
            let roles = list().map(|role| match role.strip_prefix('@') {
                Some(id) => format!("@{}", name(kind, id)),
                None => role.to_owned(),
            });
            sorted_roles(roles)
        }
        _ if value.is_null() => field.default(),
        _ => value.clone(),
    }
}

/// Roles in the order in which the files' are: `#all`, attributes, names.
pub(crate) fn sorted_roles(roles: impl Iterator<Item = String>) -> Value {
    let rank = |role: &str| match role {
        "#all" => 0,
        _ if role.starts_with('#') => 1,
        _ => 2,
    };
    let roles: BTreeSet<(u8, String)> = roles.map(|role| (rank(&role), role)).collect();
    Value::Array(roles.into_iter().map(|(_, role)| Value::String(role)).collect())
}

/// The tags of an entity as the API is given them: with the set that owns it.
pub(crate) fn with_set(tags: &Value, set: Option<&str>) -> Value {
    let mut tags: Map<String, Value> = tags.as_object().cloned().unwrap_or_default();
    if let Some(set) = set {
        tags.insert(SET_TAG.to_owned(), json!(set));
    }
    Value::Object(tags)
}
