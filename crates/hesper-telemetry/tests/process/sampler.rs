//! What `probabilistic_sampler` keeps, and what it notes.

use crate::{
    fixtures::{items, log, request, span, text},
    made, processor,
};
use hesper_otlp::Signal;
use hesper_telemetry::origin::Origin;
use serde_json::{Value as Json, json};

/// The item, if it is kept.
fn kept(signal: Signal, settings: &str, item: &Json) -> Option<Json> {
    let step = processor("probabilistic_sampler", &format!("{{{settings}}}"));
    let before = request(signal, &[], std::slice::from_ref(item));
    made(&step, signal, &before, &Origin::default()).map(|made| items(&made)[0].clone())
}

fn with_state(state: &str) -> Json {
    let mut item = span();
    item["traceState"] = state.into();
    item
}

fn with(mut item: Json, attribute: Json) -> Json {
    item["attributes"].as_array_mut().expect("a list").push(attribute);
    item
}

/// Its `tracestate`, or that it was dropped.
fn state(settings: &str, before: &str) -> Option<String> {
    let item = kept(Signal::Traces, settings, &with_state(before))?;
    Some(item["traceState"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn randomness_of_the_trace_id_decides() {
    // The trace id ends with 9b8233f7e3a151: more than a half, less than three quarters.
    for (settings, before, after) in [
        ("mode: proportional, sampling_percentage: 50", "", Some("ot=th:8")),
        ("mode: proportional, sampling_percentage: 25", "", None),
        (
            "mode: proportional, sampling_percentage: 50",
            "ot=rv:f0000000000000,a=b",
            Some("ot=th:8;rv:f0000000000000,a=b"),
        ),
        ("mode: proportional, sampling_percentage: 50", "ot=rv:10000000000000", None),
        // A half of a half.
        (
            "mode: proportional, sampling_percentage: 50",
            "ot=th:8;rv:e0000000000000",
            Some("ot=th:c;rv:e0000000000000"),
        ),
        (
            "mode: equalizing, sampling_percentage: 50",
            "ot=th:8;rv:90000000000000",
            Some("ot=th:8;rv:90000000000000"),
        ),
        (
            "mode: equalizing, sampling_percentage: 50",
            "ot=th:9;rv:a0000000000000",
            Some("ot=th:9;rv:a0000000000000"),
        ),
        ("mode: equalizing, sampling_percentage: 50", "ot=th:4;rv:70000000000000", None),
        // It should not have come.
        ("mode: equalizing, sampling_percentage: 50", "ot=th:e", None),
        ("mode: equalizing, sampling_percentage: 50, fail_closed: false", "ot=th:e", Some("ot=th:0")),
        ("mode: equalizing, sampling_percentage: 50", "nonsense", None),
        ("mode: equalizing, sampling_percentage: 50, fail_closed: false", "nonsense", Some("nonsense")),
        (
            "mode: proportional, sampling_percentage: 33.3, sampling_precision: 1",
            "ot=rv:f0000000000000",
            Some("ot=th:b;rv:f0000000000000"),
        ),
        ("sampling_percentage: 0", "", None),
        ("mode: equalizing, sampling_percentage: 0", "", None),
    ] {
        assert_eq!(state(settings, before).as_deref(), after, "{settings} {before}");
    }
}

/// FNV-1a as its authors describe it.
fn bucket(seed: u32, bytes: &[u8]) -> u32 {
    let mut hash = 2_166_136_261_u32;
    for byte in seed.to_le_bytes().iter().chain(bytes) {
        hash ^= u32::from(*byte);
        hash = hash.wrapping_mul(16_777_619);
    }
    hash & 0x3fff
}

#[test]
fn the_hash_of_the_trace_id_decides() {
    for seed in [0_u32, 22, 4_000_000_000] {
        for last in 0..40_u8 {
            let mut item = span();
            let id = [[7; 15].as_slice(), &[last]].concat();
            item["traceId"] = id.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
            let settings = format!("sampling_percentage: 40, hash_seed: {seed}");
            let is_kept = kept(Signal::Traces, &settings, &item);
            assert_eq!(is_kept.is_some(), bucket(seed, &id) < 6553, "{seed} {last}");
            if let Some(item) = is_kept {
                let state = item["traceState"].as_str().expect("a state").to_owned();
                assert!(state.starts_with("ot=th:999c;rv:") && state.ends_with(",a=b"), "{state}");
            }
        }
    }
    // Whoever samples by randomness is not sampled by a hash.
    for before in ["ot=th:8;rv:90000000000000", "ot=rv:90000000000000"] {
        assert_eq!(state("sampling_percentage: 100", before), None);
        let open = state("sampling_percentage: 100, fail_closed: false", before);
        assert_eq!(open.as_deref(), Some(before));
    }
}

#[test]
fn spans_without_an_id_and_spans_that_must_be_kept() {
    let mut anonymous = span();
    anonymous["traceId"] = "".into();
    for mode in ["hash_seed", "proportional", "equalizing"] {
        let settings = format!("mode: {mode}, sampling_percentage: 99");
        assert!(kept(Signal::Traces, &settings, &anonymous).is_none(), "{mode}");
        assert!(kept(Signal::Traces, &format!("{settings}, fail_closed: false"), &anonymous).is_some());
    }
    for (value, percentage, is_kept) in [
        (json!({"intValue": "1"}), 0, true),
        (json!({"doubleValue": 0.5}), 0, true),
        (json!({"stringValue": "2"}), 0, true),
        (json!({"intValue": "0"}), 100, false),
        (json!({"stringValue": "0"}), 100, false),
        (json!({"intValue": "-1"}), 100, true),
        (json!({"stringValue": "x"}), 100, true),
        (json!({"boolValue": true}), 0, false),
    ] {
        let item = with(span(), json!({"key": "sampling.priority", "value": value}));
        let settings = format!("sampling_percentage: {percentage}");
        assert_eq!(kept(Signal::Traces, &settings, &item).is_some(), is_kept, "{value} {percentage}");
    }
}

#[test]
fn log_records() {
    // By the trace id, else by the attribute; or by the attribute alone.
    let id = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x9b, 0x82, 0x33, 0xf7, 0xe3, 0xa1, 0x51];
    for value in ["a", "b", "c", "d", "e", "f"] {
        let record = with(log(), text("key", value));
        for (settings, expected) in [
            ("sampling_percentage: 50", bucket(0, &id) < 8192),
            ("sampling_percentage: 50, from_attribute: key", bucket(0, &id) < 8192),
            (
                "sampling_percentage: 50, from_attribute: key, attribute_source: record, hash_seed: 3",
                bucket(3, value.as_bytes()) < 8192,
            ),
        ] {
            assert_eq!(kept(Signal::Logs, settings, &record).is_some(), expected, "{settings} {value}");
        }
    }
    let nothing = "sampling_percentage: 99, from_attribute: none, attribute_source: record";
    assert!(kept(Signal::Logs, nothing, &log()).is_none(), "nothing to decide by");
    assert!(kept(Signal::Logs, &format!("{nothing}, fail_closed: false"), &log()).is_some());

    let record = kept(Signal::Logs, "mode: proportional, sampling_percentage: 50", &log()).expect("kept");
    assert!(record["attributes"].as_array().expect("a list").contains(&text("sampling.threshold", "8")));
    let before = with(log(), text("sampling.threshold", "8"));
    assert!(
        kept(Signal::Logs, "mode: proportional, sampling_percentage: 50", &before).is_none(),
        "a quarter"
    );
    let broken = with(log(), text("sampling.randomness", "x"));
    assert!(kept(Signal::Logs, "mode: equalizing, sampling_percentage: 100", &broken).is_none());
}

#[test]
fn log_records_may_ask_for_a_share() {
    for (value, percentage, is_kept) in [
        (json!({"intValue": "100"}), 0, true),
        (json!({"intValue": "250"}), 0, true),
        (json!({"doubleValue": 50.0}), 0, true),
        (json!({"intValue": "0"}), 100, false),
        (json!({"stringValue": "0"}), 100, true),
    ] {
        let record = with(log(), json!({"key": "p", "value": value}));
        let settings = format!("mode: equalizing, sampling_percentage: {percentage}, sampling_priority: p");
        assert_eq!(kept(Signal::Logs, &settings, &record).is_some(), is_kept, "{value} {percentage}");
    }
}
