//! The public keys of a provider (JWKS, RFC 7517 §5).

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Header,
    jwk::{Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// More keys than a provider has.
const MAX_KEYS: usize = 256;

/// Keys that signatures are checked with.
#[derive(Default)]
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    /// The only one that it is for, as it is named; none: any of its family.
    algorithm: Option<String>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl Keys {
    /// Reads a JWKS. Keys of kinds that are not known here, or that are not for signatures, are left out, as the RFC demands.
    ///
    /// # Errors
    /// It is none, or has no key that signatures can be checked with.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let set: Set =
            serde_json::from_str(text).map_err(|e| format!("this is no set of keys (JWKS): {e}"))?;
        let keys: Vec<Key> = set.keys.into_iter().take(MAX_KEYS).filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err("there is no key of RSA, P-256, P-384 or Ed25519 for signatures in it".into());
        }
        Ok(Self(keys))
    }

    /// Those that may have signed a token with this header: the one that it names, or all when it names none.
    pub(super) fn find(&self, header: &Header) -> Vec<DecodingKey> {
        let named = |key: &&Key| header.kid.is_none() || key.id == header.kid;
        self.0.iter().filter(named).filter(|key| key.signs(header.alg)).map(|key| key.key.clone()).collect()
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if matches!(&jwk.common.public_key_use, Some(for_what) if *for_what != PublicKeyUse::Signature) {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        // A secret in a public set is a mistake of the provider, and a key to everything if it were taken.
        (key.family() != AlgorithmFamily::Hmac).then(|| Self {
            id: jwk.common.key_id,
            algorithm: jwk.common.key_algorithm.map(|algorithm| format!("{algorithm:?}")),
            key,
        })
    }

    fn signs(&self, algorithm: Algorithm) -> bool {
        self.key.family().algorithms().contains(&algorithm)
            && self.algorithm.as_ref().is_none_or(|only| *only == format!("{algorithm:?}"))
    }
}
