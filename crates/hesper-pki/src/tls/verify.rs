//! Certificate verifiers. Each checks the chain to a root, the validity, the key usage, and then the **leaf's** name;
//! the signature over the handshake is always checked, by rustls' own code.

use super::{provider, roots};
use crate::{
    credentials::SharedCredentials,
    digest::sha256_hex,
    spiffe::{self, LeafError, SpiffeId, SpiffeRole},
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{verify_tls12_signature, verify_tls13_signature},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Most certificates in a chain that is looked at. Ours have one, with roots two or three.
const MAX_CHAIN: usize = 6;

/// Why a certificate with a good chain was refused, or why no chain could be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The peer is somebody else.
    #[error("expected {expected}, the peer is {found}")]
    Unexpected {
        /// Who was dialed.
        expected: SpiffeId,
        /// Who answered.
        found: SpiffeId,
    },
    /// The peer is of another mesh.
    #[error("the peer {found} is not of trust domain {expected}")]
    TrustDomain {
        /// The own trust domain.
        expected: String,
        /// Who answered.
        found: SpiffeId,
    },
    /// The peer at the controller's address is no controller.
    #[error("the peer {0} is not a controller")]
    NotAController(SpiffeId),
    /// The leaf names nobody.
    #[error("the peer's certificate names nobody")]
    Leaf(#[from] LeafError),
    /// Nobody needs such a chain.
    #[error("the peer's certificate chain has more than {MAX_CHAIN} certificates")]
    LongChain,
    /// Another CA than the pinned one.
    #[error(transparent)]
    Pin(#[from] PinMismatch),
}

/// The server does not show the pinned CA: the token belongs to another network, or somebody is in between.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's CA is not the expected one (SHA-256 {expected})")]
pub struct PinMismatch {
    /// SHA-256 of the expected CA certificate, lower-case hexadecimal.
    pub expected: String,
}

impl From<VerifyError> for Error {
    fn from(error: VerifyError) -> Self {
        CertificateError::Other(OtherError(Arc::new(error))).into()
    }
}

/// Our reason inside a rustls error, if it is one of ours.
pub fn refusal(error: &Error) -> Option<&VerifyError> {
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
        _ => None,
    }
}

fn chain_is_good(
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixTime,
) -> Result<(), Error> {
    if others.len() >= MAX_CHAIN {
        return Err(VerifyError::LongChain.into());
    }
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(
        &ParsedCertificate::try_from(leaf)?,
        roots,
        others,
        now,
        algorithms,
    )
}

fn of_trust_domain(leaf: &CertificateDer<'_>, expected: &str) -> Result<SpiffeId, VerifyError> {
    let found = spiffe::of_leaf(leaf)?;
    if found.trust_domain == expected {
        Ok(found)
    } else {
        Err(VerifyError::TrustDomain { expected: expected.to_owned(), found })
    }
}

/// The signature half of a verifier, the same for all.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// A peer that must be one certain party.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) credentials: SharedCredentials,
    pub(super) expected: SpiffeId,
}

impl ServerCertVerifier for Peer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        chain_is_good(leaf, others, &self.credentials.current().roots, now)?;
        let found = spiffe::of_leaf(leaf).map_err(VerifyError::from)?;
        if found != self.expected {
            return Err(VerifyError::Unexpected { expected: self.expected.clone(), found }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// A controller of the own trust domain at a certain address.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) credentials: SharedCredentials,
    pub(super) hints: Vec<DistinguishedName>,
}

impl ServerCertVerifier for Controller {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let current = self.credentials.current();
        chain_is_good(leaf, others, &current.roots, now)?;
        is_controller(of_trust_domain(leaf, &current.id.trust_domain)?)?;
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }

    handshake_signatures!();
}

fn is_controller(found: SpiffeId) -> Result<(), VerifyError> {
    if found.role == SpiffeRole::Controller { Ok(()) } else { Err(VerifyError::NotAController(found)) }
}

/// A controller whose CA has a certain digest and is among the certificates shown.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) ca_sha256: String,
    pub(super) hints: Vec<DistinguishedName>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if others.len() >= MAX_CHAIN {
            return Err(VerifyError::LongChain.into());
        }
        let ca = others
            .iter()
            .find(|der| sha256_hex(der) == self.ca_sha256)
            .ok_or_else(|| VerifyError::Pin(PinMismatch { expected: self.ca_sha256.clone() }))?;
        chain_is_good(leaf, others, &roots(&[ca.clone().into_owned()])?, now)?;
        is_controller(spiffe::of_leaf(leaf).map_err(VerifyError::from)?)?;
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.hints)
    }

    handshake_signatures!();
}

/// Clients of the own trust domain.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) credentials: SharedCredentials,
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// No hint: the roots' names are nobody's business, and every client has one certificate.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if others.len() >= MAX_CHAIN {
            return Err(VerifyError::LongChain.into());
        }
        let current = self.credentials.current();
        let verified = current.client_verifier.verify_client_cert(leaf, others, now)?;
        of_trust_domain(leaf, &current.id.trust_domain)?;
        Ok(verified)
    }

    handshake_signatures!();
}
