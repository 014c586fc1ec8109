//! Stored logins: `hesper-cli.json`, laid out like OpenZiti's `ziti-cli.json`.
//!
//! The file holds session tokens, so it is 0600 in a 0700 directory and replaced atomically.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The name of a login when none is given.
pub(crate) const DEFAULT_LOGIN: &str = "default";
const FILE: &str = "hesper-cli.json";

/// One login at one controller.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Login {
    /// Base URL of the controller: `https://host:port`.
    pub(crate) url: String,
    /// Who logged in; empty after a login by certificate.
    #[serde(default)]
    pub(crate) username: String,
    /// The session token; none after logout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// When, RFC 3339.
    pub(crate) login_time: String,
    /// The controller's certificate authority, PEM.
    pub(crate) ca_cert: String,
    /// Refuse commands that change something.
    #[serde(default)]
    pub(crate) read_only: bool,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("url", &self.url)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// All stored logins.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Logins {
    /// By name.
    #[serde(default)]
    pub(crate) edge_identities: BTreeMap<String, Login>,
    /// The one used when none is named.
    #[serde(default)]
    pub(crate) default: Option<String>,
}

/// Where the logins are kept.
#[derive(Clone, Debug)]
pub(crate) struct ConfigStore {
    directory: PathBuf,
}

impl ConfigStore {
    /// `$HESPER_CONFIG_DIR`, or `$XDG_CONFIG_HOME/hesper`, or `~/.config/hesper`.
    ///
    /// # Errors
    /// None of the three can be told.
    pub(crate) fn from_environment() -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let directory = set("HESPER_CONFIG_DIR")
            .or_else(|| set("XDG_CONFIG_HOME").map(|d| d.join("hesper")))
            .or_else(|| set("HOME").map(|d| d.join(".config/hesper")))
            .context("no place for the stored logins: set HESPER_CONFIG_DIR or HOME")?;
        Ok(Self { directory })
    }

    /// The file's path.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Reads the logins; none when the file does not exist.
    ///
    /// # Errors
    /// The file cannot be read or is no such JSON.
    pub(crate) fn load(&self) -> Result<Logins> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Logins::default()),
            Err(e) => {
                return Err(e).with_context(|| format!("cannot read the stored logins {}", path.display()));
            }
        };
        serde_json::from_slice(&text).with_context(|| {
            format!("the stored logins {} are damaged; remove the file and log in again", path.display())
        })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub(crate) fn save(&self, logins: &Logins) -> Result<()> {
        let path = self.path();
        self.write(&path, logins)
            .with_context(|| format!("cannot write the stored logins {}", path.display()))
    }

    fn write(&self, path: &Path, logins: &Logins) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let fresh = self.directory.join(format!(".{FILE}.{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(format!("{:#}\n", serde_json::to_value(logins)?).as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        Ok(())
    }

    /// The login named, or the default one.
    ///
    /// # Errors
    /// There is none of that name, or it has logged out.
    pub(crate) fn login(&self, name: Option<&str>) -> Result<(String, Login)> {
        let logins = self.load()?;
        let name = name.or(logins.default.as_deref()).unwrap_or(DEFAULT_LOGIN).to_owned();
        match logins.edge_identities.get(&name) {
            Some(login) if login.token.is_some() => Ok((name, login.clone())),
            Some(_) => bail!("login '{name}' has logged out: run 'hesper edge login' again"),
            None => bail!("no login '{name}' in {}: run 'hesper edge login' first", self.path().display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn login(token: Option<&str>) -> Login {
        Login {
            url: "https://localhost:1280".into(),
            username: "admin".into(),
            token: token.map(Into::into),
            login_time: "2026-01-01T00:00:00Z".into(),
            ca_cert: "PEM".into(),
            read_only: false,
        }
    }

    #[test]
    fn what_is_saved_is_loaded_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ConfigStore { directory: dir.path().join("a/b") };
        assert_eq!(store.load().expect("nothing yet"), Logins::default());
        let mut logins = Logins { default: Some("x".into()), ..Logins::default() };
        logins.edge_identities.insert("x".into(), login(Some("secret")));
        store.save(&logins).expect("saved");
        store.save(&logins).expect("saved over itself");
        assert_eq!(store.load().expect("loaded"), logins);
        let mode = fs::metadata(store.path()).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(store.login(None).expect("the default").0, "x");
        assert!(!format!("{logins:?}").contains("secret"));
    }

    #[test]
    fn a_missing_login_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = ConfigStore { directory: dir.path().into() };
        let missing = store.login(Some("blue")).expect_err("no such login").to_string();
        assert!(missing.contains("no login 'blue'") && missing.contains("hesper edge login"), "{missing}");
        let mut logins = Logins::default();
        logins.edge_identities.insert(DEFAULT_LOGIN.into(), login(None));
        store.save(&logins).expect("saved");
        assert!(store.login(None).expect_err("logged out").to_string().contains("has logged out"));
        fs::write(store.path(), "{").expect("written");
        assert!(store.login(None).expect_err("damaged").to_string().contains("damaged"));
    }
}
