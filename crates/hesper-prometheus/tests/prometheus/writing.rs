//! From OTLP metrics to remote write.

use crate::scraping::{scrape, scrapes};
use hesper_collector_config::exporters::RemoteWriteVersion;
use hesper_prometheus::write::{
    Options, STALE, Wrote,
    messages::{v1, v2},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
        Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
        SummaryDataPoint, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point, summary_data_point::ValueAtQuantile,
    },
    resource::v1::Resource,
};
use prost::Message;

const SECOND: u64 = 1_000_000_000;
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

fn options() -> Options {
    Options {
        namespace: String::new(),
        external_labels: Vec::new(),
        target_info: true,
        resource_to_telemetry_conversion: false,
        add_metric_suffixes: true,
        send_metadata: false,
        max_bytes: 3_000_000,
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    of(key, Value::StringValue(value.into()))
}

fn of(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn request(resource: Vec<KeyValue>, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let resource = Some(Resource { attributes: resource, ..Resource::default() });
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url: String::new() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.into(), unit: unit.into(), data: Some(data), ..Metric::default() }
}

fn number(value: f64, seconds: u64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    let value = Some(number_data_point::Value::AsDouble(value));
    let time_unix_nano = seconds * SECOND;
    NumberDataPoint { attributes, time_unix_nano, start_time_unix_nano: SECOND, value, ..Default::default() }
}

fn gauge(points: Vec<NumberDataPoint>) -> Data {
    Data::Gauge(Gauge { data_points: points })
}

fn counter(points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum { data_points: points, aggregation_temporality: CUMULATIVE, is_monotonic: true })
}

fn set(labels: &[(String, String)]) -> String {
    let name = labels.iter().find(|(name, _)| name == "__name__").map(|(_, value)| value.as_str());
    let others: Vec<_> =
        labels.iter().filter(|(n, _)| n != "__name__").map(|(n, v)| format!("{n}={v}")).collect();
    format!("{}{{{}}}", name.unwrap_or_default(), others.join(","))
}

fn shown(wrote: &Wrote) -> Vec<String> {
    let one = |series: &hesper_prometheus::write::Series| {
        let mut text = set(&series.labels);
        for sample in &series.samples {
            let value =
                if sample.value.to_bits() == STALE { "STALE".to_owned() } else { sample.value.to_string() };
            text.push_str(&format!(" {value}@{}", sample.time_ms / 1000));
        }
        for (histogram, _) in &series.histograms {
            text.push_str(&format!(" native@{}", histogram.timestamp / 1000));
        }
        for exemplar in &series.exemplars {
            text.push_str(&format!(" ~{}{}", exemplar.value, set(&exemplar.labels)));
        }
        text
    };
    wrote.series.iter().map(one).collect()
}

