//! Edge routers.

use super::{Managed, Shown};
use crate::{
    api::{
        error::ApiError,
        fields::{Field, Shape},
    },
    enroll,
    state::{Changes, ROUTER_SECRET, RouterSecret, State},
};
use hesper_model::{
    entity::{EdgeRouter, EnrollmentMethod},
    id::Tag,
};
use rand::Rng as _;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

impl Managed for EdgeRouter {
    const FIELDS: &'static [Field] = &[
        Field::required("name", Shape::Name, "Unique among edge routers."),
        Field::optional("roleAttributes", Shape::Attributes, "Role attributes, without #."),
        Field::optional("disabled", Shape::Bool, "A disabled router is used by nobody."),
        Field::optional("cost", Shape::Integer(u16::MAX as u64), "Added to the cost of paths through it."),
        Field::optional("noTraversal", Shape::Bool, "May it not carry traffic between other routers?"),
        Field::optional(
            "isTunnelerEnabled",
            Shape::Bool,
            "Kept for OpenZiti's scripts; a Hesper router never hosts services.",
        ),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::shown("isVerified", Shape::Bool, "Has it enrolled?"),
        Field::shown(
            "addresses",
            Shape::Ids(hesper_model::entity::Kind::EdgeRouter),
            "UDP addresses, as it advertised them last.",
        ),
        Field::shown("isOnline", Shape::Bool, "Has it an open session?"),
        Field::shown("hostname", Shape::Text, "Its first address."),
    ];

    fn created(
        &self,
        _fields: &Map<String, Value>,
        state: &State,
        now: OffsetDateTime,
        changes: &mut Changes,
    ) -> Result<Map<String, Value>, ApiError> {
        let made = enroll::make_token(state, EnrollmentMethod::Erott, &self.id, enroll::LIFETIME, now)?;
        changes.create(&made.enrollment);
        let mut rng = rand::rng();
        let secret = RouterSecret { tag: Tag::random(&mut rng), knock_secret: rng.random() };
        changes.create_record(format!("{ROUTER_SECRET}{}", self.id), &secret);
        Ok(Map::from_iter([("enrollment".to_owned(), made.to_json())]))
    }

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert("isOnline".into(), context.state.control.router_is_online(&self.id).into());
        fields.insert("hostname".into(), json!(self.addresses.first()));
    }
}
