//! What a request may look like: checks 7 to 19.

use crate::support::{BOTH, HTTP, Plan, Running, TRACES, frame, gzip, http1, payload, send, spans};
use hesper_otlp::{Signal, status::Code};
use http::Method;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
};
use prost::Message;
use std::io::Write;
use tonic::codec::CompressionEncoding;

const TRACES_RPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn lz4(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).expect("lz4");
    encoder.finish().expect("lz4")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("zlib")
}

fn snappy_frames(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).expect("snappy");
    encoder.into_inner().expect("snappy")
}

#[tokio::test]
async fn check_07_none_and_gzip_over_both_protocols() {
    let server = Plan::of(BOTH).run().await;
    let body = payload(Signal::Traces, 9);
    for (coding, bytes) in [("gzip", gzip(&body)), ("identity", body.to_vec()), ("", body.to_vec())] {
        let reply = server.proto(TRACES, &[("content-encoding", coding)], bytes).await;
        assert_eq!((reply.status, &server.sink.only().batch.payload), (200, &body), "{coding}");
    }
    let url = format!("http://{}", server.address);
    let plain = TraceServiceClient::connect(url).await.expect("a connection");
    for mut client in [
        plain.clone(),
        plain.clone().send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip),
    ] {
        client.export(spans(9)).await.expect("taken");
        assert_eq!(server.sink.only().batch.payload, body);
    }
}

#[tokio::test]
async fn check_08_what_the_collector_takes_beyond_gzip() {
    let server = Plan::of(BOTH).run().await;
    let body = payload(Signal::Traces, 400);
    let zstd = zstd::encode_all(&body[..], 3).expect("zstd");
    let snappy = snap::raw::Encoder::new().compress_vec(&body).expect("snappy");
    let frames = snappy_frames(&body);
    for (coding, bytes) in [
        ("zstd", &zstd),
        ("snappy", &snappy),
        ("snappy", &frames),
        ("zlib", &zlib(&body)),
        ("deflate", &zlib(&body)),
        ("lz4", &lz4(&body)),
        ("GZIP", &gzip(&body)),
    ] {
        let reply = server.proto(TRACES, &[("content-encoding", coding)], bytes.clone()).await;
        assert_eq!((reply.status, &server.sink.only().batch.payload), (200, &body), "{coding}");
    }
    for (coding, bytes) in [("zstd", &zstd), ("snappy", &frames), ("gzip", &gzip(&body))] {
        let reply = server.call(TRACES_RPC, &[("grpc-encoding", coding)], frame(1, bytes)).await;
        assert_eq!((reply.grpc().code(), &server.sink.only().batch.payload), (Code::Ok, &body), "{coding}");
        // The flag decides, not the header.
        let reply = server.call(TRACES_RPC, &[("grpc-encoding", coding)], frame(0, &body)).await;
        assert_eq!((reply.grpc().code(), &server.sink.only().batch.payload), (Code::Ok, &body), "{coding}");
    }
    let client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    client.send_compressed(CompressionEncoding::Zstd).export(spans(400)).await.expect("taken");
    assert_eq!(server.sink.only().batch.payload, body);
}

#[tokio::test]
async fn check_09_an_unknown_compression_is_415_and_unimplemented() {
    let server = Plan::of(BOTH).run().await;
    let reply = server.proto(TRACES, &[("content-encoding", "br")], "x").await;
    assert_eq!((reply.status, reply.failure().code()), (415, Code::Unimplemented));
    assert!(reply.failure().message.contains("br"), "{reply:?}");
    let reply = server.call(TRACES_RPC, &[("grpc-encoding", "br")], frame(1, b"x")).await;
    assert_eq!(reply.grpc().code(), Code::Unimplemented);
    assert_eq!(reply.headers["grpc-accept-encoding"], "gzip,zstd,snappy");
    let only = Plan::of("{http: {compression_algorithms: [zstd]}}").run().await;
    assert_eq!(
        only.proto(TRACES, &[("content-encoding", "gzip")], gzip(b"")).await.status,
        415,
        "not configured"
    );
    assert_eq!(only.proto(TRACES, &[], "").await.status, 200);
}

