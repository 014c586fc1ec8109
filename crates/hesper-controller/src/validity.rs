//! How long certificates, grants and sessions are valid: durations as people write them (`90s`, `1h30m`, `7d`), within bounds.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A duration as people write it: `30s`, `5m`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// Text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write numbers with the units d, h, m, s, such as 7d, 1h30m or 90s")]
pub struct InvalidSpan(String);

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        let invalid = || InvalidSpan(text.to_owned());
        let (mut total, mut digits, mut units) = (0u64, String::new(), UNITS.iter());
        for c in text.chars() {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            // Each unit once, the largest first.
            let (_, seconds) = units.find(|(unit, _)| *unit == c).ok_or_else(invalid)?;
            let count: u64 = digits.parse().map_err(|_| invalid())?;
            let more = count.checked_mul(*seconds).ok_or_else(invalid)?;
            total = total.checked_add(more).ok_or_else(invalid)?;
            digits.clear();
        }
        if text.is_empty() || !digits.is_empty() {
            Err(invalid())
        } else {
            Ok(Self(Duration::from_secs(total)))
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.as_secs();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, seconds) in UNITS {
            if left >= seconds {
                write!(f, "{}{unit}", left / seconds)?;
                left %= seconds;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Span {
    type Error = InvalidSpan;
    fn try_from(text: String) -> Result<Self, InvalidSpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

/// How long things are valid, where it differs from the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validities {
    /// Certificates of nodes, routers and of the controller itself: `5s` to `365d`, by default `7d`. They are renewed at half of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_validity: Option<Span>,
    /// Grants and passes: `5s` to `10m`, by default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_validity: Option<Span>,
    /// Session tokens: `30m` to `30d`, by default `1d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_validity: Option<Span>,
}

/// A validity beyond its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {given}: it must be from {least} to {most} ({what})")]
pub struct OutOfBounds {
    name: &'static str,
    given: Span,
    least: Span,
    most: Span,
    what: &'static str,
}

impl Validities {
    /// These where they say something, else `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            leaf_validity: self.leaf_validity.or(others.leaf_validity),
            grant_validity: self.grant_validity.or(others.grant_validity),
            session_validity: self.session_validity.or(others.session_validity),
        }
    }

    /// Whether each is within its bounds.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let bounds = [
            (
                "leafValidity",
                self.leaf_validity,
                (5, 365 * 86_400),
                "certificates are renewed at half of it, which takes a moment",
            ),
            ("grantValidity", self.grant_validity, (5, 600), "what a policy denies ends by it at the latest"),
            (
                "sessionValidity",
                self.session_validity,
                (1_800, 30 * 86_400),
                "it bounds an outage of the controller",
            ),
        ];
        for (name, given, (least, most), what) in bounds {
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            if let Some(given) = given.filter(|given| given.0 < least || given.0 > most) {
                return Err(OutOfBounds { name, given, least: Span(least), most: Span(most), what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_written_as_people_write_them() {
        for (text, seconds) in [("7d", 604_800), ("1h30m", 5_400), ("90s", 90), ("0s", 0), ("1d1s", 86_401)] {
            assert_eq!(text.parse::<Span>().expect(text).0.as_secs(), seconds);
        }
        for bad in ["", "7", "d", "1m1h", "1s1s", "-1s", "1 s", "1.5h", "99999999999999999999d", "1w"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_told() {
        let with = |text: &str| Validities { leaf_validity: text.parse().ok(), ..Default::default() };
        assert!(with("6s").check().is_ok() && with("365d").check().is_ok());
        let error = with("4s").check().expect_err("too short").to_string();
        assert!(error.starts_with("leafValidity is 4s: it must be from 5s to 365d"), "{error}");
        assert_eq!(with("6s").or(with("7s")), with("6s"));
        assert_eq!(Validities::default().or(with("7s")), with("7s"));
        assert!(serde_json::from_str::<Validities>(r#"{"leafValidity":"soon"}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(seconds in 0u64..100_000_000) {
            let span = Span(Duration::from_secs(seconds));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
    }
}
