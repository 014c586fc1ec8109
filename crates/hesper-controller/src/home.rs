//! The home directory (0700) of a controller.
//!
//! | file | what |
//! |---|---|
//! | `controller.json` | addresses, trust domain, validities; written last, so that its presence means "initialised" |
//! | `pki/ca.key`, `pki/ca-*/` | the keys of the certificate authority, and of those that took over from it (0600) |
//! | `pki/ca.pem` | the certificates of every authority that is trusted |
//! | `pki/tokens.key` | the key that signs tokens (0600) |
//! | `hesper.db` | the store (0600) |
//! | `telemetry/` | what waits to be forwarded (0700) |
//! | `audit.jsonl`, `audit.jsonl.1`, … | events, the newest file first (0600) |
//!
//! The server's own certificate is not among them: it is made anew at each start and renewed while the controller runs.

mod init;

pub(crate) use self::init::builtin_types;
pub use self::init::{InitError, InitOptions, init};

use crate::{
    ca::Cas,
    validity::{OutOfBounds, Span, Validities},
};
use hesper_observe::events::{Retention, Size};
use hesper_pki::{
    files::{self, FileError},
    token::{Signer, SignerError},
};
use hesper_trace::settings::Block;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file whose presence means "initialised".
const SETTINGS_FILE: &str = "controller.json";
/// Largest settings file, in bytes.
const MAX_SETTINGS: u64 = 64 * 1024;
/// Layout of the home directory.
const LAYOUT: u32 = 1;
/// The port of a controller, unless told otherwise: OpenZiti's.
pub const DEFAULT_PORT: u16 = 1280;

/// `controller.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    layout: u32,
    /// DNS name or IP address at which it is reached.
    pub ctrl_address: String,
    /// TCP port at which it is reached.
    pub ctrl_port: u16,
    /// Trust domain of every SPIFFE id.
    pub trust_domain: String,
    /// How long certificates, grants and sessions are valid.
    #[serde(default)]
    pub leaf_validity: Option<Span>,
    /// See [`Validities`].
    #[serde(default)]
    pub grant_validity: Option<Span>,
    /// See [`Validities`].
    #[serde(default)]
    pub session_validity: Option<Span>,
    /// See [`Kept`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_file_size: Option<Size>,
    /// See [`Kept`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_files: Option<usize>,
    /// What the controller traces of itself, and where that goes: [`Block`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<serde_json::Value>,
}

/// How much of the audit file is kept, where it is not [`Retention::default`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Size of one file, 64KiB or more; then a new one is begun.
    pub file_size: Option<Size>,
    /// How many files, 2 to 1000; the oldest goes.
    pub files: Option<usize>,
}

impl Kept {
    /// These where they say something, else `others`.
    pub fn over(self, others: Self) -> Retention {
        let default = Retention::default();
        Retention {
            file_size: self.file_size.or(others.file_size).unwrap_or(default.file_size),
            files: self.files.or(others.files).unwrap_or(default.files),
        }
    }
}

impl Settings {
    fn block(&self, path: &Path) -> Result<Option<Block>, HomeError> {
        let block = self.tracing.clone().map(serde_json::from_value).transpose();
        block.map_err(|source| HomeError::Settings { path: path.to_owned(), source })
    }

    /// How long things are valid.
    pub fn validities(&self) -> Validities {
        let &Self { leaf_validity, grant_validity, session_validity, .. } = self;
        Validities { leaf_validity, grant_validity, session_validity }
    }

    /// How much of the audit file is kept.
    pub fn kept(&self) -> Kept {
        Kept { file_size: self.audit_file_size, files: self.audit_files }
    }
}

/// Why a home directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is none.
    #[error("{} is no controller's home: make one with 'hesper controller init --home {}'", .0.display(), .0.display())]
    Missing(PathBuf),
    /// A file could not be read.
    #[error("the home directory cannot be read")]
    File(#[from] FileError),
    /// `controller.json` is not valid.
    #[error("{} is not valid", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Made by a newer Hesper.
    #[error("{} has layout {found}, this program knows {LAYOUT}: run a newer version of hesper", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// The layout found.
        found: u32,
    },
    /// A validity in it is too short or too long.
    #[error("{} is not valid", path.display())]
    Validity {
        /// The file.
        path: PathBuf,
        /// Which, and its bounds.
        source: OutOfBounds,
    },
    /// The certificate authority cannot be read.
    #[error("the certificate authority cannot be read")]
    Ca(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The token key cannot be read.
    #[error("the token key cannot be read")]
    Tokens(#[from] SignerError),
}

/// A controller's home, read.
pub(crate) struct Home {
    pub(crate) settings: Settings,
    pub(crate) cas: Cas,
    pub(crate) signer: Signer,
    pub(crate) store: PathBuf,
    pub(crate) audit: PathBuf,
    pub(crate) telemetry: PathBuf,
}

/// Is there an initialised controller in this directory?
pub fn is_initialised(dir: &Path) -> bool {
    dir.join(SETTINGS_FILE).exists()
}

fn settings(dir: &Path) -> Result<(PathBuf, Settings), HomeError> {
    let path = dir.join(SETTINGS_FILE);
    let text = files::read(&path, MAX_SETTINGS)
        .map_err(|e| if e.not_found() { HomeError::Missing(dir.to_owned()) } else { HomeError::File(e) })?;
    let settings: Settings =
        serde_json::from_str(&text).map_err(|source| HomeError::Settings { path: path.clone(), source })?;
    if settings.layout != LAYOUT {
        return Err(HomeError::Layout { path, found: settings.layout });
    }
    Ok((path, settings))
}

/// The block `tracing` of a home's settings; none when it has none.
///
/// # Errors
/// [`HomeError`]: the settings cannot be read.
pub fn tracing(dir: &Path) -> Result<Option<Block>, HomeError> {
    settings(dir)?.1.block(&dir.join(SETTINGS_FILE))
}

/// Reads a home directory.
///
/// # Errors
/// [`HomeError`].
pub(crate) fn open(dir: &Path) -> Result<Home, HomeError> {
    let (path, settings) = settings(dir)?;
    settings.block(&path)?;
    settings.validities().check().map_err(|source| HomeError::Validity { path, source })?;
    let pki = dir.join("pki");
    Ok(Home {
        settings,
        cas: Cas::load(&pki).map_err(|error| HomeError::Ca(error.into()))?,
        signer: Signer::load(&pki.join("tokens.key"))?,
        store: dir.join("hesper.db"),
        audit: dir.join("audit.jsonl"),
        telemetry: dir.join("telemetry"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_home_is_named() {
        let dir = tempfile::tempdir().expect("directory");
        let error = open(dir.path()).err().expect("no home").to_string();
        assert!(error.contains("hesper controller init --home"), "{error}");
    }
}
