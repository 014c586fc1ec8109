//! Header fields that are for one hop only, and the scraper's deadline. (RFC 9110 §7.6.1, RFC 9112 §3.2, §6)

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use std::time::Duration;

/// How long before the scraper's own deadline we answer, so that our answer is the one that counts.
const MARGIN: Duration = Duration::from_millis(500);
/// Longest deadline a scraper can set.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Fields that concern one connection, besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what is for one hop only, and says in `Via` that we were here.
pub(super) fn pass_on(headers: &mut HeaderMap, version: Version) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    let via = if version == Version::HTTP_10 { "1.0 hesper" } else { "1.1 hesper" };
    headers.append(header::VIA, HeaderValue::from_static(via));
}

/// How long the scraper waits, less a margin; none when it did not say, or not in seconds.
/// (`X-Prometheus-Scrape-Timeout-Seconds`, as Prometheus sends it with each scrape)
pub(super) fn scrape_timeout(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 =
        headers.get("x-prometheus-scrape-timeout-seconds")?.to_str().ok()?.trim().parse().ok()?;
    if seconds.is_nan() || seconds <= 0.0 {
        return None;
    }
    let timeout = Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()));
    // A scraper in a great hurry keeps nine tenths of its time.
    Some(timeout.saturating_sub(MARGIN.min(timeout / 10)))
}

/// Why the framing or the host of a request is not one thing. hyper has already refused contradictory lengths, and codings that do
/// not end in `chunked`.
pub(super) fn ambiguity(headers: &HeaderMap) -> Option<&'static str> {
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Some("more than one Host field");
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Some("more than one Content-Length field");
    }
    if headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH) {
        return Some("both Transfer-Encoding and Content-Length");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = list.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(k, v)| {
            headers.append(k, v);
        });
        headers
    }

    #[test]
    fn one_hop_fields_go_and_the_rest_stays() {
        let mut map = headers(&[
            ("connection", "close, X-Mine"),
            ("connection", "keep-alive"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("authorization", "Bearer x"),
            ("via", "1.0 other"),
        ]);
        pass_on(&mut map, Version::HTTP_11);
        let mut left: Vec<_> =
            map.iter().map(|(k, v)| format!("{k}: {}", v.to_str().expect("text"))).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "authorization: Bearer x",
                "content-encoding: gzip",
                "content-type: text/plain",
                "via: 1.0 other",
                "via: 1.1 hesper"
            ]
        );
    }

    #[test]
    fn the_scrapers_deadline_less_a_margin() {
        let of = |value| scrape_timeout(&headers(&[("x-prometheus-scrape-timeout-seconds", value)]));
        assert_eq!(of("10"), Some(Duration::from_millis(9_500)));
        assert_eq!(of("1.000000"), Some(Duration::from_millis(900)));
        assert_eq!(of("1e300"), Some(LONGEST - MARGIN));
        for none in ["", "x", "-1", "0", "NaN", "-inf"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(scrape_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn ambiguous_heads_are_named() {
        assert_eq!(ambiguity(&headers(&[("host", "a"), ("content-length", "1")])), None);
        assert!(ambiguity(&headers(&[("host", "a"), ("host", "a")])).is_some());
        assert!(ambiguity(&headers(&[("content-length", "1"), ("content-length", "1")])).is_some());
        assert!(ambiguity(&headers(&[("content-length", "1"), ("transfer-encoding", "chunked")])).is_some());
    }
}
