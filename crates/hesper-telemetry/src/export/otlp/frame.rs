//! gRPC's messages on HTTP/2: five bytes before each, and what comes back within bounds.

use super::answer::{Answer, code_of_proxy, grpc_status, of_grpc, shown};
use bytes::{Buf, Bytes, BytesMut, buf::Chain};
use flate2::read::GzDecoder;
use hesper_otlp::{
    Encoding, PartialSuccess, Signal,
    limits::RESPONSE_LEN,
    retry::{Retry, after_http},
    status::{Code, Status},
};
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::{
    io::{Cursor, Read},
    time::SystemTime,
};

/// Bytes before a message: is it compressed, and its length.
const HEAD: usize = 5;

/// A request: the head before the payload, which is not copied.
pub(crate) type Body = Full<Chain<Cursor<[u8; HEAD]>, Bytes>>;

/// Frames a message.
pub(crate) fn body(message: Bytes, compressed: bool) -> Body {
    let mut head = [0; HEAD];
    head[0] = u8::from(compressed);
    head[1..].copy_from_slice(&(message.len() as u32).to_be_bytes());
    Full::new(Buf::chain(Cursor::new(head), message))
}

/// Reads an answer to its end. `sent`: bytes of the request before compression.
pub(crate) async fn read(response: Response<Incoming>, signal: Signal, sent: usize, to: &str) -> Answer {
    let (parts, body) = response.into_parts();
    if let Some(status) = grpc_status(&parts.headers) {
        return judge(&status, &parts.headers, &[], signal, sent, to);
    }
    let grpc = parts.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if parts.status != http::StatusCode::OK || !grpc.is_some_and(|t| t.starts_with(b"application/grpc")) {
        return of_proxy(&parts, to);
    }
    match read_body(body, to).await {
        Ok((message, Some(trailers))) => match grpc_status(&trailers) {
            Some(status) => judge(&status, &parts.headers, &message, signal, sent, to),
            None => Answer::again(format!("{to} ended its answer without a grpc-status")),
        },
        Ok((_, None)) => Answer::again(format!("{to} ended its answer without a grpc-status")),
        Err(answer) => answer,
    }
}

/// Everything up to the trailers, but no more than a response may have.
async fn read_body(mut body: Incoming, to: &str) -> Result<(Bytes, Option<HeaderMap>), Answer> {
    let mut message = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| Answer::again(format!("{to} broke off its answer: {}", super::chain(&error))))?;
        match frame.into_data() {
            Ok(data) if message.len() + data.len() > RESPONSE_LEN + HEAD => return Err(too_long(to)),
            Ok(data) => message.extend_from_slice(&data),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Ok((message.freeze(), Some(trailers)));
                }
            }
        }
    }
    Ok((message.freeze(), None))
}

pub(crate) fn too_long(to: &str) -> Answer {
    Answer::never(format!(
        "{to} answered with more than {RESPONSE_LEN} bytes, which nobody needs to; nobody knows whether it took the data"
    ))
}

/// An answer that is none of gRPC's: something between, or another server.
fn of_proxy(parts: &http::response::Parts, to: &str) -> Answer {
    let http = parts.status.as_u16();
    let reason = format!("{to} answered HTTP {http} and no gRPC; is it an OTLP receiver for gRPC?");
    if http == 413 {
        return Answer::TooLarge { limit: None, reason };
    }
    let after = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    if let Retry::Again { after } = after_http(http, after, SystemTime::now()) {
        return Answer::Failed(crate::export::Failure::Again { reason, after });
    }
    match of_grpc(&Status::new(code_of_proxy(http), ""), 0, to) {
        Answer::Failed(crate::export::Failure::Again { after, .. }) => {
            Answer::Failed(crate::export::Failure::Again { reason, after })
        }
        _ => Answer::never(reason),
    }
}

fn judge(status: &Status, headers: &HeaderMap, body: &[u8], signal: Signal, sent: usize, to: &str) -> Answer {
    if status.code() != Code::Ok {
        return of_grpc(status, sent, to);
    }
    match message(headers, body) {
        Ok(message) => taken(signal, Encoding::Protobuf, &message, to),
        Err(Unreadable::TooLong) => too_long(to),
        Err(Unreadable::Broken(reason)) => warned(to, &reason),
    }
}

/// The data was taken; what the peer says besides.
pub(crate) fn taken(signal: Signal, encoding: Encoding, body: &[u8], to: &str) -> Answer {
    match PartialSuccess::decode(signal, encoding, body) {
        Ok(None) => Answer::Taken(PartialSuccess::default()),
        Ok(Some(partial)) => Answer::Taken(PartialSuccess { message: shown(&partial.message), ..partial }),
        Err(error) => warned(to, &error.to_string()),
    }
}

/// The peer says that it took the data, in words that cannot be read.
pub(crate) fn warned(to: &str, reason: &str) -> Answer {
    Answer::Taken(PartialSuccess { rejected: 0, message: format!("{to} took the data, but {reason}") })
}

pub(crate) enum Unreadable {
    TooLong,
    Broken(String),
}

/// The message in a body; an empty body is as good as an empty message.
fn message(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let Some((head, rest)) = body.split_first_chunk::<HEAD>() else { return Ok(Vec::new()) };
    let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let message = rest.get(..len).ok_or_else(|| Unreadable::Broken("its answer is cut short".into()))?;
    let encoding = headers.get("grpc-encoding").map(|value| value.as_bytes()).unwrap_or(b"identity");
    match (head[0], encoding) {
        (0, _) => Ok(message.to_vec()),
        (_, b"gzip") => gunzip(message),
        _ => Err(Unreadable::Broken("its answer is compressed in a way that was not offered".into())),
    }
}

/// Decompresses an answer, within its bound.
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let mut out = Vec::new();
    let mut reader = GzDecoder::new(bytes).take(RESPONSE_LEN as u64 + 1);
    match reader.read_to_end(&mut out) {
        Ok(len) if len > RESPONSE_LEN => Err(Unreadable::TooLong),
        Ok(_) => Ok(out),
        Err(error) => Err(Unreadable::Broken(format!("its answer cannot be decompressed: {error}"))),
    }
}
