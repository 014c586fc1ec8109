//! Credentials of what exporters send: `basicauth`, `bearertokenauth`, `headers_setter`.

mod credentials;
mod headers;

use super::{AuthError, ClientAuth};
use hesper_collector_config::{Component, Extension, Id, extensions::BasicAuth};
use std::{collections::BTreeMap, sync::Arc};

/// Authenticators that stand one behind the other (`additional_auth`); more are a circle.
const MAX_DEPTH: usize = 8;

/// What the extension with that id adds to requests.
///
/// # Errors
/// A file of it cannot be used, it is not there, or it is none that says who we are.
pub fn build(
    id: &Id,
    extensions: &BTreeMap<Id, Component<Extension>>,
) -> Result<Arc<dyn ClientAuth>, AuthError> {
    build_within(id, extensions, MAX_DEPTH)
}

fn build_within(
    id: &Id,
    extensions: &BTreeMap<Id, Component<Extension>>,
    depth: usize,
) -> Result<Arc<dyn ClientAuth>, AuthError> {
    let in_it = |e: AuthError| AuthError(format!("{id}: {e}"));
    let depth = depth.checked_sub(1).ok_or_else(|| {
        AuthError(format!("{id}: additional_auth leads in a circle; leave one of them out"))
    })?;
    let extension = extensions.get(id).ok_or_else(|| AuthError(format!("there is no extension {id}")))?;
    Ok(match &extension.settings {
        Extension::BasicAuth(BasicAuth::Client(settings)) => {
            Arc::new(credentials::Credentials::basic(settings).map_err(in_it)?)
        }
        Extension::BearerTokenAuth(settings) => {
            Arc::new(credentials::Credentials::bearer(settings).map_err(in_it)?)
        }
        Extension::HeadersSetter(settings) => {
            let first = settings
                .additional_auth
                .as_ref()
                .map(|id| build_within(id, extensions, depth))
                .transpose()?;
            Arc::new(headers::Setter::new(settings, first).map_err(in_it)?)
        }
        _ => return Err(AuthError(format!("{id} does not say who we are"))),
    })
}
