//! Do the names refer to something, and does the data of configs satisfy the schema of their types?

use crate::{
    Declared, Fault, Manifest, Place,
    fields::{self, Key},
    snapshot::Snapshot,
};
use hesper_model::{config, entity::Kind};
use hesper_yaml::{At, Data, Node, nearest};
use serde_json::Value;
use std::collections::BTreeMap;

/// Adds every fault of the manifest that concerns more than one entity.
pub(crate) fn check(manifest: &Manifest, present: Option<&Snapshot>, faults: &mut Vec<Fault>) {
    for declared in manifest.entities.values() {
        let names = declared.references.iter();
        faults.extend(names.filter_map(|r| dangling(manifest, present, &r.to, &r.place)));
        match declared.key.kind {
            Kind::ConfigType => check_schema(declared, faults),
            Kind::Config => check_data(manifest, present, declared, faults),
            Kind::Service => one_config_of_each_type(manifest, present, declared, faults),
            _ => {}
        }
    }
    for test in &manifest.tests {
        let names = test.references.iter();
        faults.extend(names.filter_map(|r| dangling(manifest, present, &r.to, &r.place)));
    }
}

fn is_known(manifest: &Manifest, present: Option<&Snapshot>, key: &Key) -> bool {
    manifest.entities.contains_key(key)
        || present.is_some_and(|p| p.entities.contains_key(key))
        || (key.kind == Kind::ConfigType && fields::is_builtin(&key.name))
}

fn dangling(manifest: &Manifest, present: Option<&Snapshot>, key: &Key, place: &Place) -> Option<Fault> {
    if is_known(manifest, present, key) {
        return None;
    }
    let declared = manifest.entities.keys();
    let there = present.into_iter().flat_map(|p| p.entities.keys());
    let builtin = config::builtin();
    let built_in = builtin.iter().map(|t| t.name).filter(|_| key.kind == Kind::ConfigType);
    let names = declared.chain(there).filter(|k| k.kind == key.kind).map(|k| k.name.as_str());
    let near = nearest(&key.name, names.chain(built_in));
    let (reason, next) = match (present, near) {
        (None, near) => (
            format!("there is no {key} in these files"),
            near.map_or_else(
                || format!("declare it under {}, or give the file that does too", key.kind.plural()),
                |near| format!("did you mean '{near}'?"),
            ),
        ),
        (Some(_), near) => (
            format!("there is no {key}, neither in these files nor at the controller"),
            near.map_or_else(
                || format!("declare it under {}, or correct the name", key.kind.plural()),
                |near| format!("did you mean '{near}'?"),
            ),
        ),
    };
    Some(Fault::new(place.clone(), reason, next))
}

fn check_schema(declared: &Declared, faults: &mut Vec<Fault>) {
    let Some(schema) = declared.given.get("schema").filter(|s| !s.is_null()) else { return };
    for fault in config::check_schema(schema).err().into_iter().flatten() {
        let reason = format!("the schema of {}: {fault}", declared.key);
        faults.push(Fault::new(declared.place_of("schema"), reason, "correct the JSON schema"));
    }
}

fn check_data(manifest: &Manifest, present: Option<&Snapshot>, declared: &Declared, faults: &mut Vec<Fault>) {
    let (Some(Value::String(type_)), Some(data)) = (declared.given.get("configType"), &declared.data) else {
        return;
    };
    let Some(Value::Object(_)) = declared.given.get("data") else { return };
    let key = Key::new(Kind::ConfigType, type_.clone());
    let Some(schema) = schema_of(manifest, present, &key) else { return };
    for fault in config::validate(&schema, &data.json()).err().into_iter().flatten() {
        let (line, column) = locate(data, &fault.path, &fault.reason);
        let place = Place { line, column, ..declared.place.clone() };
        let reason = format!("the data of {} does not fit {type_}: {fault}", declared.key);
        let next = format!("'hesper show config-type {type_}' prints what it may be");
        faults.push(Fault::new(place, reason, next));
    }
}

/// The schema of a config type; none when there is none or the type is not known.
fn schema_of(manifest: &Manifest, present: Option<&Snapshot>, key: &Key) -> Option<Value> {
    if let Some(declared) = manifest.entities.get(key) {
        return declared.given.get("schema").filter(|s| s.is_object()).cloned();
    }
    if let Some(present) = present.and_then(|p| p.entities.get(key)) {
        return present.fields.get("schema").filter(|s| s.is_object()).cloned();
    }
    config::builtin().into_iter().find(|t| t.name == key.name).map(|t| t.schema)
}

/// The node that a fault's path means: the deepest that is there. A key that is not known is pointed at itself.
fn locate(data: &Node, path: &str, reason: &str) -> At {
    let mut node = data;
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let below = match &node.data {
            Data::Mapping(_) => node.entry(step).map(|(_, value)| value),
            Data::Sequence(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)),
            Data::Scalar { .. } => None,
        };
        let Some(below) = below else { break };
        node = below;
    }
    let named = reason.split('"').nth(1).filter(|_| reason.contains("not known here"));
    named.and_then(|name| node.entry(name)).map_or(node.at, |(key, _)| key.at)
}

fn one_config_of_each_type(
    manifest: &Manifest,
    present: Option<&Snapshot>,
    declared: &Declared,
    faults: &mut Vec<Fault>,
) {
    let Some(Value::Array(configs)) = declared.given.get("configs") else { return };
    let mut by_type: BTreeMap<String, &str> = BTreeMap::new();
    for name in configs.iter().filter_map(Value::as_str) {
        let key = Key::new(Kind::Config, name);
        let fields = manifest.entities.get(&key).map(|d| &d.given);
        let fields = fields.or_else(|| present.and_then(|p| p.entities.get(&key)).map(|p| &p.fields));
        let Some(Value::String(type_)) = fields.and_then(|f| f.get("configType")) else { continue };
        if let Some(other) = by_type.insert(type_.clone(), name) {
            let reason = format!(
                "a service may have one config of each type, but '{other}' and '{name}' are both {type_}"
            );
            faults.push(Fault::new(declared.place_of("configs"), reason, "take one of them out"));
        }
    }
}
