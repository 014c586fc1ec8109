//! `bearertokenauth`: a token in a header (RFC 6750), one of those that are known.

use super::{credentials, unauthenticated};
use crate::{
    auth::{AuthData, AuthError, Authenticator, tokens},
    net::Peer,
    watched::Watched,
};
use futures::{FutureExt, future::BoxFuture};
use hesper_collector_config::extensions::BearerTokenAuth;
use hesper_otlp::Refusal;
use http::{HeaderMap, HeaderName};
use ring::{hmac, rand::SystemRandom};

/// Checks tokens.
pub(super) struct Bearer {
    header: HeaderName,
    scheme: String,
    known: Watched<Known>,
}

/// The tokens, as tags under a key that nobody has: to compare with one takes the same time for all.
struct Known {
    key: hmac::Key,
    tags: Vec<hmac::Tag>,
}

impl Bearer {
    pub(super) fn new(settings: &BearerTokenAuth) -> Result<Self, AuthError> {
        let known = tokens::watch(settings, |tokens| {
            let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
                .map_err(|_| "this machine gives no random numbers".to_owned())?;
            let tags = tokens.iter().map(|token| hmac::sign(&key, token.as_bytes())).collect();
            Ok(Known { key, tags })
        })?;
        Ok(Self { header: tokens::header(&settings.header)?, scheme: settings.scheme.clone(), known })
    }

    fn verify(&self, headers: &HeaderMap) -> Result<AuthData, Refusal> {
        let token = credentials(headers, &self.header, &self.scheme)?;
        let known = self.known.current();
        // All are compared, whichever it is.
        let matches = known.tags.iter().fold(false, |found, tag| {
            found | hmac::verify(&known.key, token.as_bytes(), tag.as_ref()).is_ok()
        });
        if matches { Ok(AuthData::new()) } else { Err(unauthenticated("the token is not known here")) }
    }
}

impl Authenticator for Bearer {
    fn check<'a>(&'a self, headers: &'a HeaderMap, _: &'a Peer) -> BoxFuture<'a, Result<AuthData, Refusal>> {
        let verdict = self.verify(headers);
        async { verdict }.boxed()
    }
}
