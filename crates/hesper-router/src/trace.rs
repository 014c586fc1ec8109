//! A pass that is shown is a part of the trace of the dial that it is for.

use crate::{admission::Refusal, plane::Plane, sessions::AdmitError};
use hesper_proto::overlay::PresentPass;
use hesper_trace::TraceContext;
use tracing::Span;

/// One pass, from its arrival to the answer. Dropped, its span ends.
pub(crate) struct Admit {
    span: Span,
    /// As the node or the other router named it.
    parent: Option<TraceContext>,
}

impl Admit {
    /// Begins where the dial said that it is traced. Passes that are shown again, at a new attachment, belong to no dial.
    pub(crate) fn begin(pass: &PresentPass, plane: &Plane) -> Self {
        let parent = TraceContext::parse(&pass.traceparent, &pass.tracestate);
        let span = match &parent {
            None => Span::none(),
            Some(parent) => hesper_trace::entry(Some(parent), || {
                let id = plane.told().map(|told| told.id.to_string()).unwrap_or_default();
                tracing::info_span!("admit", otel.kind = "server", "mesh.router.id" = id)
            }),
        };
        Self { span, parent }
    }

    /// For the routers that it is handed over to: they go on from here, or from the dialer where nothing is recorded here.
    pub(crate) fn trace_context(&self) -> Option<TraceContext> {
        TraceContext::of(&self.span).or_else(|| self.parent.clone())
    }

    /// The pair is open; the peer is attached here, or where it was handed over, or nowhere now.
    pub(crate) fn opened(&self, here: bool, anywhere: bool) {
        let path = match (here, anywhere) {
            (true, _) => "direct",
            (false, true) => "linked",
            (false, false) => "none",
        };
        hesper_trace::set(&self.span, "mesh.outcome", "admitted");
        hesper_trace::set(&self.span, "mesh.path", path);
    }

    /// It opens nothing.
    pub(crate) fn refused(&self, error: &AdmitError) {
        hesper_trace::set(&self.span, "mesh.outcome", "denied");
        hesper_trace::set(&self.span, "error.type", kind(error));
    }
}

/// A stable word.
fn kind(error: &AdmitError) -> &'static str {
    match error {
        AdmitError::Refused(Refusal::Token(..)) => "token",
        AdmitError::Refused(Refusal::Revoked(_)) => "revoked",
        AdmitError::Refused(_) => "refused",
        AdmitError::Full(_) | AdmitError::NoRoom => "full",
        AdmitError::Limit(_) => "limit",
        AdmitError::NotReady => "not_ready",
    }
}

/// `traceparent` and `tracestate` for a message; both empty without a trace.
pub(crate) fn values(trace: Option<&TraceContext>) -> (String, String) {
    trace.map(|trace| (trace.traceparent(), trace.tracestate())).unwrap_or_default()
}
