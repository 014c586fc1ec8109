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
    ) -> Result<T, E> {
        if let Some((_, component)) = self.made.get(id) {
            return Ok(component.clone());
        }
        let kept = before.made.get(id).filter(|(made_of, _)| *made_of == settings);
        let component = match kept {
            Some((_, component)) => component.clone(),
            None => make(&settings)?,
        };
        self.made.insert(id.clone(), (settings, component.clone()));
        Ok(component)
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
