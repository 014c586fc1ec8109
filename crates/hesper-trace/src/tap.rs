//! Spans as they end, for a command that shows them to a person. They go their usual way all the same.

use crate::{Limits, Tracer, install, root, settings::Rate};
use opentelemetry::trace::Status;
use opentelemetry_sdk::trace::SpanData;
use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tracing::{Dispatch, Instrument, Span, instrument::WithSubscriber};
use tracing_subscriber::layer::SubscriberExt;

/// Spans that are kept at most until they are taken; what is more is left out.
const MAX: usize = 4096;

/// None while nobody listens.
static HEARD: Mutex<Option<Vec<Ended>>> = Mutex::new(None);

fn heard() -> MutexGuard<'static, Option<Vec<Ended>>> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The trace, 32 hexadecimal digits.
    pub trace_id: String,
    /// The span, 16 hexadecimal digits.
    pub span_id: String,
    /// The one around; zeros = none.
    pub parent_id: String,
    /// What was done.
    pub name: String,
    /// Since when.
    pub start: SystemTime,
    /// Until when.
    pub end: SystemTime,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Attributes, as text.
    pub attributes: Vec<(String, String)>,
}

impl Ended {
    /// An attribute as text, if there is one and it is not empty.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

impl From<&SpanData> for Ended {
    fn from(span: &SpanData) -> Self {
        let error = match &span.status {
            Status::Error { description } => Some(description.to_string()),
            _ => None,
        };
        let attributes = span.attributes.iter().map(|kv| (kv.key.to_string(), kv.value.to_string()));
        Self {
            trace_id: span.span_context.trace_id().to_string(),
            span_id: span.span_context.span_id().to_string(),
            parent_id: span.parent_span_id.to_string(),
            name: span.name.to_string(),
            start: span.start_time,
            end: span.end_time,
            error,
            attributes: attributes.collect(),
        }
    }
}

/// Listens until dropped. For one at a time in a process.
#[derive(Debug)]
pub struct Tap {
    /// Records where nobody else does.
    alone: Option<Dispatch>,
}

impl Tap {
    /// From now on. None: somebody else does.
    pub fn open() -> Option<Self> {
        let mut heard = heard();
        if heard.is_some() {
            return None;
        }
        *heard = Some(Vec::new());
        drop(heard);
        Some(Self { alone: alone() })
    }

    /// Does it in the span that `make` makes, which is recorded, also when tracing is off in this process. Spans of tasks that are spawned
    /// meanwhile may be missing then.
    pub async fn within<T>(&self, make: impl FnOnce() -> Span, work: impl Future<Output = T>) -> T {
        let work = async {
            let span = root(make);
            work.instrument(span).await
        };
        match &self.alone {
            Some(dispatch) => work.with_subscriber(dispatch.clone()).await,
            None => work.await,
        }
    }

    /// What has ended since the last time, in that order.
    pub fn take(&self) -> Vec<Ended> {
        heard().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        *heard() = None;
    }
}

/// A recorder of our own, unless this process has one. What it records stays here.
fn alone() -> Option<Dispatch> {
    let tracer = Tracer {
        service_name: "hesper".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        resource: Vec::new(),
        rate: Rate::NONE,
        limits: Limits::default(),
    };
    let installed = install(&tracer)?;
    // Nobody sends them.
    installed.spans.close();
    Some(Dispatch::new(tracing_subscriber::registry().with(installed.layer)))
}

/// A span has ended.
pub(crate) fn hear(span: &SpanData) {
    if let Some(heard) = heard().as_mut().filter(|heard| heard.len() < MAX) {
        heard.push(span.into());
    }
}
