//! `split` against decoding: nothing is lost, nothing comes twice, and everything knows what it was inside of.

use crate::support::{Style, any_request, field};
use bytes::Bytes;
use hesper_otlp::{
    Signal,
    split::{merge, split, split_groups, split_items},
    validate,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        profiles::v1development::ExportProfilesServiceRequest, trace::v1::ExportTraceServiceRequest,
    },
    metrics::v1::{Metric, NumberDataPoint, Sum, metric::Data},
};
use proptest::prelude::*;
use prost::Message;

/// One thing and all around it, each encoded.
type Leaf = Vec<Vec<u8>>;

macro_rules! leaves {
    ($request:ty, $bytes:expr, $resources:ident, $scopes:ident, $items:ident, $item:expr) => {{
        let request = <$request>::decode($bytes).expect("a request");
        let mut leaves = Vec::new();
        for mut resource in request.$resources {
            let scopes = std::mem::take(&mut resource.$scopes);
            let none = scopes.is_empty();
            let resource = resource.encode_to_vec();
            leaves.extend(none.then(|| vec![resource.clone()]));
            for mut scope in scopes {
                let items = std::mem::take(&mut scope.$items);
                let none = items.is_empty();
                let around = vec![resource.clone(), scope.encode_to_vec()];
                leaves.extend(none.then(|| around.clone()));
                for item in items {
                    for inside in $item(item) {
                        leaves.push([around.clone(), inside].concat());
                    }
                }
            }
        }
        leaves
    }};
}

/// Every item of a request in its order, with all around it.
fn leaves(signal: Signal, bytes: &[u8]) -> Vec<Leaf> {
    fn whole<M: Message>(item: M) -> Vec<Leaf> {
        vec![vec![item.encode_to_vec()]]
    }
    match signal {
        Signal::Traces => {
            leaves!(ExportTraceServiceRequest, bytes, resource_spans, scope_spans, spans, whole)
        }
        Signal::Logs => {
            leaves!(ExportLogsServiceRequest, bytes, resource_logs, scope_logs, log_records, whole)
        }
        Signal::Metrics => {
            leaves!(ExportMetricsServiceRequest, bytes, resource_metrics, scope_metrics, metrics, points)
        }
        Signal::Profiles => {
            leaves!(ExportProfilesServiceRequest, bytes, resource_profiles, scope_profiles, profiles, whole)
        }
    }
}

fn points(mut metric: Metric) -> Vec<Leaf> {
    fn take<P: Message>(points: &mut Vec<P>) -> Vec<Vec<u8>> {
        std::mem::take(points).iter().map(Message::encode_to_vec).collect()
    }
    let points = match &mut metric.data {
        None => Vec::new(),
        Some(Data::Gauge(data)) => take(&mut data.data_points),
        Some(Data::Sum(data)) => take(&mut data.data_points),
        Some(Data::Histogram(data)) => take(&mut data.data_points),
        Some(Data::ExponentialHistogram(data)) => take(&mut data.data_points),
        Some(Data::Summary(data)) => take(&mut data.data_points),
    };
    let around = metric.encode_to_vec();
    match points.is_empty() {
        true => vec![vec![around]],
        false => points.into_iter().map(|point| vec![around.clone(), point]).collect(),
    }
}

fn dictionary(bytes: &[u8]) -> Option<Vec<u8>> {
    let request = ExportProfilesServiceRequest::decode(bytes).expect("a request");
    request.dictionary.map(|dictionary| dictionary.encode_to_vec())
}

fn check(signal: Signal, payload: &Bytes, pieces: &[Bytes]) -> Result<(), TestCaseError> {
    let together: Vec<Leaf> = pieces.iter().flat_map(|piece| leaves(signal, piece)).collect();
    prop_assert_eq!(together, leaves(signal, payload));
    let items = |bytes: &Bytes| validate(signal, bytes).expect("a request").items;
    prop_assert_eq!(pieces.iter().map(items).sum::<u64>(), items(payload));
    if signal == Signal::Profiles {
        for piece in pieces {
            prop_assert_eq!(dictionary(piece), dictionary(payload));
        }
    }
    Ok(())
}

