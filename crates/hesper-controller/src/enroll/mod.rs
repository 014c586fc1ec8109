//! Enrollment: a one-time token becomes exactly one certificate.
//!
//! [`ledger`] decides; this shell verifies the token, issues the certificate and writes certificate and decision in one
//! transaction that demands the enrollment unchanged. Of many redeemers at once one commits; the others read again and
//! are decided again. What is committed is on disk before the answer, so a crash in between loses nothing: the same key
//! asks again and gets the same certificate.

mod ledger;
mod redeem;

pub(crate) use redeem::handle;

use crate::{api::ApiError, state::State};
use hesper_model::{
    entity::{Enrollment, EnrollmentMethod, EnrollmentState},
    id::{EdgeRouterId, EnrollmentId, IdentityId},
};
use hesper_pki::{digest::hex, token::EnrollmentClaims};
use serde_json::{Map, Value, json};
use std::fmt;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

/// How long a token can be redeemed unless told otherwise.
pub(crate) const LIFETIME: Duration = Duration::hours(3);
/// Lifetime of an identity's or router's certificate; it is renewed at half of it.
pub(crate) const CERTIFICATE_LIFETIME: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// An enrollment with its token, which is told once and not kept.
pub(crate) struct Made {
    pub(crate) enrollment: Enrollment,
    jwt: String,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("enrollment", &self.enrollment.id).finish_non_exhaustive()
    }
}

impl Made {
    /// `{id, jwt, expiresAt}`
    pub(crate) fn to_json(&self) -> Value {
        let mut told = told(&self.enrollment, self.jwt.clone());
        told.insert("id".into(), json!(self.enrollment.id));
        Value::Object(told)
    }

    /// The token.
    pub(crate) fn into_jwt(self) -> String {
        self.jwt
    }
}

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn new_secret() -> String {
    hex(&rand::random::<[u8; 16]>())
}

/// A new enrollment of an identity (`ott`) or edge router (`erott`), not yet stored.
///
/// # Errors
/// The token could not be signed.
pub(crate) fn make_token(
    state: &State,
    method: EnrollmentMethod,
    subject: &impl AsRef<str>,
    lifetime: Duration,
    now: OffsetDateTime,
) -> Result<Made, ApiError> {
    let subject = subject.as_ref();
    let enrollment = Enrollment {
        id: EnrollmentId::new(new_secret()),
        method,
        identity_id: (method == EnrollmentMethod::Ott).then(|| IdentityId::new(subject)),
        edge_router_id: (method == EnrollmentMethod::Erott).then(|| EdgeRouterId::new(subject)),
        expires_at: now + lifetime,
        state: EnrollmentState::Pending,
        tags: Default::default(),
        created_at: now,
        updated_at: now,
    };
    let jwt = sign(state, &enrollment)?;
    Ok(Made { enrollment, jwt })
}

/// The token of an enrollment.
///
/// # Errors
/// The token could not be signed.
pub(crate) fn sign(state: &State, enrollment: &Enrollment) -> Result<String, ApiError> {
    let authority = &state.authority;
    let claims = EnrollmentClaims {
        iss: authority.ctrl_url.clone(),
        sub: ledger::subject_of(enrollment).unwrap_or_default().to_owned(),
        jti: enrollment.id.to_string(),
        exp: u64::try_from(enrollment.expires_at.unix_timestamp()).unwrap_or_default(),
        em: enrollment.method,
        ctrls: vec![authority.ctrl_url.clone()],
        // It holds longest: an older one may be given up while the token is on its way.
        ca_sha256: state.rotation().issuing().clone(),
    };
    authority.signer.sign(&claims).map_err(|e| ApiError::internal(&e))
}

/// What the creator of an enrollment alone is told: `{jwt, expiresAt}`.
pub(crate) fn told(enrollment: &Enrollment, jwt: String) -> Map<String, Value> {
    let expires_at = enrollment.expires_at.format(&Rfc3339).unwrap_or_default();
    Map::from_iter([("jwt".to_owned(), jwt.into()), ("expiresAt".to_owned(), expires_at.into())])
}
