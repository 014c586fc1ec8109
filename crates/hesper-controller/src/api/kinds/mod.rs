//! The kinds that the API manages: what is particular to each. Everything common is in [`super::entities`].

mod config;
mod enrollment;
mod identity;
mod policy;
mod router;
mod service;
mod terminator;

pub(crate) use config::is_builtin;
pub(crate) use identity::DEFAULT_ADMIN;

use super::{error::ApiError, fields::Field};
use crate::state::{Changes, State};
use hesper_model::{
    entity::{Enrollment, EnrollmentState, Kind},
    id::IdentityId,
    role::{Role, Roles},
};
use hesper_policy::{Model, Stored};
use serde_json::{Map, Value, json};
use std::{cell::OnceCell, collections::HashMap};
use time::OffsetDateTime;

/// Runs an expression with `$E` as the type of a kind known only at run time.
macro_rules! with_kind {
    ($kind:expr, $E:ident => $body:expr) => {{
        use hesper_model::entity as e;
        match $kind {
            e::Kind::Identity => {
                type $E = e::Identity;
                $body
            }
            e::Kind::Service => {
                type $E = e::Service;
                $body
            }
            e::Kind::Config => {
                type $E = e::Config;
                $body
            }
            e::Kind::ConfigType => {
                type $E = e::ConfigType;
                $body
            }
            e::Kind::ServicePolicy => {
                type $E = e::ServicePolicy;
                $body
            }
            e::Kind::EdgeRouter => {
                type $E = e::EdgeRouter;
                $body
            }
            e::Kind::EdgeRouterPolicy => {
                type $E = e::EdgeRouterPolicy;
                $body
            }
            e::Kind::ServiceEdgeRouterPolicy => {
                type $E = e::ServiceEdgeRouterPolicy;
                $body
            }
            e::Kind::Terminator => {
                type $E = e::Terminator;
                $body
            }
            e::Kind::Enrollment => {
                type $E = e::Enrollment;
                $body
            }
        }
    }};
}
pub(crate) use with_kind;

/// What a kind adds to the common life of an entity.
pub(crate) trait Managed: Stored {
    /// The fields of a request.
    const FIELDS: &'static [Field];
    /// May it be changed after creation?
    const MUTABLE: bool = true;

    /// Replaces other words for fields by ours.
    fn normalise(_body: &mut Map<String, Value>) {}

    /// Fills in fields that were left out of a whole entity.
    fn complete(_fields: &mut Map<String, Value>) {}

    /// Turns the fields of a create request into the entity's own, without id and times.
    ///
    /// # Errors
    /// Fields that contradict each other.
    fn prepare(_fields: &mut Map<String, Value>, _now: OffsetDateTime) -> Result<(), ApiError> {
        Ok(())
    }

    /// A fresh id.
    fn new_id() -> String {
        hesper_model::id::random_id(&mut rand::rng())
    }

    /// Refuses an entity that the model cannot take; `old` is what it replaces.
    ///
    /// # Errors
    /// The field that is wrong.
    fn check(&self, _old: Option<&Self>, _model: &Model) -> Result<(), ApiError> {
        Ok(())
    }

    /// What else is written when it is created, and what its creator alone is told.
    ///
    /// # Errors
    /// Fields that are only given at creation and are wrong.
    fn created(
        &self,
        _fields: &Map<String, Value>,
        _state: &State,
        _now: OffsetDateTime,
        _changes: &mut Changes,
    ) -> Result<Map<String, Value>, ApiError> {
        Ok(Map::new())
    }

    /// Refuses a deletion whatever else exists.
    ///
    /// # Errors
    /// 409.
    fn removable(&self) -> Result<(), ApiError> {
        Ok(())
    }

    /// Fields that are computed when it is shown.
    fn show(&self, _context: &Shown<'_>, _fields: &mut Map<String, Value>) {}
}

/// What computed fields are computed from.
pub(crate) struct Shown<'a> {
    pub(crate) model: &'a Model,
    pub(crate) state: &'a State,
    pending: OnceCell<HashMap<&'a IdentityId, &'a Enrollment>>,
}

impl<'a> Shown<'a> {
    /// At this model.
    pub(crate) fn new(model: &'a Model, state: &'a State) -> Self {
        Self { model, state, pending: OnceCell::new() }
    }

    /// The enrollment that waits for this identity. Found once for all identities of a list.
    fn pending(&self, id: &IdentityId) -> Option<&'a Enrollment> {
        let all = self.pending.get_or_init(|| {
            let pending = self.model.enrollments().filter(|e| matches!(e.state, EnrollmentState::Pending));
            pending.filter_map(|e| Some((e.identity_id.as_ref()?, e.as_ref()))).collect()
        });
        all.get(id).copied()
    }
}

/// The entity as it is shown.
pub(crate) fn render<E: Managed>(entity: &E, context: &Shown<'_>) -> Value {
    let mut value = serde_json::to_value(entity).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        entity.show(context, fields);
    }
    value
}

/// `{id, name}` of an entity, or the id alone when it is gone.
fn named<E: Stored>(model: &Model, id: &str) -> Value {
    match model.table::<E>().get(id).and_then(|e| e.name().map(str::to_owned)) {
        Some(name) => json!({ "id": id, "name": name }),
        None => json!({ "id": id }),
    }
}

/// Roles with the names of the entities that `@id` entries mean: `[{role, name}]`.
fn roles_display<E: Stored>(model: &Model, roles: &Roles) -> Value {
    let shown = roles.iter().map(|role| {
        let name = match role {
            Role::Entity(id) => {
                let name = model.table::<E>().get(id).and_then(|e| e.name().map(str::to_owned));
                format!("@{}", name.unwrap_or_else(|| id.clone()))
            }
            Role::All | Role::Attribute(_) => role.to_string(),
        };
        json!({ "role": role, "name": name })
    });
    Value::Array(shown.collect())
}

/// The kind, with the article it takes.
pub(crate) fn a(kind: Kind) -> String {
    let article = if kind.singular().starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {kind}")
}
