//! What would have to change: declared − present, in an order in which every reference exists.

use crate::{
    Fault, Manifest, Present, Snapshot,
    fields::{self, Absent, Fields, Key, Shape},
    snapshot::with_set,
    world::{Unresolved, World, to_api},
};
use hesper_model::entity::Kind;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One field that changes, in named form.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// The field.
    pub field: &'static str,
    /// What it is.
    pub from: Value,
    /// What it will be.
    pub to: Value,
}

/// One request to the controller.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new entity.
    Create {
        /// Kind and name.
        key: Key,
        /// The set that will own it.
        set: Option<String>,
        /// Every field.
        fields: Fields,
    },
    /// Some fields of an entity.
    Update {
        /// Kind and name.
        key: Key,
        /// Its id.
        id: String,
        /// What it must still be like: its `updatedAt`.
        version: String,
        /// The set that owns it.
        set: Option<String>,
        /// What changes, in the order of the table.
        fields: Vec<FieldChange>,
    },
    /// The end of an entity that its set no longer declares.
    Delete {
        /// Kind and name.
        key: Key,
        /// Its id.
        id: String,
        /// What it must still be like: its `updatedAt`.
        version: String,
    },
}

impl Change {
    /// What is changed.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. } | Self::Update { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The request's body, with the ids of what it refers to. Empty for a deletion.
    ///
    /// # Errors
    /// A name that has no id yet.
    pub fn body(&self, ids: &BTreeMap<Key, String>) -> Result<Map<String, Value>, Unresolved> {
        let mut body = Map::new();
        let mut put = |kind: Kind, name: &str, value: &Value, set: Option<&str>| {
            let Some(field) = fields::named(kind, name) else { return Ok(()) };
            let value = match field.shape {
                Shape::Tags => with_set(value, set),
                _ => to_api(field, value, ids)?,
            };
            body.insert(field.api.to_owned(), value);
            Ok(())
        };
        match self {
            Self::Create { key, set, fields } => {
                for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                    put(key.kind, name, value, set.as_deref())?;
                }
                body.insert("name".into(), json!(key.name));
            }
            Self::Update { key, set, fields, .. } => {
                for change in fields {
                    put(key.kind, change.field, &change.to, set.as_deref())?;
                }
            }
            Self::Delete { .. } => {}
        }
        Ok(body)
    }
}

/// The changes in the order in which they are made: first what others refer to; deletions last, the other way round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The changes.
    pub changes: Vec<Change>,
    /// What the sets made earlier, no longer declare, and would be deleted by pruning. Empty when the plan prunes.
    pub left: Vec<Key>,
}

impl Plan {
    /// What must change at a controller that has this to have what is declared.
    ///
    /// # Errors
    /// What cannot be done: an entity of another set, a field that is fixed, a deletion of what is still needed.
    pub fn new(manifest: &Manifest, present: &Snapshot, prune: bool) -> Result<Self, Vec<Fault>> {
        let mut plan = Self::default();
        let mut faults = Vec::new();
        for declared in manifest.entities.values() {
            let Some(there) = present.entities.get(&declared.key) else {
                let (key, set) = (declared.key.clone(), declared.set.clone());
                plan.changes.push(Change::Create { key, set, fields: declared.complete() });
                continue;
            };
            if let (Some(ours), Some(theirs)) = (&declared.set, &there.set)
                && ours != theirs
            {
                let reason = format!("{} belongs to the set '{theirs}', not to '{ours}'", declared.key);
                let next =
                    "declare it in one set only, or give it up there with 'policy apply --prune' first";
                faults.push(Fault::new(declared.place.clone(), reason, next));
                continue;
            }
            let fields = differences(&declared.key, &declared.given, there);
            if let Some(fixed) =
                fields.iter().find(|c| fields::named(declared.key.kind, c.field).is_some_and(|f| f.fixed))
            {
                let reason = format!("{} of {} cannot be changed", fixed.field, declared.key);
                let next = format!("it is {}: give the new one another name", fixed.from);
                faults.push(Fault::new(declared.place_of(fixed.field), reason, next));
            } else if !fields.is_empty() {
                let (id, version, set) = (there.id.clone(), there.version.clone(), there.set.clone());
                plan.changes.push(Change::Update { key: declared.key.clone(), id, version, set, fields });
            }
        }
        let gone = present.entities.iter().rev().filter(|(key, there)| {
            let owned = there.set.as_ref().is_some_and(|set| manifest.sets.contains(set));
            owned && !manifest.entities.contains_key(key)
        });
        for (key, there) in gone {
            if prune {
                let (id, version) = (there.id.clone(), there.version.clone());
                plan.changes.push(Change::Delete { key: key.clone(), id, version });
            } else {
                plan.left.push(key.clone());
            }
        }
        needed(manifest, present, &plan, &mut faults);
        if faults.is_empty() {
            return Ok(plan);
        }
        faults.sort();
        Err(faults)
    }

