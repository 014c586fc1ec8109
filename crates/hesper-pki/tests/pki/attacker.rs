//! Handshakes in memory, and peers that show what they should not.

use hesper_pki::{
    CertificateDer,
    key::PrivateKey,
    spiffe::SpiffeId,
    tls::{self, VerifyError, refusal},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::{io, sync::Arc};

pub(crate) type Sides = (ClientConnection, ServerConnection);

/// Runs a handshake to its end. An error says which side refused.
pub(crate) fn handshake(
    client: ClientConfig,
    server: ServerConfig,
    name: &'static str,
) -> Result<Sides, (&'static str, Error)> {
    handshake_with(&Arc::new(client), &Arc::new(server), name)
}

pub(crate) fn handshake_with(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &'static str,
) -> Result<Sides, (&'static str, Error)> {
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    loop {
        let mut wire = vec![];
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let to_server = !wire.is_empty();
        feed(&wire, |bytes| server.read_tls(bytes));
        server.process_new_packets().map_err(|e| ("server", e))?;
        let mut wire = vec![];
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let to_client = !wire.is_empty();
        feed(&wire, |bytes| client.read_tls(bytes));
        client.process_new_packets().map_err(|e| ("client", e))?;
        if !to_server && !to_client {
            assert!(!client.is_handshaking() && !server.is_handshaking());
            return Ok((client, server));
        }
    }
}

fn feed(mut wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> io::Result<usize>) {
    while !wire.is_empty() {
        read(&mut wire).unwrap();
    }
}

pub(crate) fn refused(result: Result<Sides, (&'static str, Error)>) -> (&'static str, Error) {
    result.expect_err("the handshake must be refused")
}

/// The reason of ours with which a side refused.
pub(crate) fn reason(result: Result<Sides, (&'static str, Error)>) -> (&'static str, VerifyError) {
    let (side, error) = refused(result);
    (side, refusal(&error).unwrap_or_else(|| panic!("{side}: {error:?}")).clone())
}

pub(crate) fn server_of(sides: &Sides) -> SpiffeId {
    tls::peer_of(sides.0.peer_certificates().unwrap()).unwrap().id
}

pub(crate) fn client_of(sides: &Sides) -> SpiffeId {
    tls::peer_of(sides.1.peer_certificates().unwrap()).unwrap().id
}

/// A client that shows any chain with any key and accepts every server: what an attacker would run.
#[derive(Debug)]
struct AcceptAll;

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct Show(Arc<rustls::sign::CertifiedKey>);

impl Show {
    fn new(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Arc<Self> {
        let der = <PrivatePkcs8KeyDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
            key.to_pem().as_bytes(),
        );
        let signer = tls::provider().key_provider.load_private_key(der.unwrap().into()).unwrap();
        // `new` does not compare key and leaf.
        Arc::new(Self(Arc::new(rustls::sign::CertifiedKey::new(chain, signer))))
    }
}

impl rustls::client::ResolvesClientCert for Show {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Show {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

pub(crate) fn attacker(
    chain: Option<(Vec<CertificateDer<'static>>, &PrivateKey)>,
    alpn: &[u8],
) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAll));
    let mut config = match chain {
        Some((chain, key)) => builder.with_client_cert_resolver(Show::new(chain, key)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// A server that shows any chain with any key, and takes every client.
pub(crate) fn impostor(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> ServerConfig {
    ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Show::new(chain, key))
}

pub(crate) fn overlay(mut server: ServerConfig) -> ServerConfig {
    server.alpn_protocols = vec![tls::ALPN_OVERLAY.to_vec()];
    server
}
