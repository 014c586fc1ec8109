//! Lists and mappings.

use super::{Scalar, Section};
use crate::tree::{Body, Tree};
use hesper_yaml::advice;
use std::collections::BTreeMap;

impl<'a> Section<'a> {
    /// The entries of a list.
    pub(crate) fn items(&self, key: &'static str) -> &'a [Tree] {
        let Some(tree) = self.get(key) else { return &[] };
        match &tree.structure().body {
            Body::List(items) => items,
            Body::Text(text) if text.broken => &[],
            Body::Text(_) | Body::Map(_) => {
                self.refuse(key, format_args!("must be a list, not {}", tree.what()), "write it as [a, b]");
                &[]
            }
        }
    }

    /// A list of texts.
    pub(crate) fn texts(&self, key: &'static str) -> Vec<String> {
        self.scalars(key).into_iter().map(|scalar| scalar.text.text.clone()).collect()
    }

    /// A list of scalars.
    pub(crate) fn scalars(&self, key: &'static str) -> Vec<Scalar<'a>> {
        let items = self.items(key).iter();
        items.filter_map(|item| self.as_scalar(&format!("an entry of {key}"), item)).collect()
    }

    /// A list of one or several of some words.
    pub(crate) fn some_of<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Vec<T> {
        let mut values = Vec::new();
        for scalar in self.scalars(key) {
            match words.iter().find(|(word, _)| *word == scalar.text.text) {
                Some((_, value)) => values.push(*value),
                None => {
                    let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    let next = advice(&scalar.text.text, "choices", &list);
                    let reason = format!("{key} of {}: {} is no choice", self.what, scalar.text.shown());
                    self.fault(scalar.place, reason, next);
                }
            }
        }
        values
    }

    /// A mapping below this one; None when the key is not there. Nothing behind it is an empty mapping: all defaults.
    pub(crate) fn section<T>(&self, key: &'static str, read: impl FnOnce(&Section<'a>) -> T) -> Option<T> {
        let entry = self.entry(key)?;
        Section::read(self.reader, format!("{key} of {}", self.what), &entry.value, read)
    }

    /// A mapping that only groups: what is in it is said of what it is in.
    pub(crate) fn group<T>(&self, key: &'static str, read: impl FnOnce(&Section<'a>) -> T) -> Option<T> {
        Section::read(self.reader, self.what.clone(), &self.entry(key)?.value, read)
    }

    /// A list of mappings.
    pub(crate) fn sections<T>(&self, key: &'static str, read: impl Fn(&Section<'a>) -> T) -> Vec<T> {
        let what = format!("an entry of {key} of {}", self.what);
        let read = |item| Section::read(self.reader, what.clone(), item, &read);
        self.items(key).iter().filter_map(read).collect()
    }

    /// A mapping of any keys to scalars.
    pub(crate) fn named(&self, key: &'static str) -> Vec<(String, Scalar<'a>)> {
        let Some(tree) = self.get(key) else { return Vec::new() };
        match &tree.structure().body {
            Body::Map(entries) => entries
                .iter()
                .filter_map(|entry| {
                    let scalar = self.as_scalar(&format!("'{}' in {key}", entry.key), &entry.value)?;
                    Some((entry.key.clone(), scalar))
                })
                .collect(),
            Body::Text(text) if text.broken => Vec::new(),
            Body::Text(_) | Body::List(_) => {
                let reason = format_args!("must be a mapping, not {}", tree.what()).to_string();
                self.refuse(key, reason, "write it as {NAME: VALUE}");
                Vec::new()
            }
        }
    }

    /// A mapping of any keys to texts.
    pub(crate) fn text_map(&self, key: &'static str) -> BTreeMap<String, String> {
        self.named(key).into_iter().map(|(name, scalar)| (name, scalar.text.text.clone())).collect()
    }

    /// Every key with its list of texts, whatever the keys are called.
    pub(crate) fn any_lists(&self) -> BTreeMap<String, Vec<String>> {
        let mut lists = BTreeMap::new();
        for entry in self.entries {
            let items = match &entry.value.structure().body {
                Body::List(items) => items.as_slice(),
                _ => std::slice::from_ref(&entry.value),
            };
            let what = format!("an entry of '{}'", entry.key);
            let texts = items.iter().filter_map(|item| self.as_scalar(&what, item));
            lists.insert(entry.key.clone(), texts.map(|scalar| scalar.text.text.clone()).collect());
        }
        self.anything();
        lists
    }

    /// Every key with its mapping, whatever the keys are called.
    pub(crate) fn any_sections(&self, mut read: impl FnMut(&str, &Section<'a>)) {
        for entry in self.entries {
            let what = format!("'{}' in {}", entry.key, self.what);
            Section::read(self.reader, what, &entry.value, |s| read(&entry.key, s));
        }
        self.anything();
    }
}
