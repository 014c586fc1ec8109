//! What to trace and where to send it: the `tracing` block of a role's configuration, the flags of the same names, and the
//! standard variables of OpenTelemetry. Flags count more than variables, and those more than the block.

mod environment;
mod url;

pub use self::url::{ExporterUrl, InvalidExporterUrl};

use crate::Limits;
use serde::Deserialize;
use std::{fmt, path::PathBuf, time::Duration};

/// How long a destination may take for one request, unless told otherwise (OTLP exporter specification).
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often metrics are sent, unless told otherwise (OpenTelemetry's periodic reader).
const METRIC_INTERVAL: Duration = Duration::from_secs(60);

/// How many of a million traces that begin here are recorded. What a sampled remote parent asks for always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Rate(u32);

impl Rate {
    /// Every one.
    pub const ALL: Self = Self(1_000_000);
    /// None but those of sampled parents.
    pub const NONE: Self = Self(0);

    /// So many of a million; none for more than a million.
    pub fn new(per_million: u32) -> Option<Self> {
        (per_million <= Self::ALL.0).then_some(Self(per_million))
    }

    /// So many of a million.
    pub fn per_million(self) -> u32 {
        self.0
    }

    /// Whether the trace that drew this number, evenly out of `0..1_000_000`, is one of them.
    pub fn takes(self, drawn: u32) -> bool {
        drawn < self.0
    }
}

impl TryFrom<u32> for Rate {
    type Error = String;

    fn try_from(per_million: u32) -> Result<Self, String> {
        Self::new(per_million).ok_or_else(|| {
            format!("a sampling rate of {per_million} per million: use 0 (none) to 1000000 (all)")
        })
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: u32 = text.parse().map_err(|_| format!("'{text}' is no number from 0 to 1000000"))?;
        number.try_into()
    }
}

/// The `tracing` block, as it is written in files, and as flags. What is not said is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Trace at all. Said by an exporter's URL too; `false` counts more.
    pub enabled: Option<bool>,
    /// Where spans go.
    pub exporter_url: Option<ExporterUrl>,
    /// How much of what begins here is recorded; 0 unless said.
    pub sampling_rate_per_million: Option<Rate>,
    /// Send the process's metrics there too.
    pub metrics: Option<bool>,
    /// Send the process's events there too, as log records.
    pub events: Option<bool>,
    /// Certificates of the authorities that the destination's may come from, PEM; the system's unless said.
    #[serde(default)]
    pub ca_certs: Vec<PathBuf>,
    /// Our certificate for mutual TLS, PEM, with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// The identity file to dial a `hesper://` URL with, for a role that has none of its own.
    pub identity: Option<PathBuf>,
}

/// Who reads the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A long-lived role.
    Role,
    /// A command that ends, with `--trace`: it records everything.
    Command,
}

/// What was settled.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where spans go. None: by way of the controller (only for commands).
    pub exporter: Option<Exporter>,
    /// How much of what begins here is recorded.
    pub rate: Rate,
    /// `service.name`, if it is not to be the role's.
    pub service_name: Option<String>,
    /// More attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// Bounds of what waits.
    pub limits: Limits,
    /// Send the process's metrics too, so often.
    pub metrics: Option<Duration>,
    /// Send the process's events too.
    pub events: bool,
}

/// A destination, and how to speak with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Exporter {
    /// Where.
    pub url: ExporterUrl,
    /// Authorities for its certificate.
    pub ca_certs: Vec<PathBuf>,
    /// Our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Headers of each request; may be secrets.
    pub headers: Vec<(String, String)>,
    /// For one request.
    pub timeout: Duration,
    /// Compress with gzip.
    pub gzip: bool,
    /// JSON instead of protobuf, over HTTP.
    pub json: bool,
    /// The identity to dial the mesh with.
    pub identity: Option<PathBuf>,
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| &**name).collect();
        f.debug_struct("Exporter").field("url", &self.url).field("headers", &headers).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exporter, rate, service_name, resource, limits, metrics, events } = self;
        f.debug_struct("Settings")
            .field("exporter", exporter)
            .field("rate", rate)
            .field("service_name", service_name)
            .field("resource", resource)
            .field("limits", limits)
            .field("metrics", metrics)
            .field("events", events)
            .finish()
    }
}

/// Settings that cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// `enabled: true` without a destination.
    #[error(
        "tracing is enabled, but nothing says where to send spans: set exporter_url, as in grpc://127.0.0.1:4317"
    )]
    NoExporter,
    /// One of the two without the other.
    #[error("a client certificate needs both cert_file and key_file")]
    HalfClient,
    /// A variable of the environment.
    #[error("the variable {name} is '{value}': {reason}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What it is set to, unless it may be a secret.
        value: String,
        /// What it should be.
        reason: String,
    },
}

