//! The controller's own spans (`hesper-trace`): requests that come in, decisions, and where an event happened.
//!
//! What is not recorded costs a look at a thread-local: values are made only for spans that are.

use hesper_model::entity::{Identity, Service};
use hesper_observe::events::{self, Named};
use hesper_policy::{Decision, Model, Request};
use hesper_trace::{TraceContext, entry, fail, set};
use http::{HeaderMap, Response, StatusCode};
use std::net::IpAddr;
use tonic::Code;
use tracing::{Span, info_span};

/// Ids and names of who asks.
const IDENTITY: (&str, &str) = ("mesh.identity.id", "mesh.identity.name");
/// How it ended, where that is no error of ours.
pub(crate) const OUTCOME: &str = "mesh.outcome";
/// The policy or the reason that decided.
pub(crate) const RULE: &str = "mesh.policy.rule";
const ERROR_TYPE: &str = "error.type";
const GRPC_STATUS: &str = "grpc-status";

/// A REST request; `route` is its template.
pub(crate) fn rest(headers: &HeaderMap, method: &str, route: &str, client: Option<IpAddr>) -> Span {
    let parent = TraceContext::from_headers(headers);
    let span = entry(parent.as_ref(), || {
        info_span!(
            "request",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            http.request.method = method,
            http.route = route,
            url.scheme = "https",
        )
    });
    from(&span, client);
    span
}

/// It was answered so; `code` is the reason of a refusal.
pub(crate) fn answered(span: &Span, status: StatusCode, code: Option<&'static str>) {
    if span.is_disabled() {
        return;
    }
    set(span, "http.response.status_code", i64::from(status.as_u16()));
    if let Some(code) = code {
        set(span, ERROR_TYPE, code);
    }
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => set(span, OUTCOME, "denied"),
        status if status.is_server_error() => fail(span, code.unwrap_or("INTERNAL")),
        _ => {}
    }
}

/// A gRPC call by the path of its request; none for streams, which last as long as a node is there, and for what is not ours.
pub(crate) fn grpc(path: &str, headers: &HeaderMap, client: Option<IpAddr>) -> Span {
    let Some((service, method)) = unary(path) else { return Span::none() };
    let parent = TraceContext::from_headers(headers);
    let span = entry(parent.as_ref(), || {
        info_span!(
            "call",
            otel.name = path.trim_start_matches('/'),
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.service = service,
            rpc.method = method,
        )
    });
    from(&span, client);
    span
}

/// Service and method of the calls that end.
fn unary(path: &str) -> Option<(&'static str, &'static str)> {
    const NODES: &str = "hesper.control.v1.NodeControl";
    const ROUTERS: &str = "hesper.control.v1.RouterControl";
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (service, methods): (_, &[&'static str]) = match service {
        NODES => (NODES, &["Dial", "Bind", "Unbind", "UpdateTerminator", "Renew"]),
        ROUTERS => (ROUTERS, &["Renew"]),
        _ => return None,
    };
    methods.iter().find(|known| **known == method).map(|method| (service, *method))
}

/// It was answered so. What is refused has its status in the head of the answer; what succeeded, behind it.
pub(crate) fn called<B>(span: &Span, response: &Response<B>) {
    if span.is_disabled() {
        return;
    }
    let status = response.headers().get(GRPC_STATUS);
    let code = status.map_or(Code::Ok, |status| Code::from_bytes(status.as_bytes()));
    let name = name_of(code);
    set(span, "rpc.response.status_code", name);
    match code {
        Code::Ok => {}
        // Faults of ours, as OpenTelemetry's conventions for gRPC servers name them.
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => {
            set(span, ERROR_TYPE, name);
            fail(span, name);
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            set(span, ERROR_TYPE, name);
            set(span, OUTCOME, "denied");
        }
        _ => set(span, ERROR_TYPE, name),
    }
}

/// gRPC's name of a code.
pub(crate) fn name_of(code: Code) -> &'static str {
    hesper_otlp::status::Code::of(code.into()).name()
}

fn from(span: &Span, client: Option<IpAddr>) {
    if let Some(client) = client.filter(|_| !span.is_disabled()) {
        set(span, "client.address", client.to_string());
    }
}

/// The request around is of this identity or router.
pub(crate) fn asked_by(id: &str, name: &str) {
    let span = Span::current();
    if !span.is_disabled() {
        set(&span, IDENTITY.0, id.to_owned());
        set(&span, IDENTITY.1, name.to_owned());
    }
}

/// The request around was refused by this rule.
pub(crate) fn denied(rule: &str) {
    let span = Span::current();
    if !span.is_disabled() {
        set(&span, RULE, rule.to_owned());
        set(&span, OUTCOME, "denied");
    }
}

/// Decides, as a span that says by which rule.
pub(crate) fn decide(model: &Model, request: &Request<'_>, who: &Identity, what: &Service) -> Decision {
    let span = decision(&who.name, &what.name);
    let decision = span.in_scope(|| hesper_policy::decide(model, request));
    decided(&span, decision.is_allowed(), &decision.rule);
    decision
}

/// The span of a decision.
pub(crate) fn decision(identity: &str, service: &str) -> Span {
    info_span!("policy decide", mesh.identity.name = identity, mesh.service.name = service)
}

/// It was decided so.
pub(crate) fn decided(span: &Span, allowed: bool, rule: &dyn std::fmt::Display) {
    if !span.is_disabled() {
        set(span, OUTCOME, if allowed { "allowed" } else { "denied" });
        set(span, RULE, rule.to_string());
    }
}

/// Whose enrollment it is, and how it ended.
pub(crate) fn enrolled(span: &Span, method: &'static str, subject: &Named, outcome: &'static str) {
    if span.is_disabled() {
        return;
    }
    set(span, "mesh.enrollment.method", method);
    set(span, OUTCOME, outcome);
    if let Some(id) = &subject.id {
        set(span, IDENTITY.0, id.clone());
    }
    if let Some(name) = &subject.name {
        set(span, IDENTITY.1, name.clone());
    }
}

/// The recorded span around, for an event.
pub(crate) fn place() -> Option<events::TraceContext> {
    let (trace_id, span_id) = TraceContext::of(&Span::current())?.ids();
    Some(events::TraceContext { trace_id, span_id, flags: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_end_have_a_span() {
        let nodes = |method| unary(&format!("/hesper.control.v1.NodeControl/{method}"));
        for method in ["Dial", "Bind", "Unbind", "UpdateTerminator", "Renew"] {
            assert_eq!(nodes(method), Some(("hesper.control.v1.NodeControl", method)));
        }
        assert_eq!(nodes("Watch"), None);
        assert_eq!(unary("/hesper.control.v1.RouterControl/Watch"), None);
        assert!(unary("/hesper.control.v1.RouterControl/Renew").is_some());
        for other in ["", "/", "Dial", "/a/b", "/hesper.control.v1.NodeControl/Dial/x"] {
            assert_eq!(unary(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_happens_while_nothing_is_recorded() {
        let span = rest(&HeaderMap::new(), "GET", "/x", Some([127, 0, 0, 1].into()));
        assert!(span.is_disabled());
        answered(&span, StatusCode::OK, None);
        assert_eq!(place(), None);
    }
}
