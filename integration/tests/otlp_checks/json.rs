//! OTLP/JSON, in by the receiver and out by an exporter: what arrives as protobuf and as JSON. Checks 19 to 28.

use crate::{
    client,
    ground::{AT_ONCE, BOTH, collector},
    peer::Peer,
};
use hesper_integration::Collector;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, any_value},
    metrics::v1::{NumberDataPoint, metric::Data, number_data_point},
    trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};
use std::net::SocketAddr;

const LOGS: &str = "/v1/logs";
const METRICS: &str = "/v1/metrics";
const PROFILES: &str = "/v1development/profiles";

/// A collector that sends what it takes on in both encodings.
struct Through {
    peer: Peer,
    at: SocketAddr,
    _collector: Collector,
}

/// What arrived of one request.
struct Arrived {
    protobuf: Vec<u8>,
    json: Value,
}

impl Through {
    #[track_caller]
    fn start() -> Self {
        let peer = Peer::taking();
        let to = |name: &str, more: &str| {
            format!(
                "otlp_http/{name}: {{endpoint: 'http://{}/{name}', compression: none, {more}{AT_ONCE}}}",
                peer.at
            )
        };
        let collector = collector(BOTH, &[to("proto", ""), to("json", "encoding: json, ")]);
        Self { at: collector.told("otlp"), _collector: collector, peer }
    }

