//! A mapping that is being read: every key is asked for by name, and what nobody asked for is a fault with the nearest known
//! key beside it.
//!
//! A value that does not fit leaves a fault, and the default stands in for it so that the rest is read too.

mod collections;
mod values;

use crate::{
    Id,
    reader::{Reader, Wanted},
    remark::Topic,
    tree::{Body, Entry, Text, Tree},
};
use hesper_yaml::{Place, advice, nearest};
use std::{
    cell::{Cell, RefCell},
    fmt,
};

/// Longest list of known keys in a message.
const MAX_LISTED: usize = 24;

/// A mapping with what it is called in messages (`receiver 'otlp'`, `tls of receiver 'otlp'`).
pub(crate) struct Section<'a> {
    pub(crate) reader: &'a Reader<'a>,
    pub(crate) what: String,
    pub(crate) place: Place,
    entries: &'a [Entry],
    known: RefCell<Vec<&'static str>>,
    /// Keys may be called anything.
    any: Cell<bool>,
}

/// A scalar with its place.
#[derive(Clone, Copy)]
pub(crate) struct Scalar<'a> {
    pub(crate) text: &'a Text,
    pub(crate) place: &'a Place,
}

impl<'a> Section<'a> {
    /// Reads a tree that must be a mapping; nothing stands for an empty one. None when it is something else.
    pub(crate) fn read<T>(
        reader: &'a Reader<'a>,
        what: String,
        tree: &'a Tree,
        read: impl FnOnce(&Self) -> T,
    ) -> Option<T> {
        let entries: &[Entry] = match &tree.structure().body {
            Body::Map(entries) => entries,
            _ if tree.is_null() => &[],
            Body::Text(text) if text.broken => return None,
            _ => {
                let reason = format!("{what} must be a mapping, not {}", tree.what());
                reader.fault(&tree.place, reason, "write its settings as `key: value` below it");
                return None;
            }
        };
        let section = Self {
            reader,
            what,
            place: tree.place.clone(),
            entries,
            known: RefCell::default(),
            any: Cell::default(),
        };
        let value = read(&section);
        section.finish();
        Some(value)
    }

    /// Tells of the keys that nobody asked for.
    fn finish(&self) {
        if self.any.get() {
            return;
        }
        let known = self.known.borrow();
        for entry in self.entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let reason = format!("'{}' is no key of {}", entry.key.escape_debug(), self.what);
            let next = match nearest(&entry.key, known.iter().copied()) {
                None if known.len() > MAX_LISTED || known.is_empty() => "leave it out".into(),
                _ => advice(&entry.key, "keys", &known),
            };
            self.reader.fault(&entry.place, reason, next);
        }
    }

    fn entry(&self, key: &'static str) -> Option<&'a Entry> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key; nothing (`key:`) is the same as no key.
    pub(crate) fn get(&self, key: &'static str) -> Option<&'a Tree> {
        self.entry(key).map(|entry| &entry.value).filter(|tree| !tree.is_null())
    }

    /// Is the key there, even with nothing behind it?
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// Is there a value, readable or not?
    pub(crate) fn is_set(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Where the value of a key is, else the key, else the section.
    pub(crate) fn place_of(&self, key: &'static str) -> &Place {
        match self.entries.iter().find(|entry| entry.key == key) {
            Some(entry) if entry.value.is_null() => &entry.place,
            Some(entry) => &entry.value.place,
            None => &self.place,
        }
    }

    /// Every key with its place and value, whatever it is called.
    pub(crate) fn all(&self) -> &'a [Entry] {
        self.entries
    }

    /// Keys may be called anything here; whoever says so looks at them all.
    pub(crate) fn anything(&self) {
        self.any.set(true);
    }

    /// Takes a key whose name is not known beforehand out of what is unknown.
    pub(crate) fn open(&self, key: &'static str) {
        self.entry(key);
    }

    pub(crate) fn fault(&self, place: &Place, reason: impl Into<String>, next: impl Into<String>) {
        self.reader.fault(place, reason, next);
    }

    /// A fault of the value of a key.
    pub(crate) fn refuse(&self, key: &'static str, reason: impl fmt::Display, next: impl Into<String>) {
        self.reader.fault(self.place_of(key), format!("{key} of {}: {reason}", self.what), next);
    }

    pub(crate) fn remark(
        &self,
        topic: Topic,
        key: &'static str,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.reader.remark(topic, self.place_of(key), reason, next);
    }

    /// A key that is known and changes nothing here.
    pub(crate) fn idle(&self, key: &'static str, why: &str) {
        if self.is_set(key) {
            let reason = format!("{key} of {} has no effect here: {why}", self.what);
            self.remark(Topic::NoEffect, key, reason, "it may stay, or be left out");
        }
    }

    /// A key that is known, and whose absence here would change what the configuration means.
    pub(crate) fn unsupported(&self, key: &'static str, next: &str) {
        if self.is_set(key) {
            self.refuse(key, "not supported here", next);
        }
    }

    /// A value that must be there.
    pub(crate) fn require(&self, key: &'static str, next: &str) {
        if !self.is_set(key) {
            self.reader.fault(self.place_of(key), format!("{} has no {key}", self.what), next);
        }
    }

    /// The id of an extension.
    pub(crate) fn reference(&self, key: &'static str, wanted: Wanted) -> Option<Id> {
        let scalar = self.scalar(key)?;
        match scalar.text.text.parse::<Id>() {
            Ok(id) => {
                self.reader.refer(wanted, id.clone(), scalar.place);
                Some(id)
            }
            Err(next) => {
                self.refuse(key, format_args!("{} is no id", scalar.text.shown()), next);
                None
            }
        }
    }
}
