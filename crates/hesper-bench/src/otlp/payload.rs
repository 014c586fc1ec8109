//! Requests as SDKs make them: semantic conventions, about 300 bytes an item, a thousand in a request.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use hesper_otlp::Signal;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{
        AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
        number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status},
};
use prost::Message;
use std::io::{self, Write};

/// Items of a request.
pub(crate) const ITEMS: usize = 1_000;
/// Different requests, so that nothing is sent twice in a row.
const VARIANTS: usize = 8;
/// When they happened.
const THEN: u64 = 1_780_000_000_000_000_000;

/// gRPC messages, ready to be sent: five bytes of prefix, then the request, compressed or not.
pub(crate) fn requests(signal: Signal, gzip: bool) -> io::Result<Vec<Bytes>> {
    (0..VARIANTS).map(|variant| framed(&request(signal, variant as u64), gzip)).collect()
}

fn framed(request: &[u8], gzip: bool) -> io::Result<Bytes> {
    let body = match gzip {
        false => request.to_vec(),
        true => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
            encoder.write_all(request)?;
            encoder.finish()?
        }
    };
    let mut message = BytesMut::with_capacity(body.len() + 5);
    message.put_u8(gzip.into());
    message.put_u32(u32::try_from(body.len()).map_err(io::Error::other)?);
    message.put_slice(&body);
    Ok(message.freeze())
}

fn request(signal: Signal, variant: u64) -> Vec<u8> {
    let seeds = (0..ITEMS as u64).map(|n| variant * ITEMS as u64 + n);
    let (resource, scope) = (Some(resource()), Some(scope()));
    match signal {
        Signal::Metrics => {
            let metrics = seeds.map(metric).collect();
            let scope_metrics = vec![ScopeMetrics { scope, metrics, ..Default::default() }];
            let one = ResourceMetrics { resource, scope_metrics, ..Default::default() };
            ExportMetricsServiceRequest { resource_metrics: vec![one] }.encode_to_vec()
        }
        Signal::Logs => {
            let log_records = seeds.map(record).collect();
            let scope_logs = vec![ScopeLogs { scope, log_records, ..Default::default() }];
            let one = ResourceLogs { resource, scope_logs, ..Default::default() };
            ExportLogsServiceRequest { resource_logs: vec![one] }.encode_to_vec()
        }
        Signal::Traces | Signal::Profiles => {
            let spans = seeds.map(span).collect();
            let scope_spans = vec![ScopeSpans { scope, spans, ..Default::default() }];
            let one = ResourceSpans { resource, scope_spans, ..Default::default() };
            ExportTraceServiceRequest { resource_spans: vec![one] }.encode_to_vec()
        }
    }
}

/// A number that looks like none of its neighbours (SplitMix64).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn number(key: &str, value: u64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value as i64)) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

fn resource() -> Resource {
    let attributes = [
        ("service.name", "checkout"),
        ("service.namespace", "shop"),
        ("service.version", "1.42.0"),
        ("deployment.environment.name", "production"),
        ("host.name", "node-7.eu-west-1.example"),
        ("telemetry.sdk.language", "rust"),
    ];
    Resource { attributes: attributes.iter().map(|(k, v)| text(k, v)).collect(), ..Default::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "bench".into(), version: "1.0.0".into(), ..Default::default() }
}

fn request_attributes(n: u64) -> Vec<KeyValue> {
    let random = mixed(n);
    vec![
        text("http.request.method", ["GET", "POST", "PUT"][random as usize % 3]),
        text("url.path", &format!("/api/v1/orders/{}", random % 100_000)),
        text("server.address", "checkout.shop.example"),
        number("http.response.status_code", [200, 201, 404, 500][random as usize % 4]),
        text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
        text("client.address", &format!("10.0.{}.{}", random % 250, (random >> 8) % 250)),
    ]
}

fn span(n: u64) -> Span {
    let (high, low) = (mixed(n / 8), mixed(n));
    Span {
        trace_id: [high.to_be_bytes(), mixed(high).to_be_bytes()].concat(),
        span_id: low.to_be_bytes().to_vec(),
        parent_span_id: mixed(n.saturating_sub(1)).to_be_bytes().to_vec(),
        name: "GET /api/v1/orders/{id}".into(),
        kind: 2,
        start_time_unix_nano: THEN + n * 1_000,
        end_time_unix_nano: THEN + n * 1_000 + low % 50_000_000,
        attributes: request_attributes(n),
        status: Some(Status { code: 1, ..Default::default() }),
        ..Default::default()
    }
}

fn record(n: u64) -> LogRecord {
    let id = mixed(n);
    LogRecord {
        time_unix_nano: THEN + n * 1_000,
        observed_time_unix_nano: THEN + n * 1_000 + 5,
        severity_number: 9,
        severity_text: "INFO".into(),
        body: Some(AnyValue {
            value: Some(Value::StringValue(format!("order {id} was accepted and is being packed"))),
        }),
        attributes: request_attributes(n),
        trace_id: [id.to_be_bytes(), mixed(id).to_be_bytes()].concat(),
        span_id: id.to_be_bytes().to_vec(),
        ..Default::default()
    }
}

fn metric(n: u64) -> Metric {
    let point = NumberDataPoint {
        attributes: request_attributes(n),
        start_time_unix_nano: THEN,
        time_unix_nano: THEN + n * 1_000,
        value: Some(number_data_point::Value::AsInt((mixed(n) % 1_000_000) as i64)),
        ..Default::default()
    };
    Metric {
        name: "http.server.request.count".into(),
        unit: "{request}".into(),
        data: Some(Data::Sum(Sum {
            data_points: vec![point],
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        })),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn each_request_has_a_thousand_items_however_it_is_packed() {
        for signal in [Signal::Traces, Signal::Metrics, Signal::Logs] {
            for gzip in [false, true] {
                for message in requests(signal, gzip).unwrap() {
                    assert_eq!(message[1..5], u32::try_from(message.len() - 5).unwrap().to_be_bytes());
                    let mut plain = Vec::new();
                    match gzip {
                        true => flate2::read::GzDecoder::new(&message[5..]).read_to_end(&mut plain).unwrap(),
                        false => (&message[5..]).read_to_end(&mut plain).unwrap(),
                    };
                    let counts = hesper_otlp::validate(signal, &plain).unwrap();
                    assert_eq!((counts.resources, counts.items), (1, ITEMS as u64));
                    let each = plain.len() / ITEMS;
                    assert!((200..450).contains(&each), "{signal:?}: {each} bytes an item");
                }
            }
        }
    }
}
