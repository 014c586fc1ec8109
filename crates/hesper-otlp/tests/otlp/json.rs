//! OTLP/JSON: the specification's rules one by one, and a second implementation to agree with.

use crate::support::{Style, any_request, canonical, request};
use base64::{Engine, engine::general_purpose::STANDARD};
use hesper_otlp::{Signal, json, limits::DEPTH, validate};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};

fn read(signal: Signal, text: &Value) -> Result<Vec<u8>, String> {
    json::decode(signal, text.to_string().as_bytes()).map(Vec::from).map_err(|error| error.to_string())
}

fn write(signal: Signal, payload: &[u8]) -> Value {
    let text = json::encode(signal, payload).expect("a request");
    serde_json::from_slice(&text).expect("JSON")
}

/// A request with one span of these members.
fn span(members: Value) -> Value {
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [members]}]}]})
}

/// The one span of a request, after a way through protobuf.
fn through(members: Value) -> Result<Value, String> {
    let payload = read(Signal::Traces, &span(members))?;
    assert!(canonical(Signal::Traces, &payload).is_some(), "prost reads it");
    Ok(write(Signal::Traces, &payload)["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone())
}

/// The value of an attribute, after a way through protobuf.
fn value(value: Value) -> Result<Value, String> {
    Ok(through(json!({"attributes": [{"key": "k", "value": value}]}))?["attributes"][0]["value"].clone())
}

/// The one number point of a gauge, after a way through protobuf.
fn point(members: Value) -> Result<Value, String> {
    let text =
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"gauge": {"dataPoints": [members]}}]}]}]});
    let payload = read(Signal::Metrics, &text)?;
    let back = write(Signal::Metrics, &payload);
    Ok(back["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["gauge"]["dataPoints"][0].clone())
}

#[test]
fn check_19_names_are_lower_camel_case_only() {
    let members =
        json!({"dropped_attributes_count": 7, "trace_id": "zz", "Name": 1, "droppedEventsCount": 2});
    assert_eq!(through(members), Ok(json!({"droppedEventsCount": 2})));
}

#[test]
fn check_20_unknown_names_are_ignored_at_any_depth() {
    let members =
        json!({"future": {"a": [1, {"b": null}]}, "status": {"code": 1, "later": [[]]}, "name": "x"});
    assert_eq!(through(members), Ok(json!({"status": {"code": 1}, "name": "x"})));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"future":{deep},"resourceSpans":[]}}"#);
    assert_eq!(json::decode(Signal::Traces, text.as_bytes()).as_deref(), Ok(&b""[..]));
}

#[test]
fn check_21_ids_are_hexadecimal_and_other_bytes_base64() {
    let (trace, id) = ("5B8EFFF798038103D269B633813FC60C", "eee19b7ec3c1b174");
    let link = json!({"traceId": trace, "spanId": "EEE19B7EC3C1B174"});
    let members = json!({"traceId": trace, "spanId": id, "parentSpanId": id, "links": [link]});
    let lower = trace.to_lowercase();
    let expected = json!({"traceId": lower, "spanId": id, "parentSpanId": id, "links": [{"traceId": lower, "spanId": id}]});
    assert_eq!(through(members), Ok(expected));
    assert_eq!(value(json!({"bytesValue": "AAEC/w=="})), Ok(json!({"bytesValue": "AAEC/w=="})));
    let exemplar = json!({"exemplars": [{"traceId": trace, "spanId": id, "asInt": "1"}]});
    assert_eq!(point(exemplar).expect("a point")["exemplars"][0]["traceId"], lower);
    let profiles = json!({"resourceProfiles": [{"scopeProfiles": [{"profiles": [{"profileId": "AAECAwQFBgcICQoLDA0ODw=="}]}]}],
        "dictionary": {"linkTable": [{"traceId": lower, "spanId": id}]}});
    assert_eq!(write(Signal::Profiles, &read(Signal::Profiles, &profiles).expect("read")), profiles);
}

#[test]
fn check_22_wrong_ids_are_refused() {
    for bad in [
        "5b8efff798038103d269b633813fc60",
        "5b8efff798038103d269b633813fc60g",
        "5b8e",
        "é",
        "+5b8efff798038103d269b633813fc60",
    ] {
        let error = through(json!({"traceId": bad})).expect_err(bad);
        assert!(error.starts_with("traceId: expected 32 hexadecimal digits, found "), "{error}");
    }
    assert!(through(json!({"spanId": "00112233445566"})).is_err());
    assert!(through(json!({"spanId": 7})).is_err());
    assert_eq!(through(json!({"parentSpanId": ""})), Ok(json!({})), "no parent");
}