#[test]
fn every_kind() {
    let exemplar = |value: f64| Exemplar {
        value: Some(exemplar::Value::AsDouble(value)),
        trace_id: vec![0xab; 16],
        time_unix_nano: 9 * SECOND,
        ..Exemplar::default()
    };
    let histogram = HistogramDataPoint {
        time_unix_nano: 10 * SECOND,
        count: 6,
        sum: Some(2.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.5, 1.0],
        exemplars: vec![exemplar(0.7), exemplar(9.0)],
        ..HistogramDataPoint::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano: 10 * SECOND,
        count: 2,
        sum: 3.0,
        quantile_values: vec![ValueAtQuantile { quantile: 0.99, value: 4.0 }],
        ..SummaryDataPoint::default()
    };
    let native = ExponentialHistogramDataPoint {
        time_unix_nano: 10 * SECOND,
        positive: Some(Buckets { offset: 0, bucket_counts: vec![1] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let mut count = number(5.0, 10, vec![attribute("a.b", "c")]);
    count.exemplars = vec![exemplar(1.0)];
    let cumulative = CUMULATIVE;
    let request = request(
        vec![
            attribute("service.name", "shop"),
            attribute("service.namespace", "eu"),
            attribute("region", "r"),
        ],
        vec![
            metric("requests", "{request}", counter(vec![count])),
            metric("temp", "Cel", gauge(vec![number(-1.5, 11, vec![])])),
            metric(
                "lat",
                "s",
                Data::Histogram(Histogram {
                    data_points: vec![histogram],
                    aggregation_temporality: cumulative,
                }),
            ),
            metric("sum", "", Data::Summary(Summary { data_points: vec![summary] })),
            metric(
                "exp",
                "",
                Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: vec![native],
                    aggregation_temporality: cumulative,
                }),
            ),
        ],
    );
    let wrote = Wrote::new(&request, &options());
    let id = "ab".repeat(16);
    let expected = [
        format!("requests_total{{a_b=c,job=eu/shop}} 5@10 ~1{{trace_id={id}}}"),
        "temp_celsius{job=eu/shop} -1.5@11".into(),
        "lat_seconds_sum{job=eu/shop} 2.5@10".into(),
        "lat_seconds_count{job=eu/shop} 6@10".into(),
        "lat_seconds_bucket{job=eu/shop,le=0.5} 1@10".into(),
        format!("lat_seconds_bucket{{job=eu/shop,le=1}} 3@10 ~0.7{{trace_id={id}}}"),
        format!("lat_seconds_bucket{{job=eu/shop,le=+Inf}} 6@10 ~9{{trace_id={id}}}"),
        "sum_sum{job=eu/shop} 3@10".into(),
        "sum_count{job=eu/shop} 2@10".into(),
        "sum{job=eu/shop,quantile=0.99} 4@10".into(),
        "exp{job=eu/shop} native@10".into(),
        "target_info{job=eu/shop,region=r} 1@11".into(),
    ];
    assert_eq!(shown(&wrote), expected);
    assert_eq!((wrote.points, wrote.refused.len()), (5, 0));
    assert_eq!(wrote.series[0].samples[0].start_ms, 1000);
    assert_eq!(wrote.series[1].samples[0].start_ms, 0, "a gauge does not count");
}

#[test]
fn what_was_scraped_is_written_as_it_was() {
    let body = "\
# TYPE go_info gauge
go_info{version=\"1\"} 1
# TYPE http_requests_total counter
http_requests_total{code=\"200\",a__b=\"x\"} 5
# TYPE rpc_seconds histogram
rpc_seconds_bucket{le=\"0.1\"} 1
rpc_seconds_bucket{le=\"+Inf\"} 2
rpc_seconds_sum 0.5
rpc_seconds_count 2
# TYPE build info
build_info{v=\"2\"} 1
";
    let mut scrapes = scrapes("", "");
    let outcome = scrape(&mut scrapes, 100, body);
    let got = shown(&Wrote::new(&outcome.request, &options()));
    let own = "instance=host:9100,job=j";
    for line in [
        format!("go_info{{{own},version=1}} 1@100"),
        format!("http_requests_total{{a__b=x,code=200,{own}}} 5@100"),
        format!("rpc_seconds_bucket{{{own},le=0.1}} 1@100"),
        format!("rpc_seconds_bucket{{{own},le=+Inf}} 2@100"),
        format!("rpc_seconds_sum{{{own}}} 0.5@100"),
        format!("rpc_seconds_count{{{own}}} 2@100"),
        format!("build_info{{{own},v=2}} 1@100"),
        format!("up{{{own}}} 1@100"),
        format!("target_info{{{own},server_address=host,server_port=9100,url_scheme=http}} 1@100"),
    ] {
        assert!(got.contains(&line), "{line} is not among {got:#?}");
    }
    let outcome = scrape(&mut scrapes, 110, "a 1\n");
    let got = shown(&Wrote::new(&outcome.request, &options()));
    for line in [
        format!("http_requests_total{{a__b=x,code=200,{own}}} STALE@110"),
        format!("rpc_seconds_bucket{{{own},le=0.1}} STALE@110"),
        format!("rpc_seconds_bucket{{{own},le=+Inf}} STALE@110"),
        format!("rpc_seconds_sum{{{own}}} STALE@110"),
        format!("rpc_seconds_count{{{own}}} STALE@110"),
    ] {
        assert!(got.contains(&line), "{line} is not among {got:#?}");
    }
}

#[test]
fn counts_that_are_not_cumulative_are_refused() {
    let delta = Data::Sum(Sum {
        data_points: vec![number(1.0, 1, vec![]), number(2.0, 2, vec![])],
        aggregation_temporality: AggregationTemporality::Delta as i32,
        is_monotonic: true,
    });
    let coarse = ExponentialHistogramDataPoint { scale: -5, time_unix_nano: SECOND, ..Default::default() };
    let coarse = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![coarse],
        aggregation_temporality: CUMULATIVE,
    });
    let crooked =
        HistogramDataPoint { bucket_counts: vec![1], explicit_bounds: vec![1.0], ..Default::default() };
    let crooked =
        Data::Histogram(Histogram { data_points: vec![crooked], aggregation_temporality: CUMULATIVE });
    let empty = NumberDataPoint { value: None, ..number(0.0, 1, vec![]) };
    let metrics = [("d", delta), ("c", coarse), ("h", crooked), ("e", gauge(vec![empty]))];
    let metrics = metrics.map(|(name, data)| metric(name, "", data)).into();
    let wrote = Wrote::new(&request(vec![], metrics), &options());
    assert_eq!(shown(&wrote), Vec::<String>::new());
    assert_eq!(wrote.refused.values().copied().collect::<Vec<_>>(), [1, 1, 1, 2], "{:?}", wrote.refused);
    assert_eq!(wrote.points, 5);
}

#[test]
fn series_are_in_the_order_of_time() {
    let points = vec![
        number(3.0, 30, vec![]),
        number(1.0, 10, vec![]),
        number(9.0, 30, vec![]),
        number(2.0, 20, vec![]),
    ];
    let wrote = Wrote::new(&request(vec![], vec![metric("g", "", gauge(points))]), &options());
    assert_eq!(shown(&wrote), ["g{} 1@10 2@20 3@30"]);
    assert_eq!(wrote.refused.into_iter().collect::<Vec<_>>(), [("two points of one series at one time", 1)]);
}

#[test]
fn labels() {
    let list = Value::ArrayValue(ArrayValue {
        values: vec![
            AnyValue { value: Some(Value::IntValue(1)) },
            AnyValue { value: Some(Value::StringValue("x".into())) },
        ],
    });
    let attributes = vec![
        attribute("b_c", "2"),
        attribute("b.c", "1"),
        of("list", list),
        of("yes", Value::BoolValue(true)),
        of("bytes", Value::BytesValue(vec![1, 2])),
        attribute("empty", ""),
        attribute("job", "mine"),
    ];
    let resource = vec![
        attribute("service.name", "s"),
        attribute("service.instance.id", "i"),
        attribute("k8s.pod", "p"),
    ];
    let data = || vec![metric("g", "", gauge(vec![number(1.0, 1, attributes.clone())]))];
    let mut options = Options {
        external_labels: vec![("cluster".into(), "c".into()), ("yes".into(), "no".into())],
        target_info: false,
        ..options()
    };
    let own = "b_c=1;2,bytes=AQI=,cluster=c,instance=i,job=s,";
    let wrote = Wrote::new(&request(resource.clone(), data()), &options);
    assert_eq!(shown(&wrote), [format!("g{{{own}list=[1,\"x\"],yes=true}} 1@1")]);
    options.resource_to_telemetry_conversion = true;
    let wrote = Wrote::new(&request(resource, data()), &options);
    assert_eq!(
        shown(&wrote),
        [format!("g{{{own}k8s_pod=p,list=[1,\"x\"],service_instance_id=i,service_name=s,yes=true}} 1@1")]
    );
}

fn many() -> Wrote {
    let point = |i: u64| number(i as f64, 1 + i % 3, vec![attribute("i", &i.to_string())]);
    let data = counter((0..500).map(point).collect());
    let mut metric = metric("c", "s", data);
    metric.description = "Help.".into();
    Wrote::new(&request(vec![], vec![metric]), &options())
}

#[test]
fn requests_are_bounded_and_whole() {
    let wrote = many();
    let options = Options { max_bytes: 2000, send_metadata: true, ..options() };
    let mut seen = Vec::new();
    let (mut metadata, mut points) = (Vec::new(), 0);
    for shard in wrote.requests(RemoteWriteVersion::V1, &options, 3) {
        for request in shard {
            assert!(request.body.len() <= 2000, "{}", request.body.len());
            let message = v1::WriteRequest::decode(&*request.body).expect("a message");
            let samples: usize = message.timeseries.iter().map(|series| series.samples.len()).sum();
            assert_eq!(request.samples, samples as u64);
            points += request.points.len();
            metadata.extend(message.metadata);
            for series in message.timeseries {
                assert!(series.labels.windows(2).all(|pair| pair[0].name < pair[1].name));
                seen.push(series.labels.iter().find(|l| l.name == "i").expect("i").value.clone());
            }
        }
    }
    seen.sort_by_key(|i| i.parse::<u64>().expect("a number"));
    assert_eq!(seen, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(points, 500);
    let [family] = &metadata[..] else { panic!("{metadata:?}") };
    assert_eq!(
        (family.r#type, &*family.metric_family_name, &*family.help, &*family.unit),
        (1, "c_seconds_total", "Help.", "seconds")
    );
}

#[test]
fn texts_of_the_second_version_are_there_once() {
    let options = Options { max_bytes: 2000, ..options() };
    let mut seen = 0;
    for request in many().requests(RemoteWriteVersion::V2, &options, 1).concat() {
        assert!(request.body.len() <= 2000, "{}", request.body.len());
        let message = v2::Request::decode(&*request.body).expect("a message");
        let text = |number: u32| message.symbols[number as usize].as_str();
        assert_eq!(text(0), "");
        let mut unique = message.symbols.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), message.symbols.len());
        for series in &message.timeseries {
            let labels: Vec<_> = series.labels_refs.chunks(2).map(|l| (text(l[0]), text(l[1]))).collect();
            assert_eq!(labels[0], ("__name__", "c_seconds_total"));
            let [sample] = &series.samples[..] else { panic!("{series:?}") };
            assert_eq!(labels[1].1, sample.value.to_string());
            assert_eq!(sample.start_timestamp, 1000);
            let metadata = series.metadata.expect("metadata");
            assert_eq!(
                (metadata.r#type, text(metadata.help_ref), text(metadata.unit_ref)),
                (1, "Help.", "seconds")
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 500);
}

#[test]
fn a_series_is_always_in_the_same_shard() {
    let shard_of = |wrote: &Wrote| {
        let mut shards = Vec::new();
        for (number, shard) in wrote.requests(RemoteWriteVersion::V1, &options(), 4).into_iter().enumerate() {
            for request in shard {
                let message = v1::WriteRequest::decode(&*request.body).expect("a message");
                shards.extend(message.timeseries.into_iter().map(|series| (set_of(&series.labels), number)));
            }
        }
        shards.sort();
        shards
    };
    let first = shard_of(&many());
    assert_eq!(first, shard_of(&many()));
    let used: std::collections::BTreeSet<_> = first.iter().map(|(_, shard)| *shard).collect();
    assert_eq!(used.len(), 4);
}

fn set_of(labels: &[v1::Label]) -> String {
    labels.iter().map(|label| format!("{}={};", label.name, label.value)).collect()
}
