//! Api-sessions: `api-session/<SHA-256 of the token>`. The token itself is shown once and kept nowhere.

use crate::state::{Changes, State, WriteError};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_model::id::IdentityId;
use hesper_pki::digest::sha256_hex;
use hesper_store::StoreError;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// A session ends after so long without a request.
pub(crate) const IDLE: Duration = Duration::minutes(30);
/// A session ends after so long in any case.
const LONGEST: Duration = Duration::hours(24);
/// The time of last use is written at most so often.
const TOUCH_EVERY: Duration = Duration::minutes(1);
/// Prefix of session records.
pub(crate) const API_SESSION: &str = "api-session/";
/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 128;

/// An administrator's session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiSession {
    /// Whose.
    pub(crate) identity_id: IdentityId,
    /// `password` or `cert`.
    pub(crate) method: String,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) created_at: OffsetDateTime,
    /// When it was last used, to the minute.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) last_used: OffsetDateTime,
}

impl ApiSession {
    /// When it ends unless it is used.
    pub(crate) fn expires_at(&self) -> OffsetDateTime {
        (self.last_used + IDLE).min(self.created_at + LONGEST)
    }
}

fn key(token: &str) -> String {
    format!("{API_SESSION}{}", sha256_hex(token.as_bytes()))
}

/// Opens a session; the token is returned, and kept nowhere.
///
/// # Errors
/// The store's.
pub(crate) async fn open(
    state: &State,
    identity_id: &IdentityId,
    method: &str,
    now: OffsetDateTime,
) -> Result<(String, ApiSession), WriteError> {
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let session = ApiSession {
        identity_id: identity_id.clone(),
        method: method.to_owned(),
        created_at: now,
        last_used: now,
    };
    let mut changes = Changes::default();
    changes.create_record(key(&token), &session);
    state.commit(changes).await?;
    Ok((token, session))
}

/// The live session of a token; using it keeps it alive.
///
/// # Errors
/// The store's.
pub(crate) async fn find(
    state: &State,
    token: &str,
    now: OffsetDateTime,
) -> Result<Option<ApiSession>, WriteError> {
    if token.len() > MAX_TOKEN {
        return Ok(None);
    }
    let Some(object) = state.store.get(&key(token)).await? else { return Ok(None) };
    // A session that cannot be read is no session.
    let Ok(mut session) = serde_json::from_slice::<ApiSession>(&object.value) else { return Ok(None) };
    if session.expires_at() <= now {
        return Ok(None);
    }
    if session.last_used + TOUCH_EVERY <= now {
        session.last_used = now;
        let mut changes = Changes::default();
        changes.update_record(object.key, object.mod_revision, &session);
        match state.commit(changes).await {
            // Somebody else used it at the same moment, which serves as well.
            Ok(_) | Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(session))
}

/// Ends a session.
///
/// # Errors
/// The store's.
pub(crate) async fn close(state: &State, token: &str) -> Result<(), WriteError> {
    let mut changes = Changes::default();
    changes.delete_record(key(token));
    state.commit(changes).await?;
    state.auth.logouts.send_modify(|n| *n += 1);
    Ok(())
}

/// Removes sessions that have ended.
///
/// # Errors
/// The store's.
pub(crate) async fn prune(state: &State, now: OffsetDateTime) -> Result<(), StoreError> {
    for object in state.store.list(API_SESSION).await? {
        let over =
            serde_json::from_slice::<ApiSession>(&object.value).map_or(true, |s| s.expires_at() <= now);
        if over {
            // Unless it was used just now.
            let txn =
                hesper_store::Txn::new().unchanged(&object.key, object.mod_revision).delete(&object.key);
            state.store.commit(txn).await?;
        }
    }
    Ok(())
}
