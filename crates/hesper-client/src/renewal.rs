//! Certificate renewal: the same key, a new certificate, at half-life with jitter, without a restart.

use crate::{backoff::Backoff, channel::ControlChannel};
use hesper_pki::{
    credentials::{Credentials, CredentialsError, SharedCredentials},
    csr::{self, CsrError},
};
use hesper_proto::control::{
    RenewRequest, RenewResponse, node_control_client::NodeControlClient,
    router_control_client::RouterControlClient,
};
use rand::Rng;
use std::time::Duration;
use time::OffsetDateTime;
use tonic::{Request, Status};

/// Deadline of one renewal call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// First and last ceiling of the waits between failed attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest sleep at once: the wall clock may be set, or the machine suspended, meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Who renews: it decides which service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewAs {
    /// A node, at `NodeControl`.
    Node,
    /// A router, at `RouterControl`.
    Router,
}

/// A renewed certificate, to be kept on disk (see [`hesper_pki::identity_file::IdentityFile::renewed`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Certificate chain, PEM, leaf first.
    pub chain_pem: String,
    /// Certificates of every CA now trusted, PEM.
    pub ca_pem: String,
    /// End of the new certificate's validity.
    pub not_after: OffsetDateTime,
}

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// The request could not be made.
    #[error("the renewal request could not be made")]
    Csr(#[from] CsrError),
    /// The controller refused or was not reached.
    #[error("the controller did not renew the certificate")]
    Call(#[source] Box<Status>),
    /// The answer makes no credentials with the own key.
    #[error("the controller's answer is not usable")]
    Answer(#[from] CredentialsError),
    /// The answer is a certificate for somebody else.
    #[error("the controller answered with a certificate for {0}")]
    OtherSubject(String),
}

/// When to renew: at half of the validity, ±10 % of it. `jitter` is from 0 to 1.
pub fn next_renewal(not_before: OffsetDateTime, not_after: OffsetDateTime, jitter: f64) -> OffsetDateTime {
    let half = (not_after - not_before) / 2;
    not_before + half * (0.9 + 0.2 * jitter.clamp(0.0, 1.0))
}

/// Asks once, checks the answer, and swaps the credentials.
pub async fn renew(
    role: RenewAs,
    control: &ControlChannel,
    credentials: &SharedCredentials,
    now: OffsetDateTime,
) -> Result<Renewed, RenewError> {
    let current = credentials.current();
    let answer =
        call(role, control, csr::make(&current.key)?).await.map_err(|e| RenewError::Call(Box::new(e)))?;
    let fresh = check(&current, &answer, now)?;
    let renewed =
        Renewed { chain_pem: fresh.chain_pem(), ca_pem: fresh.ca_pem.clone(), not_after: fresh.not_after };
    credentials.replace(fresh);
    Ok(renewed)
}

async fn call(role: RenewAs, control: &ControlChannel, csr_der: Vec<u8>) -> Result<RenewResponse, Status> {
    let mut request = Request::new(RenewRequest { csr_der });
    request.set_timeout(CALL_TIMEOUT);
    let call = async {
        match role {
            RenewAs::Node => NodeControlClient::new(control.channel()).renew(request).await,
            RenewAs::Router => RouterControlClient::new(control.channel()).renew(request).await,
        }
    };
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer in time")),
    }
}

/// The new credentials must be ours: same key, same name, issued by the CA that comes with them, valid now.
fn check(
    current: &Credentials,
    answer: &RenewResponse,
    now: OffsetDateTime,
) -> Result<Credentials, RenewError> {
    let fresh = current.renewed(&answer.chain_pem, &answer.ca_pem)?;
    if fresh.id != current.id {
        return Err(RenewError::OtherSubject(fresh.id.to_string()));
    }
    fresh.check_chain(now)?;
    Ok(fresh)
}

/// Renews for ever; `on_renewed` is called after each swap, to keep the new certificate on disk. Drop it to stop.
pub async fn keep_renewed(
    role: RenewAs,
    control: ControlChannel,
    credentials: SharedCredentials,
    mut on_renewed: impl FnMut(Renewed) + Send,
) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1, rand::rng().random());
    let mut expiry_reported = false;
    loop {
        let current = credentials.current();
        let due = next_renewal(current.not_before, current.not_after, rand::rng().random());
        sleep_until(due).await;
        match renew(role, &control, &credentials, OffsetDateTime::now_utc()).await {
            Ok(renewed) => {
                tracing::info!(until = %renewed.not_after, "certificate renewed");
                backoff.reset();
                expiry_reported = false;
                on_renewed(renewed);
            }
            Err(error) => {
                let expired = current.not_after <= OffsetDateTime::now_utc();
                if expired && !expiry_reported {
                    expiry_reported = true;
                    tracing::error!(until = %current.not_after, "the certificate has expired; enroll again");
                }
                tracing::warn!(error = &error as &dyn std::error::Error, "certificate not renewed");
            }
        }
        // After a success too: a certificate that is due at once must not make a busy loop.
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Sleeps until a time of the wall clock.
async fn sleep_until(at: OffsetDateTime) {
    loop {
        let left = at - OffsetDateTime::now_utc();
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(MAX_SLEEP)).await,
            _ => return,
        }
    }
}
