//! What is taken as a request is what prost decodes, and is counted as it decodes it.

use crate::support::{Style, any_request, canonical, field, number};
use hesper_otlp::{Counts, Signal, limits::DEPTH, validate};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    metrics::v1::{Metric, metric::Data},
};
use proptest::prelude::*;
use prost::Message;

fn points(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    }
}

/// The number of resources, scopes and items, by decoding.
fn decoded(signal: Signal, bytes: &[u8]) -> Counts {
    macro_rules! count {
        ($request:ty, $resources:ident, $scopes:ident, $items:expr) => {{
            let request = <$request>::decode(bytes).expect("decoded");
            let scopes = || request.$resources.iter().flat_map(|resource| &resource.$scopes);
            Counts {
                resources: request.$resources.len() as u64,
                scopes: scopes().count() as u64,
                items: scopes().map($items).sum::<usize>() as u64,
            }
        }};
    }
    match signal {
        Signal::Traces => {
            count!(ExportTraceServiceRequest, resource_spans, scope_spans, |scope| scope.spans.len())
        }
        Signal::Metrics => count!(ExportMetricsServiceRequest, resource_metrics, scope_metrics, |scope| {
            scope.metrics.iter().map(points).sum::<usize>()
        }),
        Signal::Logs => {
            count!(ExportLogsServiceRequest, resource_logs, scope_logs, |scope| scope.log_records.len())
        }
        Signal::Profiles => {
            count!(ExportProfilesServiceRequest, resource_profiles, scope_profiles, |scope| scope
                .profiles
                .len())
        }
    }
}

fn check(signal: Signal, bytes: &[u8]) {
    let ours = validate(signal, bytes);
    let theirs = canonical(signal, bytes);
    assert_eq!(ours.is_ok(), theirs.is_some(), "{signal}: {ours:?}");
    if let Ok(counts) = ours {
        assert_eq!(counts, decoded(signal, bytes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_requests_are_taken_and_counted((signal, bytes) in any_request(Style::Odd)) {
        prop_assert!(validate(signal, &bytes).is_ok(), "{:?}", validate(signal, &bytes));
        check(signal, &bytes);
    }

    #[test]
    fn damaged_requests_are_taken_as_prost_takes_them(
        (signal, bytes) in any_request(Style::Odd),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        prop_assume!(!bytes.is_empty());
        let mut bytes = bytes;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        Signal::ALL.into_iter().for_each(|other| check(other, &bytes));
        check(signal, &bytes);
    }

    #[test]
    fn any_bytes_are_taken_as_prost_takes_them(bytes in prop::collection::vec(0..0x30_u8, 0..40)) {
        Signal::ALL.into_iter().for_each(|signal| check(signal, &bytes));
    }
}

/// A value of a log record with so many messages in it: lists in lists.
fn nested(levels: u32, innermost: &[u8]) -> Vec<u8> {
    let mut value = innermost.to_vec();
    for level in (0..levels).rev() {
        // AnyValue.array_value = 5 and ArrayValue.values = 1, in turn.
        value = field(if level % 2 == 0 { 5 } else { 1 }, &[&value]);
    }
    // Request, ResourceLogs, ScopeLogs, LogRecord.body.
    field(1, &[&field(2, &[&field(2, &[&field(5, &[&value])])])])
}

#[test]
fn nesting_ends_where_that_of_prost_ends() {
    let group = [number(99, 0)[0] | 3, 6, 0x9b, 6, 0x9c, 6, 0x9c, 6];
    for inner in [Vec::new(), number(99, 1), number(3, 1), field(1, &[b"x"]), group.to_vec()] {
        for levels in DEPTH - 8..DEPTH + 3 {
            check(Signal::Logs, &nested(levels, &inner));
        }
    }
    assert!(validate(Signal::Logs, &nested(DEPTH - 4, &[])).is_ok());
    let error = validate(Signal::Logs, &nested(DEPTH - 3, &[])).expect_err("too deep");
    assert!(error.to_string().ends_with("messages nested deeper than 100"), "{error}");
}

#[test]
fn check_13_an_empty_request_is_one() {
    for signal in Signal::ALL {
        assert_eq!(validate(signal, b""), Ok(Counts::default()));
    }
}

#[test]
fn a_metric_has_the_points_of_its_last_data() {
    let (gauge, sum) = (|points| field(5, &[points]), |points| field(7, &[points]));
    let point = field(1, &[]);
    let metric = field(2, &[&gauge(&point), &sum(&point), &sum(&[point.clone(), point.clone()].concat())]);
    let bytes = field(1, &[&field(2, &[&metric])]);
    assert_eq!(validate(Signal::Metrics, &bytes).expect("a request").items, 3);
    check(Signal::Metrics, &bytes);
}

#[test]
fn packed_numbers_are_whole() {
    // Histogram = 9, its point's bucket_counts = 6; Profile's sample = 2, its values = 4.
    let histogram = |counts: &[u8]| field(9, &[&field(1, &[&field(6, &[counts])])]);
    let values = |values: &[u8]| field(2, &[&field(4, &[values])]);
    let request = |item: &[u8]| field(1, &[&field(2, &[&field(2, &[item])])]);
    for len in 0..18 {
        let bytes = request(&histogram(&vec![1; len]));
        assert_eq!(validate(Signal::Metrics, &bytes).is_ok(), len % 8 == 0);
        check(Signal::Metrics, &bytes);
    }
    for (bytes, whole) in [(&[1, 0x81, 1][..], true), (&[1, 0x81], false), (&[0x80], false)] {
        let bytes = request(&values(bytes));
        assert_eq!(validate(Signal::Profiles, &bytes).is_ok(), whole);
        check(Signal::Profiles, &bytes);
    }
}

#[test]
fn errors_name_the_place_and_the_field() {
    let name = |bytes: &[u8]| field(1, &[&field(2, &[&field(2, &[&field(5, &[bytes])])])]);
    let error = validate(Signal::Traces, &name(b"\xff")).expect_err("no UTF-8");
    assert_eq!(error.to_string(), "byte 6, in Span: name is not UTF-8");
    let number = field(1, &[&field(2, &[&field(2, &[&number(5, 1)])])]);
    let error = validate(Signal::Traces, &number).expect_err("no text");
    assert_eq!(error.to_string(), "byte 6, in Span: name has the wire type of another field type");
}

#[test]
fn hostile_shapes_cost_no_more_than_their_length() {
    let many = field(1, &[&[0x12, 0].repeat(2 << 20)]);
    assert_eq!(validate(Signal::Traces, &many).expect("a request").scopes, 2 << 20);
    let groups = [0x9b, 6].repeat(1 << 20);
    assert!(validate(Signal::Traces, &groups).is_err());
}
