//! `oidc`: tokens of OpenID Connect providers (OpenID Connect Core 1.0, RFC 7519).
//!
//! The `iss` of a token chooses the provider; its keys check the signature ([`keys`], out of a file or from the provider,
//! [`remote`]); then audience and times must fit, and the claims are what is known of the caller.

mod claims;
mod keys;
mod refresh;
mod remote;

use super::{Raw, unauthenticated};
use crate::{
    auth::{AuthData, AuthError, Authenticator},
    net::Peer,
    watched::{INTERVAL, Watched, read},
};
use claims::{Claims, Terms};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::extensions::{Oidc as Settings, OidcProvider};
use hesper_otlp::Refusal;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use jsonwebtoken::{DecodingKey, Header, dangerous::insecure_decode_claims, decode_header};
use keys::Keys;
use remote::Remote;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longer tokens are not looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Checks tokens.
pub(super) struct Oidc {
    header: HeaderName,
    providers: BTreeMap<String, Provider>,
    raw: Raw,
}

struct Provider {
    terms: Terms,
    source: Source,
}

/// Where the keys of a provider come from.
enum Source {
    File(Watched<Keys>),
    Remote(Arc<Remote>),
}

/// Just enough to choose the provider; nothing of it is believed before the signature was checked.
#[derive(Deserialize)]
struct Unproved {
    iss: String,
}

impl Oidc {
    pub(super) fn new(settings: &Settings, raw: Raw) -> Result<Self, AuthError> {
        hesper_pki::token::install_cryptography().map_err(|e| AuthError(e.to_string()))?;
        let attribute = &settings.attribute;
        let header =
            attribute.parse().map_err(|_| AuthError(format!("'{attribute}' is no name of a header")))?;
        let provider = |settings: &OidcProvider| Ok((settings.issuer_url.clone(), Provider::new(settings)?));
        let providers = settings.providers.iter().map(provider).collect::<Result<_, AuthError>>()?;
        Ok(Self { header, providers, raw })
    }

    async fn verify(&self, headers: &HeaderMap) -> Result<AuthData, Refusal> {
        let token = self.token(headers)?;
        let no_token =
            |reason: &str| unauthenticated(format!("this is no token of OpenID Connect: {reason}"));
        if token.len() > MAX_TOKEN {
            return Err(no_token(&format!("it has more than {MAX_TOKEN} bytes")));
        }
        let header = decode_header(token).map_err(|_| {
            no_token("it is no JWT, or its algorithm is none of RS, PS (256, 384, 512), ES (256, 384), EdDSA")
        })?;
        if header.crit.is_some() {
            return Err(no_token("it demands extensions (crit) that are not known here"));
        }
        let Unproved { iss } =
            insecure_decode_claims(token).map_err(|_| no_token("it does not say who issued it (iss)"))?;
        let provider = self.providers.get(&iss).ok_or_else(|| {
            let issuer: String = iss.chars().take(100).collect();
            unauthenticated(format!("the token is of {issuer:?}, which is no provider here"))
        })?;
        let claims = provider.verify(token, &header).await?;
        let mut known = provider.terms.known(claims)?;
        if self.raw == Raw::Keep {
            known.insert("raw".into(), token.into());
        }
        Ok(known)
    }

    /// The token: behind `Bearer`; in a header of its own it may stand alone.
    fn token<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        let alone = headers.get(&self.header).and_then(|value| value.to_str().ok());
        match alone.filter(|text| self.header != AUTHORIZATION && !text.contains(' ')) {
            Some(token) => Ok(token),
            None => super::credentials(headers, &self.header, "Bearer"),
        }
    }
}

impl Provider {
    fn new(settings: &OidcProvider) -> Result<Self, AuthError> {
        let source = match &settings.public_keys_file {
            Some(path) => {
                let wanted = path.clone();
                let load =
                    move || Keys::parse(&read(Path::new(&wanted))?).map_err(|e| format!("{wanted}: {e}"));
                Source::File(Watched::new(vec![PathBuf::from(path)], Some(INTERVAL), load)?)
            }
            None => {
                let ca = settings.issuer_ca_path.as_deref();
                Source::Remote(Arc::new(Remote::new(&settings.issuer_url, ca)?))
            }
        };
        Ok(Self { terms: Terms::new(settings), source })
    }

    async fn verify(&self, token: &str, header: &Header) -> Result<Claims, Refusal> {
        let keys = match &self.source {
            Source::File(keys) => keys.current().find(header),
            Source::Remote(remote) => remote.find(header).await?,
        };
        if keys.is_empty() {
            return Err(unknown_key(header));
        }
        // Without a key id there may be several; the last one's verdict is told.
        let verify = |key: &DecodingKey| self.terms.verify(token, header, key);
        let mut verdict = Err(unknown_key(header));
        for key in &keys {
            verdict = verify(key);
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }
}

impl Authenticator for Oidc {
    fn check<'a>(&'a self, headers: &'a HeaderMap, _: &'a Peer) -> BoxFuture<'a, Result<AuthData, Refusal>> {
        self.verify(headers).boxed()
    }
}

fn unknown_key(header: &Header) -> Refusal {
    let key: String = header.kid.as_deref().unwrap_or("no key id").chars().take(100).collect();
    unauthenticated(format!(
        "the token is signed with a key ({key:?}) that its provider does not have for {:?}",
        header.alg
    ))
}
