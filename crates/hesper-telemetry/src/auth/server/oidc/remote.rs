//! Keys from the provider itself (OpenID Connect Discovery 1.0 §4).

use super::{
    keys::Keys,
    refresh::{Refresh, Step},
};
use crate::{auth::AuthError, net::tls::ClientTlsLayer};
use arc_swap::ArcSwap;
use hesper_collector_config::ClientTls;
use hesper_otlp::Refusal;
use jsonwebtoken::{DecodingKey, Header};
use reqwest::{Client, Url, redirect::Policy};
use serde::Deserialize;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a provider has to take a connection, and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// Neither of its two documents is larger.
const MAX_SIZE: usize = 1 << 20;
const MAX_REDIRECTS: usize = 3;
/// How often its CA is read again.
const CA_INTERVAL: Duration = Duration::from_secs(60);

/// The keys of one provider.
pub(super) struct Remote {
    issuer: String,
    tls: ClientTlsLayer,
    keys: ArcSwap<Keys>,
    refresh: Mutex<Refresh>,
    /// Held while the provider is asked: once for all that wait.
    asking: tokio::sync::Mutex<()>,
}

/// What of the provider's description is needed.
#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
}

impl Remote {
    pub(super) fn new(issuer: &str, ca: Option<&str>) -> Result<Self, AuthError> {
        let invalid = |reason: &str| AuthError(format!("issuer_url '{issuer}': {reason}"));
        let url = Url::parse(issuer).map_err(|e| invalid(&e.to_string()))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(invalid("it is neither https nor http"));
        }
        let settings = ClientTls {
            ca_file: ca.map(str::to_owned),
            reload_interval: CA_INTERVAL,
            ..ClientTls::default()
        };
        let tls = ClientTlsLayer::new(&settings, &[]).map_err(|e| invalid(&e.to_string()))?;
        Ok(Self {
            issuer: issuer.to_owned(),
            tls,
            keys: ArcSwap::from_pointee(Keys::default()),
            refresh: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// The keys that may have signed a token with this header; none when the provider does not have it.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`]: the provider cannot be asked just now.
    pub(super) async fn find(self: &Arc<Self>, header: &Header) -> Result<Vec<DecodingKey>, Refusal> {
        let id = header.kid.as_deref().unwrap_or_default();
        let (mut keys, mut step) = self.look(header, id);
        if step == Step::Fetch {
            // In a task of its own: a caller that goes away does not end what others wait for.
            let asked = tokio::spawn(self.clone().ask(header.clone())).await;
            asked.map_err(|_| Refusal::Internal("the keys of a provider could not be asked for".into()))?;
            (keys, step) = self.look(header, id);
        }
        match step {
            Step::Use => Ok(keys),
            Step::UseAndFetch => {
                tokio::spawn(self.clone().ask(header.clone()));
                Ok(keys)
            }
            Step::Unknown => Ok(Vec::new()),
            Step::Fetch => Err(self.later(Duration::from_secs(1))),
            Step::Later(after) => Err(self.later(after)),
        }
    }

    fn later(&self, after: Duration) -> Refusal {
        let reason = format!("the keys of {} cannot be asked for just now", self.issuer);
        Refusal::Overloaded { reason, after }
    }

    fn look(&self, header: &Header, id: &str) -> (Vec<DecodingKey>, Step) {
        // Before the keys, so that keys that have just come are not taken for missing.
        let refresh = self.refresh();
        let keys = self.keys.load().find(header);
        let step = refresh.step(Instant::now(), !keys.is_empty(), id);
        (keys, step)
    }

    /// Asks the provider, unless somebody has done so while we waited.
    async fn ask(self: Arc<Self>, header: Header) {
        let id = header.kid.as_deref().unwrap_or_default();
        let _asking = self.asking.lock().await;
        if !matches!(self.look(&header, id).1, Step::Fetch | Step::UseAndFetch) {
            return;
        }
        let answer = tokio::time::timeout(2 * ANSWER, self.fetch()).await;
        let mut refresh = self.refresh();
        match answer.unwrap_or_else(|_| Err("it does not answer".into())) {
            Ok(keys) => {
                refresh.fetched(Instant::now());
                if keys.find(&header).is_empty() {
                    refresh.missing(id);
                }
                self.keys.store(Arc::new(keys));
            }
            Err(reason) => {
                tracing::warn!(
                    issuer = self.issuer,
                    reason,
                    "the keys of an OpenID Connect provider cannot be had"
                );
                refresh.failed(Instant::now());
            }
        }
    }

    fn refresh(&self) -> MutexGuard<'_, Refresh> {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let http = Client::builder()
            .tls_backend_preconfigured(self.tls.config().map_err(|e| e.to_string())?)
            // Who is asked over HTTPS cannot send us elsewhere without.
            .https_only(self.issuer.starts_with("https:"))
            .redirect(Policy::limited(MAX_REDIRECTS))
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .build()
            .map_err(|e| chain(&e))?;
        let place = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let text = get(&http, &place).await?;
        let described: Description =
            serde_json::from_str(&text).map_err(|e| format!("{place} does not describe a provider: {e}"))?;
        if described.issuer != self.issuer {
            return Err(format!(
                "{place} describes the issuer {:?}, not {:?}; write it as issuer_url exactly like that",
                described.issuer, self.issuer
            ));
        }
        let place = &*described.jwks_uri;
        Keys::parse(&get(&http, place).await?).map_err(|e| format!("{place}: {e}"))
    }
}

/// A small text.
async fn get(http: &Client, place: &str) -> Result<String, String> {
    let failed = |e: reqwest::Error| format!("{place}: {}", chain(&e));
    let mut response =
        http.get(place).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_SIZE {
            return Err(format!("{place}: the answer has more than {MAX_SIZE} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| format!("{place}: the answer is no text"))
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
