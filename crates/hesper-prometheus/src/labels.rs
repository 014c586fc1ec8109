//! Names and values that tell series apart.

use std::borrow::Cow;

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";

/// Labels, sorted by name, each name once. A label with an empty value is the same as none; the text formats may say one all the same,
/// and [`Labels::parsed`] keeps it until [`Labels::prune`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Labels<'a> {
    /// Takes labels in any order.
    ///
    /// # Errors
    /// The name that is there twice.
    pub fn parsed(mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<Self, Cow<'a, str>> {
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        match pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[0].0.clone()),
            None => Ok(Self(pairs)),
        }
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
    }

    /// The value; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.place(name).map_or("", |at| &self.0[at].1)
    }

    /// Is the name there, be its value empty?
    pub fn has(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Sets a label; an empty value takes it away.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) {
        let (name, value) = (name.into(), value.into());
        match self.place(&name) {
            Ok(at) if value.is_empty() => drop(self.0.remove(at)),
            Ok(at) => self.0[at].1 = value,
            Err(_) if value.is_empty() => {}
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Takes a label away, and tells its value.
    pub fn take(&mut self, name: &str) -> Option<Cow<'a, str>> {
        self.place(name).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps the labels whose names fit.
    pub fn retain(&mut self, mut fits: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| fits(name));
    }

    /// Takes labels with empty values away.
    pub fn prune(&mut self) {
        self.0.retain(|(_, value)| !value.is_empty());
    }

    /// Every label, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, on its own.
    pub fn into_owned(self) -> Labels<'static> {
        let own = |(name, value): (Cow<'a, str>, Cow<'a, str>)| {
            (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))
        };
        Labels(self.0.into_iter().map(own).collect())
    }
}

impl<'a, N: Into<Cow<'a, str>>, V: Into<Cow<'a, str>>> FromIterator<(N, V)> for Labels<'a> {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut labels = Self::default();
        pairs.into_iter().for_each(|(name, value)| labels.set(name, value));
        labels
    }
}
