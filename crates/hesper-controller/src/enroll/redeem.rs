//! `POST /edge/client/v1/enroll`: verify, decide, issue, commit, answer.

use super::ledger::{self, Outcome, Redemption, Refusal};
use crate::{
    api::{Answer, ApiError, Call, Reply},
    events,
    metrics::observe,
    state::{CERTIFICATE, Certificate, Changes, State, WRITE_ATTEMPTS, WriteError},
    trace,
};
use hesper_model::{
    entity::{EdgeRouter, Enrollment, EnrollmentMethod, EnrollmentState, Identity},
    id::{EdgeRouterId, IdentityId},
};
use hesper_observe::events::{Denial, Event, Kind as EventKind, Named};
use hesper_pki::{
    ca::{IssueRequest, Issued},
    csr,
    digest::sha256_hex,
    rotation::CaId,
    spiffe::{SpiffeId, SpiffeRole},
    token::{EnrollmentClaims, TokenError},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::{sync::Arc, time::Instant};
use time::OffsetDateTime;
use tracing::{Instrument as _, Span, info_span};

/// Code of every token that is not one of ours.
const INVALID_TOKEN: &str = "INVALID_ENROLLMENT_TOKEN";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    token: String,
    csr: String,
}

/// What a valid redemption is about.
struct Asked {
    claims: EnrollmentClaims,
    spki_der: Vec<u8>,
    spki_sha256: String,
}

/// The certificate that the redeemer gets: issued now, or before and asked for again.
struct Given {
    chain_pem: String,
    serial: String,
}

/// Redeems a token: the answer holds the certificate chain and the CA. Every attempt is an event.
///
/// # Errors
/// 400 `INVALID_ENROLLMENT_TOKEN`, 400 `ENROLLMENT_EXPIRED`, 409 `ENROLLMENT_ALREADY_REDEEMED`, 400 `COULD_NOT_VALIDATE`.
pub(crate) fn handle(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move { enroll(&state, &call).instrument(info_span!("enroll")).await })
}

async fn enroll(state: &State, call: &Call) -> Result<Answer, ApiError> {
    let begun = Instant::now();
    let request: Request = call.json()?;
    let now = OffsetDateTime::now_utc();
    let (asked, result) = match read(state, &request, now) {
        Ok(asked) => {
            let result = redeem(state, &asked, now).await;
            (Some(asked), result)
        }
        Err(refusal) => (None, Err(refusal)),
    };
    observe(&state.metrics.enrollment_durations, outcome(&result), begun.elapsed());
    record(state, call, asked.as_ref(), &result, now);
    let given = result?;
    Ok(Answer::data(json!({ "cert": given.chain_pem, "ca": state.ca_pem() })))
}

fn read(state: &State, request: &Request, now: OffsetDateTime) -> Result<Asked, ApiError> {
    let unix = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let claims: EnrollmentClaims =
        state.verifier().verify(request.token.trim(), unix).map_err(refused_token)?;
    if !state.rotation().trusts(&claims.ca_sha256) {
        return Err(invalid(
            "the token is for a certificate authority that has been replaced since: ask for a new token",
        ));
    }
    let csr_der = csr::from_pem(&request.csr)
        .map_err(|e| ApiError::field("csr", json!(null), crate::api::chain(&e)))?;
    let spki_der =
        csr::public_key(&csr_der).map_err(|e| ApiError::field("csr", json!(null), crate::api::chain(&e)))?;
    let spki_sha256 = sha256_hex(&spki_der);
    Ok(Asked { claims, spki_der, spki_sha256 })
}