fn style() -> impl Strategy<Value = Style> {
    prop_oneof![Just(Style::Plain), Just(Style::Odd)]
}

proptest! {
    #[test]
    fn pieces_hold_everything_once(
        (signal, payload) in style().prop_flat_map(any_request), max in 0..400_usize,
    ) {
        let payload = Bytes::from(payload);
        prop_assume!(validate(signal, &payload).is_ok());
        let pieces = split(signal, &payload, max);
        check(signal, &payload, &pieces)?;
        for piece in pieces.iter().filter(|piece| piece.len() > max) {
            prop_assert_eq!(split(signal, piece, max), vec![piece.clone()], "it can be divided no further");
        }
    }

    #[test]
    fn pieces_have_so_many_items(
        (signal, payload) in style().prop_flat_map(any_request), max in 0..6_u64,
    ) {
        let payload = Bytes::from(payload);
        prop_assume!(validate(signal, &payload).is_ok());
        let pieces = split_items(signal, &payload, max);
        check(signal, &payload, &pieces)?;
        for piece in &pieces {
            let again = split_items(signal, piece, max);
            prop_assert!(again.len() == 1, "it can be divided no further");
        }
    }

    #[test]
    fn groups_hold_their_resources_in_their_order(
        (signal, payload) in style().prop_flat_map(any_request), of in prop::collection::vec(0..3_u8, 200),
    ) {
        let payload = Bytes::from(payload);
        prop_assume!(validate(signal, &payload).is_ok());
        let resources = validate(signal, &payload).expect("a request").resources as usize;
        prop_assume!(resources <= of.len());
        let pieces = split_groups(signal, &payload, of[..resources].to_vec());
        // Each resource alone, and then those of each group one after the other.
        let alone = split_groups(signal, &payload, (0..resources).collect());
        for (group, piece) in &pieces {
            let expected: Vec<Leaf> = alone
                .iter()
                .filter(|(index, _)| of[**index] == *group)
                .flat_map(|(_, resource)| leaves(signal, resource))
                .collect();
            prop_assert_eq!(leaves(signal, piece), expected);
        }
        let all: Vec<Leaf> = alone.values().flat_map(|resource| leaves(signal, resource)).collect();
        prop_assert_eq!(all, leaves(signal, &payload));
    }

    #[test]
    fn what_is_merged_is_one_after_the_other(
        (signal, one) in any_request(Style::Odd), (other_signal, two) in any_request(Style::Odd),
    ) {
        prop_assume!(signal == other_signal && validate(signal, &one).is_ok() && validate(signal, &two).is_ok());
        let payloads = [Bytes::from(one), Bytes::from(two)];
        match merge(signal, &payloads) {
            Some(merged) => {
                let [one, two] = payloads.each_ref().map(|payload| leaves(signal, payload));
                prop_assert_eq!(leaves(signal, &merged), [one, two].concat());
            }
            None => prop_assert_eq!(signal, Signal::Profiles),
        }
    }
}

/// Two resources with two scopes of `items` items of some 50 bytes.
fn request(items: usize) -> Bytes {
    let text = |text: &str| text.as_bytes().to_vec();
    let resource = |name: &str| {
        let value = field(1, &[&text(name)]);
        field(1, &[&field(1, &[&field(1, &[b"service.name"]), &field(2, &[&value])])])
    };
    let scope = |resource: usize, scope: usize| {
        let span = |i: usize| field(2, &[&field(5, &[&text(&format!("{resource}/{scope}/{i:040}"))])]);
        let spans: Vec<u8> = (0..items).flat_map(span).collect();
        field(2, &[&field(1, &[&field(1, &[&text(&format!("scope {scope}"))])]), &spans])
    };
    let resources = (0..2).map(|r| field(1, &[&resource(&format!("shop {r}")), &scope(r, 0), &scope(r, 1)]));
    resources.flatten().collect::<Vec<u8>>().into()
}