    /// Sends a text; what arrived, or why it was refused with 400.
    #[track_caller]
    fn text(&self, path: &str, text: &str) -> Result<Arrived, String> {
        let before = self.peer.seen().len();
        let reply = client::json(self.at, path, text.to_owned());
        let seen = self.peer.seen().split_off(before);
        if reply.status != 200 {
            assert_eq!((reply.status, seen.len()), (400, 0), "nothing of it is accepted: {reply:?}");
            assert!(!reply.failure().violations().is_empty(), "{reply:?}");
            return Err(reply.failure().message);
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
        let of = |name: &str| seen.iter().find(|seen| seen.path.starts_with(name)).expect("both").clone();
        let json = of("/json/");
        assert_eq!(json.header("content-type"), client::JSON.1);
        Ok(Arrived {
            protobuf: of("/proto/").message(),
            json: serde_json::from_slice(&json.message()).expect("JSON"),
        })
    }

    #[track_caller]
    fn send(&self, path: &str, request: &Value) -> Result<Arrived, String> {
        self.text(path, &request.to_string())
    }

    /// One span with these members: as JSON, and as others read it.
    #[track_caller]
    fn span(&self, members: Value) -> Result<(Value, Span), String> {
        let request = json!({"resourceSpans": [{"scopeSpans": [{"spans": [members]}]}]});
        let arrived = self.send(client::TRACES, &request)?;
        let mut read = ExportTraceServiceRequest::decode(&*arrived.protobuf).expect("spans");
        let span = read.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0);
        Ok((arrived.json["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone(), span))
    }

    /// One span with these members, as JSON.
    #[track_caller]
    fn members(&self, members: Value) -> Result<Value, String> {
        self.span(members).map(|(json, _)| json)
    }

    /// The value of an attribute.
    #[track_caller]
    fn value(&self, value: Value) -> Result<(Value, AnyValue), String> {
        let (json, mut span) = self.span(json!({"attributes": [{"key": "k", "value": value}]}))?;
        let read = span.attributes.remove(0).value.expect("a value");
        Ok((json["attributes"][0]["value"].clone(), read))
    }

    /// The one number point of a gauge.
    #[track_caller]
    fn point(&self, members: Value) -> Result<(Value, NumberDataPoint), String> {
        let scope = json!({"metrics": [{"gauge": {"dataPoints": [members]}}]});
        let arrived = self.send(METRICS, &json!({"resourceMetrics": [{"scopeMetrics": [scope]}]}))?;
        let mut read = ExportMetricsServiceRequest::decode(&*arrived.protobuf).expect("metrics");
        let metric = read.resource_metrics.remove(0).scope_metrics.remove(0).metrics.remove(0);
        let Some(Data::Gauge(mut gauge)) = metric.data else { panic!("{metric:?}") };
        let scope = &arrived.json["resourceMetrics"][0]["scopeMetrics"][0];
        Ok((scope["metrics"][0]["gauge"]["dataPoints"][0].clone(), gauge.data_points.remove(0)))
    }
}

#[test]
fn check_19_names_are_lower_camel_case_only() {
    let members =
        json!({"dropped_attributes_count": 7, "trace_id": "zz", "Name": 1, "droppedEventsCount": 2});
    let (json, span) = Through::start().span(members).expect("taken");
    assert_eq!(json, json!({"droppedEventsCount": 2}));
    assert_eq!(span, Span { dropped_events_count: 2, ..Span::default() });
}

#[test]
fn check_20_unknown_names_are_ignored_at_any_depth() {
    let through = Through::start();
    let members =
        json!({"future": {"a": [1, {"b": null}]}, "status": {"code": 1, "later": [[]]}, "name": "x"});
    assert_eq!(through.members(members), Ok(json!({"status": {"code": 1}, "name": "x"})));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let arrived = through.text(client::TRACES, &format!(r#"{{"future":{deep},"resourceSpans":[]}}"#));
    assert_eq!(arrived.expect("taken").protobuf, b"");
}

#[test]
fn check_21_ids_are_hexadecimal_and_other_bytes_base64() {
    let through = Through::start();
    let (trace, id) = ("5B8EFFF798038103D269B633813FC60C", "eee19b7ec3c1b174");
    let lower = trace.to_lowercase();
    let link = json!({"traceId": trace, "spanId": "EEE19B7EC3C1B174"});
    let members = json!({"traceId": trace, "spanId": id, "parentSpanId": id, "links": [link]});
    let (json, span) = through.span(members).expect("taken");
    let link = json!({"traceId": lower, "spanId": id});
    assert_eq!(json, json!({"traceId": lower, "spanId": id, "parentSpanId": id, "links": [link]}));
    let bytes = 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes();
    assert_eq!(span.trace_id, bytes);
    assert_eq!((&span.links[0].trace_id, &span.links[0].span_id), (&span.trace_id, &span.parent_span_id));

    let (json, read) = through.value(json!({"bytesValue": "AAEC/w=="})).expect("taken");
    assert_eq!(json, json!({"bytesValue": "AAEC/w=="}));
    assert_eq!(read.value, Some(any_value::Value::BytesValue(vec![0, 1, 2, 255])));
    let exemplar = json!({"exemplars": [{"traceId": trace, "spanId": id, "asInt": "1"}]});
    let (json, point) = through.point(exemplar).expect("taken");
    assert_eq!(
        (&json["exemplars"][0]["traceId"], &*point.exemplars[0].trace_id),
        (&json!(lower), &bytes[..])
    );
    let record =
        json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": lower, "spanId": id}]}]}]});
    let arrived = through.send(LOGS, &record).expect("taken");
    let read = ExportLogsServiceRequest::decode(&*arrived.protobuf).expect("records");
    assert_eq!(read.resource_logs[0].scope_logs[0].log_records[0].trace_id, bytes);
    assert_eq!(arrived.json, record);

    let profile = json!({"profileId": "AAECAwQFBgcICQoLDA0ODw=="});
    let request = json!({"resourceProfiles": [{"scopeProfiles": [{"profiles": [profile]}]}],
        "dictionary": {"linkTable": [{"traceId": lower, "spanId": id}]}});
    let arrived = through.send(PROFILES, &request).expect("taken");
    let read = ExportProfilesServiceRequest::decode(&*arrived.protobuf).expect("profiles");
    let profile = &read.resource_profiles[0].scope_profiles[0].profiles[0];
    assert_eq!(profile.profile_id, (0..16).collect::<Vec<u8>>());
    assert_eq!(read.dictionary.expect("a dictionary").link_table[0].trace_id, bytes);
    assert_eq!(arrived.json, request);
}

#[test]
fn check_22_wrong_ids_are_refused_and_nothing_is_taken() {
    let through = Through::start();
    let good = "5b8efff798038103d269b633813fc60c";
    for bad in
        [&good[..31], "5b8efff798038103d269b633813fc60g", "5b8e", "é", "+5b8efff798038103d269b633813fc60"]
    {
        let error = through.members(json!({"traceId": bad})).expect_err(bad);
        assert!(error.contains("traceId: expected 32 hexadecimal digits"), "{error}");
    }
    assert!(through.members(json!({"spanId": "00112233445566"})).is_err());
    assert!(through.members(json!({"spanId": 7})).is_err());
    let two = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": good}, {"traceId": "5b"}]}]}]});
    assert!(through.send(client::TRACES, &two).is_err(), "not the good one either");
    assert_eq!(through.members(json!({"parentSpanId": ""})), Ok(json!({})), "no parent");
}

#[test]
fn check_23_enumerations_are_numbers_and_may_be_read_as_names() {
    let through = Through::start();
    for kind in [json!(3), json!("3"), json!("SPAN_KIND_CLIENT")] {
        let (json, span) = through.span(json!({"kind": kind})).expect("taken");
        assert_eq!((json, span.kind), (json!({"kind": 3}), 3));
    }
    assert_eq!(through.members(json!({"kind": 77})), Ok(json!({"kind": 77})), "of a later version");
    assert_eq!(
        through.members(json!({"status": {"code": "STATUS_CODE_ERROR"}})),
        Ok(json!({"status": {"code": 2}}))
    );
    for bad in [json!("CLIENT"), json!(1.5), json!(true), json!(1_u64 << 40)] {
        assert!(through.members(json!({"kind": bad})).is_err(), "{bad}");
    }
}

#[test]
fn check_24_numbers_of_64_bits_are_texts_and_may_be_read_as_numbers() {
    let through = Through::start();
    let members = json!({"startTimeUnixNano": 1_544_712_660_000_000_000_u64, "endTimeUnixNano": "18446744073709551615"});
    let (json, span) = through.span(members).expect("taken");
    let texts =
        json!({"startTimeUnixNano": "1544712660000000000", "endTimeUnixNano": "18446744073709551615"});
    assert_eq!(json, texts);
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (1_544_712_660_000_000_000, u64::MAX));
    for number in [json!(-5), json!("-5")] {
        let (json, read) = through.value(json!({"intValue": number})).expect("taken");
        assert_eq!((json, read.value), (json!({"intValue": "-5"}), Some(any_value::Value::IntValue(-5))));
    }
    let (json, point) = through.point(json!({"asInt": "-9223372036854775808"})).expect("taken");
    assert_eq!(json, json!({"asInt": "-9223372036854775808"}));
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(i64::MIN)));
    let histogram = |count: Value, buckets: Value| {
        let points = json!([{"count": count, "bucketCounts": buckets, "explicitBounds": [1.0]}]);
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"histogram": {"dataPoints": points}}]}]}]})
    };
    let arrived = through.send(METRICS, &histogram(json!(3), json!([1, "2"]))).expect("taken");
    assert_eq!(arrived.json, histogram(json!("3"), json!(["1", "2"])));
    for bad in [json!("9223372036854775808"), json!(1.5), json!(""), json!("0x1"), json!(false), json!([1])] {
        assert!(through.value(json!({"intValue": bad})).is_err(), "{bad}");
    }
    assert!(through.members(json!({"startTimeUnixNano": -1})).is_err());
}

