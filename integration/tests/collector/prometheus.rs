//! Metrics written to a real Prometheus, and asked for there.

use hesper_integration::{Collector, Prometheus, http};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a program counts, by the round in which it sends.
fn request(round: u64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let (now, start) = (now.as_nanos().to_string(), (now - Duration::from_secs(60)).as_nanos().to_string());
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let route = |path: &str| json!([text("http.route", path)]);
    let sum = |path: &str, value: u64| json!({"startTimeUnixNano": start, "timeUnixNano": now, "asInt": value.to_string(), "attributes": route(path)});
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            text("service.namespace", "front"),
            text("service.name", "shop"),
            text("service.instance.id", "shop-1"),
            text("k8s.pod.name", "shop-7f"),
        ]},
        "scopeMetrics": [{"metrics": [
            {"name": "http.requests", "unit": "{request}", "description": "Served", "sum": {
                "aggregationTemporality": 2, "isMonotonic": true,
                "dataPoints": [sum("/", 10 * round), sum("/ü \"quoted\"", round)],
            }},
            {"name": "room.temperature", "unit": "Cel", "gauge": {
                "dataPoints": [{"timeUnixNano": now, "asDouble": -3.25}],
            }},
            {"name": "http.latency", "unit": "s", "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [{
                    "startTimeUnixNano": start, "timeUnixNano": now, "attributes": route("/"),
                    "count": "7", "sum": 2.5, "explicitBounds": [0.1, 0.5], "bucketCounts": ["1", "2", "4"],
                }],
            }},
        ]}],
    }]})
}

/// With either version of remote write: a Prometheus that knows only the first takes a request of the second for an empty one.
#[test]
fn a_real_prometheus_takes_what_is_written_to_it() {
    for version in ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"] {
        let prometheus = Prometheus::receiver();
        let config = format!(
            "receivers: {{otlp: {{protocols: {{http: {{endpoint: '127.0.0.1:0'}}}}}}}}
exporters:
  prometheusremotewrite:
    endpoint: 'http://{}/api/v1/write'
    protobuf_message: {version}
    external_labels: {{cluster: west}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{metrics: {{receivers: [otlp], exporters: [prometheusremotewrite]}}}}
",
            prometheus.address()
        );
        let mut collector = Collector::new("collector", &config).start();
        let url = format!("http://{}/v1/metrics", collector.told("otlp/http"));
        for round in 1..=2 {
            let body = request(round).to_string();
            let sent =
                http::curl(None, &["-H", "content-type: application/json", "--data-binary", &body, &url])
                    .expect("an answer");
            assert_eq!((sent.status, sent.body.as_str()), (200, "{}"), "{}", sent.head);
            holds(&prometheus, round as f64);
        }
        assert!(collector.terminate().success());
        prometheus.stop();
    }
}

/// The series of this round are there, with these labels and no others.
#[track_caller]
fn holds(prometheus: &Prometheus, round: f64) {
    const COMMON: [(&str, &str); 3] = [("cluster", "west"), ("instance", "shop-1"), ("job", "front/shop")];
    let expect = |name: &str, further: &[(&str, &str)], value: f64| {
        let sample = prometheus.wait_sample(&selector(name, further), |sample| sample.value == value);
        let mut labels: Vec<_> = COMMON.iter().chain(further).copied().chain([("__name__", name)]).collect();
        labels.sort_unstable();
        let found: Vec<_> =
            sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, labels);
    };
    expect("http_requests_total", &[("http_route", "/")], 10.0 * round);
    expect("http_requests_total", &[("http_route", "/ü \"quoted\"")], round);
    expect("room_temperature_celsius", &[], -3.25);
    for (bound, count) in [("0.1", 1.0), ("0.5", 3.0), ("+Inf", 7.0)] {
        expect("http_latency_seconds_bucket", &[("http_route", "/"), ("le", bound)], count);
    }
    expect("http_latency_seconds_count", &[("http_route", "/")], 7.0);
    expect("http_latency_seconds_sum", &[("http_route", "/")], 2.5);
    expect("target_info", &[("k8s_pod_name", "shop-7f")], 1.0);
    // As people ask: Prometheus reads the histogram as one.
    prometheus
        .wait_sample("histogram_quantile(0.5, http_latency_seconds_bucket)", |sample| sample.value == 0.5);
}

/// A query for one series.
fn selector(name: &str, labels: &[(&str, &str)]) -> String {
    let matchers: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{name}{{{}}}", matchers.join(","))
}
