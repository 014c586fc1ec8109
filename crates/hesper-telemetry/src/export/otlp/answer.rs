//! What a destination answered, and what follows of it for the batch: pure.

use crate::export::Failure;
use base64::{Engine, alphabet::STANDARD, engine::GeneralPurpose, engine::general_purpose::NO_PAD};
use hesper_otlp::{
    Encoding, PartialSuccess,
    retry::{self, Retry},
    status::{Code, Status},
};
use http::HeaderMap;

/// Most characters of a peer's text that are passed on.
const TEXT: usize = 500;

/// Base64 as gRPC writes it, and padded as some peers write it.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    NO_PAD.with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// The outcome of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was taken, perhaps not all of it.
    Taken(PartialSuccess),
    /// It has more bytes than the peer takes.
    TooLarge {
        /// The limit, if the peer named it.
        limit: Option<usize>,
        /// What the peer said.
        reason: String,
    },
    /// It was not taken, or nobody knows.
    Failed(Failure),
}

impl Answer {
    /// It may arrive later.
    pub(crate) fn again(reason: String) -> Self {
        Self::Failed(Failure::Again { reason, after: None })
    }

    /// It never will.
    pub(crate) fn never(reason: String) -> Self {
        Self::Failed(Failure::Never { reason })
    }
}

/// The status that headers or trailers of gRPC carry; none without a `grpc-status`.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<Status> {
    let text = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let code = text("grpc-status")?;
    let code = std::str::from_utf8(code).ok().and_then(|code| code.trim().parse().ok());
    let details = text("grpc-status-details-bin")
        .and_then(|details| BASE64.decode(details).ok())
        .and_then(|details| Status::from_bytes(Encoding::Protobuf, &details));
    let message = text("grpc-message").map(percent_decoded).unwrap_or_default();
    let details = details.map(|status| status.details).unwrap_or_default();
    Some(Status { code: code.unwrap_or(Code::Unknown as i32), message, details })
}

/// What a failed call means. `sent`: bytes of the request before compression. `to`: whom it was sent to.
pub(crate) fn of_grpc(status: &Status, sent: usize, to: &str) -> Answer {
    let (code, message) = (status.code(), shown(&status.message));
    let said = if message.is_empty() { String::new() } else { format!(": {message}") };
    let reason = format!("{to} answered {}{said}", code.name());
    // Servers made with tonic say OUT_OF_RANGE, which would be tried again for ever.
    let exhausted = code == Code::ResourceExhausted && status.retry_delay().is_none();
    if (exhausted || code == Code::OutOfRange) && speaks_of_size(&status.message) {
        return Answer::TooLarge { limit: named_limit(&status.message, sent), reason };
    }
    Answer::Failed(match retry::after_grpc(status) {
        Retry::Again { after } => Failure::Again { reason, after },
        Retry::Never => Failure::Never { reason },
    })
}

/// The code of an answer over HTTP/2 that is none of gRPC's (gRPC, "HTTP to gRPC Status Code Mapping").
pub(crate) fn code_of_proxy(http: u16) -> Code {
    match http {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// Does a message say that the request is too large? The words are those of gRPC's implementations (Go, C, Java, .NET, Rust), and ours.
fn speaks_of_size(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    const WORDS: [&str; 6] = [
        "message larger than max",
        "message after decompression larger than max",
        "message exceeds",
        "length too large",
        "message too large",
        "send smaller batches",
    ];
    WORDS.iter().any(|words| message.contains(words))
}

/// The limit that a message names: the largest number in it that is below what was sent, and no joke.
pub(crate) fn named_limit(message: &str, sent: usize) -> Option<usize> {
    let numbers = message.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
    numbers.filter(|number| (super::pieces::SMALLEST..sent).contains(number)).max()
}

/// A text of a peer, fit for a log: one line, not too long, nothing that moves a terminal's cursor.
pub(crate) fn shown(text: &str) -> String {
    let mut shown: String =
        text.trim().chars().take(TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.trim().chars().nth(TEXT).is_some() {
        shown.push('…');
    }
    shown
}

/// Undoes the percent-encoding of `grpc-message`; what is none stays as it is.
pub(crate) fn percent_decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::Duration;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| ((*n).parse().expect("a name"), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn a_status_is_read_from_headers() {
        assert_eq!(grpc_status(&HeaderMap::new()), None);
        let status = Status::new(Code::Unavailable, "x").with_retry(Duration::from_secs(2));
        for details in [
            BASE64.encode(status.to_bytes(Encoding::Protobuf)),
            base64::engine::general_purpose::STANDARD.encode(status.to_bytes(Encoding::Protobuf)),
        ] {
            let headers = headers(&[
                ("grpc-status", "14"),
                ("grpc-message", "no %C3%A9 50% left%0a"),
                ("grpc-status-details-bin", &details),
            ]);
            let read = grpc_status(&headers).expect("a status");
            assert_eq!(read.code(), Code::Unavailable);
            assert_eq!(read.message, "no é 50% left\n");
            assert_eq!(read.retry_delay(), Some(Duration::from_secs(2)));
        }
        let odd = grpc_status(&headers(&[("grpc-status", "x"), ("grpc-status-details-bin", "!")]));
        assert_eq!(odd.map(|status| status.code()), Some(Code::Unknown));
        let mut latin = HeaderMap::new();
        latin.insert("grpc-status", HeaderValue::from_static("3"));
        latin.insert("grpc-message", HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert_eq!(grpc_status(&latin).expect("a status").message, "\u{fffd}");
    }

    #[test]
    fn check_53_answers_that_speak_of_size() {
        let exhausted = |text: &str| of_grpc(&Status::new(Code::ResourceExhausted, text), 9_074_759, "x");
        for text in [
            "grpc: received message larger than max (9074759 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 9074759",
            "the request has more than 4194304 bytes; send smaller batches",
        ] {
            assert!(matches!(exhausted(text), Answer::TooLarge { limit: Some(4_194_304), .. }), "{text}");
        }
        let unnamed = exhausted("Received message exceeds the maximum configured message size.");
        assert!(matches!(unnamed, Answer::TooLarge { limit: None, .. }));
        for text in ["quota of 1000000 bytes exceeded", ""] {
            assert!(matches!(exhausted(text), Answer::Failed(Failure::Never { .. })), "{text}");
        }
        let text =
            "Error, decoded message length too large: found 9074759 bytes, the limit is: 4194304 bytes";
        let tonic = of_grpc(&Status::new(Code::OutOfRange, text), 9_074_759, "x");
        assert!(matches!(tonic, Answer::TooLarge { limit: Some(4_194_304), .. }));
        let busy = Status::new(Code::ResourceExhausted, "message too large").with_retry(Duration::ZERO);
        assert!(matches!(of_grpc(&busy, 1, "x"), Answer::Failed(Failure::Again { .. })));
    }

    #[test]
    fn texts_of_peers_are_made_fit_for_a_log() {
        assert_eq!(shown(" a\nb\u{1b}[2J "), "a b [2J");
        assert_eq!(shown(&"é".repeat(TEXT + 1)).chars().count(), TEXT + 1);
        assert_eq!(shown(&"é".repeat(TEXT)).chars().count(), TEXT);
    }
}
