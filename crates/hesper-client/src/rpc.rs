//! Calls to the controller as spans (OpenTelemetry's conventions for RPC), and the trace that goes along with each.

use hesper_trace::{TRACEPARENT, TRACESTATE, TraceContext};
use std::future::Future;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tracing::{Instrument, Span};

/// The node's service at the controller.
const NODE: &str = "hesper.control.v1.NodeControl";
/// The router's.
const ROUTER: &str = "hesper.control.v1.RouterControl";

/// One method of the controller, and when a call of it is a span.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    service: &'static str,
    method: &'static str,
    begins: bool,
}

impl Rpc {
    /// A method of `NodeControl`, called as a step of something: a span within the one around.
    pub const fn node(method: &'static str) -> Self {
        Self { service: NODE, method, begins: false }
    }

    /// A method of `RouterControl`.
    pub const fn router(method: &'static str) -> Self {
        Self { service: ROUTER, method, begins: false }
    }

    /// Called by itself: without a span around it may begin a trace.
    #[must_use]
    pub const fn begins(self) -> Self {
        Self { begins: true, ..self }
    }

    fn span(self) -> Span {
        let make = || {
            tracing::info_span!(
                "call",
                otel.kind = "client",
                otel.name = format!("{}/{}", self.service, self.method),
                "rpc.system.name" = "grpc",
                "rpc.service" = self.service,
                "rpc.method" = self.method,
            )
        };
        match (self.begins, hesper_trace::is_recorded()) {
            (_, true) => make(),
            (true, false) => hesper_trace::entry(None, make),
            (false, false) => Span::none(),
        }
    }
}

/// Makes a call with the trace in its metadata, and notes how it ended.
///
/// # Errors
/// The call's own.
pub async fn call<M, T, F>(
    rpc: Rpc,
    mut request: Request<M>,
    ask: impl FnOnce(Request<M>) -> F,
) -> Result<Response<T>, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let span = rpc.span();
    let answer = async {
        if let Some(trace) = TraceContext::current() {
            write(request.metadata_mut(), &trace);
        }
        ask(request).await
    }
    .instrument(span.clone())
    .await;
    if !span.is_disabled() {
        let code = answer.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        hesper_trace::set(&span, "rpc.response.status_code", word(code));
        if let Err(status) = &answer {
            hesper_trace::set(&span, "error.type", word(code));
            hesper_trace::fail(&span, status.message());
        }
    }
    answer
}

fn write(metadata: &mut MetadataMap, trace: &TraceContext) {
    for (key, value) in [(TRACEPARENT, trace.traceparent()), (TRACESTATE, trace.tracestate())] {
        match value.parse() {
            Ok(parsed) if !value.is_empty() => drop(metadata.insert(key, parsed)),
            _ => {}
        }
    }
}

/// The status by its name in the gRPC specification.
fn word(code: tonic::Code) -> &'static str {
    use tonic::Code::{
        Aborted, AlreadyExists, Cancelled, DataLoss, DeadlineExceeded, FailedPrecondition, Internal,
        InvalidArgument, NotFound, Ok, OutOfRange, PermissionDenied, ResourceExhausted, Unauthenticated,
        Unavailable, Unimplemented, Unknown,
    };
    match code {
        Ok => "OK",
        Cancelled => "CANCELLED",
        Unknown => "UNKNOWN",
        InvalidArgument => "INVALID_ARGUMENT",
        DeadlineExceeded => "DEADLINE_EXCEEDED",
        NotFound => "NOT_FOUND",
        AlreadyExists => "ALREADY_EXISTS",
        PermissionDenied => "PERMISSION_DENIED",
        ResourceExhausted => "RESOURCE_EXHAUSTED",
        FailedPrecondition => "FAILED_PRECONDITION",
        Aborted => "ABORTED",
        OutOfRange => "OUT_OF_RANGE",
        Unimplemented => "UNIMPLEMENTED",
        Internal => "INTERNAL",
        Unavailable => "UNAVAILABLE",
        DataLoss => "DATA_LOSS",
        Unauthenticated => "UNAUTHENTICATED",
    }
}
