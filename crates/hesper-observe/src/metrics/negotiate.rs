//! Which of the two texts a reader gets, by its `Accept` header (RFC 9110, 12.5.1; Prometheus' content negotiation).

/// The texts that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text 0.0.4: for readers that say nothing, or nothing that we have.
    Classic,
}

/// The format that the reader likes best; of two that it likes equally, the newer.
pub(super) fn format(accept: Option<&str>) -> Format {
    let liking = |format| {
        let kinds = accept.unwrap_or_default().split(',');
        // The most particular range that fits is the one that counts.
        let fits = kinds.filter_map(|kind| fit(kind, format));
        fits.max_by_key(|(particular, weight)| (*particular, *weight)).map_or(0, |(_, weight)| weight)
    };
    // A wildcard asks for no format of its own: curl must be able to show it.
    let named = fitting(accept, Format::OpenMetrics);
    if named && liking(Format::OpenMetrics) > 0 && liking(Format::OpenMetrics) >= liking(Format::Classic) {
        Format::OpenMetrics
    } else {
        Format::Classic
    }
}

/// Is the format named, and not only meant by a wildcard?
fn fitting(accept: Option<&str>, format: Format) -> bool {
    accept.unwrap_or_default().split(',').any(|kind| matches!(fit(kind, format), Some((2, _))))
}

/// How particularly a media range names a format (2 by its name, 1 by its type, 0 by `*/*`), and its weight in thousandths.
fn fit(range: &str, format: Format) -> Option<(u8, u16)> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let (mut weight, mut version) = (1000, None);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = thousandths(value),
            "version" => version = Some(value),
            // `escaping` and `charset`: our names need no escaping, our text is ASCII.
            _ => {}
        }
    }
    let (name, wide, own) = match format {
        Format::OpenMetrics => ("application/openmetrics-text", "application/*", "1.0.0"),
        Format::Classic => ("text/plain", "text/*", "0.0.4"),
    };
    let is_own = version.is_none_or(|version| version == own);
    match kind {
        kind if kind == name && is_own => Some((2, weight)),
        kind if kind == wide => Some((1, weight)),
        kind if kind == "*/*" => Some((0, weight)),
        _ => None,
    }
}

/// `0.25` as 250. What is no weight counts as refused.
fn thousandths(text: &str) -> u16 {
    let weight = text.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0);
    // In 0..=1000.
    (weight * 1000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_what_it_likes_best() {
        let prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus2 = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
            application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let only_classic =
            "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2";
        for (accept, format_) in [
            (Some(prometheus2), Format::OpenMetrics),
            (Some(prometheus3), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=1"), Format::OpenMetrics),
            (Some(only_classic), Format::Classic),
            (Some("application/openmetrics-text;version=2.0.0,text/plain;q=0.1"), Format::Classic),
            (Some("application/openmetrics-text;q=0"), Format::Classic),
            (Some("application/openmetrics-text;q=much"), Format::Classic),
            (Some("application/json"), Format::Classic),
            (Some("*/*"), Format::Classic),
            (Some("application/*"), Format::Classic),
            (Some(",;=;,q"), Format::Classic),
            (None, Format::Classic),
        ] {
            assert_eq!(format(accept), format_, "{accept:?}");
        }
    }
}