#[test]
fn check_25_doubles_in_every_form() {
    let through = Through::start();
    for (given, said, value) in [
        (json!(0.1), json!(0.1), 0.1),
        (json!("0.1"), json!(0.1), 0.1),
        (json!(3), json!(3.0), 3.0),
        (json!("1e3"), json!(1000.0), 1000.0),
        (json!("Infinity"), json!("Infinity"), f64::INFINITY),
        (json!("-Infinity"), json!("-Infinity"), f64::NEG_INFINITY),
        (json!("NaN"), json!("NaN"), f64::NAN),
        (json!(0), json!(0.0), 0.0),
    ] {
        let (json, point) = through.point(json!({"asDouble": given})).expect("taken");
        assert_eq!(json, json!({"asDouble": said}), "{given}");
        let Some(number_data_point::Value::AsDouble(read)) = point.value else { panic!("{point:?}") };
        assert!(read == value || read.is_nan() && value.is_nan(), "{given}: {read}");
    }
    for bad in [json!("inf"), json!("nan"), json!("infinity"), json!(""), json!(true), json!("1e999")] {
        assert!(through.point(json!({"asDouble": bad})).is_err(), "{bad}");
    }
}

#[test]
fn check_26_null_is_absent_and_base64_comes_in_four_forms() {
    let through = Through::start();
    let members =
        json!({"name": null, "attributes": null, "status": null, "kind": null, "endTimeUnixNano": null});
    assert_eq!(through.span(members), Ok((json!({}), Span::default())));
    for form in ["++//+w==", "++//+w", "--__-w==", "--__-w"] {
        let (json, read) = through.value(json!({"bytesValue": form})).expect("taken");
        assert_eq!(json, json!({"bytesValue": "++//+w=="}));
        assert_eq!(read.value, Some(any_value::Value::BytesValue(vec![0xfb, 0xef, 0xff, 0xfb])));
    }
    for bad in ["+-", "a", "a b="] {
        assert!(through.value(json!({"bytesValue": bad})).is_err(), "{bad}");
    }
}