/// What holds after all who may say something have: none = do not trace.
///
/// # Errors
/// [`SettingsError`]: what is said cannot be honoured.
pub fn settle(
    reader: Reader,
    block: Block,
    flags: Block,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Settings>, SettingsError> {
    let from_environment = environment::read(variable)?;
    let off = flags.enabled.or(from_environment.disabled.then_some(false)).or(block.enabled) == Some(false);
    if off {
        return Ok(None);
    }
    let asked = block.enabled == Some(true) || flags.enabled == Some(true);
    let default_rate = if from_environment.url.is_some() { Rate::ALL } else { Rate::NONE };
    let rate = flags.sampling_rate_per_million.or(from_environment.rate).or(block.sampling_rate_per_million);
    let (metrics, events) = (flags.metrics.or(block.metrics), flags.events.or(block.events));
    let (metrics, events) = (metrics.unwrap_or(false), events.unwrap_or(false));
    let url = flags.exporter_url.or(from_environment.url).or(block.exporter_url);
    let pick = |flag: Vec<PathBuf>, variable: Option<PathBuf>, block: Vec<PathBuf>| match (flag, variable) {
        (flag, _) if !flag.is_empty() => flag,
        (_, Some(variable)) => vec![variable],
        _ => block,
    };
    let cert = flags.cert_file.or(from_environment.client_certificate).or(block.cert_file);
    let key = flags.key_file.or(from_environment.client_key).or(block.key_file);
    let client = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err(SettingsError::HalfClient),
    };
    let exporter = url.map(|url| Exporter {
        url,
        ca_certs: pick(flags.ca_certs, from_environment.certificate, block.ca_certs),
        client,
        headers: from_environment.headers,
        timeout: from_environment.timeout.unwrap_or(TIMEOUT),
        gzip: from_environment.gzip,
        json: from_environment.json,
        identity: flags.identity.or(block.identity),
    });
    let rate = match reader {
        Reader::Command => Rate::ALL,
        Reader::Role if exporter.is_none() && asked => return Err(SettingsError::NoExporter),
        Reader::Role if exporter.is_none() => return Ok(None),
        Reader::Role => rate.unwrap_or(default_rate),
    };
    Ok(Some(Settings {
        exporter,
        rate,
        service_name: from_environment.service_name,
        resource: from_environment.resource,
        limits: from_environment.limits,
        metrics: metrics.then_some(from_environment.metric_interval.unwrap_or(METRIC_INTERVAL)),
        events,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn block(text: &str) -> Block {
        serde_json::from_str(text).expect("block")
    }

    fn role(block: Block, flags: Block) -> Result<Option<Settings>, SettingsError> {
        settle(Reader::Role, block, flags, &none)
    }

    #[test]
    fn without_a_word_nothing_is_traced() {
        assert_eq!(role(Block::default(), Block::default()), Ok(None));
        assert_eq!(role(block(r#"{"enabled": true}"#), Block::default()), Err(SettingsError::NoExporter));
    }

    #[test]
    fn flags_count_more_than_variables_and_those_more_than_the_block() {
        let file = r#"{"enabled": true, "exporter_url": "grpc://file:1", "sampling_rate_per_million": 1}"#;
        let env = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://env:2".to_owned()),
            "OTEL_TRACES_SAMPLER" => Some("parentbased_traceidratio".to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => Some("0.25".to_owned()),
            _ => None,
        };
        let said = |flags: &str, env: &dyn Fn(&str) -> Option<String>| {
            let settings =
                settle(Reader::Role, block(file), block(flags), env).expect("settled").expect("traced");
            (settings.exporter.expect("exporter").url.to_string(), settings.rate.per_million())
        };
        assert_eq!(said("{}", &none), ("grpc://file:1".into(), 1));
        assert_eq!(said("{}", &env), ("http://env:2/".into(), 250_000));
        let flags = r#"{"exporter_url": "https://flag:3", "sampling_rate_per_million": 7}"#;
        assert_eq!(said(flags, &env), ("https://flag:3/".into(), 7));
        let off = role(block(file), block(r#"{"enabled": false}"#));
        assert_eq!(off, Ok(None));
    }

    #[test]
    fn a_command_records_everything_and_needs_no_exporter() {
        let settings = settle(Reader::Command, Block::default(), Block::default(), &none);
        let settings = settings.expect("settled").expect("traced");
        assert_eq!((settings.exporter, settings.rate), (None, Rate::ALL));
    }

    #[test]
    fn what_cannot_be_honoured_is_an_error() {
        for bad in [
            r#"{"exporter": "grpc://x:1"}"#,
            r#"{"exporter_url": "ftp://x"}"#,
            r#"{"sampling_rate_per_million": 1000001}"#,
            r#"{"sampling_rate_per_million": -1}"#,
        ] {
            assert!(serde_json::from_str::<Block>(bad).is_err(), "{bad}");
        }
        let half = block(r#"{"exporter_url": "https://x", "cert_file": "c.pem"}"#);
        assert_eq!(role(half, Block::default()), Err(SettingsError::HalfClient));
    }

    #[test]
    fn a_rate_takes_its_share_of_a_million() {
        for rate in [0, 1, 10_000, 1_000_000] {
            let rate = Rate::new(rate).expect("rate");
            let taken = (0..1_000_000).filter(|drawn| rate.takes(*drawn)).count();
            assert_eq!(taken, rate.per_million() as usize);
        }
        assert!(Rate::new(1_000_001).is_none() && "x".parse::<Rate>().is_err());
    }

    #[test]
    fn headers_are_not_shown() {
        let env = |name: &str| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://env:2".to_owned()),
            "OTEL_EXPORTER_OTLP_HEADERS" => Some("authorization=Bearer%20hidden".to_owned()),
            _ => None,
        };
        let settings = settle(Reader::Role, Block::default(), Block::default(), &env);
        let settings = settings.expect("settled").expect("traced");
        let exporter = settings.exporter.clone().expect("exporter");
        assert_eq!(exporter.headers, [("authorization".to_owned(), "Bearer hidden".to_owned())]);
        assert_eq!(settings.rate, Rate::ALL);
        assert!(!format!("{settings:?}").contains("hidden"));
    }
}
