//! Remote write: what is sent, in which version, and what follows of the answers.

use crate::support::{Answer, Credentials, Seen, Server, body, settings, shipment};
use hesper_collector_config::{Exporter as Settings, exporters::PrometheusRemoteWrite};
use hesper_otlp::{Batch, PartialSuccess, Signal};
use hesper_prometheus::write::messages::{v1, v2};
use hesper_telemetry::{
    auth::ClientAuth,
    export::{Exporter, Failure, Shipment, remote_write::RemoteWrite},
    net::underlay::UnderlayConnector,
};
use http::Response;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{
        Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
};
use prost::Message;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

fn remote_write_settings(server: &Server, keys: &str) -> PrometheusRemoteWrite {
    let endpoint = format!("endpoint: 'http://{}/api/v1/write?tenant=a'", server.at);
    match settings("prometheusremotewrite", &format!("{{{endpoint}{keys}}}")) {
        Settings::PrometheusRemoteWrite(settings) => *settings,
        other => panic!("{other:?}"),
    }
}

fn remote_write(server: &Server, keys: &str) -> Arc<RemoteWrite> {
    let connector = Arc::new(UnderlayConnector::default());
    RemoteWrite::new("prw/test", &remote_write_settings(server, keys), connector, None).expect("an exporter")
}

/// Counters of that temporality: 1 delta, 2 cumulative. One series each, with two points in the wrong order.
fn counters(temporalities: &[i32]) -> Shipment {
    let point = |time: u64| NumberDataPoint {
        time_unix_nano: time * 1_000_000_000,
        value: Some(number_data_point::Value::AsInt(time.cast_signed())),
        ..Default::default()
    };
    let metric = |(i, temporality): (usize, &i32)| Metric {
        name: format!("c{i}"),
        data: Some(Data::Sum(Sum {
            data_points: vec![point(20), point(10)],
            aggregation_temporality: *temporality,
            is_monotonic: true,
        })),
        ..Default::default()
    };
    let scope = ScopeMetrics {
        metrics: temporalities.iter().enumerate().map(metric).collect(),
        ..Default::default()
    };
    let resource = ResourceMetrics { scope_metrics: vec![scope], ..Default::default() };
    let payload = ExportMetricsServiceRequest { resource_metrics: vec![resource] }.encode_to_vec().into();
    let items = 2 * temporalities.len() as u64;
    Shipment { batch: Batch { signal: Signal::Metrics, payload }, items, ..shipment(Signal::Metrics, 1, 8) }
}

fn answer(status: u16, headers: &[(&str, &str)], text: &str) -> Answer {
    let response = Response::builder().status(status);
    let response = headers.iter().fold(response, |response, (name, value)| response.header(*name, *value));
    response.body(body(text.to_owned(), None)).expect("an answer")
}

type Kept = Arc<Mutex<Vec<Seen>>>;

/// A server that keeps what it sees, and answers as the function says of its number.
async fn keeping(answers: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> (Server, Kept) {
    let kept = Kept::default();
    let (keep, answers, number) = (kept.clone(), Arc::new(answers), Arc::new(AtomicUsize::new(0)));
    let server = Server::start(move |seen: Seen| {
        let answer = answers(number.fetch_add(1, Ordering::SeqCst), &seen);
        keep.lock().expect("the list").push(seen);
        async { answer }
    })
    .await;
    (server, kept)
}

fn plain(seen: &Seen) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(&seen.body).expect("snappy")
}

fn header<'a>(seen: &'a Seen, name: &str) -> &'a str {
    seen.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn the_first_version_is_what_every_receiver_knows() {
    let (server, kept) = keeping(|_, _| answer(204, &[], "")).await;
    let exporter = remote_write(&server, ", headers: {X-Scope-OrgID: me}");
    for _ in 0..2 {
        assert_eq!(exporter.export(&counters(&[2])).await, Ok(PartialSuccess::default()));
    }
    let kept = kept.lock().expect("the list");
    let seen = &kept[0];
    assert_eq!(seen.uri.to_string(), "/api/v1/write?tenant=a");
    for (name, value) in [
        ("content-encoding", "snappy"),
        ("content-type", "application/x-protobuf"),
        ("x-prometheus-remote-write-version", "0.1.0"),
        ("x-scope-orgid", "me"),
    ] {
        assert_eq!(header(seen, name), value, "{name}");
    }
    assert!(header(seen, "user-agent").starts_with("hesper/"));
    let message = v1::WriteRequest::decode(&*plain(seen)).expect("a message");
    let [series] = &message.timeseries[..] else { panic!("{message:?}") };
    let samples: Vec<_> = series.samples.iter().map(|s| (s.timestamp, s.value)).collect();
    assert_eq!(samples, [(10_000, 10.0), (20_000, 20.0)]);
    assert_eq!(server.connections(), 1);
}

const WRITTEN: [(&str, &str); 1] = [("X-Prometheus-Remote-Write-Samples-Written", "2")];

