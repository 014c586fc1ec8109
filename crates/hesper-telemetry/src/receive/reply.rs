//! Answers in bytes.

use super::body::Answer;
use flate2::{Compression, write::GzEncoder};
use hesper_otlp::{Encoding, PartialSuccess, Refusal, Signal, retry};
use http::{HeaderValue, Response, StatusCode, header};
use std::io::Write;

/// Longest text of a refusal, bytes. It travels in a header over gRPC, where peers allow a few thousand in all.
const MAX_TEXT: usize = 1024;
/// Shorter answers do not become shorter by gzip.
const WORTH_GZIP: usize = 1024;

/// The message that answers a request that was taken.
pub(crate) fn message(
    partial: &PartialSuccess,
    signal: Signal,
    encoding: Encoding,
    limit: usize,
) -> Result<Vec<u8>, Refusal> {
    let partial = Some(partial).filter(|partial| **partial != PartialSuccess::default());
    PartialSuccess::encode(partial, signal, encoding, limit)
        .map_err(|error| Refusal::Internal(error.to_string()))
}

/// A success over HTTP.
pub(crate) fn success(message: Vec<u8>, encoding: Encoding, gzip: bool) -> Response<Answer> {
    body(StatusCode::OK, message, encoding, gzip)
}

/// A refusal over HTTP: the google.rpc.Status, in the encoding of the request.
pub(crate) fn refusal(refusal: &Refusal, encoding: Encoding, gzip: bool) -> Response<Answer> {
    let refusal = clip(refusal.clone());
    let status = StatusCode::from_u16(refusal.http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = body(status, refusal.status().to_bytes(encoding), encoding, gzip);
    let headers = response.headers_mut();
    match &refusal {
        Refusal::Method(_) => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
        // RFC 9110 §15.5.2: a 401 says how to do better. Which scheme it is, its text says.
        Refusal::Unauthenticated(_) => {
            drop(
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"otlp\", Bearer"),
                ),
            );
        }
        Refusal::Compression(_) => {
            drop(headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity")));
        }
        _ => {}
    }
    if let Some(Ok(after)) =
        refusal.after().map(|after| HeaderValue::try_from(retry::write_retry_after(after)))
    {
        headers.insert(header::RETRY_AFTER, after);
    }
    response
}

/// A refusal whose text is not too long.
pub(crate) fn clip(mut refusal: Refusal) -> Refusal {
    let text = match &mut refusal {
        Refusal::TooLarge { .. } => return refusal,
        Refusal::Quota { reason, .. } | Refusal::Overloaded { reason, .. } => reason,
        Refusal::Malformed(text)
        | Refusal::MediaType(text)
        | Refusal::Compression(text)
        | Refusal::Method(text)
        | Refusal::NotServed(text)
        | Refusal::Unauthenticated(text)
        | Refusal::Denied(text)
        | Refusal::NotConfigured(text)
        | Refusal::Internal(text) => text,
    };
    if text.len() > MAX_TEXT {
        let mut end = MAX_TEXT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    refusal
}

fn body(status: StatusCode, message: Vec<u8>, encoding: Encoding, gzip: bool) -> Response<Answer> {
    let packed = if gzip && message.len() >= WORTH_GZIP { pack(&message) } else { None };
    let zipped = packed.is_some();
    let mut response = Response::new(Answer::of(packed.unwrap_or(message)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()));
    if zipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn pack(message: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).and_then(|()| encoder.finish()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let Refusal::Denied(text) = clip(Refusal::Denied("é".repeat(2000))) else {
            panic!("another refusal")
        };
        assert_eq!(text, format!("{}…", "é".repeat(512)));
        assert_eq!(clip(Refusal::Denied("short".into())), Refusal::Denied("short".into()));
        assert_eq!(clip(Refusal::TooLarge { limit: 3 }), Refusal::TooLarge { limit: 3 });
    }
}