fn refused_token(error: TokenError) -> ApiError {
    match error {
        TokenError::Expired { at, .. } => Refusal::Expired(at).into(),
        other => invalid(other.to_string()),
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, INVALID_TOKEN, message)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::Mismatch => (StatusCode::BAD_REQUEST, INVALID_TOKEN),
            Refusal::Expired(_) => (StatusCode::BAD_REQUEST, "ENROLLMENT_EXPIRED"),
            Refusal::AlreadyRedeemed { .. } => (StatusCode::CONFLICT, "ENROLLMENT_ALREADY_REDEEMED"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

/// Decides, and writes what was decided only if nothing changed meanwhile; else decides again.
async fn redeem(state: &State, asked: &Asked, now: OffsetDateTime) -> Result<Given, ApiError> {
    for _ in 0..WRITE_ATTEMPTS {
        let enrollment = state.get::<Enrollment>(&asked.claims.jti);
        let enrollment = enrollment.ok_or_else(|| {
            invalid("the token is not known to this controller: it was replaced or its subject was deleted; ask for a new one")
        })?;
        let redemption = Redemption {
            subject: &asked.claims.sub,
            method: asked.claims.em,
            spki_sha256: &asked.spki_sha256,
        };
        match ledger::redeem(&enrollment.entity, &redemption, now) {
            Outcome::Refuse(refusal) => return Err(refusal.into()),
            Outcome::Again { chain_pem, serial } if still_counts(state, &serial, now)? => {
                return Ok(Given { chain_pem, serial });
            }
            // The CA of that time is gone: the same key gets one of the CA of now.
            Outcome::Again { .. } | Outcome::Issue => {}
        }
        let (issued, issuer) = issue(state, asked, now)?;
        let mut changes = Changes::default();
        changes.update(&enrollment, &redeemed(&enrollment.entity, &issued, now));
        record_subject(state, asked, (&issued, issuer), now, &mut changes)?;
        match state.commit(changes).await {
            Ok(_) => return Ok(Given { chain_pem: issued.chain_pem, serial: issued.serial }),
            Err(WriteError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the enrollment is being redeemed by many at once: try again"))
}

/// Is the certificate that was given before good, as far as its CA goes?
///
/// # Errors
/// It was withdrawn, or its time is over: nothing takes its place.
fn still_counts(state: &State, serial: &str, now: OffsetDateTime) -> Result<bool, ApiError> {
    let records = state.records();
    let given = records.certificate(serial).map(|c| &c.entity);
    match given {
        Some(c) if c.revoked => {
            Err(invalid("the certificate that the token gave was revoked: ask for a new token"))
        }
        Some(c) if c.not_after > now => Ok(records.trusts(c)),
        _ => Err(invalid("the certificate that the token gave has expired: ask for a new token")),
    }
}

/// The certificate and its CA.
fn issue(state: &State, asked: &Asked, now: OffsetDateTime) -> Result<(Issued, CaId), ApiError> {
    let role = match asked.claims.em {
        EnrollmentMethod::Ott => SpiffeRole::Identity,
        EnrollmentMethod::Erott => SpiffeRole::Router,
    };
    let subject = SpiffeId::new(&state.authority.trust_domain, role, &asked.claims.sub)
        .map_err(|e| invalid(format!("the token's subject is not usable: {e}")))?;
    let request = IssueRequest {
        subject,
        spki_der: asked.spki_der.clone(),
        validity: state.control.settings.leaf_validity,
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
    };
    let ca = state.issuing_ca()?;
    let issued = ca.issue(&request, now).map_err(|e| match e {
        hesper_pki::ca::CaError::PublicKey => ApiError::field("csr", json!(null), "holds no P-256 key"),
        other => ApiError::internal(&other),
    })?;
    Ok((issued, ca.ca_sha256()))
}

fn redeemed(enrollment: &Enrollment, issued: &Issued, now: OffsetDateTime) -> Enrollment {
    let state = EnrollmentState::Redeemed {
        spki_sha256: issued.spki_sha256.clone(),
        serial: issued.serial.clone(),
        chain_pem: issued.chain_pem.clone(),
        at: now,
    };
    Enrollment { state, updated_at: now, ..enrollment.clone() }
}

/// The certificate's record, the end of the subject's older keys, and a router's mark that it has enrolled.
fn record_subject(
    state: &State,
    asked: &Asked,
    (issued, issuer): (&Issued, CaId),
    now: OffsetDateTime,
    changes: &mut Changes,
) -> Result<(), ApiError> {
    let gone = || invalid("the token's subject was deleted");
    let role = match asked.claims.em {
        EnrollmentMethod::Ott => {
            let identity = state.get::<Identity>(&asked.claims.sub).ok_or_else(gone)?;
            if identity.entity.disabled {
                return Err(ApiError::forbidden(format!(
                    "the identity '{}' is disabled",
                    identity.entity.name
                )));
            }
            changes.unchanged(&identity);
            SpiffeRole::Identity
        }
        EnrollmentMethod::Erott => {
            let router = state.get::<EdgeRouter>(&asked.claims.sub).ok_or_else(gone)?;
            let verified = EdgeRouter { is_verified: true, updated_at: now, ..router.entity.clone() };
            changes.update(&router, &verified);
            SpiffeRole::Router
        }
    };
    let subject = format!("spiffe://{}/{}/{}", state.authority.trust_domain, role.as_str(), asked.claims.sub);
    revoke_other_keys(state, &subject, &issued.spki_sha256, now, changes);
    let certificate = Certificate::new(subject, issued, issuer);
    changes.create_record(format!("{CERTIFICATE}{}", issued.serial), &certificate);
    Ok(())
}

/// Whoever enrolls anew takes the place of the keys before: their certificates end now.
fn revoke_other_keys(state: &State, subject: &str, key: &str, now: OffsetDateTime, changes: &mut Changes) {
    let records = state.records();
    let others = records.certificates().filter(|(_, c)| {
        let c = &c.entity;
        c.subject == subject && c.spki_sha256 != key && !c.revoked && c.not_after > now
    });
    for (serial, old) in others {
        let revoked = Certificate { revoked: true, ..old.entity.clone() };
        changes.update_record(format!("{CERTIFICATE}{serial}"), old.mod_revision, &revoked);
    }
}

fn outcome(result: &Result<Given, ApiError>) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(e) if e.status.is_server_error() => "failure",
        Err(_) => "denied",
    }
}

fn record(
    state: &State,
    call: &Call,
    asked: Option<&Asked>,
    result: &Result<Given, ApiError>,
    now: OffsetDateTime,
) {
    let (error, subject) =
        (result.as_ref().err(), asked.map(|asked| named(state, asked)).unwrap_or_default());
    let event = match error {
        None => Event::success(EventKind::Enrollment).identity(subject),
        Some(e) if e.status.is_server_error() => Event::failure(EventKind::Enrollment).identity(subject),
        Some(e) => {
            let service = Named::name(events::CLIENT_API);
            Event::denied(
                EventKind::Enrollment,
                Denial { identity: subject, service, rule: e.message.clone() },
            )
        }
    };
    state.metrics.enrollments.get_or_create(&vec![("result", event.outcome().name())]).inc();
    let mut event = event.at(now).field("remote", call.remote.clone());
    if let Some(asked) = asked {
        let method = match asked.claims.em {
            EnrollmentMethod::Ott => "ott",
            EnrollmentMethod::Erott => "erott",
        };
        trace::enrolled(&Span::current(), method, &named(state, asked), event.outcome().name());
        event = event
            .actor(asked.claims.sub.clone())
            .field("method", json!(asked.claims.em))
            .field("keySha256", asked.spki_sha256.clone());
    }
    if let Ok(given) = result {
        event = event.field("serial", given.serial.clone());
    }
    if let Some(error) = error {
        tracing::info!(code = error.code, reason = %error.message, "an enrollment was refused");
        event = event.field("code", error.code).field("reason", error.message.clone());
    }
    state.record(event);
}

/// The identity or router that the token is for.
fn named(state: &State, asked: &Asked) -> Named {
    let (model, id) = (state.model(), asked.claims.sub.as_str());
    match asked.claims.em {
        EnrollmentMethod::Ott => events::identity_of(&model, &IdentityId::new(id)),
        EnrollmentMethod::Erott => events::router_of(&model, &EdgeRouterId::new(id)),
    }
}
