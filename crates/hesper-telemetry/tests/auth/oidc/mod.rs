//! Tokens of providers: what is taken and what is not; where their keys come from.

mod provider;
mod tokens;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_telemetry::auth::{
    Authenticator,
    server::{Raw, build},
};
use http::HeaderMap;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    },
};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

const ISSUER: &str = "https://issuer.example";

/// Signs bytes.
type Sign = dyn Fn(&[u8]) -> Vec<u8>;

/// A key of a provider.
struct Signer {
    algorithm: &'static str,
    id: &'static str,
    jwk: Value,
    sign: Box<Sign>,
}

impl Signer {
    fn es256(id: &'static str) -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256", id)
    }

    fn es384(id: &'static str) -> Self {
        Self::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384", id)
    }

    fn ecdsa(
        with: &'static EcdsaSigningAlgorithm,
        algorithm: &'static str,
        curve: &str,
        id: &'static str,
    ) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(with, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(with, document.as_ref(), &random).expect("a key");
        let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "kid": id, "x": base64(x), "y": base64(y)});
        let sign = move |text: &[u8]| key.sign(&SystemRandom::new(), text).expect("signed").as_ref().to_vec();
        Self { algorithm, id, jwk, sign: Box::new(sign) }
    }

    fn eddsa(id: &'static str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        let x = base64(key.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": x});
        let sign = move |text: &[u8]| key.sign(text).as_ref().to_vec();
        Self { algorithm: "EdDSA", id, jwk, sign: Box::new(sign) }
    }

    fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm, "kid": self.id}), claims)
    }

    fn token_with(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let signature = base64((self.sign)(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What a good token says.
fn claims() -> Value {
    json!({"iss": ISSUER, "aud": "collector", "sub": "user-1", "exp": now() + 600})
}

/// The same with some of it changed; null takes it away.
fn claims_with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>()}).to_string()
}

fn authenticator(text: &str, raw: Raw) -> Arc<dyn Authenticator> {
    build(&crate::extension(text), raw).expect("an authenticator")
}

fn bearer(token: &str) -> HeaderMap {
    crate::header("authorization", &format!("Bearer {token}"))
}
