//! The four signals of OpenTelemetry and what each is called: on the wire, in configs, errors and metrics.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of telemetry, with a service and a path of its own (OTLP specification, "OTLP/gRPC" and "OTLP/HTTP").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics and their data points.
    Metrics,
    /// Log records; events too.
    Logs,
    /// Profiles; the protocol still calls them development.
    Profiles,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Profiles];

    /// Its name in configurations: the key of a pipeline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Profiles => "profiles",
        }
    }

    /// The path of OTLP/HTTP unless the configuration says otherwise.
    pub fn http_path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
            Self::Logs => "/v1/logs",
            Self::Profiles => "/v1development/profiles",
        }
    }

    /// The full name of the gRPC service.
    pub fn grpc_service(self) -> &'static str {
        match self {
            Self::Traces => "opentelemetry.proto.collector.trace.v1.TraceService",
            Self::Metrics => "opentelemetry.proto.collector.metrics.v1.MetricsService",
            Self::Logs => "opentelemetry.proto.collector.logs.v1.LogsService",
            Self::Profiles => "opentelemetry.proto.collector.profiles.v1development.ProfilesService",
        }
    }

    /// The path of the gRPC method.
    pub fn grpc_path(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Profiles => "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        }
    }

    /// The signal of a gRPC method; `None` for any other path, which gets UNIMPLEMENTED.
    pub fn of_grpc_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.grpc_path() == path)
    }

    /// What it counts, as in `rejected_…` of a partial success.
    pub fn items(self) -> &'static str {
        match self {
            Self::Traces => "spans",
            Self::Metrics => "data_points",
            Self::Logs => "log_records",
            Self::Profiles => "profiles",
        }
    }

    /// What it counts, as in `otelcol_receiver_accepted_…`.
    pub fn otelcol_items(self) -> &'static str {
        match self {
            Self::Metrics => "metric_points",
            other => other.items(),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grpc_path_is_the_export_of_its_service() {
        for signal in Signal::ALL {
            assert_eq!(signal.grpc_path(), format!("/{}/Export", signal.grpc_service()));
            assert_eq!(Signal::of_grpc_path(signal.grpc_path()), Some(signal));
        }
        assert_eq!(Signal::of_grpc_path("/opentelemetry.proto.collector.trace.v1.TraceService/export"), None);
    }

    #[test]
    fn metrics_have_another_noun_in_the_collectors_metrics() {
        assert_eq!(Signal::Metrics.items(), "data_points");
        assert_eq!(Signal::Metrics.otelcol_items(), "metric_points");
        assert_eq!(Signal::Logs.otelcol_items(), "log_records");
    }

    #[test]
    fn json_has_the_names_of_configurations() {
        for signal in Signal::ALL {
            assert_eq!(serde_json::to_value(signal).expect("JSON"), signal.name());
        }
    }
}
