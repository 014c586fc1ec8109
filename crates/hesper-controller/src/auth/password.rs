//! Passwords: argon2id. Checking one takes as long for a user who does not exist.

use super::Auth;
use crate::state::State;
use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString},
};
use hesper_model::id::IdentityId;
use hesper_store::StoreError;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::OnceLock, time::Duration};

/// Hashes computed at once: each takes 19 MiB and a core for some tens of milliseconds.
pub(super) const HASHES_AT_ONCE: usize = 2;
/// How long a login may wait for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(10);
/// Shortest password.
const MIN_LEN: usize = 4;
/// Longest password, in bytes.
const MAX_LEN: usize = 1024;

/// Username and password hash of an administrator: `authenticator/<identity id>`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Authenticator {
    /// What is typed to log in; unique.
    pub(crate) username: String,
    /// PHC string (argon2id).
    hash: String,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The key of an identity's authenticator.
pub(crate) fn authenticator_key(identity_id: &str) -> String {
    format!("authenticator/{identity_id}")
}

/// The key of a username; its value is the identity's id.
pub(crate) fn authenticator_name_key(username: &str) -> String {
    format!("name/authenticator/{username}")
}

/// Why a password cannot be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidPassword {
    /// Bad username.
    #[error("the username must be 1 to 256 characters without control characters")]
    Username,
    /// Too short or too long.
    #[error("the password must have {MIN_LEN} to {MAX_LEN} bytes")]
    Length,
    /// The hash failed.
    #[error("the password could not be hashed: {0}")]
    Hash(argon2::password_hash::Error),
}

/// Hashes a password. Takes tens of milliseconds of a core.
///
/// # Errors
/// [`InvalidPassword`].
pub(crate) fn make_authenticator(username: &str, password: &str) -> Result<Authenticator, InvalidPassword> {
    let trimmed = username.trim() == username;
    if username.is_empty() || username.len() > 256 || !trimmed || username.chars().any(char::is_control) {
        return Err(InvalidPassword::Username);
    }
    if !(MIN_LEN..=MAX_LEN).contains(&password.len()) {
        return Err(InvalidPassword::Length);
    }
    Ok(Authenticator { username: username.to_owned(), hash: hash(password)? })
}

fn hash(password: &str) -> Result<String, InvalidPassword> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(InvalidPassword::Hash)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(InvalidPassword::Hash)?;
    Ok(hash.to_string())
}

/// A hash of nobody's password, for users who do not exist.
fn nobodys() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash("nobody").unwrap_or_default())
}

/// What became of a login.
#[derive(Debug)]
pub(super) enum Checked {
    /// Right: the identity.
    Right(IdentityId),
    /// Wrong user or wrong password; which, nobody is told.
    Wrong,
    /// Too many logins at once.
    Busy,
}

/// Checks a username and a password.
///
/// # Errors
/// The store's.
pub(super) async fn check(state: &State, username: &str, password: &str) -> Result<Checked, StoreError> {
    if password.len() > MAX_LEN || username.len() > 256 || username.contains('\0') {
        return Ok(Checked::Wrong);
    }
    let found = find(state, username).await?;
    let expected = found.as_ref().map_or_else(|| nobodys().to_owned(), |(_, a)| a.hash.clone());
    let Auth { hashing, .. } = &state.auth;
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN_DEADLINE, hashing.acquire()).await else {
        return Ok(Checked::Busy);
    };
    let password = password.to_owned();
    let right = tokio::task::spawn_blocking(move || {
        PasswordHash::new(&expected)
            .is_ok_and(|h| Argon2::default().verify_password(password.as_bytes(), &h).is_ok())
    });
    let right = right.await.unwrap_or(false);
    Ok(match found {
        Some((id, _)) if right => Checked::Right(id),
        _ => Checked::Wrong,
    })
}

/// The authenticator of a username.
pub(super) async fn find(
    state: &State,
    username: &str,
) -> Result<Option<(IdentityId, Authenticator)>, StoreError> {
    if username.is_empty() {
        return Ok(None);
    }
    let Some(name) = state.store.get(&authenticator_name_key(username)).await? else { return Ok(None) };
    let id = String::from_utf8_lossy(&name.value).into_owned();
    let Some(object) = state.store.get(&authenticator_key(&id)).await? else { return Ok(None) };
    // One that cannot be read lets nobody in.
    let authenticator = serde_json::from_slice::<Authenticator>(&object.value).ok();
    Ok(authenticator.filter(|a| a.username == username).map(|a| (IdentityId::new(id), a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_argon2id_and_never_shown() {
        let made = make_authenticator("admin", "secret").expect("valid");
        assert!(made.hash.starts_with("$argon2id$v=19$"), "{}", made.hash);
        let shown = format!("{made:?}");
        assert!(shown.contains("admin") && !shown.contains("argon2"), "{shown}");
        assert_ne!(
            made.hash,
            make_authenticator("admin", "secret").expect("valid").hash,
            "the salt is random"
        );
    }

    #[test]
    fn bad_names_and_lengths_are_refused() {
        let long = "x".repeat(MAX_LEN + 1);
        for (user, password) in
            [("", "secret"), (" a", "secret"), ("a\n", "secret"), ("a", "abc"), ("a", long.as_str())]
        {
            assert!(make_authenticator(user, password).is_err(), "{user:?} {}", password.len());
        }
    }
}
