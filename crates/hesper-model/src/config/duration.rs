//! Durations as Go writes them: `5s`, `1m30s`, `1.5h`, `250ms`.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::time::Duration;

/// Longest duration that is told apart from longer ones: 1,000 years.
const MAX_SECONDS: f64 = 1_000.0 * 365.25 * 86_400.0;

/// Reads one or more numbers, each with its unit (`h`, `m`, `s`, `ms`). Saturates at 1,000 years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() || rest.len() == text.len() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..digits];
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') {
            return None;
        }
        let value: f64 = number.parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 0.001), ("h", 3_600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds += value * factor;
    }
    Duration::try_from_secs_f64(seconds.min(MAX_SECONDS)).ok()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    parse(&text).ok_or_else(|| D::Error::custom(format!("'{text}' is not a duration such as 5s or 1m30s")))
}

pub(super) fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
    if duration.subsec_nanos() == 0 {
        s.collect_str(&format_args!("{}s", duration.as_secs()))
    } else {
        s.collect_str(&format_args!("{}ms", duration.as_secs_f64() * 1_000.0))
    }
}

/// The same for `Option<Duration>`; use with `default` and `skip_serializing_if`.
pub(super) mod option {
    use super::{Deserializer, Duration, Serializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(d).map(Some)
    }

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, s),
            None => s.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (text, milliseconds) in
            [("5s", 5_000), ("250ms", 250), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "5 s", "-5s", "5d", "1..5s", ".5s", "5.s", "5sx"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert!(parse("99999999999999999999999h").is_some(), "saturates");
    }
}
