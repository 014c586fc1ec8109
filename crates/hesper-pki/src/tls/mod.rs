//! rustls configurations: TLS 1.3 only, ring only, mutual where it must be, never resumed, never 0-RTT.
//!
//! Two worlds. Peers (nodes and routers) know each other by SPIFFE id: [`peer_client`], [`peer_server`]. The controller
//! is found by DNS name or address: [`controller_server`] and its three clients, which differ in what they know already:
//! credentials ([`controller_client`]), a digest from an enrollment token ([`pinned_client`]), the CA's certificate
//! ([`ca_client`]).
//!
//! While the CA is rotated (see [`crate::rotation`]) the controller has a leaf of each CA. A client says which CAs it trusts
//! ([`trust_hint`]) and is shown a leaf that it can verify, however long it has been away.
//!
//! Resumption is off because a resumed session skips the verifier: a revoked or expired peer would come back unseen.
//! Credentials are read at each handshake, so a renewal needs no restart.

mod delegate;
mod resolve;
mod time;
mod verify;

use crate::{
    credentials::{PeerIdentity, SharedCredentials},
    digest::sha256_hex,
    pem::{self, PemError},
    spiffe::{LeafError, SpiffeId},
};
use delegate::{AnyTime, Hinting};
use resolve::{Present, Presented};
use rustls::{
    ClientConfig, ConfigBuilder, DistinguishedName, RootCertStore, ServerConfig, WantsVerifier,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    version::TLS13,
};
use rustls_pki_types::CertificateDer;
use std::sync::{Arc, LazyLock};
pub use time::{TimeFault, time_fault};
use verify::{Clients, Controller, Peer, Pinned};
pub use verify::{PinMismatch, VerifyError, refusal};

/// The application protocol on the overlay: one constant for everybody, since it is readable on the path.
pub const ALPN_OVERLAY: &[u8] = b"hq";
/// The application protocols of the controller's TCP port.
pub const ALPN_CONTROLLER: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The cryptography provider of every configuration here.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// Dials a peer that must be `expected`. Sends no server name. Whatever name the caller gives rustls is ignored.
pub fn peer_client(credentials: SharedCredentials, expected: SpiffeId) -> ClientConfig {
    let verifier = Peer { credentials: credentials.clone(), expected };
    let mut config = client(Arc::new(verifier), Some(credentials));
    config.enable_sni = false;
    config.alpn_protocols = vec![ALPN_OVERLAY.to_vec()];
    config
}

/// Accepts peers of the own trust domain; a client certificate is required. Who it is: [`peer_of`].
pub fn peer_server(credentials: SharedCredentials) -> ServerConfig {
    let mut config = server(credentials, true, Presented::Chain);
    config.alpn_protocols = vec![ALPN_OVERLAY.to_vec()];
    config
}

/// The controller's TCP port. A client certificate is optional but, when given, must be of the own trust domain.
/// The roots are sent along, for clients that know only their digest.
pub fn controller_server(credentials: SharedCredentials) -> ServerConfig {
    let mut config = server(credentials, false, Presented::ChainAndRoots);
    config.alpn_protocols = ALPN_CONTROLLER.map(<[u8]>::to_vec).into();
    config
}

/// Reaches the controller with the own certificate. It must be a controller of the own trust domain, for that address.
/// The CAs that it says it trusts are those of now: make a new one for each connection.
pub fn controller_client(credentials: SharedCredentials) -> ClientConfig {
    let hints = hints(&credentials.current().ca_sha256);
    client(Arc::new(Controller { credentials: credentials.clone(), hints }), Some(credentials))
}

/// How a client names a CA that it trusts, in the extension `certificate_authorities` (RFC 8446 §4.2.4): a name whose CN is the
/// SHA-256 of the CA's certificate in hexadecimal digits, so that one who knows only that can name it.
pub fn trust_hint(ca_sha256: &str) -> DistinguishedName {
    // Name ::= SEQUENCE { SET { SEQUENCE { OID 2.5.4.3, UTF8String } } }; never more than 64 bytes of text, so that every
    // length is one byte. The outermost SEQUENCE is put around it by rustls.
    let text = &ca_sha256.as_bytes()[..ca_sha256.len().min(64)];
    let framed =
        |tag: u8, content: &[u8]| [&[tag, u8::try_from(content.len()).unwrap_or(u8::MAX)], content].concat();
    let attribute = framed(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03][..], &framed(0x0c, text)].concat());
    DistinguishedName::in_sequence(&framed(0x31, &attribute))
}

