//! From answers of targets to OTLP.

use crate::{settings, target};
use hesper_prometheus::{
    scrape::{Answer, Outcome, Scrapes},
    text::Format,
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Exemplar, Metric, metric::Data, number_data_point},
};
use std::time::Duration;

fn attributes(list: &[KeyValue]) -> String {
    let one = |kv: &KeyValue| match kv.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => format!("{}={text}", kv.key),
        other => panic!("{other:?}"),
    };
    format!("{{{}}}", list.iter().map(one).collect::<Vec<_>>().join(","))
}

fn seconds(ns: u64) -> String {
    if ns == 0 { "-".into() } else { format!("{}", ns as f64 / 1e9) }
}

fn exemplars(list: &[Exemplar]) -> String {
    let one = |e: &Exemplar| {
        let ids = format!("{}/{}", e.trace_id.len(), e.span_id.len());
        format!(" ~{ids}{}@{}", attributes(&e.filtered_attributes), seconds(e.time_unix_nano))
    };
    list.iter().map(one).collect()
}

/// One line for each point: name, attributes, value, start..time.
fn points(metric: &Metric) -> Vec<String> {
    let line = |attrs: &[KeyValue], what: String, start, time, flags: u32, e: &[Exemplar]| {
        let what = if flags == 1 { format!("{what} STALE") } else { what };
        format!(
            "{}{} {what} {}..{}{}",
            metric.name,
            attributes(attrs),
            seconds(start),
            seconds(time),
            exemplars(e)
        )
    };
    let number = |points: &[opentelemetry_proto::tonic::metrics::v1::NumberDataPoint]| {
        let value = |value| match value {
            Some(number_data_point::Value::AsDouble(value)) => format!("{value}"),
            other => format!("{other:?}"),
        };
        let one = |p: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
            line(
                &p.attributes,
                value(p.value),
                p.start_time_unix_nano,
                p.time_unix_nano,
                p.flags,
                &p.exemplars,
            )
        };
        points.iter().map(one).collect()
    };
    match metric.data.as_ref().expect("data") {
        Data::Gauge(gauge) => number(&gauge.data_points),
        Data::Sum(sum) => number(&sum.data_points),
        Data::Histogram(histogram) => histogram
            .data_points
            .iter()
            .map(|p| {
                assert_eq!(p.bucket_counts.len(), p.explicit_bounds.len() + 1);
                let (bounds, counts) = (&p.explicit_bounds, &p.bucket_counts);
                let what = format!("{bounds:?}{counts:?} n={} sum={:?}", p.count, p.sum);
                line(&p.attributes, what, p.start_time_unix_nano, p.time_unix_nano, p.flags, &p.exemplars)
            })
            .collect(),
        Data::Summary(summary) => summary
            .data_points
            .iter()
            .map(|p| {
                let quantiles: Vec<_> = p.quantile_values.iter().map(|q| (q.quantile, q.value)).collect();
                let what = format!("{quantiles:?} n={} sum={}", p.count, p.sum);
                line(&p.attributes, what, p.start_time_unix_nano, p.time_unix_nano, p.flags, &[])
            })
            .collect(),
        Data::ExponentialHistogram(_) => panic!("there are none in text"),
    }
}

/// Everything besides `up` and its companions, one line each.
pub(crate) fn shown(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let usual = |name: &str| name == "up" || name.starts_with("scrape_");
    metrics.filter(|metric| !usual(&metric.name)).flat_map(points).collect()
}

/// Only those.
pub(crate) fn told(request: &ExportMetricsServiceRequest) -> Vec<String> {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    let usual = |name: &str| name == "up" || name.starts_with("scrape_");
    metrics.filter(|metric| usual(&metric.name)).flat_map(points).collect()
}

pub(crate) fn scrape(scrapes: &mut Scrapes, at: i64, body: &str) -> Outcome {
    let format = if body.contains("# EOF") { Format::OpenMetrics } else { Format::Text };
    let answer = Answer { format, body: body.as_bytes() };
    scrapes.scraped(at * 1000, Duration::from_millis(250), Ok(answer))
}

