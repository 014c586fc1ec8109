//! Requests of every signal, made of the official messages.

use crate::client::TRACES_RPC;
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    metrics::v1::{Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data},
    profiles::v1development::{Profile, ProfilesDictionary, ResourceProfiles, ScopeProfiles, ValueType},
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;

/// A signal as both protocols name it, with a request.
pub(crate) struct Signal {
    pub(crate) path: &'static str,
    pub(crate) rpc: &'static str,
    /// What a partial success calls its items, in JSON.
    pub(crate) rejected: &'static str,
    /// A request of [`ITEMS`] items.
    pub(crate) request: Vec<u8>,
}

pub(crate) const ITEMS: usize = 5;

/// All of them.
pub(crate) fn signals() -> [Signal; 4] {
    let of = |path, rpc, rejected, request| Signal { path, rpc, rejected, request };
    let names = || (0..ITEMS).map(|number| format!("item-{number}"));
    [
        of("/v1/traces", TRACES_RPC, "rejectedSpans", spans(names()).encode_to_vec()),
        of(
            "/v1/metrics",
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            "rejectedDataPoints",
            points(ITEMS).encode_to_vec(),
        ),
        of(
            "/v1/logs",
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            "rejectedLogRecords",
            records(ITEMS).encode_to_vec(),
        ),
        of(
            "/v1development/profiles",
            "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
            "rejectedProfiles",
            profiles(names(), 0).encode_to_vec(),
        ),
    ]
}

/// Spans of these names.
pub(crate) fn spans(names: impl IntoIterator<Item = impl Into<String>>) -> ExportTraceServiceRequest {
    let span = |(number, name): (u64, String)| Span {
        trace_id: vec![1; 16],
        span_id: (number + 1).to_be_bytes().to_vec(),
        name,
        ..Span::default()
    };
    let spans = (0..).zip(names.into_iter().map(Into::into)).map(span).collect();
    let scope = ScopeSpans { spans, ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }],
    }
}

/// A request with one span of this name.
pub(crate) fn span(name: &str) -> Vec<u8> {
    spans([name]).encode_to_vec()
}

/// The names of the spans of a request.
#[track_caller]
pub(crate) fn names(request: &[u8]) -> Vec<String> {
    let request = ExportTraceServiceRequest::decode(request).expect("spans");
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    scopes.flat_map(|scope| scope.spans).map(|span| span.name).collect()
}

/// Points of one gauge.
pub(crate) fn points(count: usize) -> ExportMetricsServiceRequest {
    let gauge = Gauge { data_points: vec![NumberDataPoint::default(); count] };
    let metric = Metric { name: "m".into(), data: Some(Data::Gauge(gauge)), ..Metric::default() };
    let scope = ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { scope_metrics: vec![scope], ..ResourceMetrics::default() }],
    }
}

/// Log records.
pub(crate) fn records(count: usize) -> ExportLogsServiceRequest {
    let scope = ScopeLogs { log_records: vec![LogRecord::default(); count], ..ScopeLogs::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { scope_logs: vec![scope], ..ResourceLogs::default() }],
    }
}

/// Profiles whose type is called so, by way of the dictionary, each with so many bytes besides.
pub(crate) fn profiles(
    names: impl IntoIterator<Item = String>,
    weight: usize,
) -> ExportProfilesServiceRequest {
    let mut table = vec![String::new()];
    table.extend(names);
    let profile = |place| Profile {
        sample_type: Some(ValueType { type_strindex: place, ..ValueType::default() }),
        original_payload: vec![7; weight],
        ..Profile::default()
    };
    let profiles = (1..).take(table.len() - 1).map(profile).collect();
    let scope = ScopeProfiles { profiles, ..ScopeProfiles::default() };
    ExportProfilesServiceRequest {
        resource_profiles: vec![ResourceProfiles {
            scope_profiles: vec![scope],
            ..ResourceProfiles::default()
        }],
        dictionary: Some(ProfilesDictionary { string_table: table, ..ProfilesDictionary::default() }),
    }
}

/// What the types of the profiles of a request are called, by its own dictionary.
#[track_caller]
pub(crate) fn types(request: &[u8]) -> Vec<String> {
    let request = ExportProfilesServiceRequest::decode(request).expect("profiles");
    let table = request.dictionary.expect("a dictionary").string_table;
    let scopes = request.resource_profiles.into_iter().flat_map(|resource| resource.scope_profiles);
    let profiles = scopes.flat_map(|scope| scope.profiles);
    let place = |profile: Profile| profile.sample_type.expect("a type").type_strindex;
    profiles.map(|profile| table[usize::try_from(place(profile)).expect("a place")].clone()).collect()
}

/// A request of nothing but an unknown field, so many bytes long: any signal takes it.
pub(crate) fn filler(len: usize) -> Vec<u8> {
    let mut bytes = vec![0xc2, 0x3e];
    // The length in four bytes of seven bits.
    let mut rest = len - 6;
    for more in [0x80, 0x80, 0x80, 0] {
        bytes.push((rest & 0x7f) as u8 | more);
        rest >>= 7;
    }
    bytes.resize(len, b'a');
    bytes
}
