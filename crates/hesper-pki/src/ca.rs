//! The certificate authority: one self-signed P-256 root that issues short-lived leaves and nothing else.
//!
//! A leaf is made from scratch: its key comes from the request, everything else from the authority.

use crate::{
    digest::{hex, sha256_hex},
    files::{self, FileError},
    key::{self, KeyError, PrivateKey},
    pem::{self, PemError},
    spiffe::{self, InvalidSpiffeId, LeafError, SpiffeId},
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::CertificateDer;
use std::{fmt, net::IpAddr, path::Path, time::Duration};
use time::OffsetDateTime;

/// Lifetime of the root.
const ROOT_VALIDITY: time::Duration = time::Duration::days(3652);
/// A certificate begins this long before it is issued, at most, so that a peer with a slow clock accepts it at once.
const MAX_BACKDATE: time::Duration = time::Duration::minutes(5);
/// Size limit of the files read.
const MAX_FILE: u64 = 64 * 1024;

/// The root's private key on disk.
const KEY_FILE: &str = "ca.key";
/// The root's certificate on disk.
const CERTIFICATE_FILE: &str = "ca.pem";

/// What to put into a leaf.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// Whom the leaf names.
    pub subject: SpiffeId,
    /// The subject's public key, SubjectPublicKeyInfo DER (see [`crate::csr::public_key`]); P-256.
    pub spki_der: Vec<u8>,
    /// Lifetime from now on.
    pub validity: Duration,
    /// DNS names, for a controller.
    pub dns_names: Vec<String>,
    /// IP addresses, for a controller.
    pub ip_addresses: Vec<IpAddr>,
}

/// An issued leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Certificate chain, PEM, leaf first, root left out.
    pub chain_pem: String,
    /// Serial number, 32 lower-case hexadecimal digits.
    pub serial: String,
    /// SHA-256 of the subject's SubjectPublicKeyInfo, lower-case hexadecimal.
    pub spki_sha256: String,
    /// Begin of validity.
    pub not_before: OffsetDateTime,
    /// End of validity.
    pub not_after: OffsetDateTime,
}

