//! Is the certificate that the TLS handshake proved still one of ours? It was issued, not revoked, and its subject exists.

use crate::state::State;
use hesper_model::id::IdentityId;
use hesper_pki::{credentials::PeerIdentity, spiffe::SpiffeRole};
use time::OffsetDateTime;

/// Why a peer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    /// The certificate is another role's.
    #[error("the certificate is of {0}")]
    Role(String),
    /// This controller has no record of it.
    #[error("the certificate {0} is not known to this controller: enroll again")]
    Unknown(String),
    /// It was withdrawn.
    #[error("the certificate {0} is revoked: enroll again")]
    Revoked(String),
    /// It ended while the connection lived.
    #[error("the certificate {0} has expired: enroll again")]
    Expired(String),
    /// Its subject was deleted.
    #[error("{0} does not exist any more")]
    Gone(String),
    /// Its subject is disabled.
    #[error("{0} is disabled")]
    Disabled(String),
}

/// The enabled identity behind a certificate.
///
/// # Errors
/// [`PeerRefusal`].
pub(crate) fn identity(state: &State, peer: &PeerIdentity) -> Result<IdentityId, PeerRefusal> {
    check(state, peer, SpiffeRole::Identity)?;
    let (model, id) = (state.model(), IdentityId::new(peer.id.id.clone()));
    match model.identity(&id) {
        None => Err(PeerRefusal::Gone(peer.id.to_string())),
        Some(identity) if identity.disabled => {
            Err(PeerRefusal::Disabled(format!("the identity '{}'", identity.name)))
        }
        Some(_) => Ok(id),
    }
}

fn check(state: &State, peer: &PeerIdentity, role: SpiffeRole) -> Result<(), PeerRefusal> {
    if peer.id.role != role || peer.id.trust_domain != state.authority.trust_domain {
        return Err(PeerRefusal::Role(peer.id.to_string()));
    }
    let records = state.records();
    let record = records.certificate(&peer.serial).map(|c| &c.entity);
    match record {
        Some(c) if c.revoked => Err(PeerRefusal::Revoked(peer.serial.clone())),
        Some(c) if c.not_after <= OffsetDateTime::now_utc() => Err(PeerRefusal::Expired(peer.serial.clone())),
        Some(c) if c.subject == peer.id.to_string() && c.spki_sha256 == peer.spki_sha256 => Ok(()),
        Some(_) | None => Err(PeerRefusal::Unknown(peer.serial.clone())),
    }
}