#[test]
fn check_23_enumerations_are_numbers_and_may_be_read_as_names() {
    for kind in [json!(3), json!("3"), json!("SPAN_KIND_CLIENT")] {
        assert_eq!(through(json!({"kind": kind})), Ok(json!({"kind": 3})));
    }
    assert_eq!(through(json!({"kind": 77})), Ok(json!({"kind": 77})), "of a later version");
    assert_eq!(through(json!({"kind": -1})), Ok(json!({"kind": -1})));
    for bad in [json!("CLIENT"), json!(1.5), json!(true), json!(1_u64 << 40)] {
        assert!(through(json!({"kind": bad})).is_err(), "{bad}");
    }
}

#[test]
fn check_24_numbers_of_64_bits_are_texts_and_may_be_read_as_numbers() {
    let members = json!({"startTimeUnixNano": 1_544_712_660_000_000_000_u64, "endTimeUnixNano": "18446744073709551615"});
    let expected =
        json!({"startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "18446744073709551615"});
    assert_eq!(through(members), Ok(expected));
    for number in [json!(-5), json!("-5"), json!(-5.0), json!("-5e0")] {
        assert_eq!(value(json!({"intValue": number})), Ok(json!({"intValue": "-5"})));
    }
    assert_eq!(point(json!({"asInt": "-9223372036854775808"})), Ok(json!({"asInt": "-9223372036854775808"})));
    for bad in [json!("9223372036854775808"), json!(1.5), json!(""), json!("0x1"), json!(false), json!([1])] {
        assert!(value(json!({"intValue": bad})).is_err(), "{bad}");
    }
    assert!(through(json!({"startTimeUnixNano": -1})).is_err());
    assert!(through(json!({"droppedLinksCount": 1_u64 << 32})).is_err());
    assert_eq!(
        through(json!({"droppedLinksCount": "4294967295"})),
        Ok(json!({"droppedLinksCount": 4_294_967_295_u32}))
    );
}

#[test]
fn check_25_doubles_in_every_form() {
    for (given, expected) in [
        (json!(0.1), json!(0.1)),
        (json!("0.1"), json!(0.1)),
        (json!(3), json!(3.0)),
        (json!("1e3"), json!(1000.0)),
        (json!("NaN"), json!("NaN")),
        (json!("Infinity"), json!("Infinity")),
        (json!("-Infinity"), json!("-Infinity")),
        (json!(0), json!(0.0)),
    ] {
        assert_eq!(point(json!({"asDouble": given})), Ok(json!({"asDouble": expected})), "{given}");
    }
    for bad in [json!("inf"), json!("nan"), json!("infinity"), json!(""), json!(true), json!("1e999")] {
        assert!(point(json!({"asDouble": bad})).is_err(), "{bad}");
    }
}

#[test]
fn check_26_null_is_absent_and_base64_comes_in_four_forms() {
    let members =
        json!({"name": null, "attributes": null, "status": null, "kind": null, "endTimeUnixNano": null});
    assert_eq!(through(members), Ok(json!({})));
    assert!(through(json!({"attributes": [null]})).is_err());
    for form in ["++//+w==", "++//+w", "--__-w==", "--__-w"] {
        assert_eq!(value(json!({"bytesValue": form})), Ok(json!({"bytesValue": "++//+w=="})));
    }
    assert!(value(json!({"bytesValue": "+-"})).is_err());
    assert!(value(json!({"bytesValue": "a"})).is_err());
}

#[test]
fn check_27_every_kind_of_value() {
    for of_kind in [
        json!({"stringValue": "é \" \u{1}"}),
        json!({"stringValue": ""}),
        json!({"boolValue": false}),
        json!({"intValue": "0"}),
        json!({"doubleValue": 2.5}),
        json!({"arrayValue": {"values": [{"intValue": "1"}, {}, {"arrayValue": {}}]}}),
        json!({"kvlistValue": {"values": [{"key": "a", "value": {"bytesValue": ""}}, {"key": "b"}]}}),
        json!({}),
    ] {
        assert_eq!(value(of_kind.clone()), Ok(of_kind));
    }
}

/// One request per signal in the form in which SDKs write them.
fn golden() -> [(Signal, Value); 4] {
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]});
    let scope = json!({"name": "shop.lib", "version": "2.1.0", "attributes": [{"key": "scope.on", "value": {"boolValue": true}}]});
    let attributes = json!([{"key": "peer", "value": {"stringValue": "db-3"}}]);
    let span = json!({"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "parentSpanId": "00f067aa0ba902b7",
        "traceState": "a=b", "flags": 257, "name": "buy", "kind": 2, "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000250000000",
        "attributes": attributes, "events": [{"timeUnixNano": "1700000000100000000", "name": "paid"}], "status": {"message": "late", "code": 2}});
    let number =
        json!({"startTimeUnixNano": "1", "timeUnixNano": "2", "asDouble": 12.5, "attributes": attributes});
    let histogram = json!({"timeUnixNano": "2", "count": "3", "sum": 7.5, "bucketCounts": ["1", "2"], "explicitBounds": [1.5], "min": 0.5, "max": 4.0});
    let exponential = json!({"count": "3", "sum": 10.0, "scale": -2, "zeroCount": "1", "zeroThreshold": 0.25,
        "positive": {"offset": -1, "bucketCounts": ["0", "2"]}, "negative": {"offset": 3}});
    let metrics = json!([
        {"name": "g", "unit": "1", "description": "d", "gauge": {"dataPoints": [number]}},
        {"name": "s", "sum": {"dataPoints": [{"asInt": "-4", "flags": 1}], "aggregationTemporality": 1, "isMonotonic": true}},
        {"name": "h", "histogram": {"dataPoints": [histogram], "aggregationTemporality": 2}},
        {"name": "e", "exponentialHistogram": {"dataPoints": [exponential], "aggregationTemporality": 1}},
        {"name": "q", "summary": {"dataPoints": [{"count": "2", "sum": 9.0, "quantileValues": [{"quantile": 0.5, "value": 4.0}]}]}},
    ]);
    let body = json!({"kvlistValue": {"values": [{"key": "user", "value": {"intValue": "42"}}]}});
    let records = json!([
        {"timeUnixNano": "5", "observedTimeUnixNano": "6", "severityNumber": 9, "severityText": "Info",
         "body": {"stringValue": "hello"}, "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331"},
        {"timeUnixNano": "7", "eventName": "browser.click", "body": body},
    ]);
    let of = |holder: &str, scopes: &str, items: &str, values: Value| json!({holder: [{"resource": resource, scopes: [{"scope": scope, items: values}], "schemaUrl": "https://example.org/1"}]});
    let mut profiles = of(
        "resourceProfiles",
        "scopeProfiles",
        "profiles",
        json!([{"samples": [{"stackIndex": 1, "values": ["7"]}]}]),
    );
    profiles["dictionary"] =
        json!({"stringTable": ["", "cpu"], "stackTable": [{}, {"locationIndices": [0]}]});
    [
        (Signal::Traces, of("resourceSpans", "scopeSpans", "spans", json!([span]))),
        (Signal::Metrics, of("resourceMetrics", "scopeMetrics", "metrics", metrics)),
        (Signal::Logs, of("resourceLogs", "scopeLogs", "logRecords", records)),
        (Signal::Profiles, profiles),
    ]
}

