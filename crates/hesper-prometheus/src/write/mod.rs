//! Remote write, 1.0 and 2.0: from OTLP metrics to series ([`Wrote::new`]) and on to requests of bounded size ([`Wrote::requests`]).
//!
//! What Prometheus cannot have (counts that are not cumulative, histograms beyond its resolution) is refused and counted by data point.
//! Marks of staleness stay marks.

mod convert;
mod label;
pub mod messages;
mod name;
mod native;
mod request;

pub use request::Request;

use crate::text::Kind;
use hesper_collector_config::exporters::{PrometheusRemoteWrite, RemoteWriteVersion};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use std::collections::BTreeMap;

/// The value that marks a series stale: a NaN of its own.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

const NANO_PER_MS: u64 = 1_000_000;

/// What an exporter's settings say of what is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What stands before every name.
    pub namespace: String,
    /// Labels of every series, where it has no such label itself.
    pub external_labels: Vec<(String, String)>,
    /// Make `target_info`?
    pub target_info: bool,
    /// Make labels of the resource's attributes?
    pub resource_to_telemetry_conversion: bool,
    /// Put units and `_total` behind names?
    pub add_metric_suffixes: bool,
    /// Send what is known of families too? 2.0 always does.
    pub send_metadata: bool,
    /// The largest request in bytes, before compression. One series that is larger goes alone.
    pub max_bytes: usize,
}

impl From<&PrometheusRemoteWrite> for Options {
    fn from(settings: &PrometheusRemoteWrite) -> Self {
        Self {
            namespace: settings.namespace.clone(),
            external_labels: settings.external_labels.clone().into_iter().collect(),
            target_info: settings.target_info,
            resource_to_telemetry_conversion: settings.resource_to_telemetry_conversion,
            add_metric_suffixes: settings.add_metric_suffixes,
            send_metadata: settings.send_metadata,
            max_bytes: usize::try_from(settings.max_batch_size_bytes).unwrap_or(usize::MAX),
        }
    }
}

/// A series with everything that is written of it, in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Sorted by name; `__name__` is one of them.
    pub labels: Vec<(String, String)>,
    /// Numbers.
    pub samples: Vec<Sample>,
    /// Native histograms, each with the data point that it is of.
    pub histograms: Vec<(messages::Histogram, u32)>,
    /// Single measurements.
    pub exemplars: Vec<Exemplar>,
    /// Which of [`Wrote::families`].
    pub family: usize,
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The number.
    pub value: f64,
    /// ms since 1970
    pub time_ms: i64,
    /// When counting began; 0: not known, or it does not count.
    pub start_ms: i64,
    /// The data point that it is of, as they stand in the OTLP request; `u32::MAX`: of none.
    pub point: u32,
}

/// A single measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Sorted by name.
    pub labels: Vec<(String, String)>,
    /// What was measured.
    pub value: f64,
    /// ms since 1970
    pub time_ms: i64,
}

/// What is known of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// For people.
    pub help: String,
    /// In words.
    pub unit: String,
}

/// An OTLP request as series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wrote {
    /// Each once.
    pub series: Vec<Series>,
    /// Each once.
    pub families: Vec<Family>,
    /// Data points of the OTLP request.
    pub points: u64,
    /// Of these, what cannot be written, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Wrote {
    /// Converts an OTLP request.
    pub fn new(request: &ExportMetricsServiceRequest, options: &Options) -> Self {
        convert::Converter::run(request, options)
    }

    /// The requests to send, in as many shards as wanted: all of a series are in one shard, so that shards can be sent at the same time, while
    /// the requests of one are sent one after the other.
    pub fn requests(
        &self,
        version: RemoteWriteVersion,
        options: &Options,
        shards: usize,
    ) -> Vec<Vec<Request>> {
        request::build(self, version, options, shards.max(1))
    }
}
