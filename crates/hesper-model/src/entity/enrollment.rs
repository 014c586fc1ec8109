//! Enrollments: one-time permissions to turn a key into an identity.

use super::{Tags, entity};
use crate::id::{EdgeRouterId, EnrollmentId, IdentityId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The method of an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnrollmentMethod {
    /// One-time token of an identity.
    Ott,
    /// One-time token of an edge router.
    Erott,
}

/// Where an enrollment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EnrollmentState {
    /// Not yet redeemed.
    Pending,
    /// Redeemed by one key; the same key gets the same certificate again.
    Redeemed {
        /// SHA-256 of the redeemer's SubjectPublicKeyInfo, lower-case hexadecimal.
        spki_sha256: String,
        /// Serial of the certificate it got, lower-case hexadecimal.
        serial: String,
        /// The certificate chain it got, PEM, leaf first.
        chain_pem: String,
        /// When.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
}

/// A one-time permission to enroll. Its token (a JWT that carries `id` as `jti`) is shown once and not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrollment {
    /// Its id: 128 random bits as 32 hexadecimal digits, the token's `jti`.
    pub id: EnrollmentId,
    /// Its method.
    pub method: EnrollmentMethod,
    /// The identity that will be enrolled (method `ott`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<IdentityId>,
    /// The edge router that will be enrolled (method `erott`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_router_id: Option<EdgeRouterId>,
    /// After this it is refused.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Pending or redeemed.
    #[serde(flatten)]
    pub state: EnrollmentState,
    /// Free-form tags.
    #[serde(default)]
    pub tags: Tags,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was last written.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}
entity!(Enrollment, Enrollment, unnamed);