#[test]
fn check_28_golden_requests_come_back_as_they_were() {
    for ((signal, text), items) in golden().into_iter().zip([1, 5, 2, 1]) {
        let payload = read(signal, &text).expect("read");
        assert_eq!(canonical(signal, &payload).map(|bytes| bytes.len()), Some(payload.len()));
        assert_eq!(validate(signal, &payload).expect("a request").items, items);
        assert_eq!(write(signal, &payload), text);
    }
}

#[test]
fn an_empty_list_is_no_list() {
    let histogram = |point: Value| {
        let metric = json!({"histogram": {"dataPoints": [point]}});
        read(Signal::Metrics, &json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}))
    };
    let empty = json!({"bucketCounts": [], "explicitBounds": [], "exemplars": [], "attributes": []});
    assert_eq!(histogram(empty), histogram(json!({})));
}

#[test]
fn check_13_an_empty_object_is_an_empty_request() {
    for signal in Signal::ALL {
        assert_eq!(read(signal, &json!({})), Ok(Vec::new()));
        assert_eq!(json::encode(signal, b"").as_deref(), Ok(&b"{}"[..]));
    }
}

#[test]
fn errors_name_the_field_the_value_and_the_place() {
    let error =
        json::decode(Signal::Traces, b"{\n \"resourceSpans\": [{\"schemaUrl\": 7}]}").expect_err("no text");
    assert_eq!(error.to_string(), "schemaUrl: expected a text, found 7 at line 2 column 34");
    for bad in [
        "",
        "null",
        "[]",
        "{",
        "{}x",
        "7",
        r#"{"resourceSpans": {}}"#,
        r#"{"resourceSpans": [[]]}"#,
        r#"{"resourceSpans": "x"}"#,
        r#"{"resourceSpans": [{"resource": []}]}"#,
        r#"{"resourceSpans": [{"schemaUrl": {}}]}"#,
        r#"{"resourceSpans": [{"schemaUrl": "\ud800"}]}"#,
    ] {
        assert!(json::decode(Signal::Traces, bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(json::decode(Signal::Traces, b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}").is_err());
}

#[test]
fn objects_nest_as_deep_as_messages() {
    // Request, ResourceLogs, ScopeLogs, LogRecord, then the body and pairs of list and value.
    let nested = |pairs: u32| {
        let open = r#"{"arrayValue":{"values":["#.repeat(pairs as usize);
        let close = "]}}".repeat(pairs as usize);
        format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{open}{close}}}]}}]}}]}}"#)
    };
    let deepest = (DEPTH - 4) / 2;
    let text = nested(deepest);
    let payload = json::decode(Signal::Logs, text.as_bytes()).expect("as deep as allowed");
    assert!(validate(Signal::Logs, &payload).is_ok());
    assert!(json::encode(Signal::Logs, &payload).is_ok());
    assert!(json::decode(Signal::Logs, nested(deepest + 1).as_bytes()).is_err());
    assert!(json::decode(Signal::Logs, nested(100_000).as_bytes()).is_err());
}

