//! The management API over HTTPS: trust, session token, deadlines, and refusals as text.

use crate::{
    cli::flags::ApiArgs,
    config_store::{ConfigStore, Login},
};
use anyhow::{Context, Result, bail};
use hesper_client::clock::{self, Clocks};
use hesper_pki::{digest::sha256_hex, tls};
use reqwest::{Method, StatusCode, Url, header};
use rustls::{CertificateError, ClientConfig};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Base path of the management API.
const MANAGEMENT: &str = "edge/management/v1/";
/// Where a controller shows its authorities (RFC 7030, section 4.1, here as PEM).
pub(crate) const CA_PATH: &str = ".well-known/est/cacerts";
/// SHA-256 of what is there, with every answer.
const TRUSTED_CAS: &str = "hesper-trusted-cas";
/// Longest value repeated in an error.
const MAX_VALUE_SHOWN: usize = 120;

/// What was being done, for the error text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// POST
    Creating,
    /// GET
    Listing,
    /// PATCH
    Updating,
    /// DELETE
    Deleting,
    /// POST authenticate
    LoggingIn,
    /// POST ca/rotate
    Rotating,
    /// POST certificates/SERIAL/revoke
    Revoking,
}

/// The controller knows no such entity (404).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotFound(String);

/// The entity is not as it was when it was read (412).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Changed(String);

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
}

/// A stored login that takes over the CAs that the controller names.
#[derive(Debug)]
struct Stored {
    store: ConfigStore,
    name: String,
    asked: AtomicBool,
}

/// A client with a session.
#[derive(Clone)]
pub(crate) struct Session {
    client: Client,
    token: String,
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
        let mut request = self.http.request(method, url).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(Caller { token, version }) = caller {
            request = request.bearer_auth(token);
            if let Some(version) = version {
                request = request.header(header::IF_MATCH, format!("\"{version}\""));
            }
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(e) => return Err(self.unreachable(&e).await),
        };
        let status = answer.status();
        let trusted = answer.headers().get(TRUSTED_CAS).cloned();
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
            StatusCode::PRECONDITION_FAILED => Err(Changed(message).into()),
            _ => bail!(message),
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

    async fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        if error.is_timeout() {
            return anyhow::anyhow!(
                "the controller at {} did not answer within {} s",
                self.base,
                self.timeout.as_secs()
            );
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        if tls_error(error).is_some_and(|fault| tls::time_fault(fault).is_some())
            && let Some(clocks) = self.clocks().await
        {
            return anyhow::anyhow!(
                "the certificate of the controller at {} is not valid at this time: {clocks}",
                self.base
            );
        }
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => anyhow::anyhow!(
                "the certificate of the controller at {} is not from the trusted authority: check the address and --ca, or log in again",
                self.base
            ),
            _ => anyhow::anyhow!("cannot talk to the controller at {}: {cause}", self.base),
        }
    }
}

impl Client {
    /// This machine's clock and the controller's, if they differ.
    async fn clocks(&self) -> Option<Clocks> {
        let url = self.base.as_str().parse().ok()?;
        clock::ask(&[url], tls::clock_client(&self.ca_pem).ok()?).await.filter(Clocks::differ)
    }
}

impl Session {
    /// The stored login that the flags name.
    ///
    /// # Errors
    /// Nobody is logged in under that name.
    pub(crate) fn open(args: &ApiArgs) -> Result<Self> {
        let store = ConfigStore::from_environment()?;
        let (name, login) = store.login(args.cli_identity.as_deref())?;
        let mut session = Self::resume(&login, args)?;
        session.client.stored = Some(Arc::new(Stored { store, name, asked: AtomicBool::new(false) }));
        Ok(session)
    }

    /// A session whose token was stored.
    ///
    /// # Errors
    /// The stored URL or CA is damaged.
    pub(crate) fn resume(login: &Login, args: &ApiArgs) -> Result<Self> {
        let base = Url::parse(&login.url)
            .with_context(|| format!("the stored URL '{}' is damaged; log in again", login.url))?;
        let tls = tls::ca_client(&login.ca_cert).context("the stored CA is damaged; log in again")?;
        let mut client = Client::new(&base, tls, Duration::from_secs(args.timeout))?.trusting(&login.ca_cert);
        client.show_requests = args.output_request_json;
        client.read_only = login.read_only;
        Ok(client.with_token(login.token.clone().unwrap_or_default()))
    }

