//! Reading tokens: every check, in the order size, shape, algorithm, type, key, signature, claims, time.

use super::{Claims, EnrollmentClaims, LEEWAY_SECS, MAX_TOKEN_LEN, TokenError, provider};
use crate::digest::is_sha256_hex;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt};
use time::OffsetDateTime;

/// Length of an Ed25519 signature (RFC 8032).
const SIGNATURE_LEN: usize = 64;
/// Last second that a token may name: the end of the year 9999.
const MAX_TIME: u64 = 253_402_300_799;

/// Verifies tokens with the controller's public keys.
#[derive(Clone, Default)]
pub struct Verifier {
    keys: BTreeMap<String, DecodingKey>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verifier").field(&self.keys.keys().collect::<Vec<_>>()).finish()
    }
}

impl Verifier {
    /// Accepts tokens signed by any of these keys: key id and Ed25519 public key.
    pub fn new(keys: impl IntoIterator<Item = (String, [u8; 32])>) -> Self {
        Self { keys: keys.into_iter().map(|(kid, key)| (kid, DecodingKey::from_ed_der(&key))).collect() }
    }

    /// The claims of a token of type `C` that is valid at `now` (seconds since the epoch).
    pub fn verify<C: Claims>(&self, token: &str, now: u64) -> Result<C, TokenError> {
        provider::install()?;
        let header = read_header::<C>(token)?;
        let key = self.keys.get(&header.kid).ok_or(TokenError::UnknownKey(header.kid))?;
        let claims = jsonwebtoken::decode::<C>(token, key, &validation()).map_err(refused)?.claims;
        check_time(&claims, now)?;
        Ok(claims)
    }
}

/// Only what jsonwebtoken cannot be asked to leave out: times are checked here, against the caller's clock.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn refused(error: jsonwebtoken::errors::Error) -> TokenError {
    match error.into_kind() {
        ErrorKind::Json(e) => TokenError::Claims(e.to_string()),
        ErrorKind::Base64(_) => TokenError::NotAJwt("a part is not base64url"),
        ErrorKind::InvalidToken => TokenError::NotAJwt("it has not three parts"),
        _ => TokenError::Signature,
    }
}

/// Reads an enrollment token without its signature, which only the controller can check: shape, algorithm, type, claims
/// and time. White space around it is ignored.
pub fn read_enrollment(token: &str, now: u64) -> Result<EnrollmentClaims, TokenError> {
    let token = token.trim();
    read_header::<EnrollmentClaims>(token)?;
    let mut parts = token.split('.').skip(1);
    let claims = decode(parts.next().unwrap_or_default())?;
    if decode(parts.next().unwrap_or_default())?.len() != SIGNATURE_LEN {
        return Err(TokenError::NotAJwt("its signature is cut off"));
    }
    let claims: EnrollmentClaims =
        serde_json::from_slice(&claims).map_err(|e| TokenError::Claims(e.to_string()))?;
    if !is_sha256_hex(&claims.ca_sha256) {
        return Err(TokenError::Claims("ca_sha256 is not a SHA-256".into()));
    }
    check_time(&claims, now)?;
    Ok(claims)
}

/// The header, whole: what else a JOSE header may hold (`crit`, `jwk`, `x5u`, …) is refused, not ignored.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictHeader {
    alg: String,
    typ: String,
    kid: String,
}

/// Just enough to name a wrong algorithm or type before the header is refused for anything else.
#[derive(Deserialize)]
struct LooseHeader {
    alg: Option<serde_json::Value>,
    typ: Option<serde_json::Value>,
}

fn read_header<C: Claims>(token: &str) -> Result<StrictHeader, TokenError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(TokenError::NotAJwt("it is longer than any token"));
    }
    if token.split('.').count() != 3 {
        return Err(TokenError::NotAJwt("it has not three parts"));
    }
    let bytes = decode(token.split('.').next().unwrap_or_default())?;
    let loose: LooseHeader =
        serde_json::from_slice(&bytes).map_err(|_| TokenError::NotAJwt("its header is not a JSON object"))?;
    match text(loose.alg) {
        alg if alg == "EdDSA" => {}
        alg => return Err(TokenError::Algorithm(alg)),
    }
    match text(loose.typ) {
        typ if typ == C::TYP => {}
        found => return Err(TokenError::Type { expected: C::TYP, found }),
    }
    let header: StrictHeader =
        serde_json::from_slice(&bytes).map_err(|_| TokenError::NotAJwt("its header is not one of ours"))?;
    debug_assert!(header.alg == "EdDSA" && header.typ == C::TYP);
    Ok(header)
}

/// A short text for an error: what the header says, or that it says nothing.
fn text(value: Option<serde_json::Value>) -> String {
    let text = match value {
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => "missing".into(),
    };
    text.chars().take(40).collect()
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::NotAJwt("a part is not base64url"))
}

fn check_time<C: Claims>(claims: &C, now: u64) -> Result<(), TokenError> {
    let exp = instant("exp", claims.exp())?;
    let iat = claims.iat().map(|iat| instant("iat", iat)).transpose()?;
    if claims.exp() <= now {
        return Err(TokenError::Expired { at: exp, now: clock(now) });
    }
    match (claims.iat(), iat) {
        (Some(secs), Some(at)) if secs > now.saturating_add(LEEWAY_SECS) => {
            Err(TokenError::NotYetValid { at, now: clock(now) })
        }
        _ => Ok(()),
    }
}

/// The verifier's time for an error text; a clock beyond the calendar stands at its end.
fn clock(now: u64) -> OffsetDateTime {
    let secs = i64::try_from(now.min(MAX_TIME)).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(secs).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn instant(name: &str, secs: u64) -> Result<OffsetDateTime, TokenError> {
    i64::try_from(secs)
        .ok()
        .filter(|_| secs <= MAX_TIME)
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
        .ok_or_else(|| TokenError::Claims(format!("{name} is beyond the year 9999")))
}
