//! How long gRPC calls take, by method and code.

use crate::state::State;
use axum::{
    extract::{Request, State as Shared},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Instant};
use tonic::{Code, Status};

/// What each call is counted as; what strangers make up is counted together.
const METHODS: &[(&str, &str)] = &[
    ("/hesper.control.v1.NodeControl/Watch", "NodeControl/Watch"),
    ("/hesper.control.v1.NodeControl/Dial", "NodeControl/Dial"),
    ("/hesper.control.v1.NodeControl/Bind", "NodeControl/Bind"),
    ("/hesper.control.v1.NodeControl/Unbind", "NodeControl/Unbind"),
    ("/hesper.control.v1.NodeControl/UpdateTerminator", "NodeControl/UpdateTerminator"),
    ("/hesper.control.v1.NodeControl/Renew", "NodeControl/Renew"),
    ("/hesper.control.v1.RouterControl/Watch", "RouterControl/Watch"),
    ("/hesper.control.v1.RouterControl/Renew", "RouterControl/Renew"),
    ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", "TraceService/Export"),
    ("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "MetricsService/Export"),
    ("/opentelemetry.proto.collector.logs.v1.LogsService/Export", "LogsService/Export"),
];

fn method(path: &str) -> &'static str {
    METHODS.iter().find(|(known, _)| *known == path).map_or("unknown", |(_, name)| name)
}

/// gRPC's name of a code.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Times a call until its answer begins: streams then go on for as long as they may.
pub(super) async fn measured(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let (begun, method) = (Instant::now(), method(request.uri().path()));
    let response = next.run(request).await;
    // A call that fails says so in the head of its answer, which has nothing else.
    let status = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let labels = vec![("method", method), ("code", code(status))];
    state.metrics.calls.get_or_create(&labels).observe(begun.elapsed().as_secs_f64());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_make_up_is_one_method() {
        assert_eq!(method("/hesper.control.v1.NodeControl/Dial"), "NodeControl/Dial");
        for path in
            ["", "/", "/hesper.control.v1.NodeControl/", "/hesper.control.v1.NodeControl/Dial/x", "/a/b"]
        {
            assert_eq!(method(path), "unknown");
        }
        let codes: std::collections::BTreeSet<_> = (-1..40).map(|i| code(Code::from_i32(i))).collect();
        assert_eq!(codes.len(), 17);
    }
}
