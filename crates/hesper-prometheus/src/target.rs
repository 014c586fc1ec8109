//! From what discovery finds to what is scraped: the labels of targets, and where they are.

use crate::{labels::Labels, relabel::relabel, scrape::Server};
use hesper_collector_config::{Address, Endpoint, receivers::ScrapeJob};
use std::{fmt::Write, sync::Arc, time::Duration};

/// Something that is scraped.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its job.
    pub job: Arc<ScrapeJob>,
    /// The labels of its samples, `job` and `instance` among them.
    pub labels: Labels<'static>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Is TLS spoken to it?
    pub is_https: bool,
    /// The path and the parameters.
    pub path: String,
    /// How often it is scraped.
    pub interval: Duration,
    /// The longest time for a scrape.
    pub timeout: Duration,
}

/// What discovery found is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("job '{job}' has a target that cannot be scraped: {reason}")]
pub struct TargetError {
    /// The job.
    pub job: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Target {
    /// Makes a target of the labels that discovery gives (`__address__`, `__meta_…`, and those of the group), by way of `relabel_configs`.
    /// `None`: they drop it.
    ///
    /// # Errors
    /// The labels that are left say no target.
    pub fn new(job: &Arc<ScrapeJob>, found: Labels<'static>) -> Result<Option<Self>, TargetError> {
        let labels = with_defaults(found, job);
        let Some(labels) = relabel(labels, &job.relabel_configs) else { return Ok(None) };
        build(job, labels.into_owned())
            .map(Some)
            .map_err(|reason| TargetError { job: job.job_name.clone(), reason })
    }

    /// What tells it from others: two that are equal in it are one target.
    pub fn key(&self) -> String {
        let mut key = format!("{} {}", self.url(), self.job.job_name);
        for (name, value) in self.labels.iter() {
            let _ = write!(key, "\n{name}={value:?}");
        }
        key
    }

    /// As people write it. Parameters are left out, since tokens may be among them.
    pub fn url(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        match (&self.endpoint, self.is_https) {
            (Endpoint::Mesh { .. }, _) => format!("{}{path}", self.endpoint),
            (Endpoint::Underlay(address), false) => format!("http://{}{path}", address.authority()),
            (Endpoint::Underlay(address), true) => format!("https://{}{path}", address.authority()),
        }
    }

    /// The header `Host`.
    pub fn host(&self) -> String {
        match &self.endpoint {
            // A name of the mesh may have characters that no host has.
            Endpoint::Mesh { service, .. } => {
                let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
                service.chars().map(|c| if fits(c) { c } else { '-' }).collect()
            }
            Endpoint::Underlay(address) => {
                let is_usual = address.port == Some(if self.is_https { 443 } else { 80 });
                let address =
                    if is_usual { Address { port: None, ..address.clone() } } else { address.clone() };
                address.authority()
            }
        }
    }

    /// Where it is, for its resource.
    pub fn server(&self) -> Server {
        let scheme = if self.is_https { "https" } else { "http" }.to_owned();
        match &self.endpoint {
            Endpoint::Mesh { service, .. } => Server { address: service.clone(), port: None, scheme },
            Endpoint::Underlay(address) => {
                let port = address.port.or(Some(if self.is_https { 443 } else { 80 }));
                Server { address: address.host.clone(), port, scheme }
            }
        }
    }

    /// How long after a multiple of the interval (since 1970) it is scraped: the same for ever, another for each target, so that not all are
    /// scraped at once.
    pub fn offset(&self, seed: &str) -> Duration {
        // FNV-1a: it need not be the same as anybody else's, only the same tomorrow.
        let hash = self.key().bytes().chain(seed.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let interval = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(hash % interval)
    }
}

fn with_defaults(mut labels: Labels<'static>, job: &ScrapeJob) -> Labels<'static> {
    let mut default = |name: &str, value: String| {
        if labels.get(name).is_empty() {
            labels.set(name.to_owned(), value);
        }
    };
    default("job", job.job_name.clone());
    default("__scrape_interval__", format!("{}ms", job.scrape_interval.as_millis()));
    default("__scrape_timeout__", format!("{}ms", job.scrape_timeout.as_millis()));
    default("__metrics_path__", job.metrics_path.clone());
    default("__scheme__", job.scheme.clone());
    for (name, values) in &job.params {
        if let Some(value) = values.first() {
            default(&format!("__param_{name}"), value.clone());
        }
    }
    labels
}

fn build(job: &Arc<ScrapeJob>, mut labels: Labels<'static>) -> Result<Target, String> {
    let address = labels.get("__address__").to_owned();
    if address.is_empty() {
        return Err("it has no __address__".into());
    }
    let endpoint =
        Endpoint::parse(&address).map_err(|(reason, next)| format!("{address}: {reason}; {next}"))?;
    let is_plain = match &endpoint {
        Endpoint::Mesh { path, query, .. } => path.is_empty() && query.is_none(),
        Endpoint::Underlay(a) => {
            a.scheme.is_none() && a.path.is_empty() && a.query.is_none() && !a.host.is_empty()
        }
    };
    if !is_plain {
        return Err(format!(
            "{address} is a URL; write HOST:PORT, and the rest into scheme and metrics_path"
        ));
    }
    let is_https = match labels.get("__scheme__") {
        "http" => false,
        "https" => true,
        other => return Err(format!("the __scheme__ '{other}' is neither http nor https")),
    };
    let (interval, timeout) =
        (duration(&labels, "__scrape_interval__")?, duration(&labels, "__scrape_timeout__")?);
    if timeout > interval {
        return Err("its __scrape_timeout__ is longer than its __scrape_interval__".into());
    }
    let path = path(job, &labels);
    labels.retain(|name| !name.starts_with("__"));
    if labels.get("instance").is_empty() {
        labels.set("instance", address);
    }
    Ok(Target { job: job.clone(), labels, endpoint, is_https, path, interval, timeout })
}

/// A duration as Prometheus writes it: `1m30s`, units from large to small.
fn duration(labels: &Labels<'_>, name: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 7] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("y", 31_536_000_000),
    ];
    let text = labels.get(name);
    let bad = || format!("its {name} '{text}' is no duration longer than zero, such as 15s");
    let (mut rest, mut total, mut last) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters]).map(|(_, ms)| *ms);
        let ms = unit.filter(|ms| *ms < last).ok_or_else(bad)?;
        total = number.checked_mul(ms).and_then(|ms| total.checked_add(ms)).ok_or_else(bad)?;
        (rest, last) = (&rest[letters..], ms);
    }
    if total == 0 { Err(bad()) } else { Ok(Duration::from_millis(total)) }
}

/// The path with the parameters. A label `__param_x` is the first value of x.
fn path(job: &ScrapeJob, labels: &Labels<'_>) -> String {
    let mut params = job.params.clone();
    for (name, value) in labels.iter() {
        let Some(name) = name.strip_prefix("__param_") else { continue };
        let values = params.entry(name.to_owned()).or_default();
        match values.first_mut() {
            Some(first) => *first = value.to_owned(),
            None => values.push(value.to_owned()),
        }
    }
    let mut path = labels.get("__metrics_path__").to_owned();
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    let mut path: String = encode(&path, b"/?=&%:@!$'()*+,;-._~[]");
    let mut divider = if path.contains('?') { '&' } else { '?' };
    for (name, value) in params.iter().flat_map(|(name, values)| values.iter().map(move |v| (name, v))) {
        let _ = write!(path, "{divider}{}={}", encode(name, b"-._~"), encode(value, b"-._~"));
        divider = '&';
    }
    path
}

/// Percent-encodes what is neither a letter nor a digit nor one of these.
fn encode(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
