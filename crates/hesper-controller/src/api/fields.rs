//! The fields of a request: which there are, what they may hold. One table per kind serves create, change and the OpenAPI
//! document. Pure.

use super::error::ApiError;
use hesper_model::{
    entity::Kind,
    id::MAX_NAME_LEN,
    role::{Roles, check_attribute},
};
use hesper_policy::Model;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Most entries of a list in a request.
const MAX_ENTRIES: usize = 1000;
/// Longest free text, in bytes.
const MAX_TEXT: usize = 4096;
/// Fields that every entity shows and nobody sets; accepted and ignored, so that what was read can be sent back.
const READ_ONLY: [&str; 3] = ["id", "createdAt", "updatedAt"];

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// A unique name.
    Name,
    /// Free text.
    Text,
    /// Yes or no.
    Bool,
    /// A whole number from 0.
    Integer(u64),
    /// Role attributes, without `#`.
    Attributes,
    /// Roles that name entities of a kind.
    Roles(Kind),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Some of these words.
    SomeOf(&'static [&'static str]),
    /// The id of an entity of a kind.
    Id(Kind),
    /// Ids of entities of a kind.
    Ids(Kind),
    /// A JSON object.
    Object,
    /// A point in time, RFC 3339.
    Time,
}

/// One field of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Its name in JSON.
    pub(crate) name: &'static str,
    /// What it may hold.
    pub(crate) shape: Shape,
    /// Must it be there when the entity is created or replaced?
    pub(crate) required: bool,
    /// Is it only given at creation, and not kept in the entity?
    pub(crate) create_only: bool,
    /// Shown, but set by the controller itself; accepted and ignored.
    pub(crate) read_only: bool,
    /// What it is, for the OpenAPI document.
    pub(crate) doc: &'static str,
}

impl Field {
    /// A field that may be left out.
    pub(crate) const fn optional(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { name, shape, required: false, create_only: false, read_only: false, doc }
    }
    /// A field that must be there.
    pub(crate) const fn required(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { required: true, ..Self::optional(name, shape, doc) }
    }
    /// A field that is only given at creation.
    pub(crate) const fn on_create(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { create_only: true, ..Self::optional(name, shape, doc) }
    }
    /// A field that only the controller sets.
    pub(crate) const fn shown(name: &'static str, shape: Shape, doc: &'static str) -> Self {
        Self { read_only: true, ..Self::optional(name, shape, doc) }
    }
}

/// The fields that a filter may name.
pub(crate) fn filterable(fields: &[Field]) -> Vec<&'static str> {
    READ_ONLY.into_iter().chain(fields.iter().map(|f| f.name)).collect()
}

/// Why a value does not fit, as the end of "the field …".
type Reason = String;

impl Shape {
    /// Does the value fit? The reason continues the field's name: `name must not be empty`.
    fn check(self, value: &Value, model: &Model) -> Result<(), Reason> {
        match self {
            Self::Name => check_name(value),
            Self::Text => text(value, MAX_TEXT).map(drop),
            Self::Bool => value.is_boolean().then_some(()).ok_or_else(|| "must be true or false".into()),
            Self::Integer(max) => match value.as_u64() {
                Some(n) if n <= max => Ok(()),
                _ => Err(format!("must be a whole number from 0 to {max}")),
            },
            Self::Attributes => {
                texts(value)?.iter().try_for_each(|a| check_attribute(a).map_err(|e| e.to_string()))
            }
            Self::Roles(kind) => {
                let roles = Roles::parse(texts(value)?).map_err(|e| e.to_string())?;
                known(model, kind, roles.entities())
            }
            Self::OneOf(words) => match value.as_str() {
                Some(word) if words.contains(&word) => Ok(()),
                _ => Err(format!("must be one of {}", words.join(", "))),
            },
            Self::SomeOf(words) => match texts(value)?.into_iter().find(|word| !words.contains(word)) {
                None => Ok(()),
                Some(other) => Err(format!("knows no '{other}'; the words are {}", words.join(", "))),
            },
            Self::Id(kind) => known(model, kind, [text(value, MAX_NAME_LEN)?]),
            Self::Ids(kind) => known(model, kind, texts(value)?),
            Self::Object => value.is_object().then_some(()).ok_or_else(|| "must be a JSON object".into()),
            Self::Time => {
                let format = &time::format_description::well_known::Rfc3339;
                let parsed = value.as_str().is_some_and(|t| time::OffsetDateTime::parse(t, format).is_ok());
                parsed
                    .then_some(())
                    .ok_or_else(|| "must be a time like 2026-01-31T12:00:00Z (RFC 3339)".into())
            }
        }
    }