#[tokio::test]
async fn check_10_answers_are_gzip_only_for_those_who_take_it() {
    use hesper_otlp::PartialSuccess;
    let sink =
        crate::support::Recorder::new(|_| Ok(PartialSuccess { rejected: 0, message: "old ".repeat(2000) }));
    let server = Plan { sink, ..Plan::of(HTTP) }.run().await;
    let plain = server.proto(TRACES, &[], "").await;
    assert_eq!(plain.headers.get("content-encoding"), None);
    let packed = server.proto(TRACES, &[("accept-encoding", "br, gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut read).expect("gzip");
    assert_eq!(read, plain.body);
}

async fn content_type(server: &Running, content_type: &str) -> (u16, String) {
    let reply = server.post(TRACES, &[("content-type", content_type)], "{}").await;
    (reply.status, reply.headers["content-type"].to_str().expect("text").to_owned())
}

#[tokio::test]
async fn check_11_content_types_with_parameters_and_in_any_case() {
    let server = Plan::of(HTTP).run().await;
    for json in ["application/json", "Application/JSON; charset=utf-8", "application/json;x=y"] {
        assert_eq!(content_type(&server, json).await, (200, "application/json".to_owned()), "{json}");
    }
    let reply = server
        .post(TRACES, &[("content-type", "APPLICATION/X-Protobuf; a=b")], payload(Signal::Traces, 2))
        .await;
    assert_eq!(
        (reply.status, &reply.headers["content-type"]),
        (200, &"application/x-protobuf".parse().expect("a value"))
    );
}

#[tokio::test]
async fn check_12_other_content_types_are_415_and_other_methods_405() {
    let server = Plan::of(HTTP).run().await;
    for other in ["text/plain", "application/protobuf", ""] {
        assert_eq!(content_type(&server, other).await, (415, "application/json".to_owned()), "{other}");
    }
    assert_eq!(server.post(TRACES, &[], "{}").await.status, 415, "none at all");
    for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::DELETE] {
        let headers = [("content-type", "application/x-protobuf")];
        let reply =
            send(&http1(), method.clone(), server.address, TRACES, &headers, "").await.expect("an answer");
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"), "{method}");
        assert_eq!(reply.failure().code(), Code::Unimplemented);
    }
    assert_eq!(server.sink.take().len(), 0);
}

#[tokio::test]
async fn check_13_and_14_what_is_empty_succeeds() {
    let server = Plan::of(BOTH).run().await;
    assert_eq!(server.proto(TRACES, &[], "").await.status, 200);
    assert_eq!(server.post(TRACES, &[("content-type", "application/json")], "{}").await.status, 200);
    let envelopes = r#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{}}]}]}"#;
    assert_eq!(server.post(TRACES, &[("content-type", "application/json")], envelopes).await.status, 200);
    assert_eq!(server.call(TRACES_RPC, &[], frame(0, b"")).await.grpc().code(), Code::Ok);
    assert!(server.sink.take().iter().all(|received| received.counts.items == 0));
}

#[tokio::test]
async fn check_15_unknown_fields_pass_unchanged() {
    let server = Plan::of(BOTH).run().await;
    // Field 1000 with a text, behind a request with one span.
    let odd = [&payload(Signal::Traces, 1)[..], b"\xc2\x3e\x03abc"].concat();
    assert_eq!(server.proto(TRACES, &[], odd.clone()).await.status, 200);
    assert_eq!(server.sink.only().batch.payload, odd);
    assert_eq!(server.call(TRACES_RPC, &[], frame(0, &odd)).await.grpc().code(), Code::Ok);
    assert_eq!(server.sink.only().batch.payload, odd);
}

/// Spans with these attributes, encoded.
fn with_attributes(attributes: Vec<KeyValue>) -> Vec<u8> {
    let mut request = spans(1);
    request.resource_spans[0].scope_spans[0].spans[0].attributes = attributes;
    request.encode_to_vec()
}

fn any(value: Option<Value>) -> AnyValue {
    AnyValue { value }
}

fn named(key: &str, value: Option<Value>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any(value)), ..Default::default() }
}

