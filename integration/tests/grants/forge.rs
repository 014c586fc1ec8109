//! Grants made by whoever has the controller's key, or says so.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_pki::token::Signer;
use ring::signature::Ed25519KeyPair;
use serde_json::{Map, Value, json};
use std::{fs, path::Path};

/// Signs whatever it is given with the controller's own key: what the claims say must count, not only who signed.
pub(crate) struct Forge {
    pub(crate) pair: Ed25519KeyPair,
    pub(crate) stranger: Ed25519KeyPair,
    pub(crate) kid: String,
    pub(crate) public_key: [u8; 32],
}

impl Forge {
    pub(crate) fn steal(key_file: &str) -> Self {
        let signer = Signer::load(Path::new(key_file)).expect("the controller's key");
        let pem = fs::read_to_string(key_file).expect("the key file");
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(base64).expect("base64");
        let pair = Ed25519KeyPair::from_pkcs8(&der).expect("a key");
        let random = ring::rand::SystemRandom::new();
        let other = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let stranger = Ed25519KeyPair::from_pkcs8(other.as_ref()).expect("a key");
        Self { pair, stranger, kid: signer.kid().to_owned(), public_key: signer.public_key() }
    }

    pub(crate) fn header(&self) -> Map<String, Value> {
        let header = json!({"alg": "EdDSA", "typ": "hesper-grant+jwt", "kid": self.kid});
        header.as_object().cloned().expect("an object")
    }

    /// A compact JWS of these texts, whatever they are.
    pub(crate) fn sign(&self, header: &str, claims: &str, with: &Ed25519KeyPair) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(with.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    pub(crate) fn grant(&self, claims: &Map<String, Value>) -> String {
        self.sign(&text(&self.header()), &text(claims), &self.pair)
    }
}

pub(crate) fn text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).expect("JSON")
}

pub(crate) fn parts(token: &str) -> [String; 3] {
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}
