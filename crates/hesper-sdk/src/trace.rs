//! The spans of a dial: the whole, and its stages. Without a trace none of them costs more than a look.

use crate::{DialError, grants::Key, grants::Lease};
use hesper_trace::TraceContext;
use tracing::{Span, field::Empty};

/// The whole dial, until the stream is open.
pub(crate) fn dial(key: &Key, datagrams: bool) -> Span {
    hesper_trace::entry(None, || {
        let span = tracing::info_span!(
            "dial",
            otel.kind = "client",
            otel.name = format!("dial {}", key.service),
            "mesh.service.name" = key.service,
            "mesh.instance" = Empty,
            "network.transport" = if datagrams { "udp" } else { "tcp" },
        );
        if !key.instance.is_empty() {
            hesper_trace::set(&span, "mesh.instance", key.instance.clone());
        }
        span
    })
}

/// A stage of this dial.
pub(crate) fn stage(dial: &Span, make: impl FnOnce() -> Span) -> Span {
    if dial.is_disabled() { Span::none() } else { make() }
}

/// The way that is being tried.
pub(crate) fn way(dial: &Span, lease: &Lease, attempt: usize) {
    if dial.is_disabled() {
        return;
    }
    hesper_trace::set(dial, "mesh.terminator.id", lease.terminator_id.clone());
    hesper_trace::set(dial, "mesh.binder.id", lease.binder_id.to_string());
    hesper_trace::set(dial, "mesh.dial.attempts", i64::try_from(attempt + 1).unwrap_or(i64::MAX));
}

/// What became of the lease's pass: the router that took it and is used.
pub(crate) fn presented(pass: &Span, lease: &Lease, result: Result<&String, &DialError>) {
    if pass.is_disabled() {
        return;
    }
    match result {
        Ok(id) => {
            let routers = lease.node.attached().borrow().clone();
            let name = routers.into_iter().find(|router| router.router_id == *id).map(|router| router.name);
            let tokens = lease.tokens();
            let mut paths = tokens.response.paths.iter().map(|path| &path.router_ids);
            // The router takes the direct way where there are both.
            let path = paths.find(|path| path.first() == Some(id)).map(|path| path.join(","));
            hesper_trace::set(pass, "mesh.router.ids", path.unwrap_or_default());
            hesper_trace::set(pass, "mesh.router.id", id.clone());
            hesper_trace::set(pass, "mesh.router.name", name.unwrap_or_default());
        }
        Err(error) => hesper_trace::fail(pass, error),
    }
}

/// `traceparent` and `tracestate` for the hosting side, of this stage or, when nothing is recorded, of the dial's surroundings.
pub(crate) fn values(stage: &Span) -> (String, String) {
    let trace = TraceContext::of(stage).or_else(TraceContext::current);
    trace.map(|trace| (trace.traceparent(), trace.tracestate())).unwrap_or_default()
}

/// The end of the dial.
pub(crate) fn dialed<T>(dial: &Span, result: &Result<T, DialError>, cached: bool) {
    if dial.is_disabled() {
        return;
    }
    hesper_trace::set(dial, "mesh.dial.cached", cached);
    if let Err(error) = result {
        hesper_trace::set(dial, "error.type", error.kind().as_str());
        hesper_trace::fail(dial, error);
    }
}
