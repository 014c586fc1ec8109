//! One run of one check.

use hesper_model::config::{HttpCheck, HttpMethod, PortCheck};
use reqwest::{Client, Method, Url};
use rustls::pki_types::CertificateDer;
use std::{error::Error, fmt, sync::OnceLock, time::Duration};
use tokio::net::TcpStream;

/// How much of an answer is looked at for `expectInBody`.
const MAX_BODY: usize = 1 << 20;

/// What a check does.
#[derive(Clone, Debug)]
pub(super) enum Probe {
    /// Connects to a TCP port.
    Port(PortCheck),
    /// Makes an HTTP request.
    Http(HttpCheck),
}

/// For logs and metrics: what it is and where it goes, without paths and secrets of a URL.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(check) => write!(f, "port {}", check.address),
            Self::Http(check) => {
                let url = Url::parse(&check.url).ok();
                let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
                let port = url.as_ref().and_then(Url::port_or_known_default).unwrap_or_default();
                write!(f, "http {host}:{port}")
            }
        }
    }
}

impl Probe {
    pub(super) fn interval(&self) -> Duration {
        match self {
            Self::Port(check) => check.interval,
            Self::Http(check) => check.interval,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        match self {
            Self::Port(check) => check.timeout,
            Self::Http(check) => check.timeout,
        }
    }

    /// Runs it once; the caller sets the deadline.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) async fn run(&self) -> Result<(), String> {
        match self {
            Self::Port(check) => {
                TcpStream::connect(&check.address).await.map(drop).map_err(|e| e.to_string())
            }
            Self::Http(check) => {
                let client = client().map_err(|e| format!("no HTTP client: {e}"))?;
                request(client, check).await
            }
        }
    }
}

pub(super) async fn request(client: &Client, check: &HttpCheck) -> Result<(), String> {
    let method = match check.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
    };
    let mut request = client.request(method, &check.url);
    if let Some(body) = &check.body {
        request = request.body(body.clone());
    }
    let mut answer = request.send().await.map_err(|e| chain(&e.without_url()))?;
    let status = answer.status().as_u16();
    if status != check.expect_status {
        return Err(format!("it answered {status}, expected {}", check.expect_status));
    }
    let Some(expected) = check.expect_in_body.as_deref().filter(|e| !e.is_empty()) else { return Ok(()) };
    let mut body = Vec::new();
    while body.len() < MAX_BODY
        && let Some(chunk) = answer.chunk().await.map_err(|e| chain(&e.without_url()))?
    {
        body.extend_from_slice(&chunk);
    }
    if body.windows(expected.len()).any(|part| part == expected.as_bytes()) {
        Ok(())
    } else {
        Err("its answer does not contain what expectInBody says".into())
    }
}

/// One for all checks, made by the first: it reads the system's CA certificates, by which `https:` targets are judged. No proxy: what is
/// checked is what streams are connected to. Each run makes a connection of its own: a target that takes no new ones is not healthy.
fn client() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let make = || client_with(rustls_native_certs::load_native_certs().certs).map_err(|e| e.to_string());
    CLIENT.get_or_init(make).as_ref().map_err(Clone::clone)
}

pub(super) fn client_with(certificates: Vec<CertificateDer<'static>>) -> Result<Client, Box<dyn Error>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    let tls = rustls::ClientConfig::builder_with_provider(hesper_pki::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = Client::builder().tls_backend_preconfigured(tls).no_proxy().pool_max_idle_per_host(0);
    Ok(builder.build()?)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}
