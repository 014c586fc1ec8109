//! Names of metrics and labels as remote write has them, from those of OTLP.

use crate::{text::Kind, units};

/// Makes a metric's name: the namespace before it; where wanted its unit and `_total` behind it. A name that is one in Prometheus stays
/// as it is otherwise, so that what was scraped is written under the name that it had.
pub(super) fn metric(name: &str, namespace: &str, unit: &str, kind: Kind, add_suffixes: bool) -> String {
    let mut clean = sanitized(name, true);
    if !namespace.is_empty() {
        clean = format!("{}_{clean}", sanitized(namespace, true));
    }
    if add_suffixes {
        clean = suffixed(&clean, unit, kind);
    }
    if clean.is_empty() || clean.starts_with(|c: char| c.is_ascii_digit()) {
        clean.insert(0, '_');
    }
    clean
}

fn suffixed(name: &str, unit: &str, kind: Kind) -> String {
    let mut name = match kind {
        Kind::Counter => name.strip_suffix("_total").unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    };
    // A ratio is a gauge; what is counted has no unit.
    let is_no_ratio = unit == "1" && kind != Kind::Gauge;
    let words = if is_no_ratio { String::new() } else { sanitized(&units::words(unit), false) };
    let (above, below) = match words.split_once("per_") {
        Some((above, below)) => (above.trim_end_matches('_'), format!("per_{below}")),
        None => (words.as_str(), String::new()),
    };
    for part in [above, &below] {
        if !part.is_empty() && !has(&name, part) {
            name = format!("{name}_{part}");
        }
    }
    match kind {
        Kind::Counter => format!("{name}_total"),
        _ => name,
    }
}

/// Is the unit one of the words of a name?
fn has(name: &str, unit: &str) -> bool {
    name == unit
        || name.ends_with(&format!("_{unit}"))
        || name.starts_with(&format!("{unit}_"))
        || name.contains(&format!("_{unit}_"))
}

/// Makes a label's name.
pub(super) fn label(name: &str) -> String {
    let clean = sanitized(name, false);
    if clean.starts_with(|c: char| c.is_ascii_digit()) { format!("key_{clean}") } else { clean }
}

/// Puts one `_` for what no name may have. Names of metrics may have colons.
fn sanitized(name: &str, colon: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    let mut clean = String::with_capacity(name.len());
    let mut was_replaced = false;
    for c in name.chars() {
        if fits(c) {
            // `a._b` is `a_b`, while `a__b` stays what it is.
            if !(was_replaced && c == '_') {
                clean.push(c);
            }
            was_replaced = was_replaced && c == '_';
        } else if !clean.ends_with('_') {
            clean.push('_');
            was_replaced = true;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_metrics() {
        for (name, unit, kind, expected) in [
            ("http.server.duration", "ms", Kind::Histogram, "http_server_duration_milliseconds"),
            ("http.server.duration.milliseconds", "ms", Kind::Histogram, "http_server_duration_milliseconds"),
            ("requests", "{request}", Kind::Counter, "requests_total"),
            ("requests_total", "", Kind::Counter, "requests_total"),
            ("requests.total", "By", Kind::Counter, "requests_bytes_total"),
            ("cpu.use", "1", Kind::Gauge, "cpu_use_ratio"),
            ("cpu.count", "1", Kind::Counter, "cpu_count_total"),
            ("speed", "m/s", Kind::Gauge, "speed_meters_per_second"),
            ("speed", "{packet}/s", Kind::Gauge, "speed_per_second"),
            ("2xx", "", Kind::Gauge, "_2xx"),
            ("a__b:c", "", Kind::Gauge, "a__b:c"),
            ("a b  c", "foo bar", Kind::Gauge, "a_b_c_foo_bar"),
            ("seconds", "s", Kind::Gauge, "seconds"),
            ("", "", Kind::Gauge, "_"),
        ] {
            assert_eq!(metric(name, "", unit, kind, true), expected, "{name} {unit}");
        }
        assert_eq!(metric("a.b", "my.ns", "s", Kind::Counter, true), "my_ns_a_b_seconds_total");
        assert_eq!(metric("a.b", "", "s", Kind::Counter, false), "a_b");
    }

    #[test]
    fn names_of_labels() {
        for (name, expected) in [
            ("http.method", "http_method"),
            ("0x", "key_0x"),
            ("_private", "_private"),
            ("a:b", "a_b"),
            ("a__b", "a__b"),
            ("ümlaut", "_mlaut"),
        ] {
            assert_eq!(label(name), expected, "{name}");
        }
    }
}
