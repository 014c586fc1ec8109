//! What a party proves itself with: certificate chain, key, and the roots it trusts; and the handle that swaps them.

use crate::{
    digest::{hex, sha256_hex},
    key::{KeyError, PrivateKey},
    pem::{self, PemError},
    spiffe::{self, LeafError, SpiffeId},
    tls,
};
use arc_swap::ArcSwap;
use rustls::{RootCertStore, server::danger::ClientCertVerifier, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::{fmt, sync::Arc, time::Duration};
use time::OffsetDateTime;

/// A party's certificate, key and roots. Immutable; see [`SharedCredentials`] for renewal.
pub struct Credentials {
    /// The certificate chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKey,
    /// The authorities that peers must be issued by.
    pub roots: Arc<RootCertStore>,
    /// The same as PEM.
    pub ca_pem: String,
    /// The same by SHA-256 of their certificates (DER), lower-case hexadecimal.
    pub ca_sha256: Vec<String>,
    /// Which of them issued the leaf; none of them when its issuer is trusted no more.
    pub issuer: Option<String>,
    /// Whom the leaf names.
    pub id: SpiffeId,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub spki_sha256: String,
    /// The leaf's serial number, lower-case hexadecimal.
    pub serial: String,
    /// Begin of the leaf's validity.
    pub not_before: OffsetDateTime,
    /// End of the leaf's validity.
    pub not_after: OffsetDateTime,
    /// Chain and key for handshakes with peers.
    pub(crate) certified: Arc<CertifiedKey>,
    /// The same with the roots appended, for clients that know a root only by its digest.
    pub(crate) certified_with_roots: Arc<CertifiedKey>,
    /// Leaves of other CAs for the same party, each with its issuer.
    alternatives: Vec<(String, Arc<CertifiedKey>)>,
    /// Checks client certificates against the roots.
    pub(crate) client_verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, serial {}, until {})", self.id, self.serial, self.not_after)
    }
}

