//! Units as words (Prometheus) and as UCUM has them (OpenTelemetry).

/// Word, abbreviation.
const UNITS: [(&str, &str); 29] = [
    ("days", "d"),
    ("hours", "h"),
    ("minutes", "min"),
    ("seconds", "s"),
    ("milliseconds", "ms"),
    ("microseconds", "us"),
    ("nanoseconds", "ns"),
    ("bytes", "By"),
    ("kibibytes", "KiBy"),
    ("mebibytes", "MiBy"),
    ("gibibytes", "GiBy"),
    ("tibibytes", "TiBy"),
    ("kilobytes", "KBy"),
    ("megabytes", "MBy"),
    ("gigabytes", "GBy"),
    ("terabytes", "TBy"),
    ("meters", "m"),
    ("volts", "V"),
    ("amperes", "A"),
    ("joules", "J"),
    ("watts", "W"),
    ("grams", "g"),
    ("celsius", "Cel"),
    ("hertz", "Hz"),
    ("percent", "%"),
    ("kilograms", "kg"),
    ("kelvin", "K"),
    ("kilometers", "km"),
    ("weeks", "wk"),
];

/// What stands behind "per": word in the singular, abbreviation.
const PER: [(&str, &str); 7] = [
    ("second", "s"),
    ("minute", "min"),
    ("hour", "h"),
    ("day", "d"),
    ("week", "wk"),
    ("month", "mo"),
    ("year", "y"),
];

/// `seconds` is `s`, `bytes_per_second` is `By/s`, `ratio` is `1`; what is not known stays as it is.
pub(crate) fn abbreviated(unit: &str) -> String {
    if unit == "ratio" {
        return "1".into();
    }
    let find = |word: &str, table: &[(&str, &str)]| {
        table.iter().find(|(known, _)| *known == word).map(|(_, short)| (*short).to_owned())
    };
    let main = |word: &str| find(word, &UNITS).unwrap_or_else(|| word.to_owned());
    match unit.split_once("_per_") {
        Some((above, below)) => {
            format!("{}/{}", main(above), find(below, &PER).unwrap_or_else(|| main(below)))
        }
        None => main(unit),
    }
}

/// The reverse: `ms` is `milliseconds`, `By/s` is `bytes_per_second`; what stands in braces is left out. What is not known stays as it is.
pub(crate) fn words(unit: &str) -> String {
    if unit == "1" {
        return "ratio".into();
    }
    let find = |short: &str, table: &[(&str, &str)]| {
        table.iter().find(|(_, known)| *known == short).map(|(word, _)| (*word).to_owned())
    };
    let plain = |text: &str| if text.contains(['{', '}']) { String::new() } else { text.trim().to_owned() };
    let main = |short: &str| match short {
        "" | "1" => String::new(),
        _ => find(short, &UNITS).unwrap_or_else(|| short.to_owned()),
    };
    let (above, below) = unit.split_once('/').unwrap_or((unit, ""));
    let (above, below) = (main(&plain(above)), plain(below));
    let below = find(&below, &PER).unwrap_or_else(|| main(&below));
    match (above.is_empty(), below.is_empty()) {
        (_, true) => above,
        (true, false) => format!("per_{below}"),
        (false, false) => format!("{above}_per_{below}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (word, short) in [
            ("seconds", "s"),
            ("milliseconds", "ms"),
            ("bytes", "By"),
            ("bytes_per_second", "By/s"),
            ("meters_per_hour", "m/h"),
            ("ratio", "1"),
            ("celsius", "Cel"),
            ("furlongs", "furlongs"),
            ("", ""),
        ] {
            assert_eq!(abbreviated(word), short, "{word}");
            assert_eq!(words(short), word, "{short}");
        }
    }

    #[test]
    fn counts_of_things_have_no_unit() {
        assert_eq!(words("{packet}"), "");
        assert_eq!(words("{packet}/s"), "per_second");
        assert_eq!(words("By/{packet}"), "bytes");
    }
}
