//! A transaction in terms of entities: keys, names and revisions in, compares and writes out. Pure.

use super::Versioned;
use hesper_model::entity::{Entity, Kind};
use hesper_store::{Compare, Txn, Write};
use serde::Serialize;

/// What must hold of an entity when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// There is none with its id or its name.
    New,
    /// It was last written at this revision.
    Unchanged(u64),
}

/// The key of an entity.
pub(crate) fn key(kind: Kind, id: &str) -> String {
    format!("{}/{id}", kind.singular())
}

/// The key of an entity's name; its value is the id.
pub(crate) fn name_key(kind: Kind, name: &str) -> String {
    format!("name/{}/{name}", kind.singular())
}

/// The key of this entity.
pub(crate) fn key_of<E: Entity>(entity: &E) -> String {
    key(E::KIND, entity.id())
}

/// Compares and writes of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    compares: Vec<Compare>,
    writes: Vec<Write>,
}

impl Changes {
    /// A new entity: neither its id nor its name may exist.
    pub(crate) fn create<E: Entity>(&mut self, entity: &E) {
        self.compares.push(Compare::Absent(key_of(entity)));
        self.take_name(entity);
        self.write(key_of(entity), entity);
    }

    /// A new version of an entity that nobody else may have written meanwhile.
    pub(crate) fn update<E: Entity>(&mut self, old: &Versioned<E>, new: &E) {
        debug_assert_eq!(old.entity.id(), new.id(), "an update keeps the id");
        self.unchanged(old);
        if old.entity.name() != new.name() {
            self.give_name_back(&old.entity);
            self.take_name(new);
        }
        self.write(key_of(new), new);
    }

    /// The end of an entity that nobody else may have written meanwhile.
    pub(crate) fn remove<E: Entity>(&mut self, old: &Versioned<E>) {
        self.unchanged(old);
        self.give_name_back(&old.entity);
        self.writes.push(Write::Delete(key_of(&old.entity)));
    }

    /// The entity is only read, but must still be as it was.
    pub(crate) fn unchanged<E: Entity>(&mut self, old: &Versioned<E>) {
        self.compares.push(Compare::Unchanged(key_of(&old.entity), old.mod_revision));
    }

    /// A record that is no entity and must not exist yet.
    pub(crate) fn create_record(&mut self, key: impl Into<String>, record: &impl Serialize) {
        let key = key.into();
        self.compares.push(Compare::Absent(key.clone()));
        self.write(key, record);
    }

    /// A record that is no entity, last written at `revision`.
    pub(crate) fn update_record(&mut self, key: impl Into<String>, revision: u64, record: &impl Serialize) {
        let key = key.into();
        self.compares.push(Compare::Unchanged(key.clone(), revision));
        self.write(key, record);
    }

    /// A record that is no entity, whatever was there.
    pub(crate) fn put_record(&mut self, key: impl Into<String>, record: &impl Serialize) {
        self.write(key.into(), record);
    }

    /// A record that is plain text, whatever was there.
    pub(crate) fn put_text(&mut self, key: impl Into<String>, text: &str) {
        self.writes.push(Write::Put(key.into(), text.as_bytes().to_vec()));
    }

    /// The end of a record that is no entity; nothing happens when there is none.
    pub(crate) fn delete_record(&mut self, key: impl Into<String>) {
        self.writes.push(Write::Delete(key.into()));
    }

    /// True when nothing is to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The transaction for the store.
    pub(crate) fn into_txn(self) -> Txn {
        Txn { compares: self.compares, writes: self.writes }
    }

    fn take_name<E: Entity>(&mut self, entity: &E) {
        if let Some(name) = entity.name() {
            let key = name_key(E::KIND, name);
            self.compares.push(Compare::Absent(key.clone()));
            self.writes.push(Write::Put(key, entity.id().as_bytes().to_vec()));
        }
    }

    fn give_name_back<E: Entity>(&mut self, entity: &E) {
        if let Some(name) = entity.name() {
            self.writes.push(Write::Delete(name_key(E::KIND, name)));
        }
    }

    fn write(&mut self, key: String, value: &impl Serialize) {
        let bytes =
            serde_json::to_vec(value).expect("our own types have string keys and no failing serializers");
        self.writes.push(Write::Put(key, bytes));
    }
}
