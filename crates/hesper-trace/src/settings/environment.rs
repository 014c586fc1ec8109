//! The variables of OpenTelemetry that say where traces go, which ones, and whose they are
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>, <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).
//! What is set to nothing counts as not set. Of the samplers, all respect the parent here.

use super::{ExporterUrl, Rate, SettingsError};
use crate::Limits;
use std::{path::PathBuf, time::Duration};
use url::Url;

/// What they say.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) disabled: bool,
    pub(super) url: Option<ExporterUrl>,
    pub(super) rate: Option<Rate>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) timeout: Option<Duration>,
    pub(super) gzip: bool,
    pub(super) json: bool,
    pub(super) service_name: Option<String>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) limits: Limits,
    pub(super) metric_interval: Option<Duration>,
}

/// The variables, for those who read them.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

/// A value and the variable that it is from.
struct Value {
    name: &'static str,
    text: String,
}

impl Value {
    fn wrong(&self, reason: impl Into<String>) -> SettingsError {
        SettingsError::Variable { name: self.name, value: self.text.clone(), reason: reason.into() }
    }

    fn number<T: std::str::FromStr>(&self) -> Result<T, SettingsError> {
        self.text.parse().map_err(|_| self.wrong("use a whole number"))
    }
}

impl Variables<'_> {
    fn get(&self, name: &'static str) -> Option<Value> {
        let text = (self.0)(name)?.trim().to_owned();
        (!text.is_empty()).then_some(Value { name, text })
    }

    /// The one for traces, else the one for all signals.
    fn of_traces(&self, traces: &'static str, all: &'static str) -> Option<Value> {
        self.get(traces).or_else(|| self.get(all))
    }

    fn path(&self, traces: &'static str, all: &'static str) -> Option<PathBuf> {
        self.of_traces(traces, all).map(|value| value.text.into())
    }
}

pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Said, SettingsError> {
    let variables = Variables(variable);
    let mut said = Said { disabled: disabled(&variables)?, ..Said::default() };
    if said.disabled {
        return Ok(said);
    }
    destination(&variables, &mut said)?;
    said.rate = rate(&variables)?;
    said.limits = limits(&variables)?;
    said.metric_interval = match variables.get("OTEL_METRIC_EXPORT_INTERVAL") {
        Some(value) => Some(Duration::from_millis(positive(&value)? as u64)),
        None => None,
    };
    if let Some(value) = variables.get("OTEL_RESOURCE_ATTRIBUTES") {
        said.resource = pairs(&value.text).ok_or_else(|| value.wrong("use key=value,key=value"))?;
    }
    let of_resource =
        said.resource.iter().find(|(key, _)| key == "service.name").map(|(_, name)| name.clone());
    said.service_name = variables.get("OTEL_SERVICE_NAME").map(|value| value.text).or(of_resource);
    said.resource.retain(|(key, _)| key != "service.name");
    Ok(said)
}

fn disabled(variables: &Variables<'_>) -> Result<bool, SettingsError> {
    // Whatever is not "true" is false (specification).
    if variables.get("OTEL_SDK_DISABLED").is_some_and(|v| v.text.eq_ignore_ascii_case("true")) {
        return Ok(true);
    }
    let Some(value) = variables.get("OTEL_TRACES_EXPORTER") else { return Ok(false) };
    match &*value.text {
        "otlp" => Ok(false),
        "none" => Ok(true),
        _ => Err(value.wrong("use otlp or none")),
    }
}

