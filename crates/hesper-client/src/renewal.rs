//! Certificate renewal: the same key, a new certificate, without a restart: at half-life with jitter, and when another CA issues.

use crate::{
    backoff::Backoff,
    channel::ControlChannel,
    keeper::Keeper,
    rpc::{self, Rpc},
};
use hesper_pki::{
    credentials::{Credentials, CredentialsError, is_late},
    csr::{self, CsrError},
};
use hesper_proto::control::{
    RenewRequest, RenewResponse, node_control_client::NodeControlClient,
    router_control_client::RouterControlClient,
};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tonic::{Request, Status};

const RENEW_NODE: Rpc = Rpc::node("Renew").begins();
const RENEW_ROUTER: Rpc = Rpc::router("Renew").begins();
/// Deadline of one renewal call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// First and last ceiling of the waits between failed attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Longest sleep at once: the wall clock may be set, or the machine suspended, meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// Renewals because of another CA are spread over this time.
const SPREAD: Duration = Duration::from_secs(5);

/// Who renews: it decides which service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewAs {
    /// A node, at `NodeControl`.
    Node,
    /// A router, at `RouterControl`.
    Router,
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

/// Asks once, checks the answer, and swaps the credentials, on disk too.
pub async fn renew(
    role: RenewAs,
    control: &ControlChannel,
    keeper: &Keeper,
    now: OffsetDateTime,
) -> Result<Arc<Credentials>, RenewError> {
    let current = keeper.credentials().current();
    let answer =
        call(role, control, csr::make(&current.key)?).await.map_err(|e| RenewError::Call(Box::new(e)))?;
    let fresh = check(&current, &answer, now)?;
    Ok(keeper.renewed(&fresh)?)
}

async fn call(role: RenewAs, control: &ControlChannel, csr_der: Vec<u8>) -> Result<RenewResponse, Status> {
    let mut request = Request::new(RenewRequest { csr_der });
    request.set_timeout(CALL_TIMEOUT);
    let call = async {
        match role {
            RenewAs::Node => {
                let mut client = NodeControlClient::new(control.channel());
                rpc::call(RENEW_NODE, request, |r| async move { client.renew(r).await }).await
            }
            RenewAs::Router => {
                let mut client = RouterControlClient::new(control.channel());
                rpc::call(RENEW_ROUTER, request, |r| async move { client.renew(r).await }).await
            }
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

/// Renews for ever: at half-life, and soon after another CA issues. Drop it to stop.
pub async fn keep_renewed(role: RenewAs, control: ControlChannel, keeper: Keeper) {
    let mut backoff = retry(&keeper.credentials().current());
    let mut expiry_reported = false;
    // The issuing CA that was answered to: should the controller issue with another one than it says, we do not ask for ever.
    let mut answered = None;
    loop {
        let current = keeper.credentials().current();
        let due = next_renewal(current.not_before, current.not_after, rand::rng().random());
        tokio::select! {
            () = sleep_until(due) => {}
            () = keeper.another_issues(answered.as_deref()) => {
                let wait = spread(&current).mul_f64(rand::rng().random());
                tokio::time::sleep(wait).await;
            }
        }
        let asked_for = keeper.issuing();
        match renew(role, &control, &keeper, OffsetDateTime::now_utc()).await {
            Ok(fresh) => {
                let issuer = fresh.issuer.as_deref().unwrap_or_default();
                tracing::info!(until = %fresh.not_after, issuer, "certificate renewed");
                backoff = retry(&fresh);
                expiry_reported = false;
                answered = asked_for;
            }
            Err(error) => {
                let now = OffsetDateTime::now_utc();
                let expired = current.not_after <= now;
                if expired && !expiry_reported {
                    expiry_reported = true;
                    tracing::error!(until = %current.not_after, "the certificate has expired; enroll again");
                }
                let late = is_late(current.not_before, current.not_after, now);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, until = %current.not_after, late, "certificate not renewed");
            }
        }
        // After a success too: a certificate that is due at once must not make a busy loop.
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

fn life(credentials: &Credentials) -> Duration {
    (credentials.not_after - credentials.not_before).try_into().unwrap_or(Duration::ZERO)
}

/// A certificate that lives for seconds is asked for again sooner.
fn retry(credentials: &Credentials) -> Backoff {
    let life = life(credentials);
    Backoff::new(RETRY.0.min(life / 20), RETRY.1.min(life / 10), rand::rng().random())
}

/// So that not everybody asks at the same moment when another CA issues.
fn spread(credentials: &Credentials) -> Duration {
    SPREAD.min(life(credentials) / 20)
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
