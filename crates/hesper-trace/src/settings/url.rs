//! Where spans go: `grpc://HOST:PORT`, `http://…`, `https://…`, `file:///DIR?limit=BYTES&total=BYTES`, `hesper://[INSTANCE@]SERVICE`, and
//! `HOST:PORT`, which is gRPC.

use serde::Deserialize;
use std::{fmt, path::PathBuf, str::FromStr};
use url::Url;

/// Largest trace file unless the URL says otherwise: 100 MiB.
const FILE_LIMIT: u64 = 100 << 20;
/// How many such files are kept, unless the URL has a total.
const FILES: u64 = 10;
/// What OTLP/HTTP appends to the address of a destination for traces.
const TRACES_PATH: &str = "/v1/traces";

/// An exporter's URL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ExporterUrl {
    /// OTLP over gRPC. Without TLS, unless certificates are given.
    Grpc {
        /// `host:port`.
        authority: String,
        /// `grpcs://`, or `https://` for which gRPC was asked.
        tls: bool,
    },
    /// OTLP over HTTP. Signals have the paths `/v1/traces`, … under it.
    Http(Url),
    /// OTLP/JSON lines in files of this directory.
    File {
        /// The directory.
        dir: PathBuf,
        /// Largest file, in bytes.
        limit: u64,
        /// All files together, in bytes; the oldest goes first.
        total: u64,
    },
    /// OTLP over gRPC to a dark receiver.
    Mesh {
        /// The service to dial.
        service: String,
        /// A certain one of its hosts.
        instance: Option<String>,
    },
}

/// Why it is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no exporter URL: {reason}; use grpc://HOST:PORT, http://HOST:PORT, https://HOST, file:///DIR or hesper://SERVICE"
)]
pub struct InvalidExporterUrl {
    text: String,
    reason: String,
}

impl FromStr for ExporterUrl {
    type Err = InvalidExporterUrl;

    fn from_str(text: &str) -> Result<Self, InvalidExporterUrl> {
        read(text).map_err(|reason| InvalidExporterUrl { text: without_password(text), reason })
    }
}

impl TryFrom<String> for ExporterUrl {
    type Error = InvalidExporterUrl;

    fn try_from(text: String) -> Result<Self, InvalidExporterUrl> {
        text.parse()
    }
}

/// A password in a URL must not come back in an error.
fn without_password(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if !text.starts_with("hesper://") => {
            format!("{}://…{}", &text[..scheme], &text[at..])
        }
        _ => text.to_owned(),
    }
}

fn read(text: &str) -> Result<ExporterUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(ExporterUrl::Grpc { authority: authority(text)?, tls: false });
    };
    match scheme {
        "grpc" | "grpcs" => {
            let authority = authority(rest.strip_suffix('/').unwrap_or(rest))?;
            Ok(ExporterUrl::Grpc { authority, tls: scheme == "grpcs" })
        }
        "http" | "https" => http(text).map(ExporterUrl::Http),
        "file" => file(text),
        "hesper" => mesh(rest),
        other => Err(format!("the scheme '{other}' is not known")),
    }
}

fn authority(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("it needs HOST:PORT")?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let fine = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || (bracketed && ":[]%".contains(c));
    if host.is_empty() || !host.chars().all(fine) {
        return Err(format!("'{host}' is no host"));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(text.to_owned()),
        _ => Err(format!("'{port}' is no port")),
    }
}

/// The base of the signals' paths: a traces path is taken off.
fn http(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text).map_err(|e| e.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials in it would be seen by all: set OTEL_EXPORTER_OTLP_HEADERS".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or fragment".to_owned());
    }
    let base = url.path().strip_suffix(TRACES_PATH).map(str::to_owned);
    if let Some(base) = base {
        url.set_path(&base);
    }
    Ok(url)
}

