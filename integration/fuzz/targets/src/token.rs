//! The four kinds of JWT.

use crate::NOW;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_pki::token::{
    Claims, EnrollmentClaims, GrantClaims, LEEWAY_SECS, PassClaims, SessionClaims, Verifier, read_enrollment,
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::{fmt::Debug, sync::LazyLock};

/// The id of the key that signs.
pub const KID: &str = "fuzz";

static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes"));

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key: [u8; 32] = KEY.public_key().as_ref().try_into().expect("32 bytes");
    Verifier::new([(KID.to_owned(), key)])
});

/// The verifier that accepts what [`sign`] makes.
pub fn verifier() -> &'static Verifier {
    &VERIFIER
}

/// A compact JWS of these bytes under the key that the targets accept, whatever they are.
pub fn sign(header: &[u8], claims: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(KEY.sign(text.as_bytes()));
    format!("{text}.{signature}")
}

/// A token; or, when it begins with a line feed, a header and claims on the next two lines, to be signed.
///
/// # Panics
/// When one is accepted that should not be.
pub fn run(input: &[u8]) {
    let token = match input.split_first() {
        Some((b'\n', rest)) => {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            sign(&rest[..end], rest.get(end + 1..).unwrap_or_default())
        }
        _ => String::from_utf8_lossy(input).into_owned(),
    };
    let kinds = [
        accepted::<EnrollmentClaims>(&token),
        accepted::<SessionClaims>(&token),
        accepted::<GrantClaims>(&token),
        accepted::<PassClaims>(&token),
    ];
    assert!(kinds.iter().filter(|accepted| **accepted).count() <= 1, "accepted as two kinds");
    if let Ok(claims) = read_enrollment(&token, NOW) {
        assert!(claims.exp > NOW && claims.ca_sha256.len() == 64);
    }
}

fn accepted<C: Claims + PartialEq + Debug>(token: &str) -> bool {
    let Ok(claims) = VERIFIER.verify::<C>(token, NOW) else { return false };
    assert!(claims.exp() > NOW, "accepted after its end");
    assert!(claims.iat().is_none_or(|iat| iat <= NOW + LEEWAY_SECS), "accepted before its begin");
    assert!(VERIFIER.verify::<C>(token, claims.exp()).is_err(), "accepted at its end");
    assert!(Verifier::default().verify::<C>(token, NOW).is_err(), "accepted without a key");
    let header = format!(r#"{{"alg":"EdDSA","typ":"{}","kid":"{KID}"}}"#, C::TYP);
    let again = sign(header.as_bytes(), &serde_json::to_vec(&claims).expect("JSON"));
    // Longer than the first, if that used shorter escapes: only then may it be too long.
    if let Ok(read) = VERIFIER.verify::<C>(&again, NOW) {
        assert_eq!(read, claims, "what was read is not what was said");
    } else {
        assert!(again.len() > hesper_pki::token::MAX_TOKEN_LEN);
    }
    true
}
