//! The management API over HTTPS: trust, session token, deadlines, and refusals as text.
//!
//! Here: the requests of a client. [`session`]: one that is logged in. [`stream`]: an answer that goes on. [`mod@refusal`] and
//! [`mod@unreachable`]: what went wrong, in words.

mod refusal;
mod session;
mod stream;
mod unreachable;

pub(crate) use self::{
    refusal::Action,
    session::Session,
    stream::{Lines, NoStream},
};

use self::refusal::{code_of, refusal};
use crate::config_store::ConfigStore;
use anyhow::{Context, Result, bail};
use hesper_pki::{digest::sha256_hex, tls};
use hesper_trace::TraceContext;
use reqwest::{
    Method, StatusCode, Url,
    header::{self, HeaderValue},
};
use rustls::ClientConfig;
use serde_json::Value;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::Instrument as _;

/// Base path of the management API.
const MANAGEMENT: &str = "edge/management/v1/";
/// Where a controller shows its authorities (RFC 7030, section 4.1, here as PEM).
pub(crate) const CA_PATH: &str = ".well-known/est/cacerts";
/// SHA-256 of what is there, with every answer.
const TRUSTED_CAS: &str = "hesper-trusted-cas";
/// The revision of what administrators changed last.
const REVISION: &str = "hesper-revision";

/// The controller knows no such entity (404).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotFound(String);

/// The entity is not as it was when it was read (412).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Changed(String);

/// Somebody else has changed something, whatever it was, since everything was read (412).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Moved(String);

/// Who asks, and what the entity must still be like.
#[derive(Clone, Copy)]
struct Caller<'a> {
    token: &'a str,
    version: Option<&'a str>,
}

/// An HTTPS client of one controller, not logged in.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    timeout: Duration,
    show_requests: bool,
    read_only: bool,
    /// The authorities that are trusted, PEM; empty when they are not known here.
    ca_pem: String,
    /// The stored login to keep up to date, if this is one.
    stored: Option<Arc<Stored>>,
    /// Where changes demand that nobody else has changed anything: what was read first, and then what the last change made of it.
    revision: Option<Arc<Mutex<Option<HeaderValue>>>>,
}

/// A stored login that takes over the CAs that the controller names.
#[derive(Debug)]
struct Stored {
    store: ConfigStore,
    name: String,
    asked: AtomicBool,
}

impl Client {
    /// A client that trusts what `tls` trusts.
    ///
    /// # Errors
    /// The TLS settings are not usable.
    pub(crate) fn new(base: &Url, mut config: ClientConfig, timeout: Duration) -> Result<Self> {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout)
            .timeout(timeout)
            .user_agent(concat!("hesper/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("cannot set up HTTPS")?;
        Ok(Self {
            http,
            base: base.clone(),
            timeout,
            show_requests: false,
            read_only: false,
            ca_pem: String::new(),
            stored: None,
            revision: None,
        })
    }

    /// Says which authorities `tls` trusts, so that a clock that is wrong can be told from a certificate that is.
    pub(crate) fn trusting(self, ca_pem: &str) -> Self {
        Self { ca_pem: ca_pem.to_owned(), ..self }
    }

    /// Attaches a session token.
    pub(crate) fn with_token(self, token: String) -> Session {
        Session { client: self, token }
    }

    /// Reads a text below the controller's root.
    ///
    /// # Errors
    /// The controller cannot be reached, or answers with anything but 200.
    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        let url = self.base.join(path).context("a path")?;
        let answer = match self.http.get(url).send().await {
            Ok(answer) => answer,
            Err(e) => return Err(self.unreachable(&e).await),
        };
        let status = answer.status();
        if status != StatusCode::OK {
            bail!("{} answered {status} for /{path}; is it a Hesper controller?", self.base);
        }
        match answer.text().await {
            Ok(text) => Ok(text),
            Err(e) => Err(self.unreachable(&e).await),
        }
    }

