//! What the answer of a receiver means: pure. (<https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>, "Response".)

use hesper_collector_config::exporters::RemoteWriteVersion;
use hesper_otlp::retry::read_retry_after;
use hesper_prometheus::write::Request;
use http::response::Parts;
use std::time::{Duration, SystemTime};

/// Most characters of a receiver's text that are passed on.
const TEXT: usize = 500;

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it was written.
    Taken,
    /// Some of it, or all, was not, and never will be.
    Lost { reason: String },
    /// The receiver does not know this version: nothing was written.
    Unknown { reason: String },
    /// It may be written later.
    Again { reason: String, after: Option<Duration> },
}

pub(super) fn verdict(
    to: &str,
    head: &Parts,
    text: &[u8],
    piece: &Request,
    version: RemoteWriteVersion,
    now: SystemTime,
) -> Verdict {
    let status = head.status;
    let text = String::from_utf8_lossy(text);
    let said: String = text.trim().chars().take(TEXT).flat_map(char::escape_debug).collect();
    let said = if said.is_empty() { said } else { format!(": {said}") };
    let reason = format!("{to} answered {status}{said}");
    match status.as_u16() {
        200..300 if version == RemoteWriteVersion::V2 => written(to, head, piece),
        200..300 => Verdict::Taken,
        415 => Verdict::Unknown { reason },
        429 | 500..600 => {
            let after = head.headers.get("retry-after").and_then(|value| value.to_str().ok());
            Verdict::Again { reason, after: after.and_then(|text| read_retry_after(text, now)) }
        }
        _ => Verdict::Lost { reason },
    }
}

/// A receiver of 2.0 says how much it wrote. One that says nothing took the request for one of 1.0, in which it is empty.
fn written(to: &str, head: &Parts, piece: &Request) -> Verdict {
    let told = |what: &str| {
        let name = format!("x-prometheus-remote-write-{what}-written");
        head.headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok())
    };
    let wanted =
        [("samples", piece.samples), ("histograms", piece.histograms), ("exemplars", piece.exemplars)];
    let written = wanted.map(|(what, _)| told(what));
    if written.iter().all(Option::is_none) {
        let reason = format!(
            "{to} took the request, but says not that it wrote it: it does not know remote write 2.0"
        );
        return Verdict::Unknown { reason };
    }
    // Exemplars are extras that receivers need not keep.
    for ((what, sent), written) in wanted.into_iter().zip(written).take(2) {
        let written = written.unwrap_or(0);
        if written < sent {
            return Verdict::Lost { reason: format!("{to} wrote only {written} of {sent} {what}") };
        }
    }
    Verdict::Taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    fn of(status: u16, headers: &[(&str, &str)], version: RemoteWriteVersion) -> Verdict {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let (head, ()) = response.body(()).expect("a response").into_parts();
        let piece = Request { samples: 2, histograms: 1, ..Request::default() };
        verdict("x", &head, b" out of order\n", &piece, version, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn statuses() {
        let v1 = |status| of(status, &[], RemoteWriteVersion::V1);
        assert_eq!([200, 204, 299].map(v1), [Verdict::Taken, Verdict::Taken, Verdict::Taken]);
        for status in [400, 401, 404, 409, 413, 301] {
            let Verdict::Lost { reason } = v1(status) else { panic!("{status}") };
            assert!(reason.contains(": out of order"), "{reason}");
        }
        for status in [429, 500, 503, 599] {
            assert!(matches!(v1(status), Verdict::Again { after: None, .. }), "{status}");
        }
        assert!(matches!(v1(415), Verdict::Unknown { .. }));
        let wait = of(503, &[("Retry-After", "7")], RemoteWriteVersion::V1);
        assert!(matches!(wait, Verdict::Again { after: Some(after), .. } if after.as_secs() == 7));
    }

    #[test]
    fn the_second_version_says_what_it_wrote() {
        let v2 = |headers: &[(&str, &str)]| of(204, headers, RemoteWriteVersion::V2);
        const SAMPLES: &str = "X-Prometheus-Remote-Write-Samples-Written";
        const HISTOGRAMS: &str = "X-Prometheus-Remote-Write-Histograms-Written";
        assert_eq!(v2(&[(SAMPLES, "2"), (HISTOGRAMS, "1")]), Verdict::Taken);
        assert!(matches!(v2(&[]), Verdict::Unknown { .. }));
        for headers in [&[(SAMPLES, "2")][..], &[(SAMPLES, "1"), (HISTOGRAMS, "1")]] {
            assert!(matches!(v2(headers), Verdict::Lost { .. }), "{headers:?}");
        }
    }
}
