//! Who is calling: administrators by password or certificate, peers by certificate.
//!
//! - [`password`]: argon2id, as slow for unknown users as for known ones, two hashes at a time.
//! - [`session`]: api-sessions: a random token, kept only as its SHA-256, ended after half an hour without use.
//! - [`throttle`]: how often somebody may try (pure).
//! - [`peer`]: is the certificate that TLS proved still one of ours?

mod handlers;
mod password;
pub(crate) mod peer;
pub(crate) mod session;
mod throttle;

pub(crate) use handlers::{authenticate, current, logout, set_password};
pub(crate) use password::{
    Authenticator, InvalidPassword, authenticator_key, authenticator_name_key, make_authenticator,
};

use crate::{
    api::{ApiError, Remote},
    state::State,
};
use hesper_model::{entity::Identity, id::IdentityId};
use hesper_pki::credentials::PeerIdentity;
use http::{HeaderMap, header, request::Parts};
use time::OffsetDateTime;

/// What logins need besides the store.
pub(crate) struct Auth {
    throttle: std::sync::Mutex<throttle::Throttle>,
    hashing: tokio::sync::Semaphore,
    /// Wakes whoever depends on a session whenever one is ended by hand.
    pub(crate) logouts: tokio::sync::watch::Sender<u64>,
}

impl Auth {
    /// Nobody has tried anything yet.
    pub(crate) fn new() -> Self {
        let hashing = tokio::sync::Semaphore::new(password::HASHES_AT_ONCE);
        Self { throttle: Default::default(), hashing, logouts: tokio::sync::watch::Sender::new(0) }
    }
}

/// An administrator, as far as a request needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admin {
    /// The identity.
    pub(crate) id: IdentityId,
    /// Its name, for events.
    pub(crate) name: String,
}

/// The token of an `Authorization: Bearer …` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The administrator behind a token.
///
/// # Errors
/// 401 without a live session, 403 when the identity is no administrator (any more).
pub(crate) async fn admin(state: &State, token: Option<&str>) -> Result<Admin, ApiError> {
    let Some(token) = token else {
        let message = format!(
            "log in first: POST {}/authenticate gives a token for 'Authorization: Bearer'",
            MANAGEMENT
        );
        return Err(ApiError::unauthorized(message));
    };
    let session = session::find(state, token, OffsetDateTime::now_utc()).await?;
    let session = session
        .ok_or_else(|| ApiError::unauthorized("your session is invalid or has expired: log in again"))?;
    administrator(state, &session.identity_id)
}

const MANAGEMENT: &str = "/edge/management/v1";

/// The identity as an administrator.
///
/// # Errors
/// 401 when it was deleted, 403 when it is none (any more).
pub(crate) fn administrator(state: &State, id: &IdentityId) -> Result<Admin, ApiError> {
    let model = state.model();
    let identity = model.identity(id).ok_or_else(|| ApiError::unauthorized("your identity was deleted"))?;
    may_manage(identity)?;
    Ok(Admin { id: id.clone(), name: identity.name.clone() })
}

fn may_manage(identity: &Identity) -> Result<(), ApiError> {
    if identity.disabled {
        return Err(ApiError::forbidden(format!("the identity '{}' is disabled", identity.name)));
    }
    if !identity.is_admin {
        let message = format!("the identity '{}' is no administrator: give it isAdmin", identity.name);
        return Err(ApiError::forbidden(message));
    }
    Ok(())
}

/// Who may read metrics: an administrator, by token or by certificate, and whoever is on this machine.
///
/// # Errors
/// 401, 403.
pub(crate) async fn operator(
    state: &State,
    token: Option<&str>,
    parts: &Parts,
) -> Result<Option<Admin>, ApiError> {
    if token.is_some() {
        return admin(state, token).await.map(Some);
    }
    if let Some(peer) = parts.extensions.get::<Option<PeerIdentity>>().cloned().flatten() {
        return by_certificate(state, &peer).map(Some);
    }
    match parts.extensions.get::<Remote>() {
        Some(remote) if remote.0.ip().to_canonical().is_loopback() => Ok(None),
        _ => Err(ApiError::unauthorized("only an administrator may read this from another machine")),
    }
}

/// The administrator of a client certificate.
fn by_certificate(state: &State, peer: &PeerIdentity) -> Result<Admin, ApiError> {
    let id = peer::identity(state, peer).map_err(|e| ApiError::unauthorized(e.to_string()))?;
    administrator(state, &id)
}