/// Why the authority could not do it.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The subject or trust domain is not valid.
    #[error("the certificate's subject is not valid")]
    Subject(#[from] InvalidSpiffeId),
    /// The subject belongs to another trust domain.
    #[error("the subject is of trust domain {found}, this authority is for {expected}")]
    TrustDomain {
        /// The authority's.
        expected: String,
        /// The subject's.
        found: String,
    },
    /// A key that is not P-256.
    #[error("the public key is not a P-256 key")]
    PublicKey,
    /// A DNS name with characters that a certificate cannot hold.
    #[error("{0:?} is not a DNS name")]
    DnsName(String),
    /// The validity is zero or beyond the calendar, or the authority itself has expired.
    #[error("the certificate's validity is not possible")]
    Validity,
    /// The certificate could not be made.
    #[error("the certificate could not be made")]
    Make(#[source] rcgen::Error),
    /// The authority's key is not usable.
    #[error("the authority's key is not usable")]
    Key(#[from] KeyError),
    /// The system gave no randomness.
    #[error("the system gave no random numbers")]
    Random,
    /// A file could not be read or written.
    #[error("the authority's files are not usable")]
    File(#[from] FileError),
    /// The authority's certificate is not PEM.
    #[error("the authority's certificate is not usable")]
    Pem(#[from] PemError),
    /// The authority's certificate is not a root of ours.
    #[error("the authority's certificate is not usable")]
    Certificate(#[from] LeafError),
    /// Key and certificate do not belong together.
    #[error("ca.key is not the key of ca.pem")]
    Mismatch,
}

/// The root and its key.
pub struct CertificateAuthority {
    trust_domain: String,
    key: PrivateKey,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateAuthority({}, {})", self.trust_domain, self.ca_sha256())
    }
}

impl CertificateAuthority {
    /// A new root with a new key for `trust_domain`.
    pub fn create(trust_domain: &str, now: OffsetDateTime) -> Result<Self, CaError> {
        spiffe::check_trust_domain(trust_domain)?;
        let key = key::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // The serial keeps two roots of one name apart: issuer names must differ for path building.
        let serial = random_serial()?;
        params.distinguished_name.push(DnType::CommonName, format!("Hesper CA {}", &hex(&serial)[..8]));
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        // A SPIFFE id without a path: the trust domain itself (X.509-SVID §3).
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now.checked_sub(MAX_BACKDATE).ok_or(CaError::Validity)?;
        params.not_after = now.checked_add(ROOT_VALIDITY).ok_or(CaError::Validity)?;
        let certificate = params.self_signed(&key.to_rcgen()?).map_err(CaError::Make)?;
        Self::new(key, certificate.der().clone())
    }

    fn new(key: PrivateKey, certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let issuer = Issuer::from_ca_cert_der(&certificate, key.to_rcgen()?).map_err(CaError::Make)?;
        let parsed = spiffe::parse(&certificate)?;
        if parsed.public_key().raw != key.spki_der() {
            return Err(CaError::Mismatch);
        }
        let uri = spiffe::only_uri(&parsed)?;
        let trust_domain = uri.strip_prefix("spiffe://").unwrap_or_default().to_owned();
        spiffe::check_trust_domain(&trust_domain)?;
        let not_after = parsed.validity().not_after.to_datetime();
        Ok(Self { trust_domain, key, issuer, certificate, not_after })
    }

    /// Writes `ca.key` and `ca.pem` into `dir`, which becomes private (0700). Existing files are never overwritten.
    pub fn save(&self, dir: &Path) -> Result<(), CaError> {
        files::private_dir(dir)?;
        files::write_new(&dir.join(KEY_FILE), self.key.to_pem().as_bytes())?;
        files::write_new(&dir.join(CERTIFICATE_FILE), self.ca_pem().as_bytes())?;
        Ok(())
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let key = zeroize::Zeroizing::new(files::read(&dir.join(KEY_FILE), MAX_FILE)?);
        let key = PrivateKey::from_pem(&key)?;
        let certificates = pem::certificates(&files::read(&dir.join(CERTIFICATE_FILE), MAX_FILE)?)?;
        // `certificates` is never empty.
        let certificate = certificates.into_iter().next().ok_or(PemError::NoCertificate)?;
        Self::new(key, certificate)
    }

    /// Issues a leaf: P-256, CA:FALSE, client and server authentication, random 128-bit serial.
    /// Its end is capped by the root's.
    pub fn issue(&self, request: &IssueRequest, now: OffsetDateTime) -> Result<Issued, CaError> {
        let subject: SpiffeId = request.subject.to_string().parse()?;
        if subject.trust_domain != self.trust_domain {
            return Err(CaError::TrustDomain {
                expected: self.trust_domain.clone(),
                found: subject.trust_domain,
            });
        }
        let key = SubjectPublicKeyInfo::from_der(&request.spki_der).map_err(|_| CaError::PublicKey)?;
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(CaError::PublicKey);
        }
        let (not_before, not_after) = self.validity(request.validity, now)?;
        let serial = random_serial()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, subject.id.clone());
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = names(request, &subject)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = not_before;
        params.not_after = not_after;
        let certificate = params.signed_by(&key, &self.issuer).map_err(CaError::Make)?;
        Ok(Issued {
            chain_pem: pem::encode("CERTIFICATE", certificate.der()),
            serial: hex(&serial),
            spki_sha256: sha256_hex(&request.spki_der),
            not_before,
            not_after,
        })
    }

    /// Begin and end in whole seconds, as a certificate holds them.
    fn validity(
        &self,
        validity: Duration,
        now: OffsetDateTime,
    ) -> Result<(OffsetDateTime, OffsetDateTime), CaError> {
        let validity = time::Duration::try_from(validity).map_err(|_| CaError::Validity)?;
        // A short-lived certificate begins less early, so that half its life still lies ahead.
        let backdate = MAX_BACKDATE.min(validity / 10);
        let from = now.checked_sub(backdate).ok_or(CaError::Validity)?;
        let until = now.checked_add(validity).ok_or(CaError::Validity)?.min(self.not_after);
        let whole = |t: OffsetDateTime| t.replace_nanosecond(0).map_err(|_| CaError::Validity);
        let (from, until) = (whole(from)?, whole(until)?);
        if until <= now { Err(CaError::Validity) } else { Ok((from, until)) }
    }

    /// The root certificate, PEM.
    pub fn ca_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.certificate)
    }

    /// SHA-256 of the root certificate's DER, lower-case hexadecimal: the pin in enrollment tokens.
    pub fn ca_sha256(&self) -> String {
        sha256_hex(&self.certificate)
    }

    /// When the root ends, and every leaf of it at the latest.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The trust domain of every name that it issues.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }
}

fn names(request: &IssueRequest, subject: &SpiffeId) -> Result<Vec<SanType>, CaError> {
    let mut names = vec![uri(&subject.to_string())?];
    for name in &request.dns_names {
        // rustls refuses anything else when it checks the name.
        rustls_pki_types::DnsName::try_from(name.as_str()).map_err(|_| CaError::DnsName(name.clone()))?;
        let name = name.as_str().try_into().map_err(|_| CaError::DnsName(name.clone()))?;
        names.push(SanType::DnsName(name));
    }
    names.extend(request.ip_addresses.iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(names)
}

fn uri(text: &str) -> Result<SanType, CaError> {
    Ok(SanType::URI(text.try_into().map_err(CaError::Make)?))
}

/// 16 random bytes with the first bits `01`: always positive and never shorter in DER, so that its text has one form.
fn random_serial() -> Result<[u8; 16], CaError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| CaError::Random)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}