    /// Its JSON schema.
    pub(crate) fn schema(self) -> Value {
        match self {
            Self::Name => json!({ "type": "string", "minLength": 1, "maxLength": MAX_NAME_LEN }),
            Self::Text | Self::Id(_) => json!({ "type": "string" }),
            Self::Bool => json!({ "type": "boolean" }),
            Self::Integer(max) => json!({ "type": "integer", "minimum": 0, "maximum": max }),
            Self::Attributes | Self::Roles(_) | Self::Ids(_) => {
                json!({ "type": "array", "items": { "type": "string" }, "maxItems": MAX_ENTRIES })
            }
            Self::OneOf(words) => json!({ "type": "string", "enum": words }),
            Self::SomeOf(words) => {
                json!({ "type": "array", "items": { "type": "string", "enum": words }, "maxItems": MAX_ENTRIES })
            }
            Self::Object => json!({ "type": "object" }),
            Self::Time => json!({ "type": "string", "format": "date-time" }),
        }
    }
}

fn text(value: &Value, max: usize) -> Result<&str, Reason> {
    let text = value.as_str().ok_or("must be a text")?;
    if text.len() > max {
        return Err(format!("must not be longer than {max} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(text)
}

fn check_name(value: &Value) -> Result<(), Reason> {
    let name = text(value, MAX_NAME_LEN)?;
    if name.is_empty() {
        return Err("must not be empty".into());
    }
    if name.trim() != name {
        return Err("must not begin or end with a space".into());
    }
    Ok(())
}

fn texts(value: &Value) -> Result<Vec<&str>, Reason> {
    let list = value.as_array().ok_or("must be a list of texts")?;
    if list.len() > MAX_ENTRIES {
        return Err(format!("must not have more than {MAX_ENTRIES} entries"));
    }
    list.iter().map(|entry| text(entry, MAX_NAME_LEN)).collect()
}

fn known<'a>(model: &Model, kind: Kind, ids: impl IntoIterator<Item = &'a str>) -> Result<(), Reason> {
    let unknown: BTreeSet<&str> = ids.into_iter().filter(|id| !exists(model, kind, id)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let list = unknown.into_iter().collect::<Vec<_>>().join(", ");
    Err(format!("names what does not exist: no {} found with the given ids: {list}", kind.plural()))
}

/// Is there an entity of this kind with this id?
pub(crate) fn exists(model: &Model, kind: Kind, id: &str) -> bool {
    super::kinds::with_kind!(kind, E => model.table::<E>().get(id).is_some())
}

/// Reads a request body: checks every given field, and that no required one is missing when `whole`. Fields that are null
/// count as left out. What is returned has only fields of the table that a caller may set.
///
/// # Errors
/// The first field that is unknown, missing or does not fit.
pub(crate) fn read(
    fields: &[Field],
    kind: Kind,
    body: &Map<String, Value>,
    model: &Model,
    whole: bool,
) -> Result<Map<String, Value>, ApiError> {
    let mut given = Map::new();
    for (name, value) in body {
        let Some(field) = fields.iter().find(|f| f.name == name) else {
            if READ_ONLY.contains(&name.as_str()) {
                continue;
            }
            let known: Vec<_> = fields.iter().filter(|f| !f.read_only).map(|f| f.name).collect();
            let article = if kind.singular().starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
            let reason = format!("is not a field of {article} {kind}; the fields are {}", known.join(", "));
            return Err(ApiError::field(name, value.clone(), reason));
        };
        if field.read_only {
            continue;
        }
        if value.is_null() {
            if field.required {
                return Err(ApiError::field(name, Value::Null, "must not be null"));
            }
        } else if let Err(reason) = field.shape.check(value, model) {
            return Err(ApiError::field(name, value.clone(), reason));
        }
        given.insert(name.clone(), value.clone());
    }
    let missing = fields.iter().find(|f| whole && f.required && !given.contains_key(f.name));
    match missing {
        Some(field) => Err(ApiError::field(field.name, Value::Null, "is required")),
        None => Ok(given),
    }
}
