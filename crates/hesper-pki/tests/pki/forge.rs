//! Well-formed claims, and a trusted key that signs anything.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_model::id::{EdgeRouterId, IdentityId, ServiceId, Tag, TerminatorId};
use hesper_pki::{
    digest::sha256_hex,
    token::{
        Claims, EnrollmentClaims, EnrollmentMethod, GrantClaims, PassClaims, SessionClaims, Signer, Verifier,
    },
};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const KID: &str = "k1";

/// A trusted key that signs anything, well-formed or not.
pub(crate) struct Forge(pub(crate) Ed25519KeyPair);

impl Forge {
    pub(crate) fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().unwrap()
    }

    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new([(KID.to_owned(), self.public_key())])
    }

    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.0.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// A token with the right header and any claims.
    pub(crate) fn grant(&self, claims: &str) -> String {
        self.sign(&header(GrantClaims::TYP), claims)
    }
}

pub(crate) fn header(typ: &str) -> String {
    json!({ "alg": "EdDSA", "typ": typ, "kid": KID }).to_string()
}

pub(crate) fn grant() -> GrantClaims {
    GrantClaims {
        jti: "g1".into(),
        sub: IdentityId::new("alice"),
        aud: IdentityId::new("bob"),
        service: ServiceId::new("s1"),
        terminator: TerminatorId::new("t1"),
        tag: Tag([1; 8]),
        cnf: sha256_hex(b"key"),
        dialer_name: "alice".into(),
        otlp: None,
        iat: NOW,
        exp: NOW + 300,
    }
}

pub(crate) fn session() -> SessionClaims {
    SessionClaims {
        sub: IdentityId::new("alice"),
        tag: Tag([1; 8]),
        cnf: sha256_hex(b"key"),
        iat: NOW,
        exp: NOW + 300,
    }
}

pub(crate) fn pass() -> PassClaims {
    PassClaims {
        jti: "g1".into(),
        a: Tag([1; 8]),
        b: Tag([2; 8]),
        paths: vec![vec![EdgeRouterId::new("r1")]],
        cnf: sha256_hex(b"key"),
        iat: NOW,
        exp: NOW + 300,
    }
}

pub(crate) fn enrollment() -> EnrollmentClaims {
    EnrollmentClaims {
        iss: "https://ctrl:1280".into(),
        sub: "alice".into(),
        jti: "0123456789abcdef".into(),
        exp: NOW + 300,
        em: EnrollmentMethod::Ott,
        ctrls: vec!["https://ctrl:1280".into()],
        ca_sha256: sha256_hex(b"ca"),
    }
}

pub(crate) fn verifier(signer: &Signer) -> Verifier {
    Verifier::new([(signer.kid().to_owned(), signer.public_key())])
}

pub(crate) fn grant_json(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    let Value::Object(mut claims) = serde_json::to_value(grant()).unwrap() else { unreachable!() };
    change(&mut claims);
    Value::Object(claims).to_string()
}