#[tokio::test]
async fn check_16_every_form_of_attribute_value_is_forwarded_unchanged() {
    let server = Plan::of(BOTH).run().await;
    let mixed = vec![any(Some(Value::IntValue(1))), any(Some(Value::StringValue("b".into()))), any(None)];
    let deep = KeyValueList { values: vec![named("d", Some(Value::BytesValue(vec![0, 255])))] };
    let inner = KeyValueList { values: vec![named("c", Some(Value::KvlistValue(deep))), named("", None)] };
    let body = with_attributes(vec![
        named("empty", None),
        KeyValue { key: "absent".into(), ..Default::default() },
        named("bytes", Some(Value::BytesValue(vec![1, 2, 3]))),
        named("array", Some(Value::ArrayValue(ArrayValue { values: mixed }))),
        named("list", Some(Value::KvlistValue(inner))),
        named("not a number", Some(Value::DoubleValue(f64::NAN))),
    ]);
    assert_eq!(server.proto(TRACES, &[], body.clone()).await.status, 200);
    assert_eq!(server.sink.only().batch.payload, body);
    assert_eq!(server.call(TRACES_RPC, &[], frame(0, &body)).await.grpc().code(), Code::Ok);
    assert_eq!(server.sink.only().batch.payload, body);
}

#[tokio::test]
async fn check_17_places_in_a_string_table_are_no_fault_outside_profiles() {
    let server = Plan::of(BOTH).run().await;
    let value = Some(any(Some(Value::StringValueStrindex(7))));
    let body = with_attributes(vec![KeyValue { key_strindex: 3, value, ..Default::default() }]);
    assert_eq!(server.proto(TRACES, &[], body.clone()).await.status, 200);
    let received = server.sink.only();
    assert_eq!((&received.batch.payload, received.counts.items), (&body.into(), 1));
}

#[tokio::test]
async fn check_18_profiles_keep_their_dictionary() {
    let server = Plan::of(HTTP).run().await;
    let json = r#"{"resourceProfiles":[{"scopeProfiles":[{"profiles":[{}]}]}],"dictionary":{"stringTable":["","cpu"]}}"#;
    let reply = server.post("/v1development/profiles", &[("content-type", "application/json")], json).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let received = server.sink.only();
    use opentelemetry_proto::tonic::collector::profiles::v1development::ExportProfilesServiceRequest;
    let request = ExportProfilesServiceRequest::decode(received.batch.payload).expect("a request");
    assert_eq!(request.dictionary.expect("a dictionary").string_table, ["", "cpu"]);
    assert_eq!(received.counts.items, 1);
}

#[tokio::test]
async fn check_19_json_arrives_as_protobuf() {
    let server = Plan::of(HTTP).run().await;
    let json = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"01010101010101010101010101010101",
        "spanId":"0000000000000001","name":"span 0","dropped_attributes_count":7,"unknown":[{}]}]}]}]}"#;
    for body in [json.as_bytes().to_vec(), gzip(json.as_bytes())] {
        let coding = if body[0] == b'{' { "identity" } else { "gzip" };
        let reply = server
            .post(TRACES, &[("content-type", "application/json"), ("content-encoding", coding)], body)
            .await;
        assert_eq!((reply.status, &reply.body[..]), (200, &b"{}"[..]));
        let request = ExportTraceServiceRequest::decode(server.sink.only().batch.payload).expect("a request");
        assert_eq!(request, spans(1));
    }
}
