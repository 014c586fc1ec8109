//! Durations and sizes as the Collector and Prometheus write them.

use std::time::Duration;

/// Longest duration that is told apart from longer ones: 1,000 years.
const LONGEST: f64 = 1_000.0 * 365.25 * 86_400.0;

const GO: &[(&str, f64)] = &[
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
];
/// Longest unit first, as they must be written.
const PROMETHEUS: &[(&str, u64)] = &[
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];
const BINARY: &[(&str, u32)] = &[("E", 60), ("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];

/// A duration as Go reads it (`time.ParseDuration`): `5s`, `1m30s`, `1.5h`, `250ms`, `0`. Not negative here; saturates at
/// 1,000 years.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    let mut parts = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, factor) = GO.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds += number * factor;
        parts += 1;
    }
    // Nanoseconds, so that 200ms is exactly that.
    let nanos = (seconds.min(LONGEST) * 1e9).round();
    (parts > 0).then(|| Duration::from_secs_f64(seconds.min(LONGEST))).map(|d| match nanos < 1e15 {
        true => Duration::from_nanos(nanos as u64),
        false => d,
    })
}

/// A duration as Prometheus reads it: whole numbers with the units y, w, d, h, m, s, ms, each once and in that order; `0`.
pub(crate) fn prometheus_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut millis, mut units) = (text, 0u64, PROMETHEUS);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let word = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        let i = units.iter().position(|(unit, _)| *unit == word)?;
        millis = millis.checked_add(number.checked_mul(units[i].1)?)?;
        rest = &rest[word.len()..];
        units = &units[i + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

/// A size in bytes as Prometheus reads it: `10MB`, `512KiB`, `100`; every unit is a power of 1024 there.
pub(crate) fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let unit = &text[end..];
    let shift = match unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')) {
        None if unit.is_empty() => 0,
        Some("") if !unit.contains('i') => 0,
        Some(prefix) => BINARY.iter().find(|(name, _)| *name == prefix)?.1,
        None => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_go() {
        for (text, millis) in [
            ("5s", 5000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("200ms", 200),
            ("0", 0),
            ("0s", 0),
            ("+1s", 1000),
            (".5s", 500),
        ] {
            assert_eq!(go_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(go_duration("1500ns"), Some(Duration::from_nanos(1500)));
        assert_eq!(go_duration("2µs"), Some(Duration::from_micros(2)));
        for bad in ["", "5", "-5s", "s", "5 s", "1d", "5sx", "1..5s", "+"] {
            assert_eq!(go_duration(bad), None, "{bad}");
        }
        assert!(go_duration("99999999999999999999h").is_some());
    }

    #[test]
    fn durations_of_prometheus() {
        for (text, seconds) in
            [("15s", 15), ("1h30m", 5400), ("1d", 86_400), ("1w", 604_800), ("1y", 31_536_000), ("0", 0)]
        {
            assert_eq!(prometheus_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(prometheus_duration("1s5ms"), Some(Duration::from_millis(1005)));
        for bad in ["", "5", "1.5h", "30m1h", "1h1h", "h", "-1s", "99999999999999999999y", "9999999999999y"] {
            assert_eq!(prometheus_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("100", 100), ("1B", 1), ("10MB", 10 << 20), ("512KiB", 512 << 10), ("1GB", 1 << 30)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "MB", "1.5MB", "1iB", "1X", "1 MB", "99999999EB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
