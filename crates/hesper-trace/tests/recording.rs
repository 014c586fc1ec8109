//! What is recorded and how traces go on: one process, one subscriber, every case in its own trace.

use hesper_trace::{Limits, Spans, Tap, TraceContext, Tracer, entry, root, settings::Rate};
use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
use prost::Message as _;
use std::{sync::OnceLock, time::Duration};
use tokio::sync::Mutex;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// As of one of our crates.
macro_rules! info_span {
    ($($t:tt)*) => { tracing::info_span!(target: "hesper_test", $($t)*) };
}

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Ten thousand per million; no delay. Tests take it in turn: there is one queue in a process.
fn spans() -> &'static Mutex<Spans> {
    static SPANS: OnceLock<Mutex<Spans>> = OnceLock::new();
    SPANS.get_or_init(|| {
        let tracer = Tracer {
            service_name: "test".into(),
            version: "1".into(),
            resource: vec![("team".into(), "a".into())],
            rate: Rate::new(10_000).expect("rate"),
            limits: Limits { queue: 100, batch: 50, delay: Duration::from_secs(3600) },
        };
        let installed = hesper_trace::install(&tracer).expect("first");
        let subscriber = tracing_subscriber::registry().with(installed.layer);
        tracing::subscriber::set_global_default(subscriber).expect("first");
        Mutex::new(installed.spans)
    })
}

async fn recorded(spans: &Spans) -> Vec<Span> {
    let mut all = Vec::new();
    while spans.waiting() > 0 {
        spans.flush();
        let batch = spans.next().await.expect("open");
        let request = ExportTraceServiceRequest::decode(&*batch.request).expect("OTLP");
        let before = all.len();
        for resource in request.resource_spans {
            let attributes = resource.resource.expect("resource").attributes;
            assert!(attributes.iter().any(|kv| kv.key == "service.name"), "{attributes:?}");
            all.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        assert_eq!(all.len() - before, batch.items as usize);
    }
    all
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name} in {spans:?}"))
}

#[tokio::test]
async fn a_sampled_parent_is_honoured_and_the_trace_goes_on_within() {
    let spans = spans().lock().await;
    let parent = TraceContext::parse(SAMPLED, "").expect("context");
    let span = entry(Some(&parent), || info_span!("outer", otel.kind = "server"));
    let told = async {
        let inner = info_span!("inner", "mesh.service" = "metrics");
        let context = async { TraceContext::current().expect("recorded") }.instrument(inner).await;
        let nested = entry(None, || info_span!("nested"));
        hesper_trace::fail(&nested, "no way");
        context
    }
    .instrument(span)
    .await;
    let all = recorded(&spans).await;
    let (outer, inner, nested) = (named(&all, "outer"), named(&all, "inner"), named(&all, "nested"));
    assert_eq!(all.len(), 3);
    assert_eq!(outer.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(inner.parent_span_id, outer.span_id);
    assert_eq!(nested.parent_span_id, outer.span_id);
    assert!(all.iter().all(|span| span.trace_id == outer.trace_id));
    assert_eq!(outer.kind, 2);
    assert_eq!(nested.status.as_ref().map(|s| (s.code, &*s.message)), Some((2, "no way")));
    assert!(inner.attributes.iter().any(|kv| kv.key == "mesh.service"), "{inner:?}");
    assert!(told.is_sampled());
    assert_eq!(told.trace_id(), parent.trace_id());
}

#[tokio::test]
async fn an_unsampled_parent_is_honoured_and_others_are_told() {
    let spans = spans().lock().await;
    let parent = TraceContext::parse(NOT_SAMPLED, "").expect("context");
    for _ in 0..1000 {
        let span = entry(Some(&parent), || info_span!("outer"));
        async { drop(info_span!("inner").entered()) }.instrument(span).await;
    }
    assert!(recorded(&spans).await.is_empty());
    assert!(TraceContext::current().is_some_and(|context| !context.is_sampled()));
}

#[tokio::test]
async fn of_what_begins_here_the_share_is_recorded_and_nothing_beside_it() {
    let spans = spans().lock().await;
    let mut count = 0;
    for _ in 0..50_000 {
        // Inside of nothing.
        drop(info_span!("stray").entered());
        let span = entry(None, || info_span!("root"));
        async { drop(info_span!("child").entered()) }.instrument(span).await;
        if spans.waiting() > 20 {
            count += recorded(&spans).await.len();
        }
    }
    let rest = recorded(&spans).await;
    count += rest.len();
    assert!(rest.iter().all(|span| span.name != "stray"));
    // 50,000 at 1 %: 500 of each kind, deviation 22; seven of them.
    assert!((345..=655).contains(&(count / 2)), "{count}");
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let spans = spans().lock().await;
    let (ended, dropped) = (spans.counters().ended(), spans.counters().dropped_full());
    let parent = TraceContext::parse(SAMPLED, "").expect("context");
    for _ in 0..150 {
        drop(entry(Some(&parent), || info_span!("many")));
    }
    assert_eq!(spans.waiting(), 100);
    assert_eq!(spans.counters().ended() - ended, 150);
    assert_eq!(spans.counters().dropped_full() - dropped, 50);
    assert_eq!(recorded(&spans).await.len(), 100);
}

#[tokio::test]
async fn what_a_person_asked_to_see_is_recorded_always_and_shown_as_it_ends() {
    let spans = spans().lock().await;
    let tap = Tap::open().expect("the only one");
    assert!(Tap::open().is_none());
    for _ in 0..20 {
        let span = root(|| info_span!("shown", "mesh.service.name" = "metrics"));
        hesper_trace::fail(&span, "no way");
        async { drop(info_span!("step").entered()) }.instrument(span).await;
    }
    let ended = tap.take();
    assert_eq!(ended.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["step", "shown"].repeat(20));
    let (step, shown) = (&ended[0], &ended[1]);
    assert_eq!((&step.parent_id, &step.trace_id), (&shown.span_id, &shown.trace_id));
    assert_eq!(shown.error.as_deref(), Some("no way"));
    assert_eq!(shown.attribute("mesh.service.name"), Some("metrics"));
    assert!(step.start >= shown.start && step.end <= shown.end);
    assert!(tap.take().is_empty());
    drop(tap);
    assert_eq!(recorded(&spans).await.len(), 40);
    assert!(Tap::open().is_some_and(|tap| tap.take().is_empty()));
}

#[tokio::test]
async fn a_span_ends_when_it_is_told_to_and_what_is_detached_does_not_hold_it() {
    let spans = spans().lock().await;
    let span = root(|| info_span!("held"));
    let held = span.clone();
    let kept = span.in_scope(|| hesper_trace::detached(tracing::Span::current));
    assert!(kept.is_disabled());
    let inside = span.in_scope(|| info_span!("inside"));
    hesper_trace::end(&inside);
    hesper_trace::end(&span);
    let all = recorded(&spans).await;
    assert_eq!(all.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["inside", "held"]);
    drop((span, held, inside));
    assert!(recorded(&spans).await.is_empty(), "once");
}

#[tokio::test]
async fn spans_of_libraries_and_events_are_not_recorded() {
    let spans = spans().lock().await;
    let parent = TraceContext::parse(SAMPLED, "").expect("context");
    let span = entry(Some(&parent), || info_span!("ours"));
    span.in_scope(|| {
        drop(tracing::info_span!(target: "h2::client", "theirs").entered());
        tracing::error!("an event");
    });
    drop(span);
    let all = recorded(&spans).await;
    assert_eq!(all.len(), 1);
    assert!(all[0].events.is_empty());
}