fn hints(ca_sha256: &[String]) -> Vec<DistinguishedName> {
    ca_sha256.iter().map(|ca| trust_hint(ca)).collect()
}

/// Reaches a controller whose CA is known only by the SHA-256 of its certificate (lower-case hexadecimal), without a
/// client certificate. See [`refusal`] for telling "another CA" from other failures.
pub fn pinned_client(ca_sha256: &str) -> ClientConfig {
    client(Arc::new(pinned(ca_sha256)), None)
}

/// As [`pinned_client`], but the certificate need not be valid now: for asking the controller what time it is, and nothing else.
pub fn pinned_clock_client(ca_sha256: &str) -> ClientConfig {
    client(Arc::new(AnyTime(pinned(ca_sha256))), None)
}

fn pinned(ca_sha256: &str) -> Pinned {
    Pinned { ca_sha256: ca_sha256.to_owned(), hints: vec![trust_hint(ca_sha256)] }
}

/// Reaches a controller whose CA certificates (PEM) are known, without a client certificate.
pub fn ca_client(ca_pem: &str) -> Result<ClientConfig, CaClientError> {
    Ok(client(Arc::new(of_authorities(ca_pem)?), None))
}

/// As [`ca_client`], but the certificate need not be valid now: for asking the controller what time it is, and nothing else.
pub fn clock_client(ca_pem: &str) -> Result<ClientConfig, CaClientError> {
    Ok(client(Arc::new(AnyTime(of_authorities(ca_pem)?)), None))
}

fn of_authorities(ca_pem: &str) -> Result<Hinting, CaClientError> {
    let certificates = pem::certificates(ca_pem)?;
    let hints = hints(&certificates.iter().map(|ca| sha256_hex(ca)).collect::<Vec<_>>());
    let roots = Arc::new(roots(&certificates).map_err(CaClientError::Tls)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
    Ok(Hinting { verifier, hints })
}

/// Why CA certificates are not usable.
#[derive(Debug, thiserror::Error)]
pub enum CaClientError {
    /// Not PEM.
    #[error("the CA certificates are not usable")]
    Pem(#[from] PemError),
    /// Not certificates.
    #[error("the CA certificates are not usable for TLS")]
    Tls(#[source] rustls::Error),
    /// Not trust anchors.
    #[error("the CA certificates are not usable for TLS")]
    Roots(#[from] VerifierBuilderError),
}

/// Who the peer is, from the chain that its handshake proved: the first certificate, and only that one.
pub fn peer_of(chain: &[CertificateDer<'_>]) -> Result<PeerIdentity, LeafError> {
    PeerIdentity::of(chain.first().ok_or(LeafError::Unreadable)?)
}

fn client(verifier: Arc<dyn ServerCertVerifier>, credentials: Option<SharedCredentials>) -> ClientConfig {
    // "dangerous" is rustls' word for a custom verifier; ours check chain, name and the handshake signature.
    let builder = tls13(ClientConfig::builder_with_provider(provider()))
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credentials {
        Some(credentials) => {
            builder.with_client_cert_resolver(Arc::new(Present(credentials, Presented::Chain)))
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn server(credentials: SharedCredentials, mandatory: bool, presented: Presented) -> ServerConfig {
    let verifier = Clients { credentials: credentials.clone(), mandatory };
    let mut config = tls13(ServerConfig::builder_with_provider(provider()))
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Present(credentials, presented)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

fn tls13<S: rustls::ConfigSide>(
    builder: ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    builder.with_protocol_versions(&[&TLS13]).expect("ring has TLS 1.3 cipher suites")
}

/// Trust anchors from certificates.
pub(crate) fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    certificates.iter().try_for_each(|der| roots.add(der.clone()))?;
    Ok(roots)
}

/// Checks client certificates against these roots.
pub(crate) fn client_verifier(
    roots: Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(roots, provider()).clear_root_hint_subjects().build()
}
