//! What this process records, by trace.

use hesper_integration::Stack;
use hesper_trace::{Limits, TraceContext, Tracer, settings::Rate};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message as _;
use std::{
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};
use tracing_subscriber::layer::SubscriberExt as _;

/// Every span of this process that has ended.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Span>>>);

impl Recorder {
    /// The one of this process. Of itself it records nothing.
    pub(crate) fn get() -> &'static Self {
        static RECORDER: OnceLock<Recorder> = OnceLock::new();
        RECORDER.get_or_init(|| {
            let tracer = Tracer {
                service_name: "test".into(),
                version: "1".into(),
                resource: Vec::new(),
                rate: Rate::new(0).expect("a rate"),
                limits: Limits { delay: Duration::from_millis(5), ..Limits::default() },
            };
            let installed = hesper_trace::install(&tracer).expect("the only one");
            let subscriber = tracing_subscriber::registry().with(installed.layer);
            tracing::subscriber::set_global_default(subscriber).expect("the only one");
            let recorder = Self(Arc::default());
            let (all, spans) = (recorder.0.clone(), installed.spans);
            std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    while let Some(batch) = spans.next().await {
                        let request = ExportTraceServiceRequest::decode(&*batch.request).expect("OTLP");
                        let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
                        all.lock().expect("lock").extend(scopes.flat_map(|scope| scope.spans));
                    }
                });
            });
            recorder
        })
    }

    /// The spans of one trace so far.
    fn of(&self, trace_id: &str) -> Vec<Span> {
        let all = self.0.lock().expect("lock");
        all.iter().filter(|span| hex(&span.trace_id) == trace_id).cloned().collect()
    }
}

/// What somebody outside asked to be recorded, or not to be.
pub(crate) struct Trace {
    pub(crate) parent: TraceContext,
}

impl Trace {
    pub(crate) fn new(sampled: bool) -> Self {
        let (trace, span) = (rand::random::<u128>() | 1, rand::random::<u64>() | 1);
        let traceparent = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
        Self { parent: TraceContext::parse(&traceparent, "").expect("a context") }
    }

    /// What was recorded of it, once these are among it. In order of their beginnings.
    #[track_caller]
    pub(crate) fn spans(&self, expected: &[&str]) -> Vec<Span> {
        let until = Instant::now() + Stack::PATIENCE;
        let mut spans = loop {
            let spans = Recorder::get().of(&self.parent.trace_id());
            let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
            let all = expected.iter().all(|name| {
                let found = names.iter().position(|n| n == name);
                found.map(|at| names.swap_remove(at)).is_some()
            });
            if all {
                break spans;
            }
            assert!(Instant::now() < until, "not all of {expected:?}:\n{}", tree(&spans));
            std::thread::sleep(Duration::from_millis(5));
        };
        spans.sort_by_key(|span| span.start_time_unix_nano);
        spans
    }

    pub(crate) fn is_recorded(&self) -> bool {
        !Recorder::get().of(&self.parent.trace_id()).is_empty()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The only span of this name.
#[track_caller]
pub(crate) fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let span = named.next().unwrap_or_else(|| panic!("no span {name}: {}", tree(spans)));
    assert!(named.next().is_none(), "{name} twice: {}", tree(spans));
    span
}

/// Each of these is inside of the one before.
#[track_caller]
pub(crate) fn assert_chain(spans: &[Span], chain: &[&Span]) {
    for pair in chain.windows(2) {
        assert_eq!(
            hex(&pair[1].parent_span_id),
            hex(&pair[0].span_id),
            "{} is not inside of {}:\n{}",
            pair[1].name,
            pair[0].name,
            tree(spans)
        );
    }
}

/// An attribute as text; empty = there is none.
pub(crate) fn text(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.clone()?.value);
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(bool)) => bool.to_string(),
        _ => String::new(),
    }
}

pub(crate) fn tree(spans: &[Span]) -> String {
    let line = |s: &Span| format!("{} {} < {}", s.name, hex(&s.span_id), hex(&s.parent_span_id));
    spans.iter().map(line).collect::<Vec<_>>().join("\n")
}
