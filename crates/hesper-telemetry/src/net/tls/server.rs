//! TLS of listeners.

use super::{
    H2, HTTP1, TlsError,
    files::{authorities, certified, files_of, roots},
    provider, versions,
};
use crate::{
    net::{BoxIo, Peer},
    watched::{INTERVAL, Watched},
};
use hesper_collector_config::ServerTls;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::{io, path::PathBuf, sync::Arc};
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;

/// Speaks TLS with who comes in.
#[derive(Clone)]
pub struct ServerTlsLayer(TlsAcceptor);

impl std::fmt::Debug for ServerTlsLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTlsLayer")
    }
}

impl ServerTlsLayer {
    /// From the settings of a listener. Its files are read now, and again as the settings say.
    ///
    /// # Errors
    /// A file cannot be read, the certificate has expired, the key belongs to another one.
    pub fn new(settings: &ServerTls) -> Result<Self, TlsError> {
        let interval = Some(settings.reload_interval).filter(|interval| !interval.is_zero());
        let identity = settings.identity.clone();
        let shown = Watched::new(files_of(&identity), interval, move || certified(&identity))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions(settings.min_version, settings.max_version))
            .map_err(|e| TlsError(format!("no version of TLS is left: {e}")))?;
        let shown = Arc::new(Shown(shown));
        let mut config = match &settings.client_ca_file {
            None => builder.with_no_client_auth().with_cert_resolver(shown),
            Some(file) => {
                let callers = Callers::new(file, settings.client_ca_file_reload)?;
                let mut config =
                    builder.with_client_cert_verifier(Arc::new(callers)).with_cert_resolver(shown);
                // A resumed session is not checked against the CA again.
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
                config
            }
        };
        config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Does the handshake, and notes whose certificate the caller has. To be given a deadline.
    ///
    /// # Errors
    /// It failed; the text says why.
    pub async fn accept(&self, io: BoxIo, mut peer: Peer) -> io::Result<(BoxIo, Peer)> {
        let stream = self.0.accept(io).await.map_err(|e| io::Error::new(e.kind(), format!("no TLS: {e}")))?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        peer.tls_subject = leaf.and_then(|leaf| subject(leaf));
        Ok((Box::new(stream), peer))
    }
}

/// Who a certificate is for: its subject, or where that is empty (SPIFFE) the first name beside it.
fn subject(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let subject = parsed.subject().to_string();
    if !subject.is_empty() {
        return Some(subject);
    }
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(name) | GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => {
            Some((*name).to_owned())
        }
        _ => None,
    })
}

/// The certificate that is shown, as its file says now.
#[derive(Debug)]
struct Shown(Watched<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current())
    }
}

/// Checks callers against the CA, as its file says now.
#[derive(Debug)]
struct Callers(Watched<Arc<dyn ClientCertVerifier>>);

impl Callers {
    fn new(file: &str, reload: bool) -> Result<Self, String> {
        let path = file.to_owned();
        let load = move || {
            let roots = Arc::new(roots(&authorities(Some(&path), None)?, &path)?);
            let verifier: Arc<dyn ClientCertVerifier> =
                WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|e| format!("the CA in {path} cannot be used: {e}"))?;
            Ok::<_, String>(verifier)
        };
        Watched::new(vec![PathBuf::from(file)], reload.then_some(INTERVAL), load).map(Self)
    }
}

impl ClientCertVerifier for Callers {
    /// None: whoever has one certificate shows it, and the CAs may change.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.current().verify_client_cert(leaf, others, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.current().verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.current().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.current().supported_verify_schemes()
    }
}
