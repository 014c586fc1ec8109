//! The server's own certificate: names the controller (SPIFFE) and the addresses at which it is reached. Its key lives in
//! memory only; every start makes a new one.

use super::StartError;
use crate::{api::chain, state::State};
use hesper_pki::{
    ca::IssueRequest,
    credentials::{Credentials, SharedCredentials},
    key::{self, PrivateKey},
    rotation::Rotation,
    spiffe::{SpiffeId, SpiffeRole},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Longest lifetime of the server certificate.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How soon to try again when a renewal failed.
const RETRY: Duration = Duration::from_secs(60);
/// The one controller's id. Several controllers get one each when there is a shared store.
const CONTROLLER_ID: &str = "controller";

/// The server certificate and what it is made from.
pub(super) struct Own {
    state: Arc<State>,
    key: PrivateKey,
    dns_names: Vec<String>,
    ip_addresses: Vec<IpAddr>,
    shared: SharedCredentials,
    made_for: Rotation,
}

impl Own {
    /// A certificate for this address and for this machine.
    pub(super) fn new(state: Arc<State>, address: &str) -> Result<Self, StartError> {
        let key = key::generate().map_err(|e| StartError::Certificate(Box::new(e)))?;
        let mut dns_names = vec!["localhost".to_owned()];
        let mut ip_addresses = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        match address.parse::<IpAddr>() {
            Ok(ip) if !ip_addresses.contains(&ip) => ip_addresses.push(ip),
            Err(_) if address != "localhost" => dns_names.push(address.to_owned()),
            _ => {}
        }
        let made_for = state.rotation();
        let shared = SharedCredentials::new(make(&state, &key, &dns_names, &ip_addresses)?);
        Ok(Self { state, key, dns_names, ip_addresses, shared, made_for })
    }

    /// The credentials of now; renewals appear in them.
    pub(super) fn credentials(&self) -> SharedCredentials {
        self.shared.clone()
    }

    /// Renews at half of the lifetime, and at once when other CAs count, for ever.
    pub(super) async fn keep_renewed(self, stop: CancellationToken) {
        let mut changes = self.state.subscribe();
        let (mut made_for, mut wait) = (self.made_for, lifetime(&self.state) / 2);
        let mut due = Instant::now() + wait;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
                changed = changes.changed() => {
                    if changed.is_err() || self.state.rotation() == made_for {
                        continue;
                    }
                }
            }
            made_for = self.state.rotation();
            wait = match make(&self.state, &self.key, &self.dns_names, &self.ip_addresses) {
                Ok(credentials) => {
                    self.shared.replace(credentials);
                    lifetime(&self.state) / 2
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the server certificate could not be renewed");
                    RETRY.min(lifetime(&self.state) / 10)
                }
            };
            due = Instant::now() + wait;
        }
    }
}

fn lifetime(state: &State) -> Duration {
    LIFETIME.min(state.control.settings.leaf_validity)
}

/// A certificate of each CA that is trusted: whoever says which one it trusts is shown that one's, everybody else the one of the
/// CA that everybody knows.
fn make(
    state: &State,
    key: &PrivateKey,
    dns_names: &[String],
    ip_addresses: &[IpAddr],
) -> Result<Credentials, StartError> {
    let other = |e: Box<dyn std::error::Error + Send + Sync>| StartError::Certificate(e);
    let authority = &state.authority;
    let subject = SpiffeId::new(&authority.trust_domain, SpiffeRole::Controller, CONTROLLER_ID);
    let request = IssueRequest {
        subject: subject.map_err(|e| other(Box::new(e)))?,
        spki_der: key.spki_der().to_vec(),
        validity: lifetime(state),
        dns_names: dns_names.to_vec(),
        ip_addresses: ip_addresses.to_vec(),
    };
    let (now, trusted) = (OffsetDateTime::now_utc(), state.ca_pem());
    let mut made = Vec::new();
    for ca in state.trusted_cas()? {
        let issued = ca.issue(&request, now)?;
        let credentials = Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &trusted);
        made.push(credentials.map_err(|e| other(Box::new(e)))?);
    }
    let mut made = made.into_iter();
    // The CA that everybody knows is always there.
    let first = made.next().ok_or_else(|| other("there is no certificate authority".into()))?;
    Ok(first.or_else(made))
}
