//! The server's own certificate: names the controller (SPIFFE) and the addresses at which it is reached. Its key lives in
//! memory only; every start makes a new one.

use super::StartError;
use crate::{api::chain, state::State};
use hesper_pki::{
    ca::IssueRequest,
    credentials::{Credentials, SharedCredentials},
    key::{self, PrivateKey},
    spiffe::{SpiffeId, SpiffeRole},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// Lifetime of the server certificate.
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
        let shared = SharedCredentials::new(make(&state, &key, &dns_names, &ip_addresses)?);
        Ok(Self { state, key, dns_names, ip_addresses, shared })
    }

    /// The credentials of now; renewals appear in them.
    pub(super) fn credentials(&self) -> SharedCredentials {
        self.shared.clone()
    }

    /// Renews at half of the lifetime, for ever.
    pub(super) async fn keep_renewed(self, stop: CancellationToken) {
        let mut wait = LIFETIME / 2;
        while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            wait = match make(&self.state, &self.key, &self.dns_names, &self.ip_addresses) {
                Ok(credentials) => {
                    self.shared.replace(credentials);
                    LIFETIME / 2
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the server certificate could not be renewed");
                    RETRY
                }
            };
        }
    }
}

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
        validity: LIFETIME,
        dns_names: dns_names.to_vec(),
        ip_addresses: ip_addresses.to_vec(),
    };
    let issued = authority.ca.issue(&request, OffsetDateTime::now_utc())?;
    Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &authority.ca.ca_pem())
        .map_err(|e| other(Box::new(e)))
}
