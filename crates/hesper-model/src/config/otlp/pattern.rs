//! Patterns for `service.name`: `*` stands for any characters, also none; everything else for itself.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Longest pattern, bytes.
const PATTERN_MAX: usize = 128;

/// A pattern such as `shop.*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceNamePattern(String);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern for service.name is 1 to {PATTERN_MAX} bytes without control characters, such as shop.*")]
pub struct InvalidPattern;

impl ServiceNamePattern {
    /// Does it fit the whole name? Costs at most the product of both lengths.
    pub fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        let Some(mut rest) = rest.strip_suffix(last) else { return false };
        // Whatever fits at all fits with each part at its first place.
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }
}

impl FromStr for ServiceNamePattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let good = (1..=PATTERN_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidPattern) }
    }
}

impl TryFrom<String> for ServiceNamePattern {
    type Error = InvalidPattern;
    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<ServiceNamePattern> for String {
    fn from(pattern: ServiceNamePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for ServiceNamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, name: &str) -> bool {
        pattern.parse::<ServiceNamePattern>().expect("a pattern").fits(name)
    }

    #[test]
    fn fit_table() {
        for (pattern, name, expected) in [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("shop", "Shop", false),
            ("shop.*", "shop.cart", true),
            ("shop.*", "shop.", true),
            ("shop.*", "shop", false),
            ("shop.*", "workshop.cart", false),
            ("*.cart", "shop.cart", true),
            ("*.cart", "shop.cart.db", false),
            ("*", "", true),
            ("**", "x", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*bc*c", "abc", false),
            ("shop.?[x]", "shop.?[x]", true),
            ("shop.?", "shop.x", false),
            ("ä*ß", "ä…ß", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for text in ["", "a\nb", &"x".repeat(PATTERN_MAX + 1)] {
            assert_eq!(text.parse::<ServiceNamePattern>(), Err(InvalidPattern), "{text:?}");
        }
        assert!("x".repeat(PATTERN_MAX).parse::<ServiceNamePattern>().is_ok());
    }

    /// By the definition: the first character of the pattern decides.
    fn slowly(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|n| slowly(rest, &name[n..])),
            Some((c, rest)) => name.first() == Some(c) && slowly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_fits_what_the_definition_says(pattern in "[ab*é]{1,8}", name in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &name), slowly(&chars(&pattern), &chars(&name)));
        }
    }
}