fn file(text: &str) -> Result<ExporterUrl, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let dir =
        url.to_file_path().map_err(|()| "it needs an absolute path, as in file:///var/lib/hesper/traces")?;
    let (mut limit, mut total) = (FILE_LIMIT, None);
    for (key, value) in url.query_pairs() {
        let bytes = value.parse().ok().filter(|bytes| *bytes > 0);
        let bytes: u64 = bytes.ok_or_else(|| format!("{key}={value}: use a number of bytes"))?;
        match &*key {
            "limit" => limit = bytes,
            "total" => total = Some(bytes),
            other => return Err(format!("'{other}' is not known: a file takes limit and total")),
        }
    }
    let total = total.unwrap_or_else(|| limit.saturating_mul(FILES));
    if total < limit {
        return Err(format!("the total of {total} bytes is less than the limit of one file, {limit}"));
    }
    Ok(ExporterUrl::File { dir, limit, total })
}

fn mesh(rest: &str) -> Result<ExporterUrl, String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (instance, service) = match rest.split_once('@') {
        Some((instance, service)) => (Some(instance.to_owned()), service),
        None => (None, rest),
    };
    let bad = |part: &str| part.is_empty() || part.contains(['/', '?', '#']);
    if bad(service) || instance.as_deref().is_some_and(bad) {
        return Err("it needs the name of a service, as in hesper://traces".to_owned());
    }
    Ok(ExporterUrl::Mesh { service: service.to_owned(), instance })
}

impl fmt::Display for ExporterUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc { authority, tls } => {
                write!(f, "{}://{authority}", if *tls { "grpcs" } else { "grpc" })
            }
            Self::Http(url) => write!(f, "{url}"),
            Self::File { dir, .. } => write!(f, "file://{}", dir.display()),
            Self::Mesh { service, instance: Some(instance) } => write!(f, "hesper://{instance}@{service}"),
            Self::Mesh { service, instance: None } => write!(f, "hesper://{service}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read() {
        let grpc = |authority: &str, tls| ExporterUrl::Grpc { authority: authority.into(), tls };
        let mesh = |service: &str, instance: Option<&str>| ExporterUrl::Mesh {
            service: service.into(),
            instance: instance.map(Into::into),
        };
        let file = |limit, total| ExporterUrl::File { dir: "/var/traces".into(), limit, total };
        for (text, expected) in [
            ("localhost:4317", grpc("localhost:4317", false)),
            ("grpc://10.0.0.1:4317/", grpc("10.0.0.1:4317", false)),
            ("grpc://[::1]:4317", grpc("[::1]:4317", false)),
            ("grpcs://c.example:443", grpc("c.example:443", true)),
            ("hesper://traces", mesh("traces", None)),
            ("hesper://eu-1@traces", mesh("traces", Some("eu-1"))),
            ("file:///var/traces", file(FILE_LIMIT, FILE_LIMIT * FILES)),
            ("file:///var/traces?limit=1000", file(1000, 10_000)),
            ("file:///var/traces?limit=1000&total=3000", file(1000, 3000)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for (text, base) in [
            ("http://h:4318", "http://h:4318/"),
            ("https://h/otlp/", "https://h/otlp/"),
            ("https://h/otlp/v1/traces", "https://h/otlp"),
            ("http://h/v1/traces", "http://h/"),
            ("http://h:14268/api/traces", "http://h:14268/api/traces"),
        ] {
            assert_eq!(text.parse(), Ok(ExporterUrl::Http(base.parse().expect("url"))), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused_with_a_reason() {
        for bad in [
            "",
            "localhost",
            "host:0",
            "host:x",
            ":4317",
            "a b:1",
            "tcp://h:1",
            "grpc://h",
            "http://",
            "http://h?x=1",
            "file://relative/dir",
            "file:///d?limit=0",
            "file:///d?limit=9&total=8",
            "file:///d?size=9",
            "hesper://",
            "hesper://a@",
            "hesper://s/path",
        ] {
            let error = bad.parse::<ExporterUrl>().expect_err(bad);
            assert!(error.to_string().contains("grpc://HOST:PORT"), "{error}");
        }
        let error = "http://me:secret@h:1".parse::<ExporterUrl>().expect_err("credentials").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
