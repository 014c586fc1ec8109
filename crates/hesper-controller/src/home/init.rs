//! How a controller's home is made: keys, store, built-in config types, the first administrator; all of it or nothing.

use super::{LAYOUT, SETTINGS_FILE, Settings, is_initialised};
use crate::{
    api::DEFAULT_ADMIN,
    auth::{InvalidPassword, authenticator_key, authenticator_name_key, make_authenticator},
    state::Changes,
};
use hesper_model::{
    config,
    entity::{ConfigType, Identity, IdentityType, Precedence},
    id::{ConfigTypeId, IdentityId, random_id},
};
use hesper_pki::{
    ca::{CaError, CertificateAuthority},
    files::{self, FileError},
    spiffe::{InvalidSpiffeId, check_trust_domain},
    token::{Signer, SignerError},
};
use hesper_store::{Commit, Store, StoreError};
use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};
use time::OffsetDateTime;

/// Where init builds before anything is moved to its place.
const STAGING: &str = ".init";

/// What a new controller needs to know.
#[derive(Clone)]
pub struct InitOptions {
    /// DNS name or IP address at which nodes, routers and administrators reach it.
    pub ctrl_address: String,
    /// TCP port at which they reach it; 0 = whichever the system gives at each start (for tests).
    pub ctrl_port: u16,
    /// Username of the first administrator.
    pub username: String,
    /// Password of the first administrator.
    pub password: String,
    /// Trust domain of every SPIFFE id; none = a random one.
    pub trust_domain: Option<String>,
}

