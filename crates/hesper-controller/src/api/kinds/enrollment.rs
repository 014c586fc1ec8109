//! Enrollments made by an administrator, beside those that come with an identity or a router.

use super::{Managed, Shown, named};
use crate::{
    api::{
        error::ApiError,
        fields::{Field, Shape},
    },
    enroll,
    state::{Changes, State},
};
use hesper_model::entity::{EdgeRouter, Enrollment, EnrollmentState, Identity, Kind};
use hesper_policy::Model;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest that a token may wait: a month.
const MAX_MINUTES: u64 = 31 * 24 * 60;

impl Managed for Enrollment {
    const FIELDS: &'static [Field] = &[
        Field::optional(
            "method",
            Shape::OneOf(&["ott", "erott"]),
            "ott for an identity, erott for an edge router.",
        ),
        Field::optional("identityId", Shape::Id(Kind::Identity), "The identity to enroll."),
        Field::optional("edgeRouterId", Shape::Id(Kind::EdgeRouter), "The edge router to enroll."),
        Field::optional("expiresAt", Shape::Time, "End of the token. Default: in three hours."),
        Field::on_create("durationMinutes", Shape::Integer(MAX_MINUTES), "The same as a duration from now."),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::shown("state", Shape::OneOf(&["pending", "redeemed"]), "Has it been redeemed?"),
        Field::shown("spkiSha256", Shape::Text, "SHA-256 of the key that redeemed it."),
        Field::shown("serial", Shape::Text, "Serial of the certificate it gave."),
        Field::shown("at", Shape::Time, "When it was redeemed."),
        Field::shown("identity", Shape::Object, "{id, name}"),
        Field::shown("edgeRouter", Shape::Object, "{id, name}"),
    ];
    const MUTABLE: bool = false;

    fn new_id() -> String {
        enroll::new_secret()
    }

    fn prepare(fields: &mut Map<String, Value>, now: OffsetDateTime) -> Result<(), ApiError> {
        let wants = |name: &str| fields.get(name).is_some_and(|v| !v.is_null());
        let method = match (wants("identityId"), wants("edgeRouterId")) {
            (true, false) => "ott",
            (false, true) => "erott",
            (true, true) => {
                return Err(ApiError::field(
                    "edgeRouterId",
                    fields["edgeRouterId"].clone(),
                    "and identityId exclude each other",
                ));
            }
            (false, false) => {
                return Err(ApiError::field("identityId", Value::Null, "is required (or edgeRouterId)"));
            }
        };
        if let Some(given) = fields.get("method").and_then(Value::as_str)
            && given != method
        {
            let reason = format!("must be {method} for this subject");
            return Err(ApiError::field("method", json!(given), reason));
        }
        let end = end(fields, now)?;
        let end = end.format(&Rfc3339).map_err(|e| ApiError::internal(&e))?;
        fields.insert("method".into(), json!(method));
        fields.insert("expiresAt".into(), json!(end));
        fields.insert("state".into(), json!("pending"));
        Ok(())
    }

    fn created(
        &self,
        _fields: &Map<String, Value>,
        state: &State,
        _now: OffsetDateTime,
        changes: &mut Changes,
    ) -> Result<Map<String, Value>, ApiError> {
        // A new token takes the place of one that was not used: that one is lost or out of date.
        let model = state.model();
        let pending = model.enrollments().filter(|e| matches!(e.state, EnrollmentState::Pending));
        for other in
            pending.filter(|e| e.identity_id == self.identity_id && e.edge_router_id == self.edge_router_id)
        {
            if let Some(old) = state.get::<Self>(other.id.as_str()) {
                changes.remove(&old);
            }
        }
        let jwt = enroll::sign(state, self)?;
        Ok(enroll::told(self, jwt))
    }

    fn check(&self, _old: Option<&Self>, model: &Model) -> Result<(), ApiError> {
        let Some(identity) = self.identity_id.as_ref().and_then(|id| model.identity(id)) else {
            return Ok(());
        };
        if identity.disabled {
            let reason = format!("'{}' is disabled: enable it first", identity.name);
            return Err(ApiError::field("identityId", json!(identity.id), reason));
        }
        Ok(())
    }

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        // Public, but long, and of no use to an administrator.
        fields.remove("chainPem");
        if let Some(id) = &self.identity_id {
            fields.insert("identity".into(), named::<Identity>(context.model, id.as_str()));
        }
        if let Some(id) = &self.edge_router_id {
            fields.insert("edgeRouter".into(), named::<EdgeRouter>(context.model, id.as_str()));
        }
    }
}

fn end(fields: &Map<String, Value>, now: OffsetDateTime) -> Result<OffsetDateTime, ApiError> {
    let minutes = fields.get("durationMinutes").and_then(Value::as_u64);
    let at = fields.get("expiresAt").and_then(Value::as_str);
    let latest = now + Duration::minutes(i64::try_from(MAX_MINUTES).unwrap_or(i64::MAX));
    match (minutes, at) {
        (Some(_), Some(at)) => {
            Err(ApiError::field("expiresAt", json!(at), "and durationMinutes exclude each other"))
        }
        (Some(0), None) => Err(ApiError::field("durationMinutes", json!(0), "must be at least 1")),
        (Some(minutes), None) => Ok(now + Duration::minutes(i64::try_from(minutes).unwrap_or(i64::MAX))),
        (None, Some(at)) => match OffsetDateTime::parse(at, &Rfc3339) {
            Ok(end) if end > now && end <= latest => Ok(end),
            _ => Err(ApiError::field("expiresAt", json!(at), "must be in the future, and within a month")),
        },
        (None, None) => Ok(now + enroll::LIFETIME),
    }
}
