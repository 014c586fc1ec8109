//! The grammar of `tests:`: who can and who cannot.
//!
//! ```yaml
//! tests:
//!   - identity: prometheus            # a name, "#attribute", "#all", or a list of them: each one is meant
//!     can-dial: [metrics]             # each of these …
//!     cannot-dial: [admin-db]         # … none of these …
//!     cannot-bind: "#all"
//!   - identity: "#scrapers"
//!     can-dial-only: ["#metrics"]     # … these and nothing else
//!     can-use: [router-1]             # attach to these routers
//!     via: [router-1]                 # and be carried by these for whatever the test says can be dialed or bound
//!     why: a scraper that could dial more would be worth stealing
//! ```

use crate::{
    Place,
    fields::Key,
    value::{Reader, Reference, Refused},
};
use hesper_model::{entity::Kind, role::Role};
use hesper_yaml::{Data, Node, advice};
use std::fmt;

/// What a test says about an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// May open streams to each.
    CanDial,
    /// May open streams to none.
    CannotDial,
    /// May open streams to each, and to no other service.
    CanDialOnly,
    /// May host each.
    CanBind,
    /// May host none.
    CannotBind,
    /// May host each, and no other service.
    CanBindOnly,
    /// May attach to each router.
    CanUse,
    /// May attach to none.
    CannotUse,
}

impl Verb {
    /// Every verb, as files write it.
    pub const ALL: [(&'static str, Self); 8] = [
        ("can-dial", Self::CanDial),
        ("cannot-dial", Self::CannotDial),
        ("can-dial-only", Self::CanDialOnly),
        ("can-bind", Self::CanBind),
        ("cannot-bind", Self::CannotBind),
        ("can-bind-only", Self::CanBindOnly),
        ("can-use", Self::CanUse),
        ("cannot-use", Self::CannotUse),
    ];

    /// The kind of what it is about.
    pub const fn object(self) -> Kind {
        match self {
            Self::CanUse | Self::CannotUse => Kind::EdgeRouter,
            _ => Kind::Service,
        }
    }

    /// True when it permits something to be dialed or bound.
    const fn permits_service(self) -> bool {
        matches!(self, Self::CanDial | Self::CanDialOnly | Self::CanBind | Self::CanBindOnly)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(_, verb)| verb == self).map(|(word, _)| *word);
        f.write_str(word.unwrap_or_default())
    }
}

/// Entities of one kind, as a test names them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selector {
    pub(crate) kind: Kind,
    pub(crate) terms: Vec<(Role, Place)>,
}

/// One test.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// Where.
    pub place: Place,
    /// Why it must hold, for people.
    pub why: Option<String>,
    pub(crate) identities: Selector,
    pub(crate) checks: Vec<(Verb, Selector)>,
    pub(crate) via: Option<Selector>,
    pub(crate) references: Vec<Reference>,
}

impl Test {
    /// Reads the section `tests`.
    pub(crate) fn read(reader: &mut Reader, node: &Node, tests: &mut Vec<Self>) {
        let items = match &node.data {
            Data::Sequence(items) => items,
            _ if node.is_null() => return,
            _ => {
                let next = "write each test as `- {identity: …, can-dial: …}`";
                reader.fault(node.at, format!("tests must be a list, not {}", node.what()), next);
                return;
            }
        };
        for item in items {
            let before = reader.references.len();
            let test = one(reader, item);
            let references = reader.references.split_off(before);
            tests.extend(test.ok().map(|test| Self { references, ..test }));
        }
    }
}

fn one(reader: &mut Reader, node: &Node) -> Result<Test, Refused> {
    let Data::Mapping(pairs) = &node.data else {
        let reason = format!("a test must be a mapping, not {}", node.what());
        return Err(reader.fault(node.at, reason, "write it as `- {identity: …, can-dial: …}`"));
    };
    let (mut identities, mut via, mut why) = (None, None, None);
    let mut checks = Vec::new();
    let mut fine = true;
    for (key, value) in pairs {
        let word = key.text();
        let read = match word {
            "identity" => selector(reader, value, word, Kind::Identity).map(|s| identities = Some(s)),
            "via" => selector(reader, value, word, Kind::EdgeRouter).map(|s| via = Some(s)),
            "why" => reader.word(value, word).map(|text| why = Some(text.to_owned())),
            _ => match Verb::ALL.iter().find(|(name, _)| *name == word) {
                Some((_, verb)) => {
                    selector(reader, value, word, verb.object()).map(|s| checks.push((*verb, s)))
                }
                None => Err(unknown(reader, key)),
            },
        };
        fine &= read.is_ok();
    }
    if !fine {
        return Err(Refused);
    }
    let Some(identities) = identities else {
        return Err(reader.fault(node.at, "this test names no identity", "add `identity:`"));
    };
    if checks.is_empty() {
        let next = "add `can-dial:`, `cannot-dial:`, `can-bind:` or `cannot-bind:`";
        return Err(reader.fault(node.at, "this test tests nothing", next));
    }
    if via.is_some() && !checks.iter().any(|(verb, _)| verb.permits_service()) {
        let next = "add `can-dial:` or `can-bind:`, or use `can-use:` for the router alone";
        return Err(reader.fault(node.at, "`via` without anything that can be dialed or bound", next));
    }
    Ok(Test { place: reader.place(node.at), why, identities, checks, via, references: Vec::new() })
}

fn unknown(reader: &mut Reader, key: &Node) -> Refused {
    let known: Vec<&str> =
        ["identity", "via", "why"].into_iter().chain(Verb::ALL.iter().map(|(word, _)| *word)).collect();
    let next = advice(key.text(), "words of a test", &known);
    reader.fault(key.at, format!("'{}' is no word of a test", key.text()), next)
}

/// Names with or without `@`, `#attribute`, `#all`.
fn selector(reader: &mut Reader, node: &Node, what: &str, kind: Kind) -> Result<Selector, Refused> {
    let mut terms = Vec::new();
    for node in reader.list(node, what)? {
        let text = reader.word(node, what)?;
        let role =
            if text.starts_with(['#', '@']) { text.parse() } else { Ok(Role::Entity(text.to_owned())) };
        let Ok(role) = role else {
            return Err(reader.fault(node.at, format!("'{text}' names nothing"), "write a name behind it"));
        };
        let place = reader.place(node.at);
        if let Role::Entity(name) = &role {
            reader.references.push(Reference { to: Key::new(kind, name.clone()), place: place.clone() });
        }
        terms.push((role, place));
    }
    if terms.is_empty() {
        return Err(reader.fault(node.at, format!("{what} names nothing"), "leave it out"));
    }
    Ok(Selector { kind, terms })
}
