//! What there would be, as the model that decisions are made on.

use crate::{
    Change, Manifest, Plan, Snapshot,
    fields::{self, Field, Fields, Key, Shape},
};
use hesper_model::entity::{Entity, Kind};
use hesper_policy::{Entities, Model};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// No entity ever has this time: a model for tests is thrown away.
const NO_TIME: &str = "1970-01-01T00:00:00Z";

/// Every entity that there would be, in named form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub(crate) entities: BTreeMap<Key, Fields>,
}

/// A name without an id: what it names is not there (any more).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {0}")]
pub struct Unresolved(pub Key);

impl World {
    /// What the files alone make.
    pub fn declared(manifest: &Manifest) -> Self {
        let entities = manifest.entities.iter().map(|(key, declared)| (key.clone(), declared.complete()));
        Self { entities: entities.collect() }
    }

    /// What is there after the plan was carried out.
    pub fn after(snapshot: &Snapshot, plan: &Plan) -> Self {
        let now = snapshot.entities.iter().map(|(key, present)| (key.clone(), present.fields.clone()));
        let mut entities: BTreeMap<Key, Fields> = now.collect();
        for change in &plan.changes {
            match change {
                Change::Create { key, fields, .. } => drop(entities.insert(key.clone(), fields.clone())),
                Change::Update { key, fields, .. } => {
                    let entity = entities.entry(key.clone()).or_default();
                    entity.extend(fields.iter().map(|change| (change.field, change.to.clone())));
                }
                Change::Delete { key, .. } => drop(entities.remove(key)),
            }
        }
        Self { entities }
    }

    /// The model for [`hesper_policy::decide`]: an entity's id is its name. Configs decide nothing and are left out.
    ///
    /// # Errors
    /// An entity that no controller would take, with the reason.
    pub fn model(&self) -> Result<Model, String> {
        let mut entities = Entities::default();
        for (key, fields) in &self.entities {
            match key.kind {
                Kind::Identity => entities.identities.push(self.entity(key, fields)?),
                Kind::EdgeRouter => entities.edge_routers.push(self.entity(key, fields)?),
                Kind::Service => entities.services.push(self.entity(key, fields)?),
                Kind::ServicePolicy => entities.service_policies.push(self.entity(key, fields)?),
                Kind::EdgeRouterPolicy => entities.edge_router_policies.push(self.entity(key, fields)?),
                Kind::ServiceEdgeRouterPolicy => {
                    entities.service_edge_router_policies.push(self.entity(key, fields)?);
                }
                Kind::Config | Kind::ConfigType | Kind::Terminator | Kind::Enrollment => {}
            }
        }
        Ok(Model::build(0, entities))
    }

    fn entity<E: Entity>(&self, key: &Key, fields: &Fields) -> Result<E, String> {
        let mut body = Map::new();
        for field in fields::of(key.kind).iter().filter(|f| !matches!(f.shape, Shape::Names(_))) {
            let value = fields.get(field.name).unwrap_or(&Value::Null);
            // A role whose entity goes is taken out by the controller, as here.
            let kept = match (field.shape, value) {
                (Shape::Roles(kind), Value::Array(roles)) => {
                    let stays = |role: &&Value| {
                        let name = role.as_str().and_then(|r| r.strip_prefix('@'));
                        name.is_none_or(|name| self.entities.contains_key(&Key::new(kind, name)))
                    };
                    Value::Array(roles.iter().filter(stays).cloned().collect())
                }
                _ => value.clone(),
            };
            if !kept.is_null() {
                body.insert(field.api.to_owned(), kept);
            }
        }
        for name in ["id", "name"] {
            body.insert(name.to_owned(), json!(key.name));
        }
        for name in ["createdAt", "updatedAt"] {
            body.insert(name.to_owned(), json!(NO_TIME));
        }
        serde_json::from_value(Value::Object(body)).map_err(|e| format!("{key}: {e}"))
    }
}

/// A field's value as the management API takes it: ids in the place of names.
///
/// # Errors
/// A name that has no id.
pub(crate) fn to_api(field: &Field, value: &Value, ids: &BTreeMap<Key, String>) -> Result<Value, Unresolved> {
    let id = |kind: Kind, name: &str| {
        let key = Key::new(kind, name);
        // The built-in config types have their name as id.
        let builtin = (kind == Kind::ConfigType && fields::is_builtin(name)).then(|| name.to_owned());
        ids.get(&key).cloned().or(builtin).ok_or(Unresolved(key))
    };
    let list = || value.as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(match field.shape {
        Shape::Name(kind) => {
            value.as_str().map(|name| id(kind, name)).transpose()?.map_or(Value::Null, Value::from)
        }
        Shape::Names(kind) => list().map(|name| id(kind, name)).collect::<Result<Vec<_>, _>>()?.into(),
        Shape::Roles(kind) => {
            let roles = list().map(|role| match role.strip_prefix('@') {
                Some(name) => id(kind, name).map(|id| format!("@{id}")),
                None => Ok(role.to_owned()),
            });
            roles.collect::<Result<Vec<_>, _>>()?.into()
        }
        _ => value.clone(),
    })
}
