//! One kind of entity, by id and by name.

use hesper_model::entity::Entity;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Every entity of one kind at one revision, in the order of their ids.
#[derive(Clone, Debug)]
pub struct Table<T> {
    by_id: BTreeMap<String, Arc<T>>,
    by_name: HashMap<String, Arc<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), by_name: HashMap::new() }
    }
}

impl<T: Entity> Table<T> {
    /// The entity with this id.
    pub fn get(&self, id: &str) -> Option<&Arc<T>> {
        self.by_id.get(id)
    }

    /// The entity with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<T>> {
        self.by_name.get(name)
    }

    /// Every entity, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<T>> + Clone {
        self.by_id.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Adds the entity, or replaces the one with its id.
    pub(crate) fn put(&mut self, entity: T) {
        let entity = Arc::new(entity);
        if let Some(old) = self.by_id.insert(entity.id().to_owned(), Arc::clone(&entity)) {
            self.forget_name(&old);
        }
        if let Some(name) = entity.name() {
            self.by_name.insert(name.to_owned(), Arc::clone(&entity));
        }
    }

    /// Removes the entity with this id, if there is one.
    pub(crate) fn delete(&mut self, id: &str) {
        if let Some(old) = self.by_id.remove(id) {
            self.forget_name(&old);
        }
    }

    /// Drops the name of `old`, unless another entity has taken it meanwhile.
    fn forget_name(&mut self, old: &T) {
        if let Some(name) = old.name()
            && self.by_name.get(name).is_some_and(|holder| holder.id() == old.id())
        {
            self.by_name.remove(name);
        }
    }
}
