//! The mesh's own spans: which are recorded, how a trace goes on in the next process, and what waits to be sent.
//!
//! Code that does something worth a span says so with the macros of `tracing`, at level INFO. A span is recorded when the one around
//! it is; where a request comes in (from a person, over HTTP, gRPC or the overlay), [`entry`] decides: what a sampled remote
//! parent asked for always, what an unsampled one asked for never, and of the rest as many per million as [`settings::Rate`] says.
//! What is not recorded costs one look at a thread-local.
//!
//! - [`TraceContext`]: W3C Trace Context, taken from requests and put into them.
//! - [`settings`]: the `tracing` block, the exporter URL, and the standard `OTEL_*` variables.
//! - [`install`]: the layer for the process's subscriber, and [`Spans`]: ended spans, bounded, as OTLP requests. Whoever sends them is
//!   elsewhere; nothing here opens a connection, and nothing here ever waits.
//! - [`Tap`]: the spans as they end, for a command that shows them.
//! - [`fail`], [`set`]: what is known only after a span began.
//!
//! Names and attributes follow OpenTelemetry's semantic conventions; our own begin with `mesh.`, since what
//! begins with `hesper.` is what gateways vouch for, and is taken out of what anybody else says. No secret is ever one.

mod context;
mod entry;
mod install;
mod queue;
pub mod settings;
mod tap;

pub use context::{TRACEPARENT, TRACESTATE, TraceContext};
pub use entry::{continued, entry, entry_from, is_recorded, quiet, root};
pub use install::{Installed, Tracer, counters, install};
pub use queue::{Batch, Counters, Limits, Spans};
pub use tap::{Ended, Tap};

use opentelemetry::trace::{Status, TraceContextExt};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What a span is about beyond its name: values that are known only after it began. Nothing happens on one that is not recorded.
pub fn set(span: &tracing::Span, key: &'static str, value: impl Into<opentelemetry::Value>) {
    if !span.is_disabled() {
        span.set_attribute(key, value);
    }
}

/// The same of several texts.
pub fn set_list(span: &tracing::Span, key: &'static str, texts: impl IntoIterator<Item = String>) {
    if !span.is_disabled() {
        let texts = texts.into_iter().map(opentelemetry::StringValue::from).collect();
        span.set_attribute(key, opentelemetry::Value::Array(opentelemetry::Array::String(texts)));
    }
}

/// The span ends now, also if somebody still holds it: connections that were begun in it may, and would keep it, and those around it,
/// open for as long as they live.
pub fn end(span: &tracing::Span) {
    if !span.is_disabled() {
        span.context().span().end();
    }
}

/// Begins something that outlives the span around, and must not hold it: libraries instrument the tasks that they spawn with it.
pub fn detached<T>(begin: impl FnOnce() -> T) -> T {
    if is_recorded() { tracing::dispatcher::with_default(&tracing::Dispatch::none(), begin) } else { begin() }
}

/// The span ends in this error.
pub fn fail(span: &tracing::Span, error: &(impl std::fmt::Display + ?Sized)) {
    if !span.is_disabled() {
        span.set_status(Status::error(error.to_string()));
    }
}
