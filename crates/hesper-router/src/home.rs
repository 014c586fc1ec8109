//! The router's directory: its identity and what the controller told it last, both readable by their owner only.

use hesper_client::enroll::{EnrollError, enroll_with_key};
use hesper_pki::{
    files::{self, FileError},
    identity_file::{IdentityFile, IdentityFileError},
    key::{self, KeyError, PrivateKey},
    spiffe::SpiffeRole,
    token::{self, EnrollmentMethod},
};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The router's identity file.
const IDENTITY: &str = "router.json";
/// What the controller told it last.
const STATE: &str = "state.json";
/// Its key while it enrolls: a retry after a lost answer must use the same one.
const PENDING_KEY: &str = "router.key.pending";
/// Size limit of that file.
const MAX_KEY_FILE: u64 = 4096;

/// The files of one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterHome {
    dir: PathBuf,
}

/// Why a router is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum RouterEnrollError {
    /// There is a router already.
    #[error("{} exists: this router is enrolled already; remove the file to enroll another one here", .0.display())]
    AlreadyEnrolled(PathBuf),
    /// The token is for a node.
    #[error("this token enrolls an identity, not a router; use `hesper edge enroll`")]
    NotARouter,
    /// The directory or a file in it is not usable.
    #[error("the router's home directory is not usable")]
    File(#[from] FileError),
    /// No key.
    #[error("no private key for the router")]
    Key(#[from] KeyError),
    /// The token was not redeemed.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// The identity was not written.
    #[error("the router's identity could not be kept")]
    Identity(#[from] IdentityFileError),
}

/// A router that has just enrolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolledRouter {
    /// Its id.
    pub id: String,
    /// Where its identity is.
    pub identity_file: PathBuf,
    /// End of its certificate, which it renews by itself.
    pub not_after: OffsetDateTime,
}

/// Redeems a router's enrollment token and keeps the identity in the directory `home`, which is created if need be.
///
/// # Errors
/// [`RouterEnrollError`]; after a lost answer the same call with the same token may be repeated.
pub async fn enroll(
    jwt: &str,
    home: &Path,
    now: OffsetDateTime,
) -> Result<EnrolledRouter, RouterEnrollError> {
    let home = RouterHome::new(home);
    if home.identity_file().exists() {
        return Err(RouterEnrollError::AlreadyEnrolled(home.identity_file()));
    }
    let secs = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    // What else may be wrong with the token is said by the redemption.
    if token::read_enrollment(jwt, secs).is_ok_and(|claims| claims.em != EnrollmentMethod::Erott) {
        return Err(RouterEnrollError::NotARouter);
    }
    let existed = home.dir.exists();
    files::private_dir(&home.dir)?;
    let (key, new) = home.pending_key()?;
    let enrolled = enroll_with_key(jwt, key, now).await.inspect_err(|e| {
        if e.key_fate().is_over(new) {
            let _ = std::fs::remove_file(home.dir.join(PENDING_KEY));
            if !existed {
                // Only if it is empty, as it was made.
                let _ = std::fs::remove_dir(&home.dir);
            }
        }
    })?;
    if enrolled.id.role != SpiffeRole::Router {
        return Err(RouterEnrollError::NotARouter);
    }
    enrolled.identity_file.write_new(&home.identity_file())?;
    // Of no more use, and the same key is in the identity file.
    let _ = std::fs::remove_file(home.dir.join(PENDING_KEY));
    let identity_file = home.identity_file();
    Ok(EnrolledRouter { id: enrolled.id.id, identity_file, not_after: enrolled.not_after })
}

impl RouterHome {
    /// The files in `dir`. Nothing is touched.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Its identity: certificate, key, CA and controllers.
    pub fn identity_file(&self) -> PathBuf {
        self.dir.join(IDENTITY)
    }

    /// What the controller told it last.
    pub(crate) fn state_file(&self) -> PathBuf {
        self.dir.join(STATE)
    }

    /// Reads the identity.
    pub(crate) fn identity(&self) -> Result<IdentityFile, IdentityFileError> {
        IdentityFile::load(&self.identity_file())
    }

    /// The key of an interrupted enrollment, or a new one; and whether it is new.
    fn pending_key(&self) -> Result<(PrivateKey, bool), RouterEnrollError> {
        let path = self.dir.join(PENDING_KEY);
        match files::read(&path, MAX_KEY_FILE) {
            Ok(text) => Ok((PrivateKey::from_pem(&text)?, false)),
            Err(e) if e.not_found() => {
                let key = key::generate()?;
                files::write_new(&path, key.to_pem().as_bytes())?;
                Ok((key, true))
            }
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_pki::token::{EnrollmentClaims, Signer};

    fn token(em: EnrollmentMethod) -> String {
        let claims = EnrollmentClaims {
            iss: "https://127.0.0.1:1".into(),
            sub: "r".into(),
            jti: "j".into(),
            exp: 2_000_000_000,
            em,
            ctrls: vec![],
            ca_sha256: "0".repeat(64),
        };
        Signer::generate().unwrap().sign(&claims).unwrap()
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused_before_the_token_is_used() {
        let now = OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("router");
        let error = enroll(&token(EnrollmentMethod::Ott), &home, now).await.unwrap_err();
        assert!(matches!(error, RouterEnrollError::NotARouter), "{error}");
        assert!(!home.exists(), "nothing half-created");
        let error = enroll("nonsense", &home, now).await.unwrap_err();
        assert!(matches!(error, RouterEnrollError::Enroll(EnrollError::Token(_))), "{error}");
        assert!(!home.exists(), "nothing half-created");

        let error = enroll(&token(EnrollmentMethod::Erott), &home, now).await.unwrap_err();
        assert!(matches!(error, RouterEnrollError::Enroll(EnrollError::Unreachable { .. })), "{error}");
        assert!(!home.exists(), "neither a key that nobody has seen");

        // A key from a try whose answer was lost is another matter: the token may be redeemed with it already.
        files::private_dir(&home).unwrap();
        let (earlier, new) = RouterHome::new(&home).pending_key().unwrap();
        assert!(new);
        enroll(&token(EnrollmentMethod::Erott), &home, now).await.unwrap_err();
        let (kept, new) = RouterHome::new(&home).pending_key().unwrap();
        assert_eq!((kept.spki_sha256(), new), (earlier.spki_sha256(), false), "a retry uses the same key");

        std::fs::write(home.join(IDENTITY), "{}").unwrap();
        let error = enroll(&token(EnrollmentMethod::Erott), &home, now).await.unwrap_err();
        assert!(matches!(error, RouterEnrollError::AlreadyEnrolled(_)), "{error}");
    }
}
