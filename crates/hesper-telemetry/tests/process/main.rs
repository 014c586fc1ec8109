//! Processors, made of the text of a configuration, on requests written as OTLP/JSON.

mod actions;
mod filter;
mod fixtures;
mod matching;
mod oracle;
mod sampler;

use fixtures::everything;
use hesper_collector_config::{load, processors::Processor as Settings};
use hesper_otlp::{Batch, Refusal, Signal, json};
use hesper_telemetry::{
    origin::Origin,
    process::{BuildError, Counted, Counting, MAX_MESSAGES, Processor, Work, build, run},
};
use serde_json::Value as Json;
use std::sync::Arc;

/// The least that a processor can be in.
const BASE: &str = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
                    service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";

/// The settings of a processor from its body in flow style.
fn settings(kind: &str, body: &str) -> Settings {
    let text = format!("processors: {{{kind}/x: {body}}}");
    let (config, _) = load(&[("base.yaml", BASE), ("f.yaml", &text)], &|_| None)
        .unwrap_or_else(|faults| panic!("{text}\n{faults:#?}"));
    config.processors[&format!("{kind}/x").parse().expect("an id")].settings.clone()
}

fn processor(kind: &str, body: &str) -> Arc<dyn Processor> {
    build(kind, &settings(kind, body)).expect("a processor")
}

fn batch(signal: Signal, request: &Json) -> Batch {
    Batch { signal, payload: json::decode(signal, request.to_string().as_bytes()).expect("a request") }
}

fn shown(batch: &Batch) -> Json {
    let text = json::encode(batch.signal, &batch.payload).expect("a request");
    serde_json::from_slice(&text).expect("JSON")
}

/// What a processor makes of a request; `None` when nothing is left.
fn made(step: &Arc<dyn Processor>, signal: Signal, request: &Json, origin: &Origin) -> Option<Json> {
    let left = run(std::slice::from_ref(step), batch(signal, request), origin).expect("taken");
    left.as_ref().map(shown)
}

/// What it makes of a request, as it is written canonically.
fn canonical(signal: Signal, request: &Json) -> Json {
    shown(&batch(signal, request))
}

#[test]
fn what_is_not_meant_stays_as_it_is() {
    let nothing = "{exclude: {match_type: strict, attributes: [{key: never}]}, actions: [{key: x, action: convert, \
                   converted_type: int}]}";
    let steps = [
        processor("resource", "{attributes: [{key: none, action: delete}]}"),
        processor("resource", "{attributes: [{key: none, action: hash}]}"),
        processor("attributes", "{actions: [{key: none, value: x, action: update}]}"),
        processor("attributes", nothing),
        processor(
            "filter",
            "{metrics: {metric: ['name == \"none\"']}, logs: {log_record: ['body == \"none\"']}, \
                             traces: {spanevent: ['name == \"none\"']}}",
        ),
        processor("memory_limiter", "{check_interval: 1s, limit_percentage: 100, spike_limit_percentage: 1}"),
    ];
    for signal in Signal::ALL {
        let request = canonical(signal, &everything(signal));
        for step in &steps {
            assert_eq!(made(step, signal, &request, &Origin::default()), Some(request.clone()), "{signal}");
        }
    }
    // All share of everything is kept; what says so is added.
    let all = processor("probabilistic_sampler", "{sampling_percentage: 100, mode: proportional}");
    let kept = made(&all, Signal::Traces, &everything(Signal::Traces), &Origin::default()).expect("kept");
    let mut expected = canonical(Signal::Traces, &everything(Signal::Traces));
    expected["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceState"] = "ot=th:0,a=b".into();
    assert_eq!(kept, expected);
}

#[test]
fn what_is_not_built_here_is_told() {
    for kind in ["batch", "k8sattributes"] {
        let Err(error) = build(kind, &settings(kind, "")) else { panic!("{kind} is built") };
        assert!(matches!(error, BuildError::Elsewhere { .. }), "{error}");
        assert!(error.to_string().contains(kind), "{error}");
    }
}

#[test]
fn a_request_of_nothing_but_messages_is_not_decoded() {
    // Empty spans, two bytes each, in one scope of one resource.
    let request = |spans: usize| {
        let mut bytes = [0x12, 0].repeat(spans);
        for key in [0x12, 0x0a] {
            let mut outer = vec![key];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
        Batch { signal: Signal::Traces, payload: bytes.into() }
    };
    let most = usize::try_from(MAX_MESSAGES).expect("a number");
    let many = request(most);
    assert_eq!(hesper_otlp::nested(Signal::Traces, &many.payload), MAX_MESSAGES + 2);
    let step = processor("filter", "{traces: {span: ['name == \"x\"']}}");
    let refusal = run(&[step], many.clone(), &Origin::default()).expect_err("too many");
    assert!(refusal.status().message.contains("send smaller batches"), "{refusal:?}");
    // On the bytes it can be worked on.
    let step = processor("resource", "{attributes: [{key: a, value: x, action: insert}]}");
    assert!(run(&[step], many, &Origin::default()).expect("taken").is_some());
}

/// Refuses everything.
struct Full;

impl Processor for Full {
    fn process(&self, _: Work, _: &Origin) -> Result<Option<Work>, Refusal> {
        Err(Refusal::Internal("full".into()))
    }
}

#[test]
fn items_are_counted() {
    let drop_half = processor("filter", "{metrics: {datapoint: ['attributes[\"n\"] == 1']}}");
    let (counting, full) = (Counting::new(drop_half), Counting::new(Arc::new(Full)));
    let (counters, refused) = (counting.counters(), full.counters());
    let steps: [Arc<dyn Processor>; 1] = [Arc::new(counting)];
    let request = everything(Signal::Metrics);
    let points = hesper_otlp::count(Signal::Metrics, &batch(Signal::Metrics, &request).payload).items;
    assert_eq!(points, 10);
    for _ in 0..2 {
        run(&steps, batch(Signal::Metrics, &request), &Origin::default()).expect("taken");
    }
    assert_eq!(counters.of(Signal::Metrics), Counted { incoming: 20, outgoing: 10, refused: 0 });
    assert_eq!(counters.of(Signal::Traces), Counted::default());
    let full: [Arc<dyn Processor>; 1] = [Arc::new(full)];
    run(&full, batch(Signal::Metrics, &request), &Origin::default()).expect_err("refused");
    assert_eq!(refused.of(Signal::Metrics), Counted { incoming: 10, outgoing: 0, refused: 10 });
}
