//! Which format an answer has, and what is asked for.

use hesper_collector_config::receivers::ScrapeProtocol;
use std::fmt::Write;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, 0.0.4 and 1.0.0 (which differ in what names may be, and names are taken as they come).
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// The format of a `Content-Type`; `None`: none that is read here.
    pub fn of(content_type: &str) -> Option<Self> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") {
            Some(Self::OpenMetrics)
        } else if media_type.eq_ignore_ascii_case("text/plain") {
            Some(Self::Text)
        } else {
            None
        }
    }
}

impl From<ScrapeProtocol> for Format {
    fn from(protocol: ScrapeProtocol) -> Self {
        match protocol {
            ScrapeProtocol::OpenMetricsText1_0_0 | ScrapeProtocol::OpenMetricsText0_0_1 => Self::OpenMetrics,
            ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::PrometheusText0_0_4 => Self::Text,
        }
    }
}

/// The header `Accept`, best first, anything at last.
pub fn accept(protocols: &[ScrapeProtocol]) -> String {
    let mut header = String::new();
    let mut weight = protocols.len() + 1;
    for protocol in protocols {
        let media_type = match protocol {
            ScrapeProtocol::OpenMetricsText1_0_0 => {
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
            }
            ScrapeProtocol::OpenMetricsText0_0_1 => "application/openmetrics-text;version=0.0.1",
            ScrapeProtocol::PrometheusText1_0_0 => "text/plain;version=1.0.0;escaping=allow-utf-8",
            ScrapeProtocol::PrometheusText0_0_4 => "text/plain;version=0.0.4",
        };
        // There are four protocols at most, so that the weight is one digit.
        let _ = write!(header, "{media_type};q=0.{weight},");
        weight -= 1;
    }
    let _ = write!(header, "*/*;q=0.{weight}");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (text, format) in [
            ("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
            ("TEXT/PLAIN", Some(Format::Text)),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Some(Format::OpenMetrics)),
            ("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily", None),
            ("text/html", None),
            ("", None),
        ] {
            assert_eq!(Format::of(text), format, "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_is_weighed() {
        use ScrapeProtocol as P;
        let both = accept(&[P::OpenMetricsText1_0_0, P::PrometheusText0_0_4]);
        assert_eq!(
            both,
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.3,\
             text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        );
    }
}