#[tokio::test]
async fn the_second_version_is_spoken_where_it_is_known() {
    let (server, kept) = keeping(|_, _| answer(204, &WRITTEN, "")).await;
    let exporter = remote_write(&server, ", protobuf_message: io.prometheus.write.v2.Request");
    assert_eq!(exporter.export(&counters(&[2])).await, Ok(PartialSuccess::default()));
    let kept = kept.lock().expect("the list");
    assert_eq!(
        header(&kept[0], "content-type"),
        "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    );
    assert_eq!(header(&kept[0], "x-prometheus-remote-write-version"), "2.0.0");
    let message = v2::Request::decode(&*plain(&kept[0])).expect("a message");
    assert_eq!(message.timeseries.len(), 1);
}

#[tokio::test]
async fn the_first_version_is_spoken_where_the_second_is_not_known() {
    // A receiver that says so, and one that takes it for an empty request of 1.0.
    for status in [415, 204] {
        let (server, kept) = keeping(move |number, _| match number {
            0 => answer(status, &[], ""),
            _ => answer(204, &[], ""),
        })
        .await;
        let exporter = remote_write(&server, ", protobuf_message: io.prometheus.write.v2.Request");
        for _ in 0..2 {
            assert_eq!(exporter.export(&counters(&[2])).await, Ok(PartialSuccess::default()), "{status}");
        }
        let kept = kept.lock().expect("the list");
        let spoken: Vec<_> =
            kept.iter().map(|seen| header(seen, "x-prometheus-remote-write-version")).collect();
        assert_eq!(spoken, ["2.0.0", "0.1.0", "0.1.0"], "{status}");
    }
}

#[tokio::test]
async fn what_may_be_tried_again_is_and_what_may_not_is_not() {
    const WAITS: &[(&str, &str)] = &[("Retry-After", "7")];
    for (status, headers, after) in [(503, WAITS, Some(7)), (500, &[], None), (429, WAITS, Some(7))] {
        let (server, _) = keeping(move |_, _| answer(status, headers, "busy")).await;
        let failed = remote_write(&server, "").export(&counters(&[2])).await.expect_err("a failure");
        let Failure::Again { reason, after: got } = failed else { panic!("{failed:?}") };
        assert_eq!(got, after.map(Duration::from_secs));
        assert!(
            reason.contains("prw/test") && reason.contains("busy") && !reason.contains("tenant"),
            "{reason}"
        );
    }
    for status in [400, 404, 409, 415] {
        let (server, kept) = keeping(move |_, _| answer(status, &[], "out of order sample")).await;
        let failed = remote_write(&server, "").export(&counters(&[2])).await.expect_err("a failure");
        assert!(
            matches!(&failed, Failure::Never { reason } if reason.contains("out of order")),
            "{failed:?}"
        );
        assert_eq!(kept.lock().expect("the list").len(), 1);
    }
    let (server, _) = keeping(|_, _| answer(204, &[], "")).await;
    let exporter = remote_write(&server, "");
    drop(server);
    let failed = exporter.export(&counters(&[2])).await.expect_err("a failure");
    assert!(matches!(failed, Failure::Again { .. }), "{failed:?}");
}

#[tokio::test]
async fn what_is_not_taken_is_counted_by_data_point() {
    let (server, _) = keeping(|_, _| answer(204, &[], "")).await;
    let exporter = remote_write(&server, "");
    let taken = exporter.export(&counters(&[1, 2])).await.expect("half of it");
    assert_eq!(taken.rejected, 2);
    assert!(taken.message.contains("not cumulative"), "{taken:?}");
    let failed = exporter.export(&counters(&[1])).await.expect_err("nothing of it");
    assert!(matches!(&failed, Failure::Never { reason } if reason.contains("prw/test")), "{failed:?}");
    // One request of several is refused: each series is one here.
    let (server, kept) = keeping(|number, _| match number {
        1 => answer(400, &[], "bad"),
        _ => answer(204, &[], ""),
    })
    .await;
    let keys = ", max_batch_size_bytes: 60, remote_write_queue: {num_consumers: 1}";
    let taken = remote_write(&server, keys).export(&counters(&[2, 2, 2])).await.expect("most of it");
    assert_eq!((taken.rejected, kept.lock().expect("the list").len()), (2, 3));
}

#[tokio::test]
async fn requests_of_one_series_are_never_under_way_at_once() {
    let under_way = Arc::new(Mutex::new((0_usize, 0_usize)));
    let count = under_way.clone();
    let server = Server::start(move |_| {
        let count = count.clone();
        {
            let mut count = count.lock().expect("the count");
            count.0 += 1;
            count.1 = count.1.max(count.0);
        }
        async move {
            tokio::task::yield_now().await;
            count.lock().expect("the count").0 -= 1;
            answer(204, &[], "")
        }
    })
    .await;
    let exporter = remote_write(&server, ", remote_write_queue: {num_consumers: 1}");
    let shipment = counters(&[2]);
    let all = futures::future::join_all((0..20).map(|_| exporter.export(&shipment))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(*under_way.lock().expect("the count"), (0, 1));
}

#[tokio::test]
async fn credentials_go_along_and_never_in_the_open() {
    let (server, kept) = keeping(|_, _| answer(204, &[], "")).await;
    let connector = Arc::new(UnderlayConnector::default());
    let auth: Arc<dyn ClientAuth> = Arc::new(Credentials);
    let mut settings = remote_write_settings(&server, "");
    let refused = RemoteWrite::new("prw/test", &settings, connector, Some(auth.clone())).err();
    assert!(refused.is_some_and(|error| error.to_string().contains("without TLS")));
    settings.endpoint =
        hesper_collector_config::Endpoint::parse("hesper://metrics/api/v1/write").expect("a URL");
    let connector = Arc::new(crate::support::To(server.at));
    let exporter = RemoteWrite::new("prw/test", &settings, connector, Some(auth)).expect("an exporter");
    assert_eq!(exporter.export(&counters(&[2])).await, Ok(PartialSuccess::default()));
    let kept = kept.lock().expect("the list");
    assert_eq!(header(&kept[0], "authorization"), "Basic dXNlci0xOjEyMzQ=");
    assert_eq!(kept[0].uri.path(), "/api/v1/write");
}
