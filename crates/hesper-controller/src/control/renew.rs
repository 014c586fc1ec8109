//! A new certificate for the same subject and key.

use super::refusal::Refused;
use crate::{
    events,
    state::{CERTIFICATE, Certificate, Changes, State},
};
use hesper_model::id::{EdgeRouterId, IdentityId};
use hesper_observe::events::{Denial, Event, Kind, Named};
use hesper_pki::{
    ca::{CaError, IssueRequest, Issued},
    credentials::PeerIdentity,
    csr,
    digest::sha256_hex,
    spiffe::SpiffeRole,
};
use hesper_proto::control::{RenewRequest, RenewResponse};
use time::OffsetDateTime;
use tonic::{Code, Status};

/// Valid certificates of one subject. A renewal at half-life never has more than three.
const VALID_MAX: usize = 32;

/// Issues it. Every attempt is an event.
///
/// # Errors
/// The request is not valid, or is for another key.
pub(super) async fn renew(
    state: &State,
    peer: &PeerIdentity,
    request: &RenewRequest,
) -> Result<RenewResponse, Status> {
    let now = OffsetDateTime::now_utc();
    let renewed = issue(state, peer, request, now).await;
    let event = match &renewed {
        Ok(_) => Event::success(Kind::Renew).identity(named(state, peer)),
        Err(refused) if refused.status == Code::Internal => {
            Event::failure(Kind::Renew).identity(named(state, peer))
        }
        Err(refused) => {
            let (service, rule) = (Named::name(events::CONTROL_API), refused.message.clone());
            Event::denied(Kind::Renew, Denial { identity: named(state, peer), service, rule })
        }
    };
    let code = renewed.as_ref().err().map_or("", |refused| refused.code);
    let labels = vec![("outcome", event.outcome().name()), ("code", code)];
    state.control.metrics.renewals.get_or_create(&labels).inc();
    let mut event = event
        .at(now)
        .actor(peer.id.id.clone())
        .field("role", peer.id.role.as_str())
        .field("serial", peer.serial.clone());
    match &renewed {
        Ok(issued) => event = event.field("newSerial", issued.serial.clone()),
        Err(refused) => event = event.field("code", refused.code).field("reason", refused.message.clone()),
    }
    state.record(event);
    let issued = renewed?;
    tracing::info!(subject = %peer.id, serial = issued.serial, until = %issued.not_after, "certificate renewed");
    Ok(RenewResponse { chain_pem: issued.chain_pem, ca_pem: state.ca_pem() })
}

/// Whose certificate it is.
fn named(state: &State, peer: &PeerIdentity) -> Named {
    let (model, id) = (state.model(), peer.id.id.as_str());
    match peer.id.role {
        SpiffeRole::Router => events::router_of(&model, &EdgeRouterId::new(id)),
        _ => events::identity_of(&model, &IdentityId::new(id)),
    }
}

async fn issue(
    state: &State,
    peer: &PeerIdentity,
    request: &RenewRequest,
    now: OffsetDateTime,
) -> Result<Issued, Refused> {
    let invalid = |why: String| Refused::new(Code::InvalidArgument, "INVALID_CSR", why);
    let spki_der = csr::public_key(&request.csr_der).map_err(|error| invalid(error.to_string()))?;
    if sha256_hex(&spki_der) != peer.spki_sha256 {
        let message = "the request is for another key: a renewal keeps the key; enroll again to change it";
        return Err(Refused::new(Code::InvalidArgument, "KEY_CHANGED", message));
    }
    let (records, subject) = (state.records(), peer.id.to_string());
    let valid = records.certificates_of(&subject).filter(|(_, c)| c.entity.not_after > now);
    if valid.count() >= VALID_MAX {
        let message = format!("{VALID_MAX} certificates of {subject} are valid already: it renews too often");
        return Err(Refused::new(Code::ResourceExhausted, "RESOURCES_NOT_AVAILABLE", message));
    }
    let request = IssueRequest {
        subject: peer.id.clone(),
        spki_der,
        validity: state.control.settings.leaf_validity,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
    };
    let ca = state.issuing_ca().map_err(|error| internal(&error))?;
    let issued = ca.issue(&request, now).map_err(|error| match error {
        CaError::PublicKey => invalid(error.to_string()),
        other => internal(&other),
    })?;
    let record = Certificate::new(subject, &issued, ca.ca_sha256());
    let mut changes = Changes::default();
    changes.create_record(format!("{CERTIFICATE}{}", issued.serial), &record);
    state.commit(changes).await.map_err(|error| internal(&error))?;
    Ok(issued)
}

/// Our own failure: the details are for the operator.
pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Refused {
    tracing::error!(error, "a call of a node or router failed");
    Refused::new(Code::Internal, "INTERNAL", "the controller failed; its log says why")
}
