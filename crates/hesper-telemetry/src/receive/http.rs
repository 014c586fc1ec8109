//! OTLP/HTTP: POST of protobuf and JSON.

use super::{
    body::{Answer, Arriving},
    cors::Cors,
    intake::Whole,
    media,
    observe::{Protocol, Report},
    reply,
    service::Core,
    take::{self, Order, Side},
};
use crate::net::Peer;
use hesper_collector_config::Compression;
use hesper_otlp::{Encoding, Refusal, Signal};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use std::sync::Arc;

/// The settings of HTTP.
pub(crate) struct HttpSide {
    pub(crate) side: Side,
    /// Path and signal.
    pub(crate) paths: Vec<(String, Signal)>,
    pub(crate) compressions: Vec<Compression>,
    pub(crate) cors: Option<Cors>,
    /// Headers of every answer.
    pub(crate) headers: HeaderMap,
}

/// Answers a request.
pub(crate) async fn answer(
    core: &Core,
    http: &HttpSide,
    peer: &Arc<Peer>,
    head: &Parts,
    body: &mut Arriving,
) -> Response<Answer> {
    if let Some(cors) = http.cors.as_ref().filter(|_| Cors::is_preflight(&head.method, &head.headers)) {
        let mut response = Response::new(Answer::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        *response.headers_mut() = cors.preflight(&head.headers);
        add(&http.headers, response.headers_mut());
        return response;
    }
    let mut report = Report::new(&*core.observer, Protocol::Http);
    let encoding = encoding(&head.headers);
    let gzip = media::accepts_gzip(&head.headers);
    let answered = request(core, http, peer, head, body, &mut report).await;
    // A body that cannot be told is answered in the one that people can read.
    let spoken = encoding.unwrap_or(Encoding::Json);
    let mut response = match answered {
        Ok(message) => reply::success(message, spoken, gzip),
        Err(refusal) => {
            report.refused(&refusal);
            reply::refusal(&refusal, spoken, gzip)
        }
    };
    if let Some(cors) = &http.cors {
        cors.answer(&head.headers, response.headers_mut());
    }
    add(&http.headers, response.headers_mut());
    response
}

/// Answers somebody who speaks HTTP where only gRPC is spoken.
pub(crate) fn wrong_port(core: &Core, head: &Parts) -> Response<Answer> {
    let mut report = Report::new(&*core.observer, Protocol::Grpc);
    let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let found = format!("{} over {:?}", String::from_utf8_lossy(content_type), head.version);
    let refusal = Refusal::MediaType(found);
    report.refused(&refusal);
    reply::refusal(&refusal, encoding(&head.headers).unwrap_or(Encoding::Json), false)
}

/// Takes the request; the message to answer with.
async fn request(
    core: &Core,
    http: &HttpSide,
    peer: &Arc<Peer>,
    head: &Parts,
    body: &mut Arriving,
    report: &mut Report<'_>,
) -> Result<Vec<u8>, Refusal> {
    let path = head.uri.path();
    let signal = http.paths.iter().find(|(own, _)| own == path).map(|(_, signal)| *signal);
    let signal = signal.filter(|signal| core.sinks.get(*signal).is_some());
    let signal = signal.ok_or_else(|| Refusal::NotServed(path.to_owned()))?;
    report.request.signal = Some(signal);
    if head.method != Method::POST {
        return Err(Refusal::Method(head.method.to_string()));
    }
    let encoding = encoding(&head.headers).ok_or_else(|| {
        let found = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        Refusal::MediaType(String::from_utf8_lossy(found).into_owned())
    })?;
    let compression = media::compression(&head.headers, &header::CONTENT_ENCODING, &http.compressions)?;
    let side = &http.side;
    let intake = Whole::new(compression, side.limits, body.claims())?;
    let order = Order { side, signal, encoding, head, intake, patience: None };
    let partial = take::take(core, peer, order, body, report).await?;
    reply::message(&partial, signal, encoding, side.limits.response)
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    Encoding::of_content_type(headers.get(header::CONTENT_TYPE)?.to_str().ok()?)
}

fn add(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        to.append(name, value.clone());
    }
}
