//! Who calls, and how we say who we are.
//!
//! `server` checks callers of receivers, `client` adds credentials to what exporters send: basic, bearer token, OIDC, headers of the sender.

pub mod client;
pub mod server;
mod tokens;

use crate::{net::Peer, origin::Origin};
use futures::future::BoxFuture;
use hesper_otlp::Refusal;
use http::HeaderMap;
use std::collections::BTreeMap;

/// What is known of a caller that proved itself: `username`, `raw`, `claims.<name>`; processors know it as `auth.username`.
pub type AuthData = BTreeMap<String, String>;

/// Checks who calls. Over gRPC the headers are the metadata.
pub trait Authenticator: Send + Sync {
    /// Checks the credentials of one request.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] with a reason that helps the caller and no secret; [`Refusal::Overloaded`] when it could not be checked now.
    fn check<'a>(
        &'a self,
        headers: &'a HeaderMap,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<AuthData, Refusal>>;
}

/// Adds what says who we are to a request.
pub trait ClientAuth: Send + Sync {
    /// Must the stream be secret, so that nobody on the way reads the credentials? The mesh is.
    fn needs_secrecy(&self) -> bool;

    /// Adds the headers, or changes them. `origin` is whose data is sent.
    ///
    /// # Errors
    /// There is nothing to prove it with, such as a file that cannot be read: it is tried again later.
    fn apply<'a>(
        &'a self,
        headers: &'a mut HeaderMap,
        origin: &'a Origin,
    ) -> BoxFuture<'a, Result<(), ClientAuthError>>;
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
#[error("no credentials to send: {0}")]
pub struct ClientAuthError(pub String);

/// Settings that cannot be used; the text names the thing, the reason and the next step, and no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthError(pub String);

impl From<String> for AuthError {
    fn from(text: String) -> Self {
        Self(text)
    }
}
