//! Identities.

use super::{Managed, Shown};
use crate::{
    api::{
        error::ApiError,
        fields::{Field, Shape},
    },
    enroll,
    state::{Changes, State},
};
use hesper_model::entity::{Enrollment, EnrollmentMethod, Identity, IdentityType, Permission};
use hesper_policy::Model;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Name of the identity that is made with the controller; it cannot be deleted or lose its rights.
pub(crate) const DEFAULT_ADMIN: &str = "Default Admin";

impl Managed for Identity {
    const FIELDS: &'static [Field] = &[
        Field::required("name", Shape::Name, "Unique among identities."),
        Field::optional(
            "type",
            Shape::OneOf(&["Default", "User", "Device", "Service", "default", "user", "device", "service"]),
            "Default; OpenZiti's older words are accepted and mean the same.",
        ),
        Field::optional("isAdmin", Shape::Bool, "May it use this API?"),
        Field::optional(
            "permissions",
            Shape::SomeOf(Permission::WORDS),
            "What else it may ask of the controller; an administrator may ask for everything.",
        ),
        Field::optional("roleAttributes", Shape::Attributes, "Role attributes, without #."),
        Field::optional(
            "disabled",
            Shape::Bool,
            "A disabled identity is refused everywhere, and its streams end.",
        ),
        Field::optional(
            "defaultHostingCost",
            Shape::Integer(u16::MAX as u64),
            "Static cost of the terminators it creates.",
        ),
        Field::optional(
            "defaultHostingPrecedence",
            Shape::OneOf(&["required", "default", "failed"]),
            "Precedence of the terminators it creates.",
        ),
        Field::optional("externalId", Shape::Text, "An id in somebody else's system."),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::on_create(
            "enrollment",
            Shape::Object,
            "{\"ott\": true} (the default) makes a one-time token, {\"ott\": false} or {} none.",
        ),
        Field::shown("isOnline", Shape::Bool, "Has it an open session?"),
        Field::shown("hasEdgeRouterConnection", Shape::Bool, "Is it attached to a router?"),
        Field::shown("isDefaultAdmin", Shape::Bool, "Is it the administrator made with the controller?"),
        Field::shown("hasApiSession", Shape::Bool, "The same as isOnline, under OpenZiti's name."),
        Field::shown("typeId", Shape::Text, "The same as type, under OpenZiti's name."),
    ];

    fn check(&self, old: Option<&Self>, _model: &Model) -> Result<(), ApiError> {
        let Some(old) = old.filter(|old| is_default_admin(old)) else { return Ok(()) };
        let refused = |field: &str, value: Value, reason: &str| Err(ApiError::field(field, value, reason));
        if self.name != old.name {
            return refused("name", json!(self.name), "of the default administrator cannot be changed");
        }
        if !self.is_admin {
            return refused("isAdmin", json!(false), "of the default administrator cannot be taken away");
        }
        if self.disabled {
            return refused("disabled", json!(true), "is not possible for the default administrator");
        }
        Ok(())
    }

    fn removable(&self) -> Result<(), ApiError> {
        if is_default_admin(self) {
            return Err(ApiError::conflict(format!(
                "'{}' cannot be deleted: nobody could log in any more",
                self.name
            )));
        }
        Ok(())
    }

    fn created(
        &self,
        fields: &Map<String, Value>,
        state: &State,
        now: OffsetDateTime,
        changes: &mut Changes,
    ) -> Result<Map<String, Value>, ApiError> {
        let mut told = Map::new();
        if wants_token(fields.get("enrollment"))? {
            let made = enroll::make_token(state, EnrollmentMethod::Ott, &self.id, enroll::LIFETIME, now)?;
            changes.create(&made.enrollment);
            told.insert("enrollment".into(), made.to_json());
        }
        Ok(told)
    }

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        let online = context.state.control.identity_is_online(&self.id);
        let attached = context.state.control.identity_is_attached(&self.id);
        fields.insert("isOnline".into(), online.into());
        fields.insert("hasApiSession".into(), online.into());
        fields.insert("hasEdgeRouterConnection".into(), attached.into());
        fields.insert("isDefaultAdmin".into(), is_default_admin(self).into());
        fields.insert(
            "typeId".into(),
            if self.type_ == IdentityType::Router { "Router" } else { "Default" }.into(),
        );
        fields.insert("enrollment".into(), waiting(context.pending(&self.id)));
    }
}

/// Is it the administrator made with the controller?
pub(crate) fn is_default_admin(identity: &Identity) -> bool {
    identity.is_admin && identity.name == DEFAULT_ADMIN
}

fn wants_token(enrollment: Option<&Value>) -> Result<bool, ApiError> {
    let Some(Value::Object(asked)) = enrollment else { return Ok(true) };
    match (asked.get("ott"), asked.len()) {
        (Some(Value::Bool(ott)), 1) => Ok(*ott),
        (None, 0) => Ok(false),
        _ => Err(ApiError::field(
            "enrollment",
            json!(asked),
            "must be {\"ott\": true}, {\"ott\": false} or {}",
        )),
    }
}

/// `{ott: {id, expiresAt}}` while a token waits to be redeemed, else `{}`.
fn waiting(enrollment: Option<&Enrollment>) -> Value {
    match enrollment {
        Some(e) => {
            json!({ "ott": { "id": e.id, "expiresAt": e.expires_at.format(&Rfc3339).unwrap_or_default() } })
        }
        None => json!({}),
    }
}
