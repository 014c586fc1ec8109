//! jsonwebtoken's cryptography over ring. We sign with EdDSA only (Ed25519, RFC 8037), and our own tokens are held to it by
//! their verifier; tokens of others (OIDC providers) may have any signature with a public key that ring knows. A shared secret
//! (HS256 …) is never one.

use super::TokenError;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result, new_error},
    signature::{Error, Signer, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, Ed25519KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use std::sync::LazyLock;

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // Keys never come as JWK here.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring the process' token cryptography; any number of times. An error if something else was installed before:
/// then no token is signed or accepted.
pub fn install() -> std::result::Result<(), TokenError> {
    static INSTALLED: LazyLock<bool> = LazyLock::new(|| PROVIDER.install_default().is_ok());
    if *INSTALLED { Ok(()) } else { Err(TokenError::Provider) }
}

struct Ed25519Signer(Ed25519KeyPair);

impl Signer<Vec<u8>> for Ed25519Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ed25519Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if *algorithm != Algorithm::EdDSA || key.family() != AlgorithmFamily::Ed {
        return Err(new_error(ErrorKind::UnsupportedAlgorithm));
    }
    let pair =
        Ed25519KeyPair::from_pkcs8(key.as_bytes()).map_err(|_| new_error(ErrorKind::InvalidEddsaKey))?;
    Ok(Box::new(Ed25519Signer(pair)))
}

/// A key that is its bytes: Ed25519, or a point of a curve.
struct Plain {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Verifier<Vec<u8>> for Plain {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.key.verify(message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Plain {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A key of RSA: modulus and exponent.
struct Rsa {
    algorithm: Algorithm,
    parameters: &'static RsaParameters,
    key: RsaPublicKeyComponents<Vec<u8>>,
}

impl Verifier<Vec<u8>> for Rsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.key.verify(self.parameters, message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Rsa {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let unsupported = || new_error(ErrorKind::UnsupportedAlgorithm);
    let algorithm = *algorithm;
    let plain: (AlgorithmFamily, &'static dyn VerificationAlgorithm) = match algorithm {
        Algorithm::EdDSA => (AlgorithmFamily::Ed, &ED25519),
        Algorithm::ES256 => (AlgorithmFamily::Ec, &ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => (AlgorithmFamily::Ec, &ECDSA_P384_SHA384_FIXED),
        _ => return rsa(algorithm, key),
    };
    if key.family() != plain.0 {
        return Err(unsupported());
    }
    let key = UnparsedPublicKey::new(plain.1, key.try_get_as_bytes()?.to_vec());
    Ok(Box::new(Plain { algorithm, key }))
}

fn rsa(algorithm: Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let parameters = match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            // ring takes numbers without leading zeros only; some providers write them.
            let strip = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
            let key = RsaPublicKeyComponents { n: strip(n), e: strip(e) };
            Ok(Box::new(Rsa { algorithm, parameters, key }))
        }
        _ => Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    }
}
