//! Exporters: where data goes.

mod debug;
mod file;
mod otlp;
mod otlphttp;
mod prometheusremotewrite;

pub use debug::{Debug, Verbosity};
pub use file::{File, FileFormat, GroupBy, Rotation};
pub use otlp::OtlpExporter;
pub use otlphttp::{Encoding, OtlpHttpExporter};
pub use prometheusremotewrite::{PrometheusRemoteWrite, RemoteWriteVersion};

use crate::{Endpoint, Retry, SendingQueue, Signal, section::Section};

/// An exporter with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Exporter {
    /// `otlp_grpc`, called `otlp` before
    Otlp(Box<OtlpExporter>),
    /// `otlp_http`, called `otlphttp` before
    OtlpHttp(Box<OtlpHttpExporter>),
    /// `debug`, called `logging` before
    Debug(Debug),
    /// `file`
    File(File),
    /// `prometheusremotewrite`
    PrometheusRemoteWrite(Box<PrometheusRemoteWrite>),
}

/// The types that there are.
pub(crate) const TYPES: &[&str] = &["debug", "file", "otlp_grpc", "otlp_http", "prometheusremotewrite"];
/// Older names.
pub(crate) const RENAMED: &[(&str, &str)] =
    &[("otlp", "otlp_grpc"), ("otlphttp", "otlp_http"), ("logging", "debug")];

pub(crate) fn read(kind: &str, s: &Section<'_>) -> Option<Exporter> {
    Some(match kind {
        "otlp_grpc" | "otlp" => Exporter::Otlp(Box::new(otlp::read(s))),
        "otlp_http" | "otlphttp" => Exporter::OtlpHttp(Box::new(otlphttp::read(s))),
        "debug" => Exporter::Debug(debug::read(s)),
        "logging" => Exporter::Debug(debug::logging(s)),
        "file" => Exporter::File(file::read(s)),
        "prometheusremotewrite" => Exporter::PrometheusRemoteWrite(Box::new(prometheusremotewrite::read(s))),
        _ => return None,
    })
}

impl Exporter {
    /// Can it be in a pipeline of this signal?
    pub const fn carries(&self, signal: Signal) -> bool {
        match self {
            Self::Otlp(_) | Self::OtlpHttp(_) | Self::Debug(_) | Self::File(_) => true,
            Self::PrometheusRemoteWrite(_) => matches!(signal, Signal::Metrics),
        }
    }

    /// Its queue; `debug` and `file` have none of their own.
    pub fn sending_queue(&self) -> Option<&SendingQueue> {
        match self {
            Self::Otlp(exporter) => Some(&exporter.sending_queue),
            Self::OtlpHttp(exporter) => Some(&exporter.sending_queue),
            Self::PrometheusRemoteWrite(exporter) => Some(&exporter.sending_queue),
            Self::Debug(_) | Self::File(_) => None,
        }
    }

    /// How it tries again.
    pub fn retry(&self) -> Option<&Retry> {
        match self {
            Self::Otlp(exporter) => Some(&exporter.retry_on_failure),
            Self::OtlpHttp(exporter) => Some(&exporter.retry_on_failure),
            Self::PrometheusRemoteWrite(exporter) => Some(&exporter.retry_on_failure),
            Self::Debug(_) | Self::File(_) => None,
        }
    }

    /// Every place it sends to.
    pub fn endpoints(&self) -> Vec<&Endpoint> {
        match self {
            Self::Otlp(exporter) => vec![&exporter.client.endpoint],
            Self::OtlpHttp(e) => {
                [&e.endpoint, &e.traces_endpoint, &e.metrics_endpoint, &e.logs_endpoint, &e.profiles_endpoint]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Self::PrometheusRemoteWrite(exporter) => vec![&exporter.endpoint],
            Self::Debug(_) | Self::File(_) => Vec::new(),
        }
    }
}
