//! Certificates and keys out of PEM.

use super::provider;
use crate::watched::read;
use hesper_collector_config::TlsIdentity;
use rustls::{RootCertStore, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// The files that an identity is made of.
pub(super) fn files_of(identity: &TlsIdentity) -> Vec<PathBuf> {
    [&identity.cert_file, &identity.key_file].into_iter().flatten().map(PathBuf::from).collect()
}

/// The certificate with its chain and the key to it.
pub(super) fn certified(identity: &TlsIdentity) -> Result<CertifiedKey, String> {
    let (cert_name, cert) = text("cert_pem", identity.cert_file.as_deref(), identity.cert_pem.as_deref())?;
    let key_pem = identity.key_pem.as_ref().map(hesper_collector_config::Secret::expose);
    let (key_name, key) = text("key_pem", identity.key_file.as_deref(), key_pem)?;
    let chain = certificates(&cert_name, &cert)?;
    // What is wrong with a key must not show a part of it.
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| {
        format!("there is no private key in {key_name}; it must be PEM, and not encrypted with a password")
    })?;
    not_expired(&cert_name, &chain[0])?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            format!("the key in {key_name} does not belong to the certificate in {cert_name}")
        }
        e => format!("the certificate in {cert_name} and the key in {key_name} cannot be used: {e}"),
    })
}

/// The certificates of CAs.
pub(super) fn authorities(
    file: Option<&str>,
    pem: Option<&str>,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let (name, text) = text("ca_pem", file, pem)?;
    certificates(&name, &text)
}

/// Trusts these.
pub(super) fn roots(authorities: &[CertificateDer<'static>], name: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|e| format!("a certificate in {name} cannot be used: {e}"))?;
    }
    Ok(roots)
}

fn text(key: &str, file: Option<&str>, pem: Option<&str>) -> Result<(String, String), String> {
    match (file, pem) {
        (Some(file), _) => Ok((file.to_owned(), read(Path::new(file))?)),
        (None, Some(pem)) => Ok((key.to_owned(), pem.to_owned())),
        (None, None) => Err(format!("{key} is missing")),
    }
}

fn certificates(name: &str, text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("{name} is no valid PEM: {e}"))?;
    if found.is_empty() {
        return Err(format!("there is no certificate in {name}; it must be PEM"));
    }
    Ok(found)
}

/// A certificate that has ended makes every handshake fail at the other end, where nobody looks.
fn not_expired(name: &str, leaf: &CertificateDer<'_>) -> Result<(), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|e| format!("the certificate in {name} cannot be read: {e}"))?;
    let (now, validity) = (OffsetDateTime::now_utc(), parsed.validity());
    if validity.not_after.to_datetime() < now {
        return Err(format!("the certificate in {name} expired on {}; renew it", validity.not_after));
    }
    if validity.not_before.to_datetime() > now {
        tracing::warn!(certificate = name, from = %validity.not_before, "not valid yet; is the clock right?");
    }
    Ok(())
}
