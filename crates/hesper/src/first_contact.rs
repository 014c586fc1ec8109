//! The first contact with a controller whose certificate authority is not known yet.
//!
//! The connection made here is believed in nothing: it only fetches the authority's certificate, which the user then
//! accepts or not, and which the next connection is checked against. Nothing secret travels over it.

use crate::api_client::{CA_PATH, Client};
use anyhow::{Context, Result};
use hesper_client::connect::connect;
use hesper_pki::{credentials::SharedCredentials, digest::sha256_hex, pem, tls};
use reqwest::Url;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{sync::Arc, time::Duration};
use tokio::{io::AsyncReadExt, time::timeout};

/// How long a controller may take to refuse a certificate.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

/// The certificate authority that a controller claims.
#[derive(Debug)]
pub(crate) struct Authority {
    /// PEM.
    pub(crate) pem: String,
    /// SHA-256 of each certificate, lower-case hexadecimal.
    pub(crate) fingerprints: Vec<String>,
}

impl Authority {
    /// Certificates read from PEM.
    ///
    /// # Errors
    /// There is no certificate in it.
    pub(crate) fn from_pem(pem: String) -> Result<Self> {
        let certificates = pem::certificates(&pem).context("there are no CA certificates in it")?;
        let fingerprints = certificates.iter().map(|c| sha256_hex(c)).collect();
        Ok(Self { pem, fingerprints })
    }

    /// Asks the controller, unverified; then checks that its own certificate comes from the authority it named.
    ///
    /// # Errors
    /// The controller cannot be reached, is none, or its certificate is not from that authority.
    pub(crate) async fn ask(base: &Url, timeout: Duration) -> Result<Self> {
        let provider = tls::provider();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .context("cannot set up TLS")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        let pem = Client::new(base, config, timeout)?.text(CA_PATH).await?;
        let authority = Self::from_pem(pem).with_context(|| format!("{base} gave no usable CA"))?;
        authority.again(base, timeout).await.with_context(|| {
            format!("the certificate of {base} cannot be verified by the authority that it named")
        })
    }

    /// What the controller shows to one who trusts these authorities: the same, or those that they vouch for.
    ///
    /// # Errors
    /// The controller cannot be reached, or is not vouched for by them.
    pub(crate) async fn again(&self, base: &Url, timeout: Duration) -> Result<Self> {
        let verified = Client::new(base, tls::ca_client(&self.pem)?, timeout)?.trusting(&self.pem);
        Self::from_pem(verified.text(CA_PATH).await?)
    }
}

/// What the controller says against a client certificate; none when it accepts it.
///
/// In TLS 1.3 the client is done before the server has looked at its certificate, so an HTTP request may fail in any way
/// before the refusal is read. Here nothing is sent, and the refusal is what comes.
///
/// # Errors
/// The controller cannot be reached.
pub(crate) async fn certificate_refusal(
    base: &Url,
    credentials: SharedCredentials,
) -> Result<Option<String>> {
    let mut stream = connect(&base.as_str().parse()?, Arc::new(tls::controller_client(credentials))).await?;
    match timeout(REFUSAL_DEADLINE, stream.read_u8()).await {
        Ok(Err(e)) => Ok(Some(e.to_string())),
        Ok(Ok(_)) | Err(_) => Ok(None),
    }
}

/// Accepts every certificate; checks only that the server holds its key.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &tls::provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &tls::provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
