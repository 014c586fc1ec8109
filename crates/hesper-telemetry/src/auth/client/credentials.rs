//! One header that says who we are: name and password, or a token.

use crate::{
    auth::{AuthError, ClientAuth, ClientAuthError, tokens},
    origin::Origin,
    watched::{INTERVAL, Watched, read},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::extensions::{BasicAuthClient, BearerTokenAuth};
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use std::path::{Path, PathBuf};

/// The header, made anew when a file of it changes.
pub(super) struct Credentials {
    header: HeaderName,
    value: Watched<HeaderValue>,
}

impl Credentials {
    /// `Basic` with name and password (RFC 7617). What stands in a file is taken without white space around it.
    pub(super) fn basic(settings: &BasicAuthClient) -> Result<Self, AuthError> {
        let files =
            [&settings.username_file, &settings.password_file].into_iter().flatten().map(PathBuf::from);
        let files = files.collect();
        let settings = settings.clone();
        let load = move || {
            let text = |file: &Option<String>, inline: &str| match file {
                Some(path) => read(Path::new(path)).map(|text| text.trim().to_owned()),
                None => Ok(inline.to_owned()),
            };
            let user = text(&settings.username_file, &settings.username)?;
            let password = text(&settings.password_file, settings.password.expose())?;
            if user.contains(':') {
                return Err("the username has a colon in it, which ends it; choose one without".to_owned());
            }
            secret(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        };
        Ok(Self { header: AUTHORIZATION, value: Watched::new(files, Some(INTERVAL), load)? })
    }

    /// The first token behind the scheme (RFC 6750).
    pub(super) fn bearer(settings: &BearerTokenAuth) -> Result<Self, AuthError> {
        let scheme = settings.scheme.clone();
        let value = tokens::watch(settings, move |tokens| {
            let token = tokens.first().ok_or("there is no token")?;
            let separator = if scheme.is_empty() { "" } else { " " };
            secret(&format!("{scheme}{separator}{token}"))
        })?;
        Ok(Self { header: tokens::header(&settings.header)?, value })
    }
}

impl ClientAuth for Credentials {
    fn needs_secrecy(&self) -> bool {
        true
    }

    fn apply<'a>(
        &'a self,
        headers: &'a mut HeaderMap,
        _: &'a Origin,
    ) -> BoxFuture<'a, Result<(), ClientAuthError>> {
        headers.insert(self.header.clone(), self.value.current().as_ref().clone());
        async { Ok(()) }.boxed()
    }
}

/// The value of a header that is never shown.
pub(super) fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| "there is a character in it that no header can have, such as a line break".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