fn destination(variables: &Variables<'_>, said: &mut Said) -> Result<(), SettingsError> {
    let protocol = variables.of_traces("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
    let grpc = match protocol.as_ref().map(|value| &*value.text) {
        None | Some("http/protobuf") => false,
        Some("grpc") => true,
        Some("http/json") => {
            said.json = true;
            false
        }
        Some(_) => {
            let reason = "use grpc, http/protobuf or http/json";
            return Err(protocol.map_or(SettingsError::NoExporter, |value| value.wrong(reason)));
        }
    };
    said.url = match (
        variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        variables.get("OTEL_EXPORTER_OTLP_ENDPOINT"),
    ) {
        (Some(value), _) | (None, Some(value)) => Some(endpoint(&value, grpc)?),
        (None, None) => None,
    };
    said.certificate =
        variables.path("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE");
    said.client_certificate = variables
        .path("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    said.client_key = variables.path("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY");
    let headers = variables.of_traces("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
    if let Some(value) = headers {
        // They may be secrets: not repeated.
        let hidden = || SettingsError::Variable {
            name: value.name,
            value: "…".to_owned(),
            reason: "use name=value,name=value, with percent-encoding".to_owned(),
        };
        said.headers = pairs(&value.text).ok_or_else(hidden)?;
    }
    let timeout = variables.of_traces("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT");
    said.timeout = timeout.map(|value| value.number()).transpose()?.map(Duration::from_millis);
    let compression =
        variables.of_traces("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION");
    said.gzip = match compression {
        None => false,
        Some(value) => match &*value.text {
            "gzip" => true,
            "none" => false,
            _ => return Err(value.wrong("use gzip or none")),
        },
    };
    Ok(())
}

/// Their form is `http[s]://host:port` for gRPC too; ours is taken as well.
fn endpoint(value: &Value, grpc: bool) -> Result<ExporterUrl, SettingsError> {
    let url: ExporterUrl =
        value.text.parse().map_err(|error: super::InvalidExporterUrl| value.wrong(error.to_string()))?;
    match url {
        ExporterUrl::Http(url) if grpc => grpc_of(&url).ok_or_else(|| value.wrong("it needs a host")),
        other => Ok(other),
    }
}

fn grpc_of(url: &Url) -> Option<ExporterUrl> {
    let port = url.port_or_known_default()?;
    Some(ExporterUrl::Grpc { authority: format!("{}:{port}", url.host_str()?), tls: url.scheme() == "https" })
}

fn rate(variables: &Variables<'_>) -> Result<Option<Rate>, SettingsError> {
    let Some(value) = variables.get("OTEL_TRACES_SAMPLER") else { return Ok(None) };
    match &*value.text {
        "always_on" | "parentbased_always_on" => Ok(Some(Rate::ALL)),
        "always_off" | "parentbased_always_off" => Ok(Some(Rate::NONE)),
        "traceidratio" | "parentbased_traceidratio" => {
            let Some(value) = variables.get("OTEL_TRACES_SAMPLER_ARG") else { return Ok(Some(Rate::ALL)) };
            let ratio: Option<f64> = value.text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            let ratio = ratio.ok_or_else(|| value.wrong("use a number from 0 to 1"))?;
            Ok(Rate::new((ratio * 1e6).round() as u32))
        }
        _ => Err(value.wrong("use always_on, always_off or traceidratio, or the same after parentbased_")),
    }
}

fn positive(value: &Value) -> Result<usize, SettingsError> {
    match value.number()? {
        0 => Err(value.wrong("use a number above 0")),
        number => Ok(number),
    }
}

fn limits(variables: &Variables<'_>) -> Result<Limits, SettingsError> {
    let mut limits = Limits::default();
    if let Some(value) = variables.get("OTEL_BSP_SCHEDULE_DELAY") {
        limits.delay = Duration::from_millis(value.number()?);
    }
    if let Some(value) = variables.get("OTEL_BSP_MAX_QUEUE_SIZE") {
        limits.queue = positive(&value)?;
    }
    match variables.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") {
        Some(value) => limits.batch = positive(&value)?,
        None => limits.batch = limits.batch.min(limits.queue),
    }
    if limits.batch > limits.queue {
        let value = variables.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE");
        let reason = format!("the queue holds only {}", limits.queue);
        return Err(value.map_or(SettingsError::NoExporter, |value| value.wrong(reason)));
    }
    Ok(limits)
}

/// `key=value,key=value`, percent-encoded (W3C Baggage without properties).
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for member in text.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        let (key, value) = member.split_once('=')?;
        let (key, value) = (key.trim(), decoded(value.trim())?);
        if key.is_empty() {
            return None;
        }
        pairs.push((key.to_owned(), value));
    }
    Some(pairs)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Result<Said, SettingsError> {
        read(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn an_endpoint_is_one_of_http_unless_the_protocol_is_grpc() {
        let url = |variables: &[(&str, &str)]| {
            said(variables).expect("said").url.map(|url| url.to_string()).unwrap_or_default()
        };
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        assert_eq!(url(&[endpoint]), "http://c:4317/");
        assert_eq!(url(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), "grpc://c:4317");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/v1/traces");
        assert_eq!(url(&[endpoint, traces]), "https://t/");
        assert_eq!(url(&[traces, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")]), "grpcs://t:443");
        assert_eq!(url(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]), "");
        assert_eq!(url(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), "");
    }

    #[test]
    fn the_rest_is_read() {
        let said = said(&[
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=caf%C3%A9"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ])
        .expect("said");
        assert_eq!(said.rate, Rate::new(10_000));
        assert_eq!(said.service_name.as_deref(), Some("a"));
        assert_eq!(said.resource, [("team".to_owned(), "café".to_owned())]);
        assert!(said.gzip);
        assert_eq!(said.timeout, Some(Duration::from_millis(2500)));
        assert_eq!(said.certificate, Some("/ca.pem".into()));
        let limits = Limits { queue: 100, batch: 100, delay: Duration::from_millis(100) };
        assert_eq!(said.limits, limits);
    }

    #[test]
    fn what_cannot_be_honoured_names_the_variable() {
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "jaeger"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "udp"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "lzma"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ] {
            let error = said(&[(name, value)]).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