#[test]
fn check_53_pieces_are_below_the_limit_and_well_filled() {
    let payload = request(500);
    for max in [300, 1000, 5000, 40_000, payload.len() - 1] {
        let pieces = split(Signal::Traces, &payload, max);
        check(Signal::Traces, &payload, &pieces).expect("everything once");
        assert!(pieces.iter().all(|piece| piece.len() <= max), "{max}");
        let filled = pieces.iter().filter(|piece| piece.len() + 120 > max).count();
        assert!(filled + 1 >= pieces.len(), "{max}: {filled} of {}", pieces.len());
    }
    assert_eq!(split(Signal::Traces, &payload, payload.len()), std::slice::from_ref(&payload));
    let pieces = split_items(Signal::Traces, &payload, 300);
    let items = |piece: &Bytes| validate(Signal::Traces, piece).expect("a request").items;
    assert_eq!(pieces.iter().map(items).collect::<Vec<_>>(), [300, 300, 300, 300, 300, 300, 200]);
}

#[test]
fn an_item_too_large_is_alone() {
    let small = field(2, &[&field(5, &[b"small"])]);
    let large = field(2, &[&field(5, &[&[b'x'; 500]])]);
    let payload: Bytes = field(1, &[&field(2, &[&small, &small, &large, &small])]).into();
    let pieces = split(Signal::Traces, &payload, 100);
    let items: Vec<u64> =
        pieces.iter().map(|piece| validate(Signal::Traces, piece).expect("a request").items).collect();
    assert_eq!(items, [2, 1, 1]);
    assert!(pieces[1].len() > 500 && pieces[0].len() < 100);
}

#[test]
fn points_of_a_metric_are_divided_and_keep_what_they_mean() {
    let point = |i| NumberDataPoint { time_unix_nano: i, ..Default::default() };
    let sum =
        Sum { is_monotonic: true, aggregation_temporality: 2, data_points: (1..51).map(point).collect() };
    let metric = Metric {
        name: "requests".into(),
        unit: "1".into(),
        data: Some(Data::Sum(sum)),
        ..Default::default()
    };
    let payload: Bytes = field(1, &[&field(2, &[&field(2, &[&metric.encode_to_vec()])])]).into();
    let pieces = split(Signal::Metrics, &payload, 120);
    assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.len() <= 120));
    check(Signal::Metrics, &payload, &pieces).expect("everything once");
    for piece in &pieces {
        let request = ExportMetricsServiceRequest::decode(&piece[..]).expect("a request");
        let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        assert!(metric.unit == "1" && metric.name == "requests" && sum.is_monotonic);
    }
}

#[test]
fn a_long_resource_is_not_repeated_a_thousand_times() {
    let value = field(1, &[&vec![b'x'; 100_000]]);
    let resource = field(1, &[&field(1, &[&field(1, &[b"k"]), &field(2, &[&value])])]);
    let items: Vec<u8> = field(2, &[]).repeat(5000);
    let payload: Bytes = field(1, &[&resource, &field(2, &[&items])]).into();
    for pieces in [split(Signal::Traces, &payload, 101_000), split_items(Signal::Traces, &payload, 1)] {
        assert!(pieces.iter().map(Bytes::len).sum::<usize>() <= 17 * payload.len());
        check(Signal::Traces, &payload, &pieces).expect("everything once");
    }
}

#[test]
fn bytes_that_are_no_request_are_left_alone() {
    let junk = Bytes::from_static(b"\x0a\xff\xff junk that nobody can read");
    assert_eq!(split(Signal::Logs, &junk, 3), std::slice::from_ref(&junk));
    assert_eq!(split(Signal::Logs, &Bytes::new(), 0), [Bytes::new()]);
}
