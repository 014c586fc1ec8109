//! Certification requests (PKCS#10, RFC 2986): the proof of holding a key. Only the key of a request is ever used.

use crate::key::{KeyError, PrivateKey};
use rcgen::{CertificateParams, DistinguishedName};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

/// Largest request read, in bytes. One of ours has about 200.
const MAX_LEN: usize = 4096;

/// Why a request is not usable.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// The request could not be made.
    #[error("the certification request could not be made")]
    Make(#[source] rcgen::Error),
    /// The key is not usable.
    #[error("the certification request could not be made")]
    Key(#[from] KeyError),
    /// Not PEM with a `CERTIFICATE REQUEST`.
    #[error("there is no \"BEGIN CERTIFICATE REQUEST\" in this text")]
    NotPem,
    /// Not PKCS#10, or bytes after it, or larger than any honest request.
    #[error("the certification request cannot be parsed")]
    Unreadable,
    /// The requester does not hold the key.
    #[error("the certification request is not signed by its own key")]
    Signature,
}

/// A request for a certificate on this key, DER. It names nobody: the controller decides the name.
pub fn make(key: &PrivateKey) -> Result<Vec<u8>, CsrError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key.to_rcgen()?).map_err(CsrError::Make)?;
    Ok(request.der().to_vec())
}

/// The public key (SubjectPublicKeyInfo, DER) of a request, after checking that its own key signed it.
pub fn public_key(der: &[u8]) -> Result<Vec<u8>, CsrError> {
    if der.len() > MAX_LEN {
        return Err(CsrError::Unreadable);
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(der) else { return Err(CsrError::Unreadable) };
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(request.certification_request_info.subject_pki.raw.to_vec())
}

/// The request as PEM.
pub fn to_pem(der: &[u8]) -> String {
    crate::pem::encode("CERTIFICATE REQUEST", der)
}

/// The DER of the first request in a PEM text.
pub fn from_pem(text: &str) -> Result<Vec<u8>, CsrError> {
    let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).map_err(|_| CsrError::NotPem)?;
    Ok(der.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_its_key_and_proves_it() {
        let key = crate::key::generate().unwrap();
        let der = make(&key).unwrap();
        assert_eq!(from_pem(&to_pem(&der)).unwrap(), der);
        assert_eq!(public_key(&der).unwrap(), key.spki_der());
    }

    #[test]
    fn a_changed_cut_or_longer_request_never_gives_another_key() {
        let key = crate::key::generate().unwrap();
        let der = make(&key).unwrap();
        for i in 0..der.len() {
            let mut changed = der.clone();
            changed[i] ^= 1;
            // Bytes outside the signed part may be spelled otherwise.
            assert!(public_key(&changed).map_or(true, |spki| spki == key.spki_der()), "byte {i}");
        }
        assert!(public_key(&der[..der.len() - 1]).is_err());
        assert!(public_key(&[der.as_slice(), &[0]].concat()).is_err());
        assert!(public_key(&vec![0x30; MAX_LEN + 1]).is_err());
    }
}