/// Why certificate, key and roots do not make credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The certificate text is not PEM.
    #[error("the certificate is not usable")]
    Certificate(#[source] PemError),
    /// The leaf names nobody.
    #[error("the certificate is not usable")]
    Leaf(#[from] LeafError),
    /// The key text is not a key of ours.
    #[error("the private key is not usable")]
    Key(#[from] KeyError),
    /// Key and leaf do not belong together.
    #[error("the private key is not the key of the certificate")]
    Mismatch,
    /// The CA text is not PEM.
    #[error("the CA certificates are not usable")]
    Ca(#[source] PemError),
    /// The TLS library refuses them.
    #[error("the certificates are not usable for TLS")]
    Tls(#[source] rustls::Error),
    /// The TLS library refuses the roots.
    #[error("the CA certificates are not usable for TLS")]
    Roots(#[source] rustls::server::VerifierBuilderError),
}

impl Credentials {
    /// Reads PEM texts: the chain (leaf first), the PKCS#8 key, and one or more CA certificates. Whether the leaf is
    /// still valid is not asked here: an expired one must load, so that its owner can say so.
    pub fn from_pem(chain: &str, key: &str, ca: &str) -> Result<Self, CredentialsError> {
        Self::new(
            pem::certificates(chain).map_err(CredentialsError::Certificate)?,
            PrivateKey::from_pem(key)?,
            ca,
        )
    }

    /// The same from a chain and key already read.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        ca: &str,
    ) -> Result<Self, CredentialsError> {
        let leaf = chain.first().ok_or(CredentialsError::Certificate(PemError::NoCertificate))?;
        let peer = PeerIdentity::of(leaf)?;
        let not_before = spiffe::parse(leaf)?.validity().not_before.to_datetime();
        if peer.spki_sha256 != key.spki_sha256() {
            return Err(CredentialsError::Mismatch);
        }
        let ca = pem::certificates(ca).map_err(CredentialsError::Ca)?;
        let roots = Arc::new(tls::roots(&ca).map_err(CredentialsError::Tls)?);
        let signer =
            tls::provider().key_provider.load_private_key(key.to_rustls()).map_err(CredentialsError::Tls)?;
        let with_roots = chain.iter().chain(&ca).cloned().collect();
        let issuer = ca.iter().find(|ca| is_issued_by(leaf, ca)).map(|ca| sha256_hex(ca));
        Ok(Self {
            ca_sha256: ca.iter().map(|ca| sha256_hex(ca)).collect(),
            issuer,
            alternatives: Vec::new(),
            certified: Arc::new(CertifiedKey::new(chain.clone(), signer.clone())),
            certified_with_roots: Arc::new(CertifiedKey::new(with_roots, signer)),
            client_verifier: tls::client_verifier(roots.clone()).map_err(CredentialsError::Roots)?,
            chain,
            key,
            roots,
            ca_pem: pem::encode_certificates(&ca),
            id: peer.id,
            spki_sha256: peer.spki_sha256,
            serial: peer.serial,
            not_before,
            not_after: peer.not_after,
        })
    }

    /// The same key with a renewed chain and the roots that came with it.
    pub fn renewed(&self, chain: &str, ca: &str) -> Result<Self, CredentialsError> {
        Self::new(pem::certificates(chain).map_err(CredentialsError::Certificate)?, self.key.clone(), ca)
    }

    /// The same chain and key with other roots: what the leaf's owner is told to trust from now on.
    pub fn with_roots(&self, ca: &str) -> Result<Self, CredentialsError> {
        Self::new(self.chain.clone(), self.key.clone(), ca)
    }

    /// A server that has a leaf of several CAs shows each client one whose issuer that client says it trusts: these first, then
    /// `others`, in this order. Whoever says nothing is shown the last.
    #[must_use]
    pub fn or_else(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        let of = |other: Self| other.issuer.map(|issuer| (issuer, other.certified_with_roots));
        self.alternatives.extend(others.into_iter().filter_map(of));
        self
    }

    /// What a client that trusts these CAs (see [`tls::trust_hint`]) is shown, roots appended.
    pub(crate) fn shown_to(&self, hints: Option<&[rustls::DistinguishedName]>) -> Arc<CertifiedKey> {
        let own = self.issuer.iter().map(|issuer| (issuer, &self.certified_with_roots));
        let mut all = own.chain(self.alternatives.iter().map(|(issuer, key)| (issuer, key)));
        let hinted = |issuer: &str| {
            let expected = tls::trust_hint(issuer);
            hints.unwrap_or_default().iter().any(|hint| hint.as_ref() == expected.as_ref())
        };
        let found = all.find(|(issuer, _)| hinted(issuer)).map(|(_, key)| key);
        let last = || self.alternatives.last().map_or(&self.certified_with_roots, |(_, key)| key);
        found.unwrap_or_else(last).clone()
    }

    /// Whether the own leaf is issued by the own roots and valid at `now`: peers would say the same.
    pub fn check_chain(&self, now: OffsetDateTime) -> Result<(), CredentialsError> {
        let secs = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let Some((leaf, others)) = self.chain.split_first() else {
            return Err(CredentialsError::Certificate(PemError::NoCertificate));
        };
        self.client_verifier.verify_client_cert(leaf, others, now).map_err(CredentialsError::Tls)?;
        Ok(())
    }

    /// The certificate chain, PEM, leaf first.
    pub fn chain_pem(&self) -> String {
        pem::encode_certificates(&self.chain)
    }
}

/// Past three quarters of its life a certificate should have been renewed long ago.
pub fn is_late(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
    now > not_before + (not_after - not_before) * 0.75
}

fn is_issued_by(leaf: &CertificateDer<'_>, ca: &CertificateDer<'_>) -> bool {
    let (Ok(leaf), Ok(ca)) = (spiffe::parse(leaf), spiffe::parse(ca)) else { return false };
    leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok()
}

/// A handle on the current credentials: cheap to clone, read by every handshake, swapped by renewal.
#[derive(Clone)]
pub struct SharedCredentials(Arc<ArcSwap<Credentials>>);

impl SharedCredentials {
    /// A handle that starts with these.
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(credentials)))
    }

    /// The credentials now.
    pub fn current(&self) -> Arc<Credentials> {
        self.0.load_full()
    }

    /// Every handshake from now on uses these. Live connections keep what they proved.
    pub fn replace(&self, credentials: Credentials) {
        self.0.store(Arc::new(credentials));
    }
}

impl From<Credentials> for SharedCredentials {
    fn from(credentials: Credentials) -> Self {
        Self::new(credentials)
    }
}

impl fmt::Debug for SharedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().fmt(f)
    }
}

/// What a peer proved in its handshake: the contents of its leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Whom the leaf names.
    pub id: SpiffeId,
    /// SHA-256 of the leaf's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub spki_sha256: String,
    /// The leaf's serial number, lower-case hexadecimal.
    pub serial: String,
    /// End of the leaf's validity: a connection that rests on it should not outlive it.
    pub not_after: OffsetDateTime,
}

impl PeerIdentity {
    /// Reads a leaf. It proves nothing by itself: only pass the leaf of a verified handshake.
    pub fn of(leaf: &CertificateDer<'_>) -> Result<Self, LeafError> {
        let parsed = spiffe::parse(leaf)?;
        let serial = parsed.raw_serial();
        Ok(Self {
            id: spiffe::of_parsed(&parsed)?,
            spki_sha256: sha256_hex(parsed.public_key().raw),
            serial: hex(serial.strip_prefix(&[0]).unwrap_or(serial)),
            not_after: parsed.validity().not_after.to_datetime(),
        })
    }
}
