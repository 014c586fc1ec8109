//! Receivers: where data comes in.

mod discovery;
mod otlp;
mod prometheus;
mod relabel;
mod scrape;

pub use discovery::{HesperSd, HttpSd, StaticTargets};
pub use otlp::{OtlpGrpc, OtlpHttp, OtlpReceiver};
pub use prometheus::PrometheusReceiver;
pub use relabel::{Relabel, RelabelAction};
pub use scrape::{Credentials, ScrapeClient, ScrapeJob, ScrapeProtocol, ScrapeTls};

use crate::{Signal, section::Section};

/// A receiver with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum Receiver {
    /// `otlp`
    Otlp(Box<OtlpReceiver>),
    /// `prometheus`
    Prometheus(PrometheusReceiver),
}

/// The types that there are.
pub(crate) const TYPES: &[&str] = &["otlp", "prometheus"];

pub(crate) fn read(kind: &str, s: &Section<'_>) -> Option<Receiver> {
    Some(match kind {
        "otlp" => Receiver::Otlp(Box::new(otlp::read(s))),
        "prometheus" => Receiver::Prometheus(prometheus::read(s)),
        _ => return None,
    })
}

impl Receiver {
    /// Can it be in a pipeline of this signal?
    pub const fn carries(&self, signal: Signal) -> bool {
        match self {
            Self::Otlp(_) => true,
            Self::Prometheus(_) => matches!(signal, Signal::Metrics),
        }
    }
}