    /// GET.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn get(&self, action: Action, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.client.send(action, Method::GET, path, query, None, Some(self.caller(None))).await
    }

    /// POST.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn post(&self, action: Action, path: &str, body: &Value) -> Result<Value> {
        self.client.send(action, Method::POST, path, &[], Some(body), Some(self.caller(None))).await
    }

    /// PATCH.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn patch(&self, action: Action, path: &str, body: &Value) -> Result<Value> {
        self.client.send(action, Method::PATCH, path, &[], Some(body), Some(self.caller(None))).await
    }

    /// PATCH of what was read with this `updatedAt`.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused; [`NotFound`], [`Changed`].
    pub(crate) async fn patch_if(
        &self,
        action: Action,
        path: &str,
        body: &Value,
        version: &str,
    ) -> Result<Value> {
        let caller = Some(self.caller(Some(version)));
        self.client.send(action, Method::PATCH, path, &[], Some(body), caller).await
    }

    /// DELETE of what was read with this `updatedAt`.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused; [`NotFound`], [`Changed`].
    pub(crate) async fn delete_if(&self, action: Action, path: &str, version: &str) -> Result<Value> {
        let caller = Some(self.caller(Some(version)));
        self.client.send(action, Method::DELETE, path, &[], None, caller).await
    }

    fn caller<'a>(&'a self, version: Option<&'a str>) -> Caller<'a> {
        Caller { token: &self.token, version }
    }

    /// DELETE.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused; [`NotFound`] when there is no such entity.
    pub(crate) async fn delete(&self, action: Action, path: &str) -> Result<Value> {
        self.client.send(action, Method::DELETE, path, &[], None, Some(self.caller(None))).await
    }
}

/// The TLS error at the root of another. An [`io::Error`](std::io::Error) does not give the error it carries as its source.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match carried {
        Some(carried) => tls_error(carried),
        None => tls_error(error.source()?),
    }
}

/// A refusal in OpenZiti's words: what was being done, the status, the code, and the field with its value and the reason.
fn refusal(action: Action, path: &str, status: StatusCode, body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    if action == Action::LoggingIn {
        let reason = text("/error/message").unwrap_or("no reason given");
        return format!("unable to authenticate. Status code: {status}: {reason}");
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            return "not authorized: your session is invalid or has expired, please run 'hesper edge login' again (401 Unauthorized)"
                .to_owned();
        }
        StatusCode::FORBIDDEN => {
            let reason = text("/error/message").unwrap_or("the identity you logged in as may not do this");
            return format!("not authorized: {reason} (403 Forbidden)");
        }
        _ => {}
    }
    let collection = path.split(['/', '?']).next().unwrap_or(path);
    let doing = match action {
        Action::Creating => format!("error creating {collection} instance"),
        Action::Listing => format!("error listing {collection}"),
        Action::Updating => format!("error updating {collection} instance"),
        Action::Deleting => format!("error deleting {collection} instance"),
        Action::Rotating => "error rotating the certificate authority".to_owned(),
        Action::Revoking => "error revoking a certificate".to_owned(),
        Action::LoggingIn => unreachable!("answered above"),
    };
    let code = text("/error/code").unwrap_or("UNKNOWN");
    let detail = match body.pointer("/error/cause") {
        Some(cause) if cause.get("field").is_some() => {
            let part = |name: &str| crate::output::cell(cause.get(name));
            let value = match shortened(&listed(cause.get("value"))) {
                none if none.is_empty() => none,
                value => format!(" [{value}]"),
            };
            format!("{}{value} {}", part("field"), part("reason"))
        }
        _ => text("/error/message").unwrap_or("the answer gave no reason").to_owned(),
    };
    format!("{doing}. Status code: {status}, {code} - {detail}")
}

/// A list without the brackets and quotes of JSON, anything else as it is.
fn listed(value: Option<&Value>) -> String {
    match value {
        Some(Value::Array(list)) => {
            list.iter().map(|v| crate::output::cell(Some(v))).collect::<Vec<_>>().join(",")
        }
        other => crate::output::cell(other),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(action: Action, status: u16, body: &Value) -> String {
        let status = StatusCode::from_u16(status).expect("a status");
        refusal(action, "identities/x", status, body.to_string().as_bytes())
    }

    #[test]
    fn refusals_name_the_field_the_value_and_the_reason() {
        let body = json!({"error": {"code": "INVALID_FIELD", "message": "name is taken",
            "cause": {"field": "name", "value": "x", "reason": "is taken"}}});
        assert_eq!(
            text(Action::Creating, 400, &body),
            "error creating identities instance. Status code: 400 Bad Request, INVALID_FIELD - name [x] is taken"
        );
        let body = json!({"error": {"code": "INVALID_FIELD", "message": "no",
            "cause": {"field": "serviceRoles", "value": ["a", "#b"], "reason": "are wrong"}}});
        assert!(text(Action::Updating, 400, &body).ends_with("serviceRoles [a,#b] are wrong"));
        let body = json!({"error": {"code": "CONFLICT", "message": "used by service s"}});
        assert_eq!(
            text(Action::Deleting, 409, &body),
            "error deleting identities instance. Status code: 409 Conflict, CONFLICT - used by service s"
        );
    }

    #[test]
    fn an_expired_session_says_what_to_do() {
        assert_eq!(
            text(Action::Listing, 401, &Value::Null),
            "not authorized: your session is invalid or has expired, please run 'hesper edge login' again (401 Unauthorized)"
        );
        assert!(
            text(Action::LoggingIn, 401, &json!({"error": {"message": "wrong"}}))
                .ends_with("401 Unauthorized: wrong")
        );
    }

    #[test]
    fn answers_that_are_no_json_still_give_the_status() {
        let text = refusal(Action::Listing, "services", StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(
            text,
            "error listing services. Status code: 502 Bad Gateway, UNKNOWN - the answer gave no reason"
        );
    }
}
