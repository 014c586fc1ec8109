//! Which spans are recorded: decided where a request comes in, then by the span around.

use crate::{TraceContext, settings::Rate};
use http::HeaderMap;
use rand::Rng as _;
use std::{cell::Cell, sync::OnceLock};
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    layer::{Context, Filter},
    registry::LookupSpan,
};

/// What this process does where nobody has decided before.
struct Deciding {
    rate: Rate,
    unsampled: TraceContext,
}

static DECIDING: OnceLock<Deciding> = OnceLock::new();

thread_local! {
    /// The span that is being made begins what was asked for from elsewhere, and is recorded.
    static BEGINS: Cell<bool> = const { Cell::new(false) };
}

tokio::task_local! {
    /// What this task does is not to be recorded.
    static QUIET: ();
}

/// Does it without recording anything: whoever sends spans would make new ones for ever.
pub async fn quiet<F: Future>(work: F) -> F::Output {
    QUIET.scope((), work).await
}

/// False when it was decided before.
pub(crate) fn decide(rate: Rate) -> bool {
    DECIDING.set(Deciding { rate, unsampled: TraceContext::new_unsampled() }).is_ok()
}

/// What is told to others while nothing is recorded; none when tracing is off.
pub(crate) fn unsampled() -> Option<&'static TraceContext> {
    DECIDING.get().map(|deciding| &deciding.unsampled)
}

/// Is the span in which this is called recorded?
pub fn is_recorded() -> bool {
    DECIDING.get().is_some() && TraceContext::of(&Span::current()).is_some()
}

/// The span of what begins here: the one that `make` makes, if it is to be recorded, else none. `parent` is what came with the request.
/// Without one it belongs to the span around, or begins a trace of its own.
///
/// ```
/// let parent = hesper_trace::TraceContext::from_environment();
/// let span = hesper_trace::entry(parent.as_ref(), || tracing::info_span!("dial", otel.kind = "client"));
/// ```
pub fn entry(parent: Option<&TraceContext>, make: impl FnOnce() -> Span) -> Span {
    let Some(deciding) = DECIDING.get() else { return Span::none() };
    if QUIET.try_with(|()| ()).is_ok() {
        return Span::none();
    }
    let sampled = match parent {
        Some(parent) => parent.is_sampled(),
        None if TraceContext::of(&Span::current()).is_some() => return make(),
        None => deciding.rate.takes(rand::rng().random_range(0..Rate::ALL.per_million())),
    };
    if !sampled {
        return Span::none();
    }
    let span = {
        let _begins = Begins::now();
        make()
    };
    if let Some(parent) = parent {
        // Fails only for a span that nobody records.
        let _ = span.set_parent(parent.remote());
    }
    span
}

/// The same for what comes with these headers; they are not looked at while tracing is off.
pub fn entry_from(headers: &HeaderMap, make: impl FnOnce() -> Span) -> Span {
    if DECIDING.get().is_none() {
        return Span::none();
    }
    entry(TraceContext::from_headers(headers).as_ref(), make)
}

/// The span of what goes on for the sake of these requests, which were taken before: a part of the first one's trace, with links to the
/// others. None when none of them is recorded.
pub fn continued(requests: &[TraceContext], make: impl FnOnce() -> Span) -> Span {
    let Some((first, others)) = requests.split_first() else { return Span::none() };
    let span = entry(Some(first), make);
    if !span.is_disabled() {
        others.iter().for_each(|other| span.add_link(other.span_context()));
    }
    span
}

/// As [`entry`] for what a person asked to see: recorded whatever the share is. None only when tracing is off.
pub fn root(make: impl FnOnce() -> Span) -> Span {
    if DECIDING.get().is_none() {
        return Span::none();
    }
    let _begins = Begins::now();
    make()
}

/// [`BEGINS`] while it lives, also if `make` panics.
struct Begins;

impl Begins {
    fn now() -> Self {
        BEGINS.set(true);
        Self
    }
}

impl Drop for Begins {
    fn drop(&mut self) {
        BEGINS.set(false);
    }
}

/// Is this one of our spans? Those of libraries are not recorded, and events are for the log.
pub(crate) fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("hesper")
}

/// Lets through what [`entry`] has decided for, and what is inside of that.
pub(crate) struct Recorded;

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Filter<S> for Recorded {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        is_ours(metadata) && (BEGINS.get() || context.lookup_current().is_some())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        if is_ours(metadata) {
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }
}
