//! Is the certificate that the TLS handshake proved still one of ours? It was issued, not revoked, and its subject exists.

use crate::state::{CertificateRefusal, State};
use hesper_model::id::IdentityId;
use hesper_pki::{credentials::PeerIdentity, spiffe::SpiffeRole};
use time::OffsetDateTime;

/// Why a peer is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefusal {
    /// The certificate is another role's.
    #[error("the certificate is of {0}")]
    Role(String),
    /// It does not count any more, or never did.
    #[error(transparent)]
    Certificate(#[from] CertificateRefusal),
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
    let subject = peer.id.to_string();
    let now = OffsetDateTime::now_utc();
    Ok(state.records().check_certificate(&subject, &peer.spki_sha256, &peer.serial, now)?)
}
