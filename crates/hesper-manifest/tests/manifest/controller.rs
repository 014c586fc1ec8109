//! A controller of plain data: it keeps what the management API would list, refuses what refers to nothing, and gives ids.

use hesper_manifest::{Change, KINDS, Key, Manifest, Plan, Snapshot, fields};
use hesper_model::{config, entity::Kind};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Its entities, as `GET /<plural>` shows them.
#[derive(Clone, Debug)]
pub(crate) struct Controller {
    lists: BTreeMap<Kind, Vec<Value>>,
    clock: u32,
}

impl Controller {
    /// With the built-in config types and nothing else.
    pub(crate) fn new() -> Self {
        let types = config::builtin().into_iter().map(
            |t| json!({ "id": t.name, "name": t.name, "schema": t.schema, "updatedAt": "0", "tags": {} }),
        );
        Self { lists: BTreeMap::from([(Kind::ConfigType, types.collect())]), clock: 0 }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::read(&self.lists).expect("complete entities")
    }

    /// Makes one change as `policy apply` does; what it refers to must be there.
    pub(crate) fn make(&mut self, change: &Change) {
        self.clock += 1;
        let (kind, name) = (change.key().kind, change.key().name.clone());
        let mut ids = self.snapshot().ids();
        let body = change.body(&ids).unwrap_or_else(|e| panic!("{} before what it needs: {e}", change.key()));
        self.refers_to_what_is_there(kind, &body);
        let version = json!(format!("t{:04}", self.clock));
        let list = self.lists.entry(kind).or_default();
        match change {
            Change::Create { .. } => {
                assert!(!ids.contains_key(change.key()), "{} twice", change.key());
                let mut entity = body;
                entity.insert("id".into(), json!(format!("id{}", self.clock)));
                entity.insert("updatedAt".into(), version);
                list.push(Value::Object(entity));
            }
            Change::Update { id, version: read, .. } => {
                let entity = list.iter_mut().find(|e| e["id"] == **id).expect("there");
                assert_eq!(entity["updatedAt"], **read, "{name} was changed meanwhile");
                entity.as_object_mut().expect("an object").extend(body);
                entity["updatedAt"] = version;
            }
            Change::Delete { id, version: read, .. } => {
                let entity = list.iter().find(|e| e["id"] == **id).expect("there");
                assert_eq!(entity["updatedAt"], **read, "{name} was changed meanwhile");
                list.retain(|e| e["id"] != **id);
                ids.remove(change.key());
                assert!(
                    !format!("{:?}", self.lists).contains(&format!("\"{id}\"")),
                    "{name} is still needed"
                );
            }
        }
    }

    fn refers_to_what_is_there(&self, kind: Kind, body: &Map<String, Value>) {
        let ids: Vec<&str> = self.lists.values().flatten().filter_map(|e| e["id"].as_str()).collect();
        for field in fields::of(kind).iter().filter(|f| f.refers_to().is_some()) {
            let list = match body.get(field.api) {
                Some(Value::Array(list)) => list.clone(),
                Some(one @ Value::String(_)) => vec![one.clone()],
                _ => continue,
            };
            for entry in list.iter().filter_map(Value::as_str).filter(|e| !e.starts_with('#')) {
                let id = entry.trim_start_matches('@');
                assert!(ids.contains(&id), "{kind} refers to {entry}, which is not there");
            }
        }
    }

    /// Plans and makes every change.
    pub(crate) fn apply(&mut self, manifest: &Manifest, prune: bool) -> Plan {
        let plan = Plan::new(manifest, &self.snapshot(), prune).expect("a plan");
        plan.changes.iter().for_each(|change| self.make(change));
        plan
    }

    /// Changes a field behind everybody's back, as another administrator does.
    pub(crate) fn set(&mut self, kind: Kind, name: &str, field: &str, value: Value) {
        let list = self.lists.get_mut(&kind).expect("a list");
        let entity = list.iter_mut().find(|e| e["name"] == *name).expect("there");
        entity[field] = value;
    }

    /// Everything of ours that is there, by kind and name.
    pub(crate) fn keys(&self) -> Vec<String> {
        let all = self.snapshot();
        let ours = all.entities.iter().filter(|(_, present)| present.version != "0");
        ours.map(|(key, _)| key.to_string()).collect()
    }

    /// The names of a kind.
    pub(crate) fn has(&self, kind: Kind, name: &str) -> bool {
        assert!(KINDS.contains(&kind));
        self.snapshot().entities.contains_key(&Key::new(kind, name))
    }
}