pub(crate) fn scrapes(keys: &str, job: &str) -> Scrapes {
    let settings = settings(keys, job);
    Scrapes::new(target(&std::sync::Arc::new(settings.jobs[0].clone())), settings)
}

/// One scrape at 100 s of a fresh target.
fn once(keys: &str, job: &str, body: &str) -> Outcome {
    let outcome = scrape(&mut scrapes(keys, job), 100, body);
    assert_eq!(outcome.error, None, "{body}");
    outcome
}

#[test]
fn every_kind() {
    let body = "\
# TYPE c counter
c_total{a=\"1\"} 5
c_created{a=\"1\"} 90.5
# TYPE g gauge
g{a=\"1\"} -1.5
u 7
# TYPE i info
i_info{v=\"1\"} 1
# TYPE st stateset
st{st=\"on\"} 1
st{st=\"off\"} 0
# TYPE h histogram
h_bucket{le=\"+Inf\"} 5
h_bucket{le=\"0.5\"} 3
h_bucket{le=\"0.1\"} 2
h_sum 1.5
h_count 5
h_created 80
# TYPE s summary
s{quantile=\"0.99\"} 2
s{quantile=\"0.5\"} 1
s_count 9
s_sum 10
# TYPE gh gaugehistogram
gh_bucket{le=\"+Inf\"} 5
gh_gcount 5
# EOF
";
    let outcome = once("", "", body);
    let expected = [
        "c_total{a=1} 5 90.5..100",
        "g{a=1} -1.5 -..100",
        "u{} 7 -..100",
        "i_info{v=1} 1 -..100",
        "st{st=on} 1 -..100",
        "st{st=off} 0 -..100",
        "h{} [0.1, 0.5][2, 1, 2] n=5 sum=Some(1.5) 80..100",
        "s{} [(0.5, 1.0), (0.99, 2.0)] n=9 sum=10 100..100",
    ];
    assert_eq!(shown(&outcome.request), expected);
    assert_eq!(outcome.dropped.into_values().sum::<u64>(), 2, "histograms of gauges");
    let metrics = &outcome.request.resource_metrics[0].scope_metrics[0].metrics;
    let kinds: Vec<_> = metrics
        .iter()
        .map(|metric| match metric.data.as_ref().expect("data") {
            Data::Sum(sum) if sum.is_monotonic => "counter",
            Data::Sum(_) => "sum",
            Data::Gauge(_) => "gauge",
            Data::Histogram(_) => "histogram",
            _ => "summary",
        })
        .collect();
    assert_eq!(kinds[..8], ["counter", "gauge", "gauge", "sum", "sum", "histogram", "summary", "gauge"]);
    let types: Vec<_> = metrics.iter().map(|metric| attributes(&metric.metadata)).collect();
    assert_eq!(types[0], "{prometheus.type=counter}");
    assert_eq!(types[2], "{prometheus.type=unknown}");
}

#[test]
fn resources_and_scopes() {
    let body = "\
# TYPE target info
target_info{region=\"eu\"} 1
# TYPE otel_scope info
otel_scope_info{otel_scope_name=\"lib\",otel_scope_version=\"1\",mascot=\"bear\"} 1
a{otel_scope_name=\"lib\",otel_scope_version=\"1\",x=\"y\"} 1
b 2
# EOF
";
    let outcome = once("", "", body);
    let [resource] = &outcome.request.resource_metrics[..] else { panic!("one resource") };
    assert_eq!(
        attributes(&resource.resource.as_ref().expect("a resource").attributes),
        "{service.name=j,service.instance.id=host:9100,server.address=host,server.port=9100,url.scheme=http,region=eu}"
    );
    let scope = |i: usize| resource.scope_metrics[i].scope.clone().expect("a scope");
    let (lib, own) = (scope(0), scope(1));
    assert_eq!((&*lib.name, &*lib.version, &*attributes(&lib.attributes)), ("lib", "1", "{mascot=bear}"));
    assert_eq!(own.name, "hesper-prometheus");
    assert_eq!(shown(&outcome.request), ["a{x=y} 1 -..100", "b{} 2 -..100"]);
}

#[test]
fn federated_series_have_the_resource_that_they_name() {
    let outcome = once("", "honor_labels: true", "a{job=\"inner\",instance=\"i\"} 1\nb 2\n");
    let names: Vec<_> = outcome
        .request
        .resource_metrics
        .iter()
        .map(|r| attributes(&r.resource.as_ref().expect("a resource").attributes[..2]))
        .collect();
    assert_eq!(
        names,
        ["{service.name=inner,service.instance.id=i}", "{service.name=j,service.instance.id=host:9100}"]
    );
    let outcome = once("", "", "a{job=\"inner\"} 1\n");
    assert_eq!(shown(&outcome.request), ["a{exported_job=inner} 1 -..100"]);
}

#[test]
fn units_help_and_trimmed_names() {
    let body = "\
# TYPE x_bytes_per_second gauge
# UNIT x_bytes_per_second bytes_per_second
# HELP x_bytes_per_second How fast.
x_bytes_per_second 1
# TYPE t_seconds counter
# UNIT t_seconds seconds
t_seconds_total 1
# EOF
";
    let metric = |outcome: &Outcome, i: usize| {
        let metric = &outcome.request.resource_metrics[0].scope_metrics[0].metrics[i];
        (metric.name.clone(), metric.unit.clone(), metric.description.clone())
    };
    let expect = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    let plain = once("", "", body);
    assert_eq!(metric(&plain, 0), expect("x_bytes_per_second", "By/s", "How fast."));
    assert_eq!(metric(&plain, 1), expect("t_seconds_total", "s", ""));
    let trimmed = once("trim_metric_suffixes: true,", "", body);
    assert_eq!(metric(&trimmed, 0).0, "x");
    assert_eq!(metric(&trimmed, 1).0, "t");
}

#[test]
fn exemplars_know_their_trace() {
    let (trace, span) = ("0123456789abcdef0123456789abcdef", "0123456789abcdef");
    let body = format!(
        "# TYPE c counter\nc_total 1 # {{trace_id=\"{trace}\",span_id=\"{span}\",k=\"v\"}} 1 99.5\n\
         # TYPE h histogram\nh_bucket{{le=\"+Inf\"}} 1 # {{trace_id=\"short\"}} 0.5\nh_count 1\n# EOF\n"
    );
    let expected =
        ["c_total{} 1 100..100 ~16/8{k=v}@99.5", "h{} [][1] n=1 sum=None 100..100 ~0/0{trace_id=short}@100"];
    assert_eq!(shown(&once("", "", &body).request), expected);
}

#[test]
fn samples_are_relabelled_and_external_labels_added() {
    let keys = "config: {global: {external_labels: {cluster: c, a: z}}, ";
    let settings = crate::receiver(&format!(
        "{{{keys}scrape_configs: [{{job_name: j, hesper_sd_configs: [{{}}], metric_relabel_configs: [{{source_labels: [__name__], \
         regex: 'go_.*', action: drop}}, {{source_labels: [__name__], regex: 'old_(.*)', target_label: __name__, replacement: \
         'new_$1'}}, {{regex: secret, action: labeldrop}}]}}]}}}}"
    ));
    let settings = std::sync::Arc::new(settings);
    let target = target(&std::sync::Arc::new(settings.jobs[0].clone()));
    let body = "go_x 1\n# TYPE old_h histogram\nold_h_bucket{le=\"+Inf\",a=\"1\"} 1\nold_h_count{a=\"1\"} 1\nb{secret=\"x\"} 2\n\
                # TYPE old_total counter\nold_total 3\n";
    let outcome = scrape(&mut Scrapes::new(target, settings), 100, body);
    let expected = [
        "new_h{a=1,cluster=c} [][1] n=1 sum=None 100..100",
        "b{a=z,cluster=c} 2 -..100",
        "new_total{a=z,cluster=c} 3 100..100",
    ];
    assert_eq!(shown(&outcome.request), expected);
    assert_eq!((outcome.report.scraped, outcome.report.kept, outcome.report.added), (5, 4, 4));
}

#[test]
fn odd_samples_are_dropped_and_counted() {
    let body = "\
# TYPE h histogram
h_bucket 1
h_bucket{le=\"x\"} 1
h_bucket{le=\"+Inf\"} 1
# TYPE s summary
s 1
# TYPE n summary
n_count NaN
a 1
a 2
";
    let outcome = once("", "", body);
    assert_eq!(shown(&outcome.request), ["a{} 1 -..100"]);
    let dropped: Vec<_> = outcome.dropped.into_iter().collect();
    assert_eq!(
        dropped,
        [
            ("a bucket without a bound, or a quantile that is none", 3),
            ("a count that is none", 1),
            ("a histogram or summary without _count", 1),
            ("the same series twice", 1)
        ]
    );
}

#[test]
fn buckets_that_do_not_add_up_are_put_right() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 4\nh_bucket{le=\"+Inf\"} 7\nh_count 6\n";
    let expected = ["h{} [1.0, 2.0][5, 0, 2] n=7 sum=None 100..100"];
    assert_eq!(shown(&once("", "", body).request), expected);
}

#[test]
fn limits_fail_the_scrape_as_a_whole() {
    let body = "a{x=\"123456\"} 1\nb 2\n";
    for (job, reason) in [
        ("sample_limit: 1", "more samples than sample_limit 1"),
        ("label_limit: 3", "has 4 labels, more than label_limit 3"),
        ("label_name_length_limit: 7", "label_name_length_limit 7"),
        ("label_value_length_limit: 5", "label_value_length_limit 5"),
        ("metric_relabel_configs: [{regex: __name__, action: labeldrop}]", "without a name"),
    ] {
        let outcome = scrape(&mut scrapes("", job), 100, body);
        assert!(outcome.error.as_ref().is_some_and(|error| error.contains(reason)), "{:?}", outcome.error);
        assert_eq!(shown(&outcome.request), Vec::<String>::new());
        assert_eq!(told(&outcome.request)[0], "up{} 0 -..100");
    }
    let exact = "sample_limit: 2, label_limit: 4, label_name_length_limit: 8, label_value_length_limit: 9";
    assert_eq!(scrape(&mut scrapes("", exact), 100, body).error, None);
}

#[test]
fn what_is_told_of_a_scrape() {
    let mut scrapes = scrapes("report_extra_scrape_metrics: true,", "sample_limit: 9, scrape_timeout: 5s");
    let outcome = scrape(&mut scrapes, 100, "a 1\nb 2\n");
    let expected = [
        "up{} 1 -..100",
        "scrape_duration_seconds{} 0.25 -..100",
        "scrape_samples_scraped{} 2 -..100",
        "scrape_samples_post_metric_relabeling{} 2 -..100",
        "scrape_series_added{} 2 -..100",
        "scrape_timeout_seconds{} 5 -..100",
        "scrape_sample_limit{} 9 -..100",
        "scrape_body_size_bytes{} 8 -..100",
    ];
    assert_eq!(told(&outcome.request), expected);
    let outcome = scrape(&mut scrapes, 160, "a 1\nc 2\n");
    assert_eq!(outcome.report.added, 1);
    let outcome = scrape(&mut scrapes, 220, "a 1\nwhat is this\n");
    assert_eq!(outcome.error.as_deref(), Some("line 2, byte 6: the value 'is' is no number"));
    assert_eq!((outcome.report.up, outcome.report.scraped), (false, 1));
}