#[test]
fn check_27_every_kind_of_value() {
    let through = Through::start();
    for of_kind in [
        json!({"stringValue": "é \" \u{1}"}),
        json!({"stringValue": ""}),
        json!({"boolValue": false}),
        json!({"intValue": "0"}),
        json!({"doubleValue": 2.5}),
        json!({"arrayValue": {"values": [{"intValue": "1"}, {}, {"arrayValue": {}}]}}),
        json!({"kvlistValue": {"values": [{"key": "a", "value": {"bytesValue": ""}}, {"key": "b"}]}}),
    ] {
        let (json, read) = through.value(of_kind.clone()).expect("taken");
        assert_eq!(json, of_kind);
        assert!(read.value.is_some(), "{of_kind}");
    }
    assert_eq!(through.value(json!({})), Ok((json!({}), AnyValue::default())));
}

/// Requests as SDKs write them, one for each signal, and events, which are log records.
#[test]
fn check_28_golden_requests_come_back_as_they_were() {
    let through = Through::start();
    for (path, text) in [
        (client::TRACES, include_str!("golden/traces.json")),
        (METRICS, include_str!("golden/metrics.json")),
        (LOGS, include_str!("golden/logs.json")),
        (LOGS, include_str!("golden/events.json")),
        (PROFILES, include_str!("golden/profiles.json")),
    ] {
        let arrived = through.text(path, text).expect("taken");
        let golden: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(arrived.json, golden, "{path}");
        // What others read is the same, too: sent on in their words it becomes the same text again.
        let again = match path {
            client::TRACES => {
                ExportTraceServiceRequest::decode(&*arrived.protobuf).expect("spans").encode_to_vec()
            }
            METRICS => {
                ExportMetricsServiceRequest::decode(&*arrived.protobuf).expect("metrics").encode_to_vec()
            }
            LOGS => ExportLogsServiceRequest::decode(&*arrived.protobuf).expect("records").encode_to_vec(),
            _ => ExportProfilesServiceRequest::decode(&*arrived.protobuf).expect("profiles").encode_to_vec(),
        };
        let before = through.peer.seen().len();
        assert_eq!(client::proto(through.at, path, &[], again).status, 200);
        let seen = through.peer.seen().split_off(before);
        let json = seen.iter().find(|seen| seen.path.starts_with("/json/")).expect("a request");
        assert_eq!(serde_json::from_slice::<Value>(&json.message()).expect("JSON"), golden, "{path}");
    }
}
