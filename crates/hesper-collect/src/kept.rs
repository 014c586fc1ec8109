//! Components that live on while what they were made of stays the same: a configuration that is read again disturbs only what it
//! changes.

use hesper_collector_config::Id;
use std::collections::BTreeMap;

/// Components by id, with what each was made of.
#[derive(Clone, Debug)]
pub(crate) struct Kept<S, T> {
    made: BTreeMap<Id, (S, T)>,
}

impl<S, T> Default for Kept<S, T> {
    fn default() -> Self {
        Self { made: BTreeMap::new() }
    }
}

impl<S: PartialEq, T: Clone> Kept<S, T> {
    /// The one of `before` if it was made of the same, else a new one. Asked twice for one id, it is the same one.
    pub(crate) fn get<E>(
        &mut self,
        before: &Self,
        id: &Id,
        settings: S,
        make: impl FnOnce(&S) -> Result<T, E>,
    ) -> Result<T, E>
    where
        S: Clone,
    {
        match self.kept(before, id, &settings) {
            Some(component) => Ok(component),
            None => {
                let component = make(&settings)?;
                Ok(self.put(id, settings, component))
            }
        }
    }

    /// The one that was asked for already, or that of `before` if it was made of the same.
    pub(crate) fn kept(&mut self, before: &Self, id: &Id, settings: &S) -> Option<T>
    where
        S: Clone,
    {
        if let Some((_, component)) = self.made.get(id) {
            return Some(component.clone());
        }
        let (_, component) = before.made.get(id).filter(|(made_of, _)| made_of == settings)?;
        Some(self.put(id, settings.clone(), component.clone()))
    }

    /// Takes a new one.
    pub(crate) fn put(&mut self, id: &Id, settings: S, component: T) -> T {
        self.made.insert(id.clone(), (settings, component.clone()));
        component
    }

    /// The components.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id, &T)> {
        self.made.iter().map(|(id, (_, component))| (id, component))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{convert::Infallible, sync::Arc};

    #[test]
    fn what_stays_the_same_is_the_same() {
        let id = |text: &str| text.parse::<Id>().expect("an id");
        let make = |settings: &u8| Ok::<_, Infallible>(Arc::new(*settings));
        let mut first = Kept::default();
        let get = |kept: &mut Kept<_, _>, before: &Kept<_, _>, name, settings| {
            kept.get(before, &id(name), settings, make).expect("made")
        };
        let (a, b) = (get(&mut first, &Kept::default(), "a", 1), get(&mut first, &Kept::default(), "b", 1));
        let mut second = Kept::default();
        assert!(Arc::ptr_eq(&a, &get(&mut second, &first, "a", 1)));
        let other = get(&mut second, &first, "b", 2);
        assert!(!Arc::ptr_eq(&b, &other));
        assert!(Arc::ptr_eq(&other, &get(&mut second, &first, "b", 2)), "used in two places");
        assert_eq!(second.iter().count(), 2);
    }
}
