//! May a failed request be sent again, and when? (OTLP specification, "Failures", "Retryable" and "OTLP/HTTP Throttling".)

use crate::status::{Code, Status};
use std::time::{Duration, SystemTime};

/// What a client does after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Drop the data and count it.
    Never,
    /// Send it again: not before `after` if the server named a time, else after the client's own backoff.
    Again {
        /// The server's wish.
        after: Option<Duration>,
    },
}

/// The rule of OTLP/gRPC. RESOURCE_EXHAUSTED may be sent again only if the server says that it can recover, by a RetryInfo.
pub fn after_grpc(status: &Status) -> Retry {
    let after = status.retry_delay();
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Retry::Again { after },
        Code::ResourceExhausted if after.is_some() => Retry::Again { after },
        _ => Retry::Never,
    }
}

/// The rule of OTLP/HTTP. `retry_after` is the header of that name, which is honoured with every status that may be retried.
pub fn after_http(status: u16, retry_after: Option<&str>, now: SystemTime) -> Retry {
    match status {
        429 | 502 | 503 | 504 => {
            Retry::Again { after: retry_after.and_then(|text| read_retry_after(text, now)) }
        }
        _ => Retry::Never,
    }
}

/// Reads a `Retry-After`: seconds or an HTTP date (RFC 9110 §10.2.3; the obsolete forms of dates too). A date in the
/// past is no wait; what cannot be read is `None`.
pub fn read_retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is a very long time all the same.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Writes a `Retry-After`: whole seconds, rounded up, so that nobody comes too early.
pub fn write_retry_after(delay: Duration) -> String {
    let partial = u64::from(delay.subsec_nanos() > 0);
    delay.as_secs().saturating_add(partial).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn check_36_http_statuses_that_may_be_retried() {
        let retried: Vec<u16> =
            (100..600).filter(|status| after_http(*status, None, NOW) != Retry::Never).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }

    #[test]
    fn check_37_grpc_codes_that_may_be_retried() {
        let again = |code: &Code| after_grpc(&Status::new(*code, "")) != Retry::Never;
        let retried: Vec<&str> =
            Code::ALL.iter().filter(|code| again(code)).map(|code| code.name()).collect();
        let expected =
            ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"];
        assert_eq!(retried, expected);
    }

    #[test]
    fn check_38_exhausted_is_retried_only_with_retry_info() {
        let status = Status::new(Code::ResourceExhausted, "");
        assert_eq!(after_grpc(&status), Retry::Never);
        let delay = Duration::from_secs(3);
        assert_eq!(after_grpc(&status.with_retry(delay)), Retry::Again { after: Some(delay) });
        let denied = Status::new(Code::PermissionDenied, "").with_retry(delay);
        assert_eq!(after_grpc(&denied), Retry::Never);
    }

    #[test]
    fn check_42_retry_after_in_both_forms() {
        let now = NOW + Duration::from_secs(784_111_777 - 30);
        let seconds = |text| read_retry_after(text, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:49:37 GMT"), Some(30));
        assert_eq!(seconds("Sun Nov  6 08:49:37 1994"), Some(30));
        assert_eq!(seconds("Sat, 05 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        for bad in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        let again = Retry::Again { after: Some(Duration::from_secs(7)) };
        assert_eq!(after_http(503, Some("7"), now), again);
        assert_eq!(after_http(500, Some("7"), now), Retry::Never);
    }

    #[test]
    fn retry_after_is_rounded_up() {
        assert_eq!(write_retry_after(Duration::from_millis(1)), "1");
        assert_eq!(write_retry_after(Duration::from_secs(2)), "2");
        assert_eq!(write_retry_after(Duration::ZERO), "0");
        assert_eq!(write_retry_after(Duration::MAX), u64::MAX.to_string());
    }
}
