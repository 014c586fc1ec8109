//! A sender of spans that never resends: what was acknowledged must arrive exactly once, everything else at most once.

use super::{
    arrived::{ID, span_line},
    post::{Body, Post},
};
use crate::{Stack, wait_until};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tonic::transport::{Channel, Endpoint};

/// How long a receiver may take to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// Between a failure and the next batch.
const PAUSE: Duration = Duration::from_millis(20);

/// What was sent, as lines `span TRACE_ID SPAN_ID`.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// The receiver said that it has them.
    pub acknowledged: Vec<String>,
    /// No answer, or that of a failure: they may have arrived.
    pub unsure: Vec<String>,
}

/// How it sends.
#[derive(Clone)]
enum Way {
    Grpc(Channel),
    Http(Post),
}

#[derive(Default)]
struct Shared {
    sent: Mutex<Sent>,
    last_error: Mutex<Option<String>>,
    failures: Mutex<BTreeMap<String, usize>>,
    last_taken: Mutex<Option<Instant>>,
    next: AtomicU64,
    stop: AtomicBool,
}

/// A running sender; ends when it is stopped or dropped.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    /// Sends spans of `service` in batches of this size over gRPC, this many at once, as fast as they are acknowledged.
    pub fn start(to: SocketAddr, service: &str, batch: usize, at_once: usize) -> Self {
        Self::heavy(to, service, batch, at_once, 0)
    }

    /// The same with spans that are larger by so many bytes.
    pub fn heavy(to: SocketAddr, service: &str, batch: usize, at_once: usize, weight: usize) -> Self {
        let channel = move || {
            let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address");
            Way::Grpc(endpoint.connect_timeout(ANSWER).connect_lazy())
        };
        Self::by(channel, service, batch, at_once, weight)
    }

    /// The same over a channel that is made by the sender's own runtime.
    pub fn over(
        channel: impl FnOnce() -> Channel + Send + 'static,
        service: &str,
        batch: usize,
        at_once: usize,
    ) -> Self {
        Self::by(move || Way::Grpc(channel()), service, batch, at_once, 0)
    }

    /// The same over HTTP, each request with a body of this kind on a connection of its own.
    pub fn post(
        to: SocketAddr,
        service: &str,
        batch: usize,
        at_once: usize,
        weight: usize,
        body: Body,
    ) -> Self {
        Self::by(move || Way::Http(Post { to, body }), service, batch, at_once, weight)
    }

    fn by(
        way: impl FnOnce() -> Way + Send + 'static,
        service: &str,
        batch: usize,
        at_once: usize,
        weight: usize,
    ) -> Self {
        let shared = Arc::<Shared>::default();
        let (state, service) = (shared.clone(), service.to_owned());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let (way, trace) = (way(), rand::random::<[u8; 16]>());
                let workers =
                    (0..at_once).map(|_| work(state.clone(), way.clone(), &service, trace, batch, weight));
                futures::future::join_all(workers).await;
            });
        });
        Self { shared, thread: Some(thread) }
    }

    /// How many spans have been acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.len()
    }

    /// How many have been sent in vain: there was no answer, or that of a failure.
    pub fn refused(&self) -> usize {
        self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner).unsure.len()
    }

    /// Waits until so many have been acknowledged.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_acknowledged(&self, count: usize) {
        wait_until(
            &format!("{count} spans are acknowledged ({:?})", self.last_error()),
            Stack::PATIENCE,
            || self.acknowledged() >= count,
        );
    }

    /// Why the last batch failed that did.
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why batches failed, and how many for each reason.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the latest of the batches that were acknowledged was sent.
    pub fn last_taken(&self) -> Option<Instant> {
        *self.shared.last_taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, after the answers that are still to come.
    pub fn stop(mut self) -> Sent {
        self.end();
        std::mem::take(&mut *self.shared.sent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the sender panicked");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

async fn work(shared: Arc<Shared>, way: Way, service: &str, trace: [u8; 16], batch: usize, weight: usize) {
    while !shared.stop.load(Ordering::Relaxed) {
        let first = shared.next.fetch_add(batch as u64, Ordering::Relaxed);
        let numbers = first..first + batch as u64;
        let lines: Vec<_> = numbers.clone().map(|number| span_line(&trace, &id(number))).collect();
        let request = request(service, trace, numbers, weight);
        let began = Instant::now();
        let answer = tokio::time::timeout(ANSWER, way.send(request)).await;
        let failure = answer.unwrap_or_else(|_| Some(format!("no answer in {ANSWER:?}")));
        shared.note(lines, began, failure.as_deref());
        if failure.is_some() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Way {
    /// Why it was not taken, or not all of it.
    async fn send(&self, request: ExportTraceServiceRequest) -> Option<String> {
        match self {
            Self::Grpc(channel) => match TraceServiceClient::new(channel.clone()).export(request).await {
                Ok(answer) => answer.into_inner().partial_success.map(|partial| format!("{partial:?}")),
                Err(status) => Some(format!("{:?}: {}", status.code(), status.message())),
            },
            Self::Http(post) => post.send(&request.encode_to_vec()).await.err(),
        }
    }
}

impl Shared {
    /// What became of a batch.
    fn note(&self, lines: Vec<String>, began: Instant, failure: Option<&str>) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failure) = failure else {
            let mut last = self.last_taken.lock().unwrap_or_else(PoisonError::into_inner);
            *last = (*last).max(Some(began));
            return sent.acknowledged.extend(lines);
        };
        sent.unsure.extend(lines);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_owned());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.entry(failure.to_owned()).or_default() += 1;
    }
}

/// A span id of all zeros is none.
fn id(number: u64) -> [u8; 8] {
    (number + 1).to_be_bytes()
}

fn request(
    service: &str,
    trace: [u8; 16],
    numbers: std::ops::Range<u64>,
    weight: usize,
) -> ExportTraceServiceRequest {
    let heavy = (weight > 0).then(|| attribute("weight", &"x".repeat(weight)));
    let spans = numbers.map(|number| Span {
        trace_id: trace.to_vec(),
        span_id: id(number).to_vec(),
        name: format!("span-{number}"),
        start_time_unix_nano: 1_700_000_000_000_000_000 + number,
        end_time_unix_nano: 1_700_000_000_000_001_000 + number,
        attributes: [attribute(ID, &format!("{service}-{number}"))]
            .into_iter()
            .chain(heavy.clone())
            .collect(),
        ..Span::default()
    });
    let scope = ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() };
    let resource = Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let resource =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
