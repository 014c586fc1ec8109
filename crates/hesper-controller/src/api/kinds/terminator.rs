//! Terminators. Nodes make their own when they bind; one made by an administrator has no session and is never online, which a hint
//! says when it is created.

use super::{Managed, Shown, named};
use crate::api::{
    error::ApiError,
    fields::{Field, Shape},
};
use hesper_model::entity::{EdgeRouter, Identity, Kind, Service, Terminator};
use hesper_policy::Model;
use serde_json::{Map, Value, json};

impl Managed for Terminator {
    const FIELDS: &'static [Field] = &[
        Field::required(
            "serviceId",
            Shape::Id(Kind::Service),
            "The service it hosts; OpenZiti's `service` means the same.",
        ),
        Field::required(
            "hostId",
            Shape::Id(Kind::Identity),
            "The identity that hosts it; a Hesper router hosts nothing itself.",
        ),
        Field::optional(
            "routerId",
            Shape::Id(Kind::EdgeRouter),
            "The one router to use; OpenZiti's `router` means the same.",
        ),
        Field::optional("binding", Shape::Text, "How it came to be. Default hesper."),
        Field::optional("address", Shape::Text, "Where the host sends its streams."),
        Field::optional("identity", Shape::Text, "Instance id, for dials of instance@service."),
        Field::optional("cost", Shape::Integer(u16::MAX as u64), "Static cost."),
        Field::optional("precedence", Shape::OneOf(&["required", "default", "failed"]), "Precedence."),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::shown("session", Shape::Text, "Tag of the session that bound it."),
        Field::shown("service", Shape::Object, "{id, name}"),
        Field::shown("router", Shape::Object, "{id, name}"),
        Field::shown("host", Shape::Object, "{id, name}"),
        Field::shown(
            "dynamicCost",
            Shape::Integer(u16::MAX as u64),
            "Cost added by dialers that use it and by dials that failed.",
        ),
    ];

    fn normalise(body: &mut Map<String, Value>) {
        for (other, ours) in [("service", "serviceId"), ("router", "routerId"), ("host", "hostId")] {
            if !body.contains_key(ours) && body.get(other).is_some_and(Value::is_string) {
                let value = body.remove(other).unwrap_or(Value::Null);
                body.insert(ours.to_owned(), value);
            }
        }
    }

    fn complete(fields: &mut Map<String, Value>) {
        fields.entry("binding").or_insert_with(|| json!("hesper"));
    }

    fn check(&self, old: Option<&Self>, _model: &Model) -> Result<(), ApiError> {
        match old {
            Some(old) if old.service_id != self.service_id => Err(ApiError::field(
                "serviceId",
                json!(self.service_id),
                "cannot be changed: create another terminator",
            )),
            Some(old) if old.host_id != self.host_id => Err(ApiError::field(
                "hostId",
                json!(self.host_id),
                "cannot be changed: create another terminator",
            )),
            _ => Ok(()),
        }
    }

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert("service".into(), named::<Service>(context.model, self.service_id.as_str()));
        fields.insert("host".into(), named::<Identity>(context.model, self.host_id.as_str()));
        if let Some(router) = &self.router_id {
            fields.insert("router".into(), named::<EdgeRouter>(context.model, router.as_str()));
        }
        fields.insert("dynamicCost".into(), json!(context.state.control.dynamic_cost(&self.id)));
    }
}
