//! A mapping that is being read: every key is asked for by name, and what nobody asked for is a fault with the nearest known
//! key beside it.
//!
//! A value that does not fit leaves a fault, and the default stands in for it so that the rest is read too.

use crate::{
    Secret, quantity,
    reader::{Reader, Wanted},
    remark::Topic,
    tree::{Body, Entry, Text, Tree},
};
use hesper_yaml::{Place, advice, nearest};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    time::Duration,
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

    /// Some value that is a scalar.
    pub(crate) fn scalar(&self, key: &'static str) -> Option<Scalar<'a>> {
        self.get(key).and_then(|tree| self.as_scalar(key, tree))
    }

    fn as_scalar(&self, key: &str, tree: &'a Tree) -> Option<Scalar<'a>> {
        match &tree.body {
            Body::Text(text) if text.broken => None,
            Body::Text(text) => Some(Scalar { text, place: &tree.place }),
            Body::List(_) | Body::Map(_) => {
                let reason = format!("{key} of {} must be a single value, not {}", self.what, tree.what());
                self.reader.fault(&tree.place, reason, "write it behind the colon");
                None
            }
        }
    }

    /// Source text: `1234` and `0123` stay as they are written.
    pub(crate) fn text(&self, key: &'static str) -> Option<String> {
        self.scalar(key).map(|scalar| scalar.text.text.clone())
    }

    pub(crate) fn text_or(&self, key: &'static str, default: &str) -> String {
        self.text(key).unwrap_or_else(|| default.into())
    }

    /// A text that must not be empty.
    pub(crate) fn needed(&self, key: &'static str, next: &str) -> String {
        let text = self.text(key);
        if text.as_deref() == Some("") || !self.is_set(key) {
            self.reader.fault(self.place_of(key), format!("{} has no {key}", self.what), next);
        }
        text.unwrap_or_default()
    }

    pub(crate) fn secret(&self, key: &'static str) -> Option<Secret> {
        self.scalar(key).map(|scalar| Secret::new(scalar.text.text.clone()))
    }

    pub(crate) fn flag(&self, key: &'static str, default: bool) -> bool {
        self.parsed(key, "true or false", "write true or false", |text| match text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        })
        .unwrap_or(default)
    }

    /// A whole number.
    pub(crate) fn count(&self, key: &'static str, default: u64) -> u64 {
        self.count_in(key, default, 0..=u64::MAX)
    }

    /// A whole number within bounds.
    pub(crate) fn count_in(&self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let next = match (range.start(), range.end()) {
            (low, &u64::MAX) => format!("write a whole number from {low} on"),
            (low, high) => format!("write a whole number from {low} to {high}"),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
        let number = |text: &str| text.replace('_', "").parse().ok().filter(|n| range.contains(n));
        self.parsed(key, "such a number", &next, |text| Some(text).filter(|t| digits(t)).and_then(number))
            .unwrap_or(default)
    }

    /// A number.
    pub(crate) fn float(&self, key: &'static str, default: f64) -> f64 {
        let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite());
        self.parsed(key, "a number", "write a number such as 1.5", number).unwrap_or(default)
    }

    /// A duration in Go's notation.
    pub(crate) fn duration(&self, key: &'static str, default: Duration) -> Duration {
        let next = "write a number with its unit, such as 5s, 200ms or 1m30s";
        self.parsed(key, "a duration", next, quantity::go_duration).unwrap_or(default)
    }

    /// A duration in Prometheus' notation.
    pub(crate) fn prometheus_duration(&self, key: &'static str) -> Option<Duration> {
        let next = "write a whole number with its unit, such as 15s, 1m or 1h30m";
        self.parsed(key, "a duration", next, quantity::prometheus_duration)
    }

    /// A size in Prometheus' notation.
    pub(crate) fn size(&self, key: &'static str) -> u64 {
        self.parsed(key, "a size", "write a whole number with its unit, such as 10MB", quantity::size)
            .unwrap_or(0)
    }

    /// One of some words.
    pub(crate) fn one_of<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)], default: T) -> T {
        self.choice(key, words).unwrap_or(default)
    }

    pub(crate) fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let scalar = self.scalar(key)?;
        let found = words.iter().find(|(word, _)| *word == scalar.text.text).map(|(_, value)| *value);
        if found.is_none() {
            let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let next = advice(&scalar.text.text, "choices", &list);
            self.refuse(key, format_args!("{} is no choice", scalar.text.shown()), next);
        }
        found
    }

    /// A scalar read by a function.
    pub(crate) fn parsed<T>(
        &self,
        key: &'static str,
        what: &str,
        next: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let scalar = self.scalar(key)?;
        let value = read(scalar.text.text.trim());
        if value.is_none() {
            self.refuse(key, format_args!("{} is not {what}", scalar.text.shown()), next);
        }
        value
    }

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

    /// The id of an extension.
    pub(crate) fn reference(&self, key: &'static str, wanted: Wanted) -> Option<crate::Id> {
        let scalar = self.scalar(key)?;
        match scalar.text.text.parse::<crate::Id>() {
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
