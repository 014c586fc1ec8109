//! `basicauth`: names and passwords (RFC 7617) against htpasswd lines.

mod encoded;
mod htpasswd;
mod md5_crypt;
mod verdicts;

use super::{Raw, credentials, unauthenticated};
use crate::{
    auth::{AuthData, AuthError, Authenticator},
    net::Peer,
    watched::{INTERVAL, Watched, read},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::extensions::BasicAuthServer;
use hesper_otlp::Refusal;
use htpasswd::Users;
use http::{HeaderMap, header::AUTHORIZATION};
use std::path::PathBuf;
use verdicts::Gate;

/// Names and passwords are not longer: some hashes take time that grows with the square of it.
const MAX_LENGTH: usize = 1024;

/// Checks names and passwords.
pub(super) struct Basic {
    users: Watched<Users>,
    gate: Gate,
    raw: Raw,
}

impl Basic {
    pub(super) fn new(settings: &BasicAuthServer, raw: Raw) -> Result<Self, AuthError> {
        let files = settings.file.iter().map(PathBuf::from).collect();
        let settings = settings.clone();
        let load = move || {
            let file = settings.file.as_deref().map(|path| read(path.as_ref()).map(|text| (path, text)));
            let file = file.transpose()?;
            let mut sources: Vec<(&str, &str)> = Vec::new();
            sources.extend(file.as_ref().map(|(path, text)| (*path, &**text)));
            sources.extend(settings.inline.as_ref().map(|text| ("htpasswd.inline", text.expose())));
            Users::parse(&sources)
        };
        Ok(Self { users: Watched::new(files, Some(INTERVAL), load)?, gate: Gate::default(), raw })
    }

    async fn verify(&self, headers: &HeaderMap) -> Result<AuthData, Refusal> {
        let encoded = credentials(headers, &AUTHORIZATION, "Basic")?;
        let given = Given::decode(encoded)?;
        if !self.users.current().is_password(&given.user, &given.password, &self.gate).await? {
            return Err(unauthenticated(given.wrong()));
        }
        let mut known = AuthData::from([("username".to_owned(), given.user)]);
        if self.raw == Raw::Keep {
            known.insert("raw".into(), encoded.into());
        }
        Ok(known)
    }
}

impl Authenticator for Basic {
    fn check<'a>(&'a self, headers: &'a HeaderMap, _: &'a Peer) -> BoxFuture<'a, Result<AuthData, Refusal>> {
        self.verify(headers).boxed()
    }
}

/// What a caller gave.
struct Given {
    user: String,
    password: Vec<u8>,
}

impl Given {
    /// Name and password stand in base64, with the first colon between them.
    fn decode(encoded: &str) -> Result<Self, Refusal> {
        let bytes = STANDARD
            .decode(encoded.trim_end())
            .map_err(|_| unauthenticated("the credentials are not USER:PASSWORD in base64"))?;
        let colon = bytes
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(|| unauthenticated("there is no colon between user and password"))?;
        if bytes.len() > MAX_LENGTH {
            return Err(unauthenticated(format!("user and password have more than {MAX_LENGTH} bytes")));
        }
        let user = String::from_utf8(bytes[..colon].to_vec())
            .map_err(|_| unauthenticated("the user is not UTF-8"))?;
        Ok(Self { user, password: bytes[colon + 1..].to_vec() })
    }

    /// What the caller is told: nothing that it does not know, but all that helps.
    fn wrong(&self) -> String {
        let mut text = "user or password is wrong".to_owned();
        if self.password.ends_with(b"\n") {
            text += "; the password that was sent ends with a line break (a newline), which `echo USER:PASSWORD | base64` \
                     adds: use `echo -n` or `printf %s`";
        } else if [b'"', b'\'']
            .iter()
            .any(|quote| self.user.as_bytes().first() == Some(quote) || self.password.last() == Some(quote))
        {
            text += "; there are quotes in it: are they meant?";
        }
        text
    }
}
