//! A request through the proxy as a span, from its head to the end of its answer. A scraper that traces is joined, and so is a target.

use super::{Body, BoxError, Failure};
use bytes::Bytes;
use hesper_trace::TraceContext;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tracing::{Span, field::Empty};

/// The span of a request that is forwarded or asks for targets; none for what only looks after this proxy (`/metrics`, `/healthz`).
pub(super) fn begin<B>(request: &Request<B>) -> Span {
    let uri = request.uri();
    let counts = request.method() == Method::CONNECT || uri.authority().is_some() || uri.path() == "/sd";
    if !counts {
        return Span::none();
    }
    hesper_trace::entry(TraceContext::from_headers(request.headers()).as_ref(), || {
        let method = request.method().as_str();
        let span = tracing::info_span!(
            "request",
            otel.kind = "server",
            otel.name = method,
            "http.request.method" = method,
            "server.address" = Empty,
            "server.port" = Empty,
            "http.route" = uri.authority().is_none().then_some("/sd"),
        );
        if let Some(host) = uri.host() {
            span.record("server.address", host);
        }
        if let Some(port) = uri.port_u16() {
            span.record("server.port", port);
        }
        span
    })
}

/// The service that the request goes to.
pub(super) fn service(name: &str) {
    if hesper_trace::is_recorded() {
        hesper_trace::set(&Span::current(), "mesh.service.name", name.to_owned());
    }
}

/// The target's part belongs to this span, if it is recorded. Else whatever the client said stays as it is.
pub(super) fn pass_on(headers: &mut HeaderMap) {
    if hesper_trace::is_recorded()
        && let Some(trace) = TraceContext::current()
    {
        trace.write(headers);
    }
}

/// The answer's head is there; the span ends with its body.
pub(super) fn answered(span: Span, response: Response<Body>) -> Response<Body> {
    if span.is_disabled() {
        return response;
    }
    let status = response.status();
    hesper_trace::set(&span, "http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        hesper_trace::set(&span, "error.type", status.as_str().to_owned());
        hesper_trace::fail(&span, &status);
    }
    response.map(|inner| Traced { inner, span }.boxed_unsync())
}

/// The proxy's own no.
pub(super) fn failed(span: &Span, failure: &Failure) {
    let status = failure.status();
    hesper_trace::set(span, "http.response.status_code", i64::from(status.as_u16()));
    hesper_trace::set(span, "error.type", failure.word());
    if status.is_server_error() {
        hesper_trace::fail(span, failure);
    }
}

struct Traced {
    inner: Body,
    span: Span,
}

impl http_body::Body for Traced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Err(error))) = &polled {
            hesper_trace::set(&self.span, "error.type", "body");
            hesper_trace::fail(&self.span, error);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