    /// How many are created, changed and deleted.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Change) -> bool| self.changes.iter().filter(|c| is(c)).count();
        (
            count(|c| matches!(c, Change::Create { .. })),
            count(|c| matches!(c, Change::Update { .. })),
            count(|c| matches!(c, Change::Delete { .. })),
        )
    }
}

/// The fields that are not as declared. What was left out is its default, or stays as it is.
fn differences(key: &Key, given: &Fields, there: &Present) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    for field in fields::of(key.kind) {
        let wanted = match given.get(field.name) {
            Some(value) => value.clone(),
            None if field.absent == Absent::AsItIs => continue,
            None => field.default(),
        };
        let is = there.fields.get(field.name).cloned().unwrap_or(Value::Null);
        if is != wanted {
            changes.push(FieldChange { field: field.name, from: is, to: wanted });
        }
    }
    changes
}

/// Nothing that is deleted may still be named: by a declared role, by a service's configs, by a config's type.
fn needed(manifest: &Manifest, present: &Snapshot, plan: &Plan, faults: &mut Vec<Fault>) {
    let gone: Vec<&Key> =
        plan.changes.iter().filter(|c| matches!(c, Change::Delete { .. })).map(Change::key).collect();
    if gone.is_empty() {
        return;
    }
    let next = |key: &Key| format!("declare {key} too, or take its name out here");
    for declared in manifest.entities.values() {
        for reference in declared.references.iter().filter(|r| gone.contains(&&r.to)) {
            let reason = format!("{} names {}, which would be pruned", declared.key, reference.to);
            faults.push(Fault::new(reference.place.clone(), reason, next(&reference.to)));
        }
    }
    for test in &manifest.tests {
        for reference in test.references.iter().filter(|r| gone.contains(&&r.to)) {
            let reason = format!("a test names {}, which would be pruned", reference.to);
            faults.push(Fault::new(reference.place.clone(), reason, next(&reference.to)));
        }
    }
    // What no file declares: only configs and their types are refused by the controller, roles are taken out.
    let after = World::after(present, plan);
    for (user, fields) in after.entities.iter().filter(|(key, _)| !manifest.entities.contains_key(key)) {
        for key in &gone {
            let uses = match (user.kind, key.kind) {
                (Kind::Service, Kind::Config) => fields
                    .get("configs")
                    .and_then(Value::as_array)
                    .is_some_and(|list| list.iter().any(|c| *c == key.name)),
                (Kind::Config, Kind::ConfigType) => fields.get("configType").is_some_and(|t| *t == key.name),
                _ => false,
            };
            if uses && let Some(place) = any_place(manifest) {
                let reason = format!("{key} would be pruned, but {user}, which no file declares, uses it");
                faults.push(Fault::new(
                    place,
                    reason,
                    format!("change {user} first, or declare {key} again"),
                ));
            }
        }
    }
}

/// Faults of what is in no file are told at the beginning of the first.
fn any_place(manifest: &Manifest) -> Option<crate::Place> {
    let first =
        manifest.entities.values().map(|d| &d.place).chain(manifest.tests.iter().map(|t| &t.place)).min();
    first.map(|place| crate::Place { line: 1, column: 1, ..place.clone() })
}
