//! Who calls: the peer of the TLS connection, if it still is somebody. The certificate comes from the handshake; whether its
//! subject exists and its serial is good is asked on every call, because connections outlive changes.

use crate::{
    state::{Records, State},
    trace,
};
use hesper_model::{
    entity::{EdgeRouter, Identity},
    id::{EdgeRouterId, IdentityId},
};
use hesper_pki::{
    credentials::PeerIdentity,
    spiffe::{SpiffeId, SpiffeRole},
};
use hesper_policy::Model;
use std::sync::Arc;
use time::OffsetDateTime;
use tonic::{Extensions, Status};

/// A node that calls.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Who it is.
    pub(super) identity: Arc<Identity>,
    /// Its certificate.
    pub(super) peer: PeerIdentity,
}

/// A router that calls.
#[derive(Clone, Debug)]
pub(super) struct Router {
    /// Which one.
    pub(super) router: Arc<EdgeRouter>,
    /// Its certificate.
    pub(super) peer: PeerIdentity,
}

/// The calling node.
///
/// # Errors
/// UNAUTHENTICATED without a valid certificate of an identity that exists, PERMISSION_DENIED for one that is disabled.
pub(super) fn node(state: &State, extensions: &Extensions) -> Result<Node, Status> {
    let peer = peer(state, extensions, SpiffeRole::Identity)?;
    let identity = known_identity(&state.model(), &IdentityId::new(&*peer.id.id))?;
    trace::asked_by(identity.id.as_str(), &identity.name);
    Ok(Node { identity, peer })
}

/// The calling router.
///
/// # Errors
/// As [`node`].
pub(super) fn router(state: &State, extensions: &Extensions) -> Result<Router, Status> {
    let peer = peer(state, extensions, SpiffeRole::Router)?;
    let router = known_router(&state.model(), &EdgeRouterId::new(&*peer.id.id))?;
    trace::asked_by(router.id.as_str(), &router.name);
    Ok(Router { router, peer })
}

/// The identity, if it may be served.
///
/// # Errors
/// It was deleted, or is disabled.
pub(super) fn known_identity(model: &Model, id: &IdentityId) -> Result<Arc<Identity>, Status> {
    let identity = model
        .identity(id)
        .ok_or_else(|| Status::unauthenticated(format!("there is no identity '{id}' any more")))?;
    if identity.disabled {
        return Err(Status::permission_denied(format!("identity '{}' is disabled", identity.name)));
    }
    Ok(identity.clone())
}

/// The router, if it may be served.
///
/// # Errors
/// It was deleted, or is disabled.
pub(super) fn known_router(model: &Model, id: &EdgeRouterId) -> Result<Arc<EdgeRouter>, Status> {
    let router = model
        .edge_router(id)
        .ok_or_else(|| Status::unauthenticated(format!("there is no edge router '{id}' any more")))?;
    if router.disabled {
        return Err(Status::permission_denied(format!("edge router '{}' is disabled", router.name)));
    }
    Ok(router.clone())
}

/// Does the certificate with this serial, or a later one for the same subject and key, still count?
///
/// # Errors
/// UNAUTHENTICATED: it was revoked, has expired, or was never issued here.
pub(super) fn certificate(
    records: &Records,
    subject: &SpiffeId,
    spki_sha256: &str,
    serial: &str,
    now: OffsetDateTime,
) -> Result<(), Status> {
    let checked = records.check_certificate(&subject.to_string(), spki_sha256, serial, now);
    checked.map_err(|refusal| Status::unauthenticated(refusal.to_string()))
}

/// Is it a certificate of this mesh that still counts?
///
/// # Errors
/// UNAUTHENTICATED.
pub(crate) fn valid(state: &State, peer: &PeerIdentity) -> Result<(), Status> {
    if peer.id.trust_domain != state.authority.trust_domain {
        return Err(Status::unauthenticated(format!("{} is of another trust domain", peer.id)));
    }
    certificate(&state.records(), &peer.id, &peer.spki_sha256, &peer.serial, OffsetDateTime::now_utc())
}

fn peer(state: &State, extensions: &Extensions, role: SpiffeRole) -> Result<PeerIdentity, Status> {
    let peer = extensions.get::<Option<PeerIdentity>>().cloned().flatten();
    let peer = peer.ok_or_else(|| Status::unauthenticated("this call needs a client certificate"))?;
    if peer.id.trust_domain != state.authority.trust_domain {
        return Err(Status::unauthenticated(format!("{} is of another trust domain", peer.id)));
    }
    if peer.id.role != role {
        let message = format!("{} is no {}: this call is not for it", peer.id, role.as_str());
        return Err(Status::permission_denied(message));
    }
    certificate(&state.records(), &peer.id, &peer.spki_sha256, &peer.serial, OffsetDateTime::now_utc())?;
    Ok(peer)
}