/// Ids as the second implementation wants them, or as we do.
fn ids(value: &mut Value, convert: fn(&str) -> String) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if matches!(name.as_str(), "traceId" | "spanId" | "parentSpanId") => {
                        *text = convert(text);
                    }
                    member => ids(member, convert),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| ids(value, convert)),
        _ => {}
    }
}

fn to_base64(hex: &str) -> String {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    STANDARD.encode((0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>())
}

fn to_hex(base64: &str) -> String {
    STANDARD.decode(base64).expect("base64").iter().map(|byte| format!("{byte:02X}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_written_is_read_back((signal, bytes) in any_request(Style::Odd)) {
        let text = json::encode(signal, &bytes).expect("a request");
        let back = json::decode(signal, &text).expect("our own text");
        prop_assert_eq!(canonical(signal, &back), canonical(signal, &bytes));
    }

    #[test]
    fn what_is_written_is_read_alike_by_others((signal, bytes) in any_request(Style::Odd)) {
        let mut text = write(signal, &bytes);
        ids(&mut text, to_base64);
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let read = DynamicMessage::deserialize_with_options(request(signal), text, &options).expect("read");
        prop_assert_eq!(canonical(signal, &read.encode_to_vec()), canonical(signal, &bytes));
    }

    #[test]
    fn what_others_write_is_read_alike((signal, bytes) in any_request(Style::Odd), names: bool, absent: bool) {
        let message = DynamicMessage::decode(request(signal), &bytes[..]).expect("a request");
        let options = SerializeOptions::new().use_enum_numbers(!names).skip_default_fields(!absent);
        let mut text = message.serialize_with_options(serde_json::value::Serializer, &options).expect("written");
        ids(&mut text, to_hex);
        let read = read(signal, &text).expect("read");
        prop_assert_eq!(canonical(signal, &read), canonical(signal, &bytes));
    }

    #[test]
    fn damaged_text_is_an_error_or_a_request(
        (signal, bytes) in any_request(Style::Plain),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0x20..0x7f_u8), 1..4),
    ) {
        let mut text = json::encode(signal, &bytes).expect("a request");
        for (place, value) in damage {
            let place = place.index(text.len());
            text[place] = value;
        }
        for signal in Signal::ALL {
            if let Ok(payload) = json::decode(signal, &text) {
                prop_assert!(validate(signal, &payload).is_ok());
                prop_assert!(payload.len() <= 4 * text.len());
            }
        }
    }
}

#[test]
fn hostile_shapes_cost_no_more_than_their_length() {
    let many = format!(r#"{{"resourceSpans":[{}{{}}]}}"#, "{},".repeat(1 << 20));
    let payload = json::decode(Signal::Traces, many.as_bytes()).expect("read");
    assert_eq!(validate(Signal::Traces, &payload).expect("a request").resources, (1 << 20) + 1);
    let twice = r#""resource":{"attributes":[{}]},"#.repeat(1 << 16);
    let text = format!(r#"{{"resourceSpans":[{{{twice}"schemaUrl":""}}]}}"#);
    let payload = json::decode(Signal::Traces, text.as_bytes()).expect("read");
    let back = write(Signal::Traces, &payload);
    let attributes = back["resourceSpans"][0]["resource"]["attributes"].as_array().expect("a list").len();
    assert_eq!(attributes, 1 << 16, "pieces of one message are one");
}
