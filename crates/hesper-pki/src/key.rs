//! Private keys of nodes, routers and controllers: P-256, PKCS#8, made where they are used and never sent.

use crate::digest::sha256_hex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::fmt;
use zeroize::Zeroizing;

/// A P-256 private key. Wiped from memory when dropped; never printed.
#[derive(Clone)]
pub struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    spki_der: Vec<u8>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of public key {})", self.spki_sha256())
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("the key could not be generated")]
    Generate(#[source] rcgen::Error),
    /// Not PEM, or another kind of PEM.
    #[error("there is no \"BEGIN PRIVATE KEY\" (PKCS#8) in this text")]
    NotPem,
    /// PKCS#8 of another algorithm, or broken.
    #[error("the private key is not a P-256 key in PKCS#8")]
    NotP256,
}

/// A fresh key.
pub fn generate() -> Result<PrivateKey, KeyError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Generate)?;
    Ok(PrivateKey::of(&pair))
}

impl PrivateKey {
    fn of(pair: &KeyPair) -> Self {
        Self { pkcs8: Zeroizing::new(pair.serialize_der()), spki_der: pair.subject_public_key_info() }
    }

    /// Reads PKCS#8 DER.
    pub fn from_der(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(pkcs8);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| KeyError::NotP256)?;
        Ok(Self::of(&pair))
    }

    /// Reads the first PKCS#8 key of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NotPem)?;
        Self::from_der(der.secret_pkcs8_der())
    }

    /// PKCS#8 PEM.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(crate::pem::encode("PRIVATE KEY", &self.pkcs8))
    }

    /// SubjectPublicKeyInfo of its public key, DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// SHA-256 of [`Self::spki_der`], lower-case hexadecimal: the `cnf` of grants for this key.
    pub fn spki_sha256(&self) -> String {
        sha256_hex(&self.spki_der)
    }

    /// A copy for rustls.
    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }

    /// A copy for rcgen.
    pub(crate) fn to_rcgen(&self) -> Result<KeyPair, KeyError> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::NotP256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_pem_and_is_never_printed() {
        let key = generate().unwrap();
        let pem = key.to_pem();
        let again = PrivateKey::from_pem(&pem).unwrap();
        assert_eq!(again.spki_der(), key.spki_der());
        let body = pem.lines().nth(1).unwrap();
        assert!(!format!("{key:?}").contains(&body[..16]));
    }

    #[test]
    fn other_keys_and_broken_text_are_refused() {
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        assert!(matches!(PrivateKey::from_pem(&ed25519), Err(KeyError::NotP256)));
        assert!(matches!(PrivateKey::from_pem("hello"), Err(KeyError::NotPem)));
        assert!(matches!(PrivateKey::from_der(&[1, 2, 3]), Err(KeyError::NotP256)));
    }
}
