//! The claims of each token type.

use hesper_model::{
    config::otlp::SenderTerms,
    entity::EnrollmentMethod,
    id::{EdgeRouterId, IdentityId, ServiceId, Tag, TerminatorId},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A set of claims that is a token type of its own.
pub trait Claims: Serialize + DeserializeOwned {
    /// The header's `typ`.
    const TYP: &'static str;

    /// When the token ends, seconds since the epoch.
    fn exp(&self) -> u64;

    /// When it was issued, seconds since the epoch.
    fn iat(&self) -> Option<u64>;
}

/// Redeemable once for a certificate. The reader cannot check the signature: it knows no key yet. It learns only whom to
/// ask and which CA must answer; the controller verifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollmentClaims {
    /// URL of the controller that issued it.
    pub iss: String,
    /// Id of the identity or edge router to be enrolled.
    pub sub: String,
    /// The one-time secret: the enrollment's id.
    pub jti: String,
    /// End, seconds since the epoch.
    pub exp: u64,
    /// What is enrolled: an identity or an edge router.
    pub em: EnrollmentMethod,
    /// URLs of all controllers.
    pub ctrls: Vec<String>,
    /// SHA-256 of the CA certificate's DER, lower-case hexadecimal: makes the first contact authenticated.
    pub ca_sha256: String,
}

/// Proves to routers that an identity owns a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionClaims {
    /// The identity.
    pub sub: IdentityId,
    /// The session's tag.
    pub tag: Tag,
    /// SHA-256 of the identity's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub cnf: String,
    /// Begin, seconds since the epoch.
    pub iat: u64,
    /// End, seconds since the epoch.
    pub exp: u64,
}

/// Proves to a binder that an identity may dial a service at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantClaims {
    /// The grant's id.
    pub jti: String,
    /// Who dials.
    pub sub: IdentityId,
    /// Who is dialed.
    pub aud: IdentityId,
    /// Which service.
    pub service: ServiceId,
    /// Which terminator of it.
    pub terminator: TerminatorId,
    /// Tag of the dialer's session: where the binder's packets for it go.
    pub tag: Tag,
    /// SHA-256 of the dialer's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub cnf: String,
    /// The dialer's name when it was granted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dialer_name: String,
    /// What the dialer may send, if the service has an `otlp.v1` config; none = it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<SenderTerms>,
    /// Begin, seconds since the epoch.
    pub iat: u64,
    /// End, seconds since the epoch.
    pub exp: u64,
}

/// Proves to routers that two tags may talk. Names nobody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassClaims {
    /// The same as its grant's.
    pub jti: String,
    /// The dialer's tag.
    pub a: Tag,
    /// The binder's tag.
    pub b: Tag,
    /// The ways that it opens, best first: each the dialer's router and the binder's, one id where both are the same.
    pub paths: Vec<Vec<EdgeRouterId>>,
    /// SHA-256 of the dialer's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub cnf: String,
    /// Begin, seconds since the epoch.
    pub iat: u64,
    /// End, seconds since the epoch.
    pub exp: u64,
}

impl Claims for EnrollmentClaims {
    const TYP: &'static str = "hesper-enrollment+jwt";
    fn exp(&self) -> u64 {
        self.exp
    }
    fn iat(&self) -> Option<u64> {
        None
    }
}

macro_rules! claims {
    ($($name:ident: $typ:literal),+ $(,)?) => {$(
        impl Claims for $name {
            const TYP: &'static str = $typ;
            fn exp(&self) -> u64 {
                self.exp
            }
            fn iat(&self) -> Option<u64> {
                Some(self.iat)
            }
        }
    )+};
}

claims! {
    SessionClaims: "hesper-session+jwt",
    GrantClaims: "hesper-grant+jwt",
    PassClaims: "hesper-pass+jwt",
}
