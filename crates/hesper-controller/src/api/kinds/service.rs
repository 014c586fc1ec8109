//! Services.

use super::{Managed, Shown, named};
use crate::api::{
    error::ApiError,
    fields::{Field, Shape},
};
use hesper_model::entity::{Config, ConfigType, Kind, Service};
use hesper_policy::Model;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A week: longer idle times are as good as none.
const MAX_IDLE_MILLIS: u64 = 7 * 24 * 3600 * 1000;

impl Managed for Service {
    const FIELDS: &'static [Field] = &[
        Field::required("name", Shape::Name, "Unique among services; the name that is dialed."),
        Field::optional(
            "configs",
            Shape::Ids(Kind::Config),
            "Ids of its configs, at most one of each config type.",
        ),
        Field::optional("roleAttributes", Shape::Attributes, "Role attributes, without #."),
        Field::optional(
            "terminatorStrategy",
            Shape::OneOf(&["smartrouting", "weighted", "random", "sticky"]),
            "How one of several terminators is chosen.",
        ),
        Field::optional(
            "encryptionRequired",
            Shape::Bool,
            "Always true: every stream is encrypted end to end.",
        ),
        Field::optional(
            "maxIdleTimeMillis",
            Shape::Integer(MAX_IDLE_MILLIS),
            "A stream without traffic for so long is ended; 0 = never.",
        ),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::shown(
            "configTypes",
            Shape::Object,
            "Its configs with their types: [{id, name, configType: {id, name}}].",
        ),
    ];

    fn check(&self, _old: Option<&Self>, model: &Model) -> Result<(), ApiError> {
        if !self.encryption_required {
            let reason = "must be true: every stream is encrypted end to end, there is no other kind";
            return Err(ApiError::field("encryptionRequired", Value::Bool(false), reason));
        }
        let mut by_type: BTreeMap<&str, &str> = BTreeMap::new();
        for config in self.configs.iter().filter_map(|id| model.config(id)) {
            if let Some(other) = by_type.insert(config.config_type_id.as_str(), &config.name) {
                let type_name = model.config_type(&config.config_type_id).map_or("?", |t| t.name.as_str());
                let reason = format!(
                    "may hold one config of each type, but '{other}' and '{}' are both {type_name}",
                    config.name
                );
                return Err(ApiError::field("configs", json!(self.configs), reason));
            }
        }
        Ok(())
    }

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        let configs = self.configs.iter().map(|id| {
            let mut shown = named::<Config>(context.model, id.as_str());
            if let Some(config) = context.model.config(id) {
                shown["configType"] = named::<ConfigType>(context.model, config.config_type_id.as_str());
            }
            shown
        });
        fields.insert("configTypes".into(), Value::Array(configs.collect()));
    }
}
