//! `prometheusremotewrite`: metrics to a Prometheus.

use crate::{
    Address, Compression, Endpoint, HttpClient, Retry, SendingQueue,
    common::{bounded_by_log, check_url, client_url, http_client, is_plaintext, retry},
    reader::Wanted,
    section::Section,
};
use std::{collections::BTreeMap, time::Duration};

/// Where to and how.
#[derive(Clone, Debug, PartialEq)]
pub struct PrometheusRemoteWrite {
    /// The exact URL.
    pub endpoint: Endpoint,
    /// The connection.
    pub client: HttpClient,
    /// What stands before every name, with `_` between.
    pub namespace: String,
    /// Labels of every series.
    pub external_labels: BTreeMap<String, String>,
    /// The version that is spoken.
    pub version: RemoteWriteVersion,
    /// Make a series `target_info` of the resource's attributes?
    pub target_info: bool,
    /// Make labels of the resource's attributes?
    pub resource_to_telemetry_conversion: bool,
    /// Put the unit and `_total` behind names?
    pub add_metric_suffixes: bool,
    /// Send type, help and unit too?
    pub send_metadata: bool,
    /// Largest request in bytes (3 MB).
    pub max_batch_size_bytes: u64,
    /// `retry_on_failure`
    pub retry_on_failure: Retry,
    /// `remote_write_queue`, in the words of the other exporters.
    pub sending_queue: SendingQueue,
}

/// Which remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteWriteVersion {
    /// 1.0
    V1,
    /// 2.0
    V2,
}

pub(crate) fn read(s: &Section<'_>) -> PrometheusRemoteWrite {
    s.section("wal", Section::anything);
    s.idle("wal", "the queue of every exporter is on disk");
    s.idle("export_created_metric", "it was removed from the Collector too");
    s.idle("max_batch_request_parallelism", "remote_write_queue.num_consumers says it");
    s.require("endpoint", "write the URL, such as https://HOST/api/v1/write");
    let versions = [
        ("prometheus.WriteRequest", RemoteWriteVersion::V1),
        ("io.prometheus.write.v2.Request", RemoteWriteVersion::V2),
    ];
    let default = Retry { initial_interval: Duration::from_millis(50), ..Retry::default() };
    let exporter = PrometheusRemoteWrite {
        endpoint: client_url(s, "endpoint").unwrap_or_else(|| Endpoint::Underlay(Address::default())),
        client: http_client(s, Duration::from_secs(5), Compression::Snappy),
        namespace: s.text_or("namespace", ""),
        external_labels: s.text_map("external_labels"),
        version: s.one_of("protobuf_message", &versions, RemoteWriteVersion::V1),
        target_info: s.section("target_info", |s| s.flag("enabled", true)).unwrap_or(true),
        resource_to_telemetry_conversion: s
            .section("resource_to_telemetry_conversion", |s| s.flag("enabled", false))
            .unwrap_or(false),
        add_metric_suffixes: s.flag("add_metric_suffixes", true),
        send_metadata: s.flag("send_metadata", false),
        max_batch_size_bytes: s.count_in("max_batch_size_bytes", 3_000_000, 1..=u64::MAX),
        retry_on_failure: retry(s, default),
        sending_queue: queue(s),
    };
    if exporter.client.compression != Compression::Snappy {
        s.refuse("compression", "remote write is always snappy", "leave it out");
    }
    let client = &exporter.client;
    let plain = is_plaintext(&exporter.endpoint);
    check_url(s, "endpoint", &exporter.endpoint, plain, client.auth.as_ref(), &client.headers);
    exporter
}

fn queue(s: &Section<'_>) -> SendingQueue {
    let default = SendingQueue { num_consumers: 5, queue_size: 10_000, ..SendingQueue::default() };
    s.section("remote_write_queue", |s| {
        let queue = SendingQueue {
            enabled: s.flag("enabled", default.enabled),
            num_consumers: s.count_in("num_consumers", default.num_consumers, 1..=u64::MAX),
            queue_size: s.count_in("queue_size", default.queue_size, 1..=u64::MAX),
            storage: s.reference("storage", Wanted::Storage),
            ..default.clone()
        };
        if queue.storage.is_some() {
            bounded_by_log(s);
        }
        queue
    })
    .unwrap_or(default)
}
