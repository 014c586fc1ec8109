//! How long gRPC calls take, by method and code.

use crate::{state::State, trace::name_of};
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

/// Times a call until its answer begins: streams then go on for as long as they may.
pub(super) async fn measured(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let (begun, method) = (Instant::now(), method(request.uri().path()));
    let response = next.run(request).await;
    // A call that fails says so in the head of its answer, which has nothing else.
    let status = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    let labels = vec![("method", method), ("code", name_of(status))];
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
        let codes: std::collections::BTreeSet<_> = (-1..40).map(|i| name_of(Code::from_i32(i))).collect();
        assert_eq!(codes.len(), 17);
    }
}