    /// Logs in with name and password.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn login_by_password(&self, username: &str, password: &str) -> Result<Value> {
        let body = serde_json::json!({"username": username, "password": password});
        self.send(
            Action::LoggingIn,
            Method::POST,
            "authenticate",
            &[("method", "password")],
            Some(&body),
            None,
        )
        .await
    }

    /// Logs in with the client certificate of the TLS connection.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn login_by_certificate(&self) -> Result<Value> {
        let body = serde_json::json!({});
        self.send(Action::LoggingIn, Method::POST, "authenticate", &[("method", "cert")], Some(&body), None)
            .await
    }

    async fn send(
        &self,
        action: Action,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        caller: Option<Caller<'_>>,
    ) -> Result<Value> {
        let url = self.base.join(MANAGEMENT).and_then(|u| u.join(path)).context("a path")?;
        if self.read_only && method != Method::GET && path != "current-api-session" {
            bail!("this login is read-only: log in again without --read-only");
        }
        tracing::debug!(%method, %url, "request");
        if let Some(body) = body.filter(|_| self.show_requests && action != Action::LoggingIn) {
            eprintln!("{method} {url}\n{body:#}");
        }
        let reads = method == Method::GET;
        let mut request = self.http.request(method, url).query(query);
        if let Some(revision) = self.revision().filter(|_| !reads) {
            request = request.header(REVISION, revision);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(Caller { token, version }) = caller {
            request = request.bearer_auth(token);
            if let Some(version) = version {
                request = request.header(header::IF_MATCH, format!("\"{version}\""));
            }
        }
        let answer = match self.traced(request).await {
            Ok(answer) => answer,
            Err(e) => return Err(self.unreachable(&e).await),
        };
        let status = answer.status();
        let trusted = answer.headers().get(TRUSTED_CAS).cloned();
        if status.is_success() {
            self.note_revision(answer.headers().get(REVISION), reads);
        }
        let text = match answer.bytes().await {
            Ok(text) => text,
            Err(e) => return Err(self.unreachable(&e).await),
        };
        if trusted.is_some_and(|trusted| trusted != sha256_hex(self.ca_pem.as_bytes())) {
            self.take_over_cas().await;
        }
        tracing::debug!(%status, bytes = text.len(), "answer");
        if status.is_success() {
            if text.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&text).with_context(|| format!("{} answered no JSON", self.base));
        }
        let message = refusal(action, path, status, &text);
        match status {
            StatusCode::NOT_FOUND => Err(NotFound(message).into()),
            StatusCode::PRECONDITION_FAILED if code_of(&text) == "REVISION_CHANGED" => {
                Err(Moved(message).into())
            }
            StatusCode::PRECONDITION_FAILED => Err(Changed(message).into()),
            _ => bail!(message),
        }
    }

    /// Sends it as a span of its own, which the controller's is a child of.
    async fn traced(&self, request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
        let mut request = request.build()?;
        let span = tracing::info_span!(
            "http",
            otel.name = request.method().as_str(),
            otel.kind = "client",
            "http.request.method" = request.method().as_str(),
            "server.address" = self.base.host_str(),
            "server.port" = self.base.port_or_known_default(),
        );
        if let Some(context) = TraceContext::of(&span).or_else(TraceContext::current) {
            context.write(request.headers_mut());
        }
        let answer = self.http.execute(request).instrument(span.clone()).await;
        match &answer {
            Ok(answer) => {
                let status = answer.status();
                hesper_trace::set(&span, "http.response.status_code", i64::from(status.as_u16()));
                if status.is_client_error() || status.is_server_error() {
                    hesper_trace::fail(&span, status.as_str());
                }
            }
            Err(error) => {
                hesper_trace::fail(&span, if error.is_timeout() { "timeout" } else { "unreachable" })
            }
        }
        answer
    }

    fn revision(&self) -> Option<HeaderValue> {
        self.revision.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_revision(&self, answered: Option<&HeaderValue>, read: bool) {
        let Some(revision) = &self.revision else { return };
        let mut revision = revision.lock().unwrap_or_else(PoisonError::into_inner);
        // Lists that were read later are newer, and what was decided is as old as the first.
        if !read || revision.is_none() {
            *revision = answered.cloned();
        }
    }

    /// The controller trusts other CAs than the stored login: they are taken over while one that is trusted vouches for them.
    async fn take_over_cas(&self) {
        let Some(stored) = self.stored.as_ref().filter(|s| !s.asked.swap(true, Ordering::Relaxed)) else {
            return;
        };
        let taken = async {
            let ca_pem = Box::pin(self.text(CA_PATH)).await?;
            tls::ca_client(&ca_pem)?;
            let mut logins = stored.store.load()?;
            if let Some(login) = logins.edge_identities.get_mut(&stored.name) {
                login.ca_cert = ca_pem;
                stored.store.save(&logins)?;
            }
            Ok::<_, anyhow::Error>(())
        };
        if let Err(error) = taken.await {
            eprintln!(
                "WARN    the certificate authorities of the controller have changed and could not be stored: {error:#}"
            );
        }
    }
}
