//! The layer that records, for the process's subscriber.

use crate::{
    Counters, Limits, Spans,
    entry::{self, Recorded},
    queue,
    settings::Rate,
};
use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use std::sync::{Arc, OnceLock};
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

/// Most attributes of a span.
const ATTRIBUTES_MAX: u32 = 64;

/// What this process records, and as whom.
#[derive(Clone, Debug)]
pub struct Tracer {
    /// `service.name`: the role.
    pub service_name: String,
    /// `service.version`.
    pub version: String,
    /// More attributes of the resource; these win.
    pub resource: Vec<(String, String)>,
    /// Of what begins here, how much is recorded.
    pub rate: Rate,
    /// Bounds of what waits.
    pub limits: Limits,
}

/// What [`install`] made.
pub struct Installed<S> {
    /// For the subscriber of the process.
    pub layer: Box<dyn Layer<S> + Send + Sync>,
    /// For whoever sends the spans. Until somebody does they wait, and what does not fit is dropped and counted.
    pub spans: Spans,
}

static COUNTERS: OnceLock<Arc<Counters>> = OnceLock::new();

/// What became of the spans of this process; none when tracing is off.
pub fn counters() -> Option<&'static Arc<Counters>> {
    COUNTERS.get()
}

/// Begins to record. None when this process does so already.
pub fn install<S>(tracer: &Tracer) -> Option<Installed<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    if !entry::decide(tracer.rate) {
        return None;
    }
    let (intake, spans) = queue::queue(tracer.limits);
    // The first and only: it was decided just now.
    let _ = COUNTERS.set(spans.counters());
    // What comes so far is recorded: it was decided before.
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn)
        .with_max_attributes_per_span(ATTRIBUTES_MAX)
        .with_resource(resource(tracer))
        .with_span_processor(intake)
        .build();
    let scope = InstrumentationScope::builder("hesper").with_version(tracer.version.clone()).build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer_with_scope(scope))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Recorded);
    Some(Installed { layer: Box::new(layer), spans })
}

fn resource(tracer: &Tracer) -> Resource {
    let text = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
    let mut attributes = vec![
        text("service.name", &tracer.service_name),
        text("service.version", &tracer.version),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    for (key, value) in &tracer.resource {
        attributes.retain(|kv| kv.key.as_str() != key);
        attributes.push(text(key, value));
    }
    Resource::builder_empty().with_attributes(attributes).build()
}
