//! The four signed tokens, as compact JWS (RFC 7515) with JWT claims (RFC 7519): EdDSA only, one closed set of claims
//! per type, the type in the header (`typ`, RFC 8725 §3.11) so that a pass is never taken for a grant.
//!
//! | type | for whom | says |
//! |---|---|---|
//! | [`EnrollmentClaims`] | a future node or router | whom to ask, and the one-time secret |
//! | [`SessionClaims`] | routers | this identity, holding this key, owns this tag |
//! | [`GrantClaims`] | the binder | this identity, holding this key, may dial this service here |
//! | [`PassClaims`] | routers | these two tags may talk; it names nobody |
//!
//! jsonwebtoken does the encoding and the signature, over ring (`provider.rs`); the checks that it leaves to its callers
//! (type, exact header, closed claims, size, required integer times, our clock) are in [`verify`](self::Verifier).

mod claims;
mod provider;
mod signer;
mod verifier;

pub use claims::{Claims, EnrollmentClaims, GrantClaims, PassClaims, SessionClaims};
pub use hesper_model::entity::EnrollmentMethod;
pub use provider::install as install_cryptography;
pub use signer::{Signer, SignerError};
pub use verifier::{Verifier, read_enrollment};

use time::OffsetDateTime;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN_LEN: usize = 8 * 1024;
/// A token may be issued this many seconds in the future: peers' clocks differ.
pub const LEEWAY_SECS: u64 = 30;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three base64url parts with a JSON header: truncated, mangled, or something else altogether.
    #[error("this is not a JWT: {0}")]
    NotAJwt(&'static str),
    /// Signed (or not) with something else than EdDSA.
    #[error("the token's algorithm is {0:?}, only EdDSA is accepted")]
    Algorithm(String),
    /// A token of another kind.
    #[error("this is a token of type {found:?}, expected {expected:?}")]
    Type {
        /// What is accepted here.
        expected: &'static str,
        /// What the header says.
        found: String,
    },
    /// A key that is not among the controller's.
    #[error("the token is signed with the unknown key {0:?}")]
    UnknownKey(String),
    /// The signature is not of that key over that text.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is missing, unknown, doubled or of the wrong shape.
    #[error("the token's claims are not valid: {0}")]
    Claims(String),
    /// Its time is over.
    #[error("the token expired at {} (the clock of this machine says {})", rfc3339(*at), rfc3339(*now))]
    Expired {
        /// When, by the controller's clock.
        at: OffsetDateTime,
        /// The verifier's time.
        now: OffsetDateTime,
    },
    /// Issued in the future.
    #[error("the token is issued in the future: check the clock of this machine (it says {}; the controller said {})", rfc3339(*now), rfc3339(*at))]
    NotYetValid {
        /// When, by the controller's clock.
        at: OffsetDateTime,
        /// The verifier's time.
        now: OffsetDateTime,
    },
    /// Another part of the program installed another cryptography for tokens.
    #[error("the token cryptography of this program was replaced")]
    Provider,
}

/// A time for people, as in the JSON of the management API.
fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| at.to_string())
}
