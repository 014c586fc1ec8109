//! The identity file: a party's credentials and its controllers as JSON, in OpenZiti's layout.
//!
//! ```json
//! {"ztAPI": "https://ctrl:1280/edge/client/v1", "ztAPIs": null, "configTypes": null,
//!  "id": {"key": "pem:-----BEGIN PRIVATE KEY-----…", "cert": "pem:…", "ca": "file:ca.pem"}}
//! ```
//! A value of `id` is `pem:` and the text itself, or `file:` (or nothing) and a path, relative to the file's directory.
//! Fields that we do not know are kept.

use crate::{
    credentials::{Credentials, CredentialsError},
    files::{self, FileError},
    key::PrivateKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fmt,
    path::{Path, PathBuf},
};
use zeroize::{Zeroize, Zeroizing};

/// Size limit of the file, and of the files that it names.
const MAX_FILE: u64 = 256 * 1024;
/// The path of the client API in `ztAPI`.
const CLIENT_API: &str = "/edge/client/v1";

/// An identity file in memory.
#[derive(Clone, Serialize, Deserialize)]
pub struct IdentityFile {
    /// URL of the client API of the controller that enrolled it.
    #[serde(rename = "ztAPI")]
    pub zt_api: String,
    /// The same of every controller, when there are several.
    #[serde(rename = "ztAPIs", default)]
    pub zt_apis: Option<Vec<String>>,
    /// Config types that the identity understands; absent = all. Kept for other programs.
    #[serde(rename = "configTypes", default)]
    pub config_types: Option<Vec<String>>,
    /// Certificate, key and CA.
    pub id: IdentityKeys,
    /// Any other field.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// Where relative paths start.
    #[serde(skip)]
    directory: PathBuf,
}

/// The field `id`.
#[derive(Clone, Serialize, Deserialize)]
pub struct IdentityKeys {
    /// The private key.
    pub key: String,
    /// The certificate chain.
    pub cert: String,
    /// The CA certificates.
    pub ca: String,
    /// Any other field.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Drop for IdentityKeys {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for IdentityKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityKeys").field("key", &"[redacted]").finish_non_exhaustive()
    }
}

impl fmt::Debug for IdentityFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityFile").field("zt_api", &self.zt_api).finish_non_exhaustive()
    }
}

/// Why an identity file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// It, or a file that it names, could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not JSON of this layout.
    #[error("{} is not an identity file", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// Certificate, key and CA do not make credentials.
    #[error("the identity file does not hold usable credentials")]
    Credentials(#[from] CredentialsError),
}

impl IdentityFile {
    /// A new one, everything inside. `controllers` are URLs; the first is the one that enrolled it.
    pub fn new(controllers: &[String], chain_pem: &str, key: &PrivateKey, ca_pem: &str) -> Self {
        let apis: Vec<String> =
            controllers.iter().map(|url| format!("{}{CLIENT_API}", origin(url))).collect();
        Self {
            zt_api: apis.first().cloned().unwrap_or_default(),
            zt_apis: (apis.len() > 1).then_some(apis),
            config_types: None,
            id: IdentityKeys {
                key: format!("pem:{}", *key.to_pem()),
                cert: format!("pem:{chain_pem}"),
                ca: format!("pem:{ca_pem}"),
                other: Map::new(),
            },
            other: Map::new(),
            directory: PathBuf::new(),
        }
    }

    /// Reads a file. One that others than its owner may read is accepted with a warning: it may be mounted that way.
    pub fn load(path: &Path) -> Result<Self, IdentityFileError> {
        let text = Zeroizing::new(files::read(path, MAX_FILE)?);
        let mut file: Self = serde_json::from_str(&text)
            .map_err(|source| IdentityFileError::Json { path: path.to_owned(), source })?;
        warn_if_open(path)?;
        file.directory = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(file)
    }

    /// Writes a new file with mode 0600. Whatever exists at the path, a symbolic link included, is an error and stays.
    pub fn write_new(&self, path: &Path) -> Result<(), IdentityFileError> {
        Ok(files::write_new(path, self.to_json().as_bytes())?)
    }

    /// Replaces the file atomically, for renewal.
    pub fn replace(&self, path: &Path) -> Result<(), IdentityFileError> {
        Ok(files::replace(path, self.to_json().as_bytes())?)
    }

    fn to_json(&self) -> Zeroizing<String> {
        // Strings, lists and maps with string keys: serialisation cannot fail.
        let mut text = serde_json::to_string_pretty(self).expect("an identity file is plain JSON");
        text.push('\n');
        Zeroizing::new(text)
    }

    /// The credentials in it, following `file:` values.
    pub fn credentials(&self) -> Result<Credentials, IdentityFileError> {
        let key = self.value(&self.id.key, true)?;
        Ok(Credentials::from_pem(&self.value(&self.id.cert, false)?, &key, &self.value(&self.id.ca, false)?)?)
    }

    fn value(&self, value: &str, secret: bool) -> Result<Zeroizing<String>, IdentityFileError> {
        if let Some(pem) = value.strip_prefix("pem:") {
            return Ok(Zeroizing::new(pem.to_owned()));
        }
        let path = value.strip_prefix("file:").unwrap_or(value);
        // `file:///a/b` is the URL of /a/b (RFC 8089).
        let path = self.directory.join(path.strip_prefix("//").unwrap_or(path));
        if secret {
            warn_if_open(&path)?;
        }
        Ok(Zeroizing::new(files::read(&path, MAX_FILE)?))
    }

    /// The same file with a renewed certificate and the CA certificates that came with it; the key stays as it is.
    pub fn renewed(&self, chain_pem: &str, ca_pem: &str) -> Self {
        let mut file = self.clone();
        file.id.cert = format!("pem:{chain_pem}");
        file.id.ca = format!("pem:{ca_pem}");
        file
    }

    /// URLs of its controllers (scheme, host and port), the preferred first.
    pub fn controllers(&self) -> Vec<String> {
        let several = self.zt_apis.as_deref().unwrap_or_default();
        let urls: Vec<&String> =
            if several.is_empty() { vec![&self.zt_api] } else { several.iter().collect() };
        urls.into_iter().map(|url| origin(url)).collect()
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> String {
    let start = url.find("://").map_or(0, |i| i + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |i| start + i);
    url[..end].to_owned()
}

fn warn_if_open(path: &Path) -> Result<(), FileError> {
    if files::is_open_to_others(path)? {
        tracing::warn!(path = %path.display(), "private key file is open to other users; chmod 600 it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_controller_url() {
        for (url, expected) in [
            ("https://h:1280/edge/client/v1", "https://h:1280"),
            ("https://h:1280", "https://h:1280"),
            ("https://[::1]:1280/?x", "https://[::1]:1280"),
            ("h:1280/x", "h:1280"),
        ] {
            assert_eq!(origin(url), expected);
        }
    }
}
