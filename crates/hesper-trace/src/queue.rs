//! Ended spans on their way out: a bounded queue, and batches of it as OTLP.

use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use prost::Message as _;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Bounds of the queue; the defaults are those of OpenTelemetry's batch span processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Spans that wait, at most; what is more is dropped and counted.
    pub queue: usize,
    /// Spans of one batch, at most.
    pub batch: usize,
    /// How long a span waits for others.
    pub delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queue: 2048, batch: 512, delay: Duration::from_secs(5) }
    }
}

/// What became of spans. Every one that ended is sent, dropped, or still waits.
#[derive(Debug, Default)]
pub struct Counters {
    ended: AtomicU64,
    sent: AtomicU64,
    full: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// Recorded and ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }

    /// Taken by the exporter's destination.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Dropped because the queue was full: nothing that is traced ever waits for it.
    pub fn dropped_full(&self) -> u64 {
        self.full.load(Relaxed)
    }

    /// Dropped because the destination did not take them, or not in time.
    pub fn dropped_refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Counts what the destination took.
    pub fn add_sent(&self, items: u64) {
        self.sent.fetch_add(items, Relaxed);
    }

    /// Counts what it did not.
    pub fn add_refused(&self, items: u64) {
        self.refused.fetch_add(items, Relaxed);
    }
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
    /// A batch is full, the first span came, or it is closed.
    news: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<SpanData>,
    /// Since the first of them waits.
    since: Option<Instant>,
    flush: bool,
    closed: bool,
    resource: ResourceAttributesWithSchema,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what ended into the queue; never waits.
#[derive(Debug)]
pub(crate) struct Intake(Arc<Shared>);

impl SpanProcessor for Intake {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        let Shared { limits, counters, news, .. } = &*self.0;
        counters.ended.fetch_add(1, Relaxed);
        crate::tap::hear(&span);
        let mut state = self.0.lock();
        if state.closed || state.waiting.len() >= limits.queue {
            drop(state);
            counters.full.fetch_add(1, Relaxed);
            return;
        }
        state.waiting.push_back(span);
        let waiting = state.waiting.len();
        if waiting == 1 {
            state.since = Some(Instant::now());
        }
        drop(state);
        if waiting == 1 || waiting == limits.batch {
            news.notify_one();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.lock().resource = resource.into();
    }
}

/// Spans that go out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// An `ExportTraceServiceRequest` (OTLP 1.x), encoded.
    pub request: Vec<u8>,
    /// Spans in it.
    pub items: u64,
}

/// The way out of the queue, for the one who sends.
#[derive(Clone, Debug)]
pub struct Spans(Arc<Shared>);

pub(crate) fn queue(limits: Limits) -> (Intake, Spans) {
    let (counters, state, news) = (Arc::default(), Mutex::default(), Notify::new());
    let shared = Arc::new(Shared { limits, state, news, counters });
    (Intake(shared.clone()), Spans(shared))
}

impl Spans {
    /// The next batch: when it is full, when its first span has waited long enough, or when [`Spans::flush`] was called. None when the
    /// queue is closed and empty. For one caller at a time. Cancel safe.
    pub async fn next(&self) -> Option<Batch> {
        loop {
            let news = self.0.news.notified();
            let until = {
                let mut state = self.0.lock();
                let ripe = state.since.map(|since| since + self.0.limits.delay);
                let due = ripe.is_some_and(|ripe| Instant::now() >= ripe);
                if state.waiting.is_empty() {
                    state.flush = false;
                    if state.closed {
                        return None;
                    }
                } else if due || state.flush || state.closed || state.waiting.len() >= self.0.limits.batch {
                    return Some(self.take(&mut state));
                }
                ripe
            };
            match until {
                Some(until) => drop(timeout_at(until, news).await),
                None => news.await,
            }
        }
    }

    fn take(&self, state: &mut State) -> Batch {
        let count = state.waiting.len().min(self.0.limits.batch);
        let spans: Vec<_> = state.waiting.drain(..count).collect();
        state.since = (!state.waiting.is_empty()).then(Instant::now);
        let resource_spans = group_spans_by_resource_and_scope(spans, &state.resource);
        let request = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        Batch { request, items: count as u64 }
    }

    /// What waits goes out without waiting for more.
    pub fn flush(&self) {
        self.0.lock().flush = true;
        self.0.news.notify_one();
    }

    /// Nothing more is taken in; what waits still goes out.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.news.notify_one();
    }

    /// Was [`Spans::close`] called?
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Spans that wait.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// What became of all.
    pub fn counters(&self) -> Arc<Counters> {
        self.0.counters.clone()
    }
}
