//! OTLP/gRPC: unary calls of `Export`, in frames of our own, because raw bytes pass through and every length is bounded.

use super::{
    body::{Answer, Arriving},
    intake::Framed,
    media,
    metadata::{percent_encode, read_timeout, write_binary},
    observe::{Protocol, Report},
    reply,
    service::Core,
    take::{self, Order, Side},
};
use crate::net::Peer;
use bytes::Bytes;
use hesper_collector_config::Compression;
use hesper_otlp::{Encoding, Refusal, Signal};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use std::sync::Arc;

/// What messages may be compressed with.
const COMPRESSIONS: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Snappy];
const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip,zstd,snappy");

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The settings of gRPC.
pub(crate) struct GrpcSide {
    pub(crate) side: Side,
}

/// Answers a call.
pub(crate) async fn answer(
    core: &Core,
    grpc: &GrpcSide,
    peer: &Arc<Peer>,
    head: &Parts,
    body: &mut Arriving,
) -> Response<Answer> {
    let mut report = Report::new(&*core.observer, Protocol::Grpc);
    let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !media::is_grpc_proto(content_type) {
        // gRPC over HTTP/2, "Content-Type": 415, which is no status of gRPC.
        let refusal = Refusal::MediaType(String::from_utf8_lossy(content_type).into_owned());
        report.refused(&refusal);
        return reply::refusal(&refusal, Encoding::Json, false);
    }
    match call(core, grpc, peer, head, body, &mut report).await {
        Ok(message) => success(message),
        Err(refusal) => {
            report.refused(&refusal);
            failure(refusal)
        }
    }
}

/// Refuses a call of which only the head is known.
pub(crate) fn refuse(core: &Core, head: &Parts, refusal: Refusal) -> Response<Answer> {
    let mut report = Report::new(&*core.observer, Protocol::Grpc);
    report.request.signal = Signal::of_grpc_path(head.uri.path());
    report.refused(&refusal);
    failure(refusal)
}

/// Takes the call; the message to answer with.
async fn call(
    core: &Core,
    grpc: &GrpcSide,
    peer: &Arc<Peer>,
    head: &Parts,
    body: &mut Arriving,
    report: &mut Report<'_>,
) -> Result<Vec<u8>, Refusal> {
    let path = head.uri.path();
    let signal = Signal::of_grpc_path(path).ok_or_else(|| Refusal::NotServed(path.to_owned()))?;
    report.request.signal = Some(signal);
    if head.method != Method::POST {
        return Err(Refusal::Method(head.method.to_string()));
    }
    let compression = media::compression(&head.headers, &GRPC_ENCODING, &COMPRESSIONS)?;
    let patience = match head.headers.get(GRPC_TIMEOUT) {
        None => None,
        Some(value) => Some(read_timeout(value.as_bytes()).ok_or_else(|| {
            Refusal::Malformed("the grpc-timeout is no number of up to eight digits with a unit".to_owned())
        })?),
    };
    let side = &grpc.side;
    let intake = Framed::new(compression, side.limits);
    let order = Order { side, signal, encoding: Encoding::Protobuf, head, intake, patience };
    let partial = take::take(core, peer, order, body, report).await?;
    reply::message(&partial, signal, Encoding::Protobuf, side.limits.response)
}

fn success(message: Vec<u8>) -> Response<Answer> {
    let frame = if message.is_empty() {
        Bytes::from_static(&[0; 5])
    } else {
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[0][..], &len, &message].concat().into()
    };
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Answer::with_trailers(frame, trailers));
    head(response.headers_mut());
    response
}

/// Only trailers, as one head.
fn failure(refusal: Refusal) -> Response<Answer> {
    let status = reply::clip(refusal).status();
    let mut response = Response::new(Answer::default());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    head(headers);
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code));
    let mut text = |name, text: String| HeaderValue::try_from(text).map(|value| headers.insert(name, value));
    // Both are printable ASCII.
    let _ = text(GRPC_MESSAGE, percent_encode(&status.message));
    if !status.details.is_empty() {
        let _ = text(GRPC_STATUS_DETAILS, write_binary(&status.to_bytes(Encoding::Protobuf)));
    }
    response
}

fn head(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
}
