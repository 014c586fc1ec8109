//! The signing key and what it makes.

use super::{Claims, MAX_TOKEN_LEN, TokenError, provider};
use crate::{
    digest::sha256_hex,
    files::{self, FileError},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use std::{fmt, path::Path};
use zeroize::Zeroizing;

/// Size limit of the key file.
const MAX_FILE: u64 = 4096;
/// Length of a key id in hexadecimal digits.
const KID_LEN: usize = 16;

/// Signs tokens with one Ed25519 key.
pub struct Signer {
    pkcs8: Zeroizing<Vec<u8>>,
    key: EncodingKey,
    public_key: [u8; 32],
    kid: String,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

/// Why there is no signer, or no token.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The system gave no randomness.
    #[error("the system gave no random numbers")]
    Random,
    /// The key file could not be read or written.
    #[error("the token key file is not usable")]
    File(#[from] FileError),
    /// The key file holds something else.
    #[error("the token key file holds no Ed25519 key in PKCS#8 PEM")]
    Key,
    /// The token cryptography is not ours.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The claims could not be signed.
    #[error("the token could not be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The token would be refused by every reader.
    #[error("the token would have {0} bytes, more than {MAX_TOKEN_LEN}")]
    TooLong(usize),
}

impl Signer {
    /// A signer with a fresh key.
    pub fn generate() -> Result<Self, SignerError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SignerError::Random)?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, SignerError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| SignerError::Key)?;
        let public_key: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| SignerError::Key)?;
        let mut kid = sha256_hex(&public_key);
        kid.truncate(KID_LEN);
        let pkcs8 = Zeroizing::new(pkcs8.to_vec());
        Ok(Self { key: EncodingKey::from_ed_der(&pkcs8), pkcs8, public_key, kid })
    }

    /// Writes the key to a new file (PKCS#8 PEM, 0600). Never overwrites.
    pub fn save(&self, path: &Path) -> Result<(), SignerError> {
        let text = Zeroizing::new(crate::pem::encode("PRIVATE KEY", &self.pkcs8));
        Ok(files::write_new(path, text.as_bytes())?)
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(path: &Path) -> Result<Self, SignerError> {
        let text = Zeroizing::new(files::read(path, MAX_FILE)?);
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| SignerError::Key)?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// The key's id: the start of the SHA-256 of the public key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The Ed25519 public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// The token with these claims.
    pub fn sign<C: Claims>(&self, claims: &C) -> Result<String, SignerError> {
        provider::install()?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(C::TYP.to_owned());
        header.kid = Some(self.kid.clone());
        let token = jsonwebtoken::encode(&header, claims, &self.key).map_err(SignerError::Sign)?;
        if token.len() > MAX_TOKEN_LEN { Err(SignerError::TooLong(token.len())) } else { Ok(token) }
    }
}
