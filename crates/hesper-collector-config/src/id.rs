//! Names of things: components (`type[/name]`), the sections they live in, signals.

use std::{fmt, str::FromStr};

/// Longest type, in bytes, as the Collector has it.
const MAX_TYPE: usize = 63;
/// Longest name, in bytes, as the Collector has it.
const MAX_NAME: usize = 1024;

/// The id of a component: `type` or `type/name`, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    kind: String,
    name: Option<String>,
}

impl Id {
    /// The type as it is written; an older name of a component stays (`logging`).
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What follows the `/`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        self.name.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl FromStr for Id {
    type Err = &'static str;

    /// Spaces around both parts are allowed, as in the Collector. The error says what to write.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !kind.starts_with(|c: char| c.is_ascii_alphabetic()) || !kind.chars().all(word) {
            return Err("write TYPE or TYPE/NAME; a type is a letter, then letters, digits and _");
        }
        if kind.len() > MAX_TYPE || name.is_some_and(|n| n.len() > MAX_NAME) {
            return Err("a type has at most 63 bytes, a name 1024");
        }
        if name.is_some_and(|n| n.is_empty() || n.chars().any(char::is_control)) {
            return Err("write a name behind the /, or leave the / out");
        }
        Ok(Self { kind: kind.into(), name: name.map(str::to_owned) })
    }
}

/// The section of the configuration that a component lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// `receivers`
    Receiver,
    /// `processors`
    Processor,
    /// `exporters`
    Exporter,
    /// `extensions`
    Extension,
}

impl Class {
    /// As the files name the section.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Receiver => "receivers",
            Self::Processor => "processors",
            Self::Exporter => "exporters",
            Self::Extension => "extensions",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plural().trim_end_matches('s'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_type_and_perhaps_a_name() {
        for (text, kind, name) in [
            ("otlp", "otlp", None),
            ("otlp/basicauth", "otlp", Some("basicauth")),
            ("otlp / a b", "otlp", Some("a b")),
            ("otlp/a/b", "otlp", Some("a/b")),
        ] {
            let id: Id = text.parse().expect(text);
            assert_eq!((id.kind(), id.name()), (kind, name));
        }
        for bad in ["", "/x", "otlp/", "1otlp", "ot-lp", "ot lp", "otlp/\n"] {
            assert!(bad.parse::<Id>().is_err(), "{bad}");
        }
        assert!("x".repeat(64).parse::<Id>().is_err());
    }
}
