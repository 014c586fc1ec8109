//! What answers over HTTP mean.

use crate::export::{
    Failure,
    otlp::{
        answer::{Answer, named_limit, shown},
        frame::{Unreadable, gunzip, taken, too_long, warned},
    },
};
use hesper_otlp::{
    Encoding, Signal,
    limits::RESPONSE_LEN,
    retry::{Retry, after_http},
    status::Status,
};
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::time::SystemTime;

/// Reads an answer to its end. `sent`: bytes of the request before compression.
pub(crate) async fn read(response: Response<Incoming>, signal: Signal, sent: usize, to: &str) -> Answer {
    let (parts, body) = response.into_parts();
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let body = match whole(body, text(header::CONTENT_ENCODING)).await {
        Ok(body) => body,
        Err(Unreadable::TooLong) => return too_long(to),
        Err(Unreadable::Broken(reason)) if parts.status.is_success() => {
            return Answer::again(format!("{to} gave no answer: {reason}"));
        }
        Err(Unreadable::Broken(_)) => Vec::new(),
    };
    let encoding = text(header::CONTENT_TYPE).and_then(Encoding::of_content_type);
    if parts.status.is_success() {
        return match encoding {
            Some(encoding) => taken(signal, encoding, &body, to),
            None if body.is_empty() => taken(signal, Encoding::Protobuf, b"", to),
            None => warned(to, "its answer is no OTLP; does the URL belong to an OTLP receiver?"),
        };
    }
    failed(parts.status, &parts.headers, encoding, &body, sent, to)
}

fn failed(
    status: StatusCode,
    headers: &HeaderMap,
    encoding: Option<Encoding>,
    body: &[u8],
    sent: usize,
    to: &str,
) -> Answer {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let message = message(encoding, text(header::CONTENT_TYPE), body);
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    let http = status.as_u16();
    let reason = format!("{to} answered HTTP {http}{said}");
    if status.is_redirection() {
        let there = shown(text(header::LOCATION).unwrap_or("elsewhere"));
        return Answer::never(format!("{to} answered HTTP {http}: it is at {there}; write that URL"));
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Answer::TooLarge { limit: named_limit(&message, sent), reason };
    }
    Answer::Failed(match after_http(http, text(header::RETRY_AFTER), SystemTime::now()) {
        Retry::Again { after } => Failure::Again { reason, after },
        Retry::Never => Failure::Never { reason },
    })
}

/// What a body of a failure says: a status, or a short text. Its code means nothing.
fn message(encoding: Option<Encoding>, content_type: Option<&str>, body: &[u8]) -> String {
    let status = encoding.and_then(|encoding| Status::from_bytes(encoding, body));
    match status {
        Some(status) => shown(&status.message),
        None if content_type.is_some_and(|t| t.starts_with("text/plain")) => {
            shown(&String::from_utf8_lossy(body))
        }
        None => String::new(),
    }
}

/// The body, decompressed, within its bound.
async fn whole(body: Incoming, encoding: Option<&str>) -> Result<Vec<u8>, Unreadable> {
    let body = Limited::new(body, RESPONSE_LEN).collect().await.map_err(|error| {
        match error.is::<LengthLimitError>() {
            true => Unreadable::TooLong,
            false => Unreadable::Broken(crate::export::otlp::chain(&*error)),
        }
    })?;
    let bytes = body.to_bytes();
    match encoding {
        None | Some("" | "identity") => Ok(bytes.to_vec()),
        Some(gzip) if gzip.eq_ignore_ascii_case("gzip") => gunzip(&bytes),
        Some(other) => {
            Err(Unreadable::Broken(format!("it is compressed as {}, which was not asked for", shown(other))))
        }
    }
}
