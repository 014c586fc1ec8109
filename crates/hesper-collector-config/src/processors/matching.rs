//! `include` and `exclude`: which spans, points and log records are meant.

use crate::{
    Pattern, Value,
    common::{pattern, value},
    section::{Scalar, Section},
    tree::{Body, Entry},
};

/// What must match: of every list that is given at least one entry, of attributes and resources all.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Match {
    /// `service.name` of the resource.
    pub services: Vec<TextMatch>,
    /// Names of spans.
    pub span_names: Vec<TextMatch>,
    /// Kinds of spans (`SPAN_KIND_SERVER`).
    pub span_kinds: Vec<TextMatch>,
    /// Attributes of the resource.
    pub resources: Vec<AttributeMatch>,
    /// Attributes of the span, point or log record.
    pub attributes: Vec<AttributeMatch>,
    /// Instrumentation scopes.
    pub libraries: Vec<LibraryMatch>,
    /// Bodies of log records that are text.
    pub log_bodies: Vec<TextMatch>,
    /// Severities of log records as text.
    pub log_severity_texts: Vec<TextMatch>,
    /// Severities of log records as numbers.
    pub log_severity_number: Option<SeverityMatch>,
    /// Names of metrics.
    pub metric_names: Vec<TextMatch>,
}

/// A text that is looked for.
#[derive(Clone, Debug, PartialEq)]
pub enum TextMatch {
    /// Exactly this (`match_type: strict`).
    Is(String),
    /// Anything in which the expression is found (`match_type: regexp`).
    Matches(Pattern),
}

/// An attribute that must be there.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributeMatch {
    /// Its name.
    pub key: String,
    /// Its value; None: any.
    pub value: Option<ValueMatch>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueMatch {
    /// Exactly this.
    Is(Value),
    /// A text in which the expression is found; numbers, yes and no as they are written.
    Matches(Pattern),
}

/// An instrumentation scope.
#[derive(Clone, Debug, PartialEq)]
pub struct LibraryMatch {
    /// Its name.
    pub name: TextMatch,
    /// Its version; None: any.
    pub version: Option<TextMatch>,
}

/// Severities of log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeverityMatch {
    /// The least severity, 1 to 24.
    pub min: u8,
    /// Does a record without severity match?
    pub match_undefined: bool,
}

/// The short names of OTLP's severities, each the first of four numbers.
const SEVERITIES: [(&str, u8); 6] =
    [("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21)];

/// Reads `include` and `exclude` of a section.
pub(super) fn sides(s: &Section<'_>) -> (Option<Match>, Option<Match>) {
    (s.section("include", read), s.section("exclude", read))
}

fn read(s: &Section<'_>) -> Match {
    let regexp = match_type(s);
    let found = Match {
        services: texts(s, "services", regexp),
        span_names: texts(s, "span_names", regexp),
        span_kinds: texts(s, "span_kinds", regexp),
        resources: attributes(s, "resources", regexp),
        attributes: attributes(s, "attributes", regexp),
        libraries: s.sections("libraries", |s| library(s, regexp)).into_iter().flatten().collect(),
        log_bodies: texts(s, "log_bodies", regexp),
        log_severity_texts: texts(s, "log_severity_texts", regexp),
        log_severity_number: s.section("log_severity_number", severity),
        metric_names: texts(s, "metric_names", regexp),
    };
    check(s);
    found
}

/// Something must be looked for: what matches everything would pass or drop everything.
pub(super) fn check(s: &Section<'_>) {
    // What could not be read is told by itself.
    let empty =
        |entry: &Entry| matches!(&entry.value.structure().body, Body::List(items) if items.is_empty());
    let says = |entry: &Entry| !["match_type", "regexp"].contains(&&*entry.key) && !empty(entry);
    if !s.all().iter().any(says) {
        let reason = format!("{} matches nothing in particular", s.what);
        s.fault(&s.place, reason, "add what is meant, or leave it out");
    }
}

/// Reads `match_type`; true for expressions.
pub(super) fn match_type(s: &Section<'_>) -> bool {
    s.require("match_type", "write strict or regexp");
    s.section("regexp", |s| {
        for key in ["cacheenabled", "cachemaxnumentries"] {
            s.idle(key, "expressions are compiled once");
        }
    });
    s.one_of("match_type", &[("strict", false), ("regexp", true)], false)
}

/// Reads a list of texts or expressions.
pub(super) fn texts(s: &Section<'_>, key: &'static str, regexp: bool) -> Vec<TextMatch> {
    s.scalars(key).into_iter().filter_map(|scalar| text(s, scalar, regexp)).collect()
}

fn text(s: &Section<'_>, scalar: Scalar<'_>, regexp: bool) -> Option<TextMatch> {
    match regexp {
        true => pattern(s, scalar).map(TextMatch::Matches),
        false => Some(TextMatch::Is(scalar.text.text.clone())),
    }
}

/// Reads a list of `{key, value}`.
pub(super) fn attributes(s: &Section<'_>, key: &'static str, regexp: bool) -> Vec<AttributeMatch> {
    s.sections(key, |s| {
        let key = s.needed("key", "write the name of the attribute");
        let value = s.get("value").and_then(|tree| match (&tree.body, regexp) {
            (Body::Text(text), true) => {
                pattern(s, Scalar { text, place: &tree.place }).map(ValueMatch::Matches)
            }
            _ => Some(ValueMatch::Is(value(tree))),
        });
        AttributeMatch { key, value }
    })
}

fn library(s: &Section<'_>, regexp: bool) -> Option<LibraryMatch> {
    s.require("name", "write the name of the scope");
    let name = s.scalar("name").and_then(|scalar| text(s, scalar, regexp));
    let version = s.scalar("version").and_then(|scalar| text(s, scalar, regexp));
    Some(LibraryMatch { name: name?, version })
}

/// Reads `{min, match_undefined}`.
pub(super) fn severity(s: &Section<'_>) -> SeverityMatch {
    s.require("min", "write a severity such as INFO, or a number from 1 to 24");
    let min = s.parsed(
        "min",
        "a severity",
        "write TRACE, DEBUG, INFO, WARN, ERROR, FATAL or 1 to 24",
        severity_number,
    );
    SeverityMatch { min: min.unwrap_or(1), match_undefined: s.flag("match_undefined", false) }
}

/// The number of a severity: `13`, `WARN`, `WARN2`, in any case.
pub(super) fn severity_number(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return Some(number).filter(|n| (1..=24).contains(n));
    }
    let text = text.to_ascii_uppercase();
    let (name, number) = SEVERITIES.iter().find(|(name, _)| text.starts_with(name))?;
    match &text[name.len()..] {
        "" => Some(*number),
        "2" => Some(number + 1),
        "3" => Some(number + 2),
        "4" => Some(number + 3),
        _ => None,
    }
}
