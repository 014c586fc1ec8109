//! Configs and config types.

use super::{Managed, Shown, named};
use crate::api::{
    error::ApiError,
    fields::{Field, Shape},
};
use hesper_model::{
    config,
    entity::{Config, ConfigType, Kind},
};
use hesper_policy::Model;
use serde_json::{Map, Value, json};

impl Managed for Config {
    const FIELDS: &'static [Field] = &[
        Field::required("name", Shape::Name, "Unique among configs."),
        Field::required(
            "configTypeId",
            Shape::Id(Kind::ConfigType),
            "Its type. The built-in types have their name as id.",
        ),
        Field::required("data", Shape::Object, "The config itself; it satisfies the type's schema."),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::shown("configType", Shape::Object, "Its type: {id, name}."),
    ];

    fn check(&self, old: Option<&Self>, model: &Model) -> Result<(), ApiError> {
        if let Some(old) = old
            && old.config_type_id != self.config_type_id
        {
            let reason = "cannot be changed: create another config";
            return Err(ApiError::field("configTypeId", json!(self.config_type_id), reason));
        }
        let schema = model.config_type(&self.config_type_id).and_then(|t| t.schema.as_ref());
        schema.map_or(Ok(()), |schema| conforms(schema, &self.data))
    }

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert("configType".into(), named::<ConfigType>(context.model, self.config_type_id.as_str()));
    }
}

/// Every fault is named, with its place below `data`.
fn conforms(schema: &Value, data: &Value) -> Result<(), ApiError> {
    let Err(faults) = config::validate(schema, data) else { return Ok(()) };
    let place = |path: &str| if path.is_empty() { "data".to_owned() } else { format!("data.{path}") };
    let Some((first, rest)) = faults.split_first() else { return Ok(()) };
    let rest: String = rest.iter().map(|f| format!("; {} {}", place(&f.path), f.reason)).collect();
    Err(ApiError::field(place(&first.path), Value::Null, format!("{}{rest}", first.reason)))
}

impl Managed for ConfigType {
    const FIELDS: &'static [Field] = &[
        Field::required("name", Shape::Name, "Unique among config types."),
        Field::optional("schema", Shape::Object, "JSON schema of its configs; none accepts every object."),
        Field::optional("target", Shape::OneOf(&["service", "router", "other"]), "What it configures."),
        Field::optional("tags", Shape::Object, "Free-form tags."),
        Field::shown("isBuiltin", Shape::Bool, "Is it one of Hesper's own types, which cannot be changed?"),
    ];

    fn check(&self, old: Option<&Self>, model: &Model) -> Result<(), ApiError> {
        if old.is_some() && is_builtin(self.id.as_str()) {
            return Err(ApiError::conflict(format!(
                "config-type '{}' is built in and cannot be changed",
                self.id
            )));
        }
        let Some(schema) = &self.schema else { return Ok(()) };
        config::check_schema(schema).map_err(|faults| {
            let reasons: Vec<_> = faults.iter().map(ToString::to_string).collect();
            ApiError::field("schema", Value::Null, reasons.join("; "))
        })?;
        let configs = model.configs().filter(|c| c.config_type_id == self.id);
        for config in configs {
            if let Err(faults) = config::validate(schema, &config.data) {
                let first = faults.first().map_or_else(String::new, |f| format!(" ({f})"));
                let reason = format!("does not accept the config '{}', which uses it{first}", config.name);
                return Err(ApiError::field("schema", Value::Null, reason));
            }
        }
        Ok(())
    }

    fn show(&self, _context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert("isBuiltin".into(), is_builtin(self.id.as_str()).into());
    }
}

/// Is this the id of one of Hesper's own config types?
pub(crate) fn is_builtin(id: &str) -> bool {
    config::builtin().iter().any(|t| t.name == id)
}
