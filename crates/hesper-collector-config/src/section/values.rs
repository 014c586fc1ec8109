//! Single values: texts, secrets, flags, numbers, durations, choices.

use super::{Scalar, Section};
use crate::{
    Secret, quantity,
    tree::{Body, Tree},
};
use hesper_yaml::advice;
use std::{ops::RangeInclusive, time::Duration};

impl<'a> Section<'a> {
    /// Some value that is a scalar.
    pub(crate) fn scalar(&self, key: &'static str) -> Option<Scalar<'a>> {
        self.get(key).and_then(|tree| self.as_scalar(key, tree))
    }

    pub(super) fn as_scalar(&self, key: &str, tree: &'a Tree) -> Option<Scalar<'a>> {
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
}
