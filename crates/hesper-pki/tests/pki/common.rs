//! An authority and credentials for tests.

use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest, Issued},
    credentials::{Credentials, SharedCredentials},
    key::{self, PrivateKey},
    spiffe::{SpiffeId, SpiffeRole},
};
use std::time::Duration;
use time::OffsetDateTime;

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn authority(trust_domain: &str) -> CertificateAuthority {
    CertificateAuthority::create(trust_domain, OffsetDateTime::now_utc()).unwrap()
}

pub(crate) fn name(role: SpiffeRole, id: &str) -> SpiffeId {
    SpiffeId::new("mesh.example", role, id).unwrap()
}

pub(crate) fn identity(id: &str) -> SpiffeId {
    name(SpiffeRole::Identity, id)
}

pub(crate) fn request(subject: SpiffeId, key: &PrivateKey) -> IssueRequest {
    IssueRequest {
        subject,
        spki_der: key.spki_der().to_vec(),
        validity: DAY,
        dns_names: vec![],
        ip_addresses: vec![],
    }
}

pub(crate) fn issue(ca: &CertificateAuthority, subject: SpiffeId, key: &PrivateKey) -> Issued {
    ca.issue(&request(subject, key), OffsetDateTime::now_utc()).unwrap()
}

pub(crate) fn credentials(ca: &CertificateAuthority, subject: SpiffeId) -> Credentials {
    let key = key::generate().unwrap();
    let issued = issue(ca, subject, &key);
    Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap()
}

pub(crate) fn shared(ca: &CertificateAuthority, subject: SpiffeId) -> SharedCredentials {
    credentials(ca, subject).into()
}

/// A controller for the name `ctrl` and the address 127.0.0.1.
pub(crate) fn controller(ca: &CertificateAuthority) -> SharedCredentials {
    let key = key::generate().unwrap();
    let mut request = request(name(SpiffeRole::Controller, "c1"), &key);
    request.dns_names = vec!["ctrl".into()];
    request.ip_addresses = vec!["127.0.0.1".parse().unwrap()];
    let issued = ca.issue(&request, OffsetDateTime::now_utc()).unwrap();
    Credentials::from_pem(&issued.chain_pem, &key.to_pem(), &ca.ca_pem()).unwrap().into()
}
