//! A sender of spans that never resends: what was acknowledged must arrive exactly once, everything else at most once.

use super::arrived::{ID, span_line};
use crate::{Stack, wait_until};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
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

#[derive(Default)]
struct Shared {
    sent: Mutex<Sent>,
    last_error: Mutex<Option<String>>,
    next: AtomicU64,
    stop: AtomicBool,
}

/// A running sender over gRPC; ends when it is stopped or dropped.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    /// Sends spans of `service` in batches of this size, this many at once, as fast as they are acknowledged.
    pub fn start(to: SocketAddr, service: &str, batch: usize, at_once: usize) -> Self {
        Self::heavy(to, service, batch, at_once, 0)
    }

    /// The same with spans that are larger by so many bytes.
    pub fn heavy(to: SocketAddr, service: &str, batch: usize, at_once: usize, weight: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let (state, service) = (shared.clone(), service.to_owned());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address");
                let channel = endpoint.connect_timeout(ANSWER).connect_lazy();
                let trace = rand::random::<[u8; 16]>();
                let workers = (0..at_once)
                    .map(|_| work(state.clone(), channel.clone(), &service, trace, batch, weight));
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

async fn work(
    shared: Arc<Shared>,
    channel: Channel,
    service: &str,
    trace: [u8; 16],
    batch: usize,
    weight: usize,
) {
    let mut client = TraceServiceClient::new(channel);
    while !shared.stop.load(Ordering::Relaxed) {
        let first = shared.next.fetch_add(batch as u64, Ordering::Relaxed);
        let numbers = first..first + batch as u64;
        let lines: Vec<_> = numbers.clone().map(|number| span_line(&trace, &id(number))).collect();
        let request = request(service, trace, numbers, weight);
        let answer = tokio::time::timeout(ANSWER, client.export(request)).await;
        let failure = match answer {
            Ok(Ok(answer)) => answer.into_inner().partial_success.map(|partial| format!("{partial:?}")),
            Ok(Err(status)) => Some(format!("{:?}: {}", status.code(), status.message())),
            Err(_) => Some(format!("no answer in {ANSWER:?}")),
        };
        let failed = failure.is_some();
        {
            let mut sent = shared.sent.lock().unwrap_or_else(PoisonError::into_inner);
            let list = if failed { &mut sent.unsure } else { &mut sent.acknowledged };
            list.extend(lines);
        }
        if failed {
            *shared.last_error.lock().unwrap_or_else(PoisonError::into_inner) = failure;
            tokio::time::sleep(PAUSE).await;
        }
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