impl std::fmt::Debug for InitOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitOptions")
            .field("ctrl_address", &self.ctrl_address)
            .field("ctrl_port", &self.ctrl_port)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Why a home directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a controller already.
    #[error("{} is initialised already: run the controller, or choose another directory", .0.display())]
    Exists(PathBuf),
    /// There is something else in the way.
    #[error("{} holds {what} but no {SETTINGS_FILE}: it is not a controller's; empty it or choose another directory", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The address cannot be one.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Address(String),
    /// The trust domain cannot be one.
    #[error("the trust domain {0:?} is not valid")]
    TrustDomain(String, #[source] InvalidSpiffeId),
    /// Bad username or password.
    #[error("the first administrator cannot be made: {0}")]
    Administrator(String),
    /// The certificate authority could not be made.
    #[error("the certificate authority could not be made")]
    Ca(#[from] CaError),
    /// The token key could not be made.
    #[error("the token key could not be made")]
    Tokens(#[from] SignerError),
    /// The store could not be made.
    #[error("the store could not be made")]
    Store(#[from] StoreError),
    /// A file could not be written.
    #[error("the home directory could not be made")]
    File(#[from] FileError),
    /// A file could not be moved to its place.
    #[error("{} could not be moved to its place", path.display())]
    Move {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl From<InvalidPassword> for InitError {
    fn from(error: InvalidPassword) -> Self {
        Self::Administrator(error.to_string())
    }
}

/// Makes the home directory of a new controller: keys, store, the built-in config types, the first administrator.
/// Either all of it is there afterwards, or nothing.
///
/// # Errors
/// [`InitError`].
pub async fn init(dir: &Path, options: &InitOptions) -> Result<(), InitError> {
    refuse_occupied(dir)?;
    let address = check_address(&options.ctrl_address)?;
    let trust_domain = options
        .trust_domain
        .clone()
        .unwrap_or_else(|| format!("{}.hesper", random_id(&mut rand::rng()).to_lowercase()));
    check_trust_domain(&trust_domain).map_err(|e| InitError::TrustDomain(trust_domain.clone(), e))?;
    let (username, password) = (options.username.clone(), options.password.clone());
    // Slow, and before anything is written.
    let hashed = tokio::task::spawn_blocking(move || make_authenticator(&username, &password)).await;
    let authenticator = hashed.map_err(|e| InitError::Administrator(e.to_string()))??;

    let made_dir = !dir.exists();
    files::private_dir(dir)?;
    let staging = dir.join(STAGING);
    let settings = Settings {
        layout: LAYOUT,
        ctrl_address: address,
        ctrl_port: options.ctrl_port,
        trust_domain,
        leaf_validity: None,
        grant_validity: None,
        session_validity: None,
        audit_file_size: None,
        audit_files: None,
        tracing: None,
    };
    let built = build(&staging, &settings, &authenticator).await;
    let done = built.and_then(|()| settle(&staging, dir));
    if done.is_err() {
        let _ = fs::remove_dir_all(&staging);
        if made_dir {
            let _ = fs::remove_dir(dir);
        }
    }
    done
}

fn refuse_occupied(dir: &Path) -> Result<(), InitError> {
    if is_initialised(dir) {
        return Err(InitError::Exists(dir.to_owned()));
    }
    match ["pki", "hesper.db"].into_iter().find(|name| dir.join(name).exists()) {
        Some(what) => Err(InitError::Occupied { path: dir.to_owned(), what }),
        None => Ok(()),
    }
}

/// A DNS name or an IP address, without brackets.
fn check_address(text: &str) -> Result<String, InitError> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err(InitError::Address(text.to_owned()))
}

/// Writes everything into the staging directory.
async fn build(
    staging: &Path,
    settings: &Settings,
    authenticator: &crate::auth::Authenticator,
) -> Result<(), InitError> {
    // Left over by an init that was killed; it was never a controller.
    let _ = fs::remove_dir_all(staging);
    files::private_dir(staging)?;
    let now = OffsetDateTime::now_utc();
    let pki = staging.join("pki");
    CertificateAuthority::create(&settings.trust_domain, now)?.save(&pki)?;
    Signer::generate()?.save(&pki.join("tokens.key"))?;
    let store = hesper_store::open_sqlite(staging.join("hesper.db"))?;
    let seeded = seed(store.as_ref(), authenticator, now).await;
    store.close().await;
    seeded?;
    let text = serde_json::to_string_pretty(settings).map_err(|e| InitError::Administrator(e.to_string()))?;
    files::write_new(&staging.join(SETTINGS_FILE), text.as_bytes())?;
    Ok(())
}

async fn seed(
    store: &dyn Store,
    authenticator: &crate::auth::Authenticator,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let mut changes = Changes::default();
    for builtin in builtin_types(now) {
        changes.create(&builtin);
    }
    let admin = Identity {
        id: IdentityId::random(&mut rand::rng()),
        name: DEFAULT_ADMIN.into(),
        type_: IdentityType::Default,
        is_admin: true,
        permissions: Default::default(),
        role_attributes: Default::default(),
        disabled: false,
        default_hosting_cost: 0,
        default_hosting_precedence: Precedence::Default,
        external_id: None,
        tags: Default::default(),
        created_at: now,
        updated_at: now,
    };
    changes.create(&admin);
    changes.put_text(authenticator_name_key(&authenticator.username), admin.id.as_str());
    changes.put_record(authenticator_key(admin.id.as_str()), authenticator);
    match store.commit(changes.into_txn()).await? {
        Commit::Done(_) => Ok(()),
        Commit::Conflict(_) => Err(StoreError::Closed),
    }
}

/// Hesper's own config types.
pub(crate) fn builtin_types(now: OffsetDateTime) -> Vec<ConfigType> {
    let made = config::builtin().into_iter().map(|builtin| ConfigType {
        id: ConfigTypeId::new(builtin.name),
        name: builtin.name.into(),
        schema: Some(builtin.schema),
        target: Some("service".into()),
        tags: Default::default(),
        created_at: now,
        updated_at: now,
    });
    made.collect()
}

/// Moves everything to its place, `controller.json` last.
fn settle(staging: &Path, dir: &Path) -> Result<(), InitError> {
    let mut names: Vec<_> = fs::read_dir(staging)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|source| InitError::Move { path: staging.to_owned(), source })?
        .into_iter()
        .map(|entry| entry.file_name())
        .collect();
    names.sort_by_key(|name| name == SETTINGS_FILE);
    let mut moved: Vec<PathBuf> = Vec::new();
    for name in names {
        let (from, to) = (staging.join(&name), dir.join(&name));
        if let Err(source) = fs::rename(&from, &to) {
            for path in moved {
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
            return Err(InitError::Move { path: to, source });
        }
        moved.push(to);
    }
    let _ = fs::remove_dir(staging);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::open;
    use std::os::unix::fs::PermissionsExt as _;

    fn options() -> InitOptions {
        InitOptions {
            ctrl_address: "127.0.0.1".into(),
            ctrl_port: 0,
            username: "admin".into(),
            password: "admin".into(),
            trust_domain: None,
        }
    }

    #[tokio::test]
    async fn init_makes_a_private_home_once() {
        let dir = tempfile::tempdir().expect("directory");
        let home = dir.path().join("controller");
        init(&home, &options()).await.expect("init");
        let mode = |name: &str| fs::metadata(home.join(name)).expect(name).permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("pki")), (0o700, 0o700));
        for file in ["pki/ca.key", "pki/tokens.key", "hesper.db", "controller.json"] {
            assert_eq!(mode(file), 0o600, "{file}");
        }
        assert!(!home.join(STAGING).exists());
        let first = fs::read(home.join("pki/ca.key")).expect("key");
        assert!(matches!(init(&home, &options()).await, Err(InitError::Exists(_))));
        assert_eq!(fs::read(home.join("pki/ca.key")).expect("key"), first, "nothing was overwritten");
        assert!(open(&home).is_ok());
    }

    #[tokio::test]
    async fn a_refused_init_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("directory");
        let home = dir.path().join("controller");
        let bad = [
            InitOptions { ctrl_address: "not a name".into(), ..options() },
            InitOptions { trust_domain: Some("UPPER".into()), ..options() },
            InitOptions { password: "abc".into(), ..options() },
            InitOptions { username: String::new(), ..options() },
        ];
        for options in bad {
            assert!(init(&home, &options).await.is_err(), "{options:?}");
            assert!(!home.exists(), "{options:?}");
        }
        fs::create_dir_all(home.join("pki")).expect("directory");
        assert!(matches!(init(&home, &options()).await, Err(InitError::Occupied { what: "pki", .. })));
    }

    #[test]
    fn addresses() {
        for good in ["localhost", "a.example.com", "127.0.0.1", "::1", "[::1]"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a..b", "-a", "a/b", "a:1", "ü.example"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
