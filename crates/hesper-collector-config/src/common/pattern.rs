//! Regular expressions in a configuration: checked when it is read.

use crate::section::{Scalar, Section};
use regex::{Regex, RegexBuilder};
use std::fmt;

/// Largest compiled expression, in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// A regular expression that compiles. The syntax is RE2's, as in Go; two are equal when their text is.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let regex = RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        regex.map(Self).map_err(|e| e.to_string().lines().last().unwrap_or_default().to_owned())
    }

    /// The expression.
    pub const fn regex(&self) -> &Regex {
        &self.0
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.0.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Reads an expression.
pub(crate) fn pattern(s: &Section<'_>, scalar: Scalar<'_>) -> Option<Pattern> {
    anchored(s, scalar, "", "")
}

/// Reads an expression between two pieces of one.
pub(crate) fn anchored(s: &Section<'_>, scalar: Scalar<'_>, before: &str, after: &str) -> Option<Pattern> {
    match Pattern::new(&format!("{before}{}{after}", scalar.text.text)) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let reason = format!("{} in {} is no regular expression: {error}", scalar.text.shown(), s.what);
            s.fault(scalar.place, reason, "the syntax is RE2's: https://github.com/google/re2/wiki/Syntax");
            None
        }
    }
}
