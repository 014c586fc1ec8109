//! TLS of clients.

use super::{
    TlsError,
    files::{authorities, certified, files_of, roots},
    pinned::{Anybody, Trusting},
    provider, versions,
};
use crate::{net::BoxIo, watched::Watched};
use hesper_collector_config::ClientTls;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, Resumption, WebPkiServerVerifier, danger::ServerCertVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::ServerName;
use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A server that has not finished its handshake by then never will.
const DEADLINE: Duration = Duration::from_secs(10);

/// Speaks TLS with servers.
#[derive(Clone)]
pub struct ClientTlsLayer(Arc<Parts>);

struct Parts {
    settings: ClientTls,
    alpn: Vec<Vec<u8>>,
    identity: Option<Arc<Shown>>,
    servers: Watched<Arc<dyn ServerCertVerifier>>,
}

impl fmt::Debug for ClientTlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTlsLayer")
    }
}

impl ClientTlsLayer {
    /// From the settings of a client, which offers these protocols ([`super::H2`], [`super::HTTP1`]), the best one first. Whether
    /// TLS is spoken at all is the caller's decision, see [`ClientTls::is_plaintext`]. Files are read now, and again as the
    /// settings say.
    ///
    /// # Errors
    /// A file cannot be read, the certificate has expired, the key belongs to another one, there is no CA to trust.
    pub fn new(settings: &ClientTls, alpn: &[&[u8]]) -> Result<Self, TlsError> {
        let interval = Some(settings.reload_interval).filter(|interval| !interval.is_zero());
        let identity = settings
            .identity
            .clone()
            .map(|identity| Watched::new(files_of(&identity), interval, move || certified(&identity)));
        let ca: Vec<PathBuf> = settings.ca_file.iter().map(PathBuf::from).collect();
        let wanted = settings.clone();
        Ok(Self(Arc::new(Parts {
            settings: settings.clone(),
            alpn: alpn.iter().map(|protocol| protocol.to_vec()).collect(),
            identity: identity.transpose()?.map(|watched| Arc::new(Shown(watched))),
            servers: Watched::new(ca, interval, move || verifier(&wanted))?,
        })))
    }

    /// Does the handshake with the server of that name (a host name or an address; `server_name_override` counts instead).
    ///
    /// # Errors
    /// The server is not who it should be, or does not finish in time; the text says why.
    pub async fn wrap(&self, io: BoxIo, server_name: &str) -> io::Result<BoxIo> {
        self.handshake(io, server_name).await.map(|(io, _)| io)
    }

    /// As [`wrap`](Self::wrap), and the protocol that the server chose, if it chose one.
    ///
    /// # Errors
    /// As [`wrap`](Self::wrap).
    pub async fn handshake(&self, io: BoxIo, server_name: &str) -> io::Result<(BoxIo, Option<Vec<u8>>)> {
        let name = self.0.settings.server_name_override.as_deref().unwrap_or(server_name);
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
        let parsed = ServerName::try_from(name.to_owned())
            .map_err(|_| invalid(format!("'{name}' is no name that a certificate could have")))?;
        let config = self.config().map_err(|e| invalid(e.0))?;
        let connected = timeout(DEADLINE, TlsConnector::from(Arc::new(config)).connect(parsed, io)).await;
        let stream = connected
            .map_err(|_| {
                let text = format!("no TLS with '{name}': the handshake was not finished in {DEADLINE:?}");
                io::Error::new(io::ErrorKind::TimedOut, text)
            })?
            .map_err(|e| explained(name, &e))?;
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((Box::new(stream), protocol))
    }

    /// The configuration of rustls as the files say now, for HTTP clients that do the handshake themselves.
    ///
    /// # Errors
    /// No version of TLS is left.
    pub fn config(&self) -> Result<ClientConfig, TlsError> {
        let parts = &self.0;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&versions(parts.settings.min_version, parts.settings.max_version))
            .map_err(|e| TlsError(format!("no version of TLS is left: {e}")))?
            // "dangerous" is rustls' word for a verifier of one's own.
            .dangerous()
            .with_custom_certificate_verifier(parts.servers.current().as_ref().clone());
        let mut config = match &parts.identity {
            Some(shown) => builder.with_client_cert_resolver(shown.clone()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&parts.alpn);
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// How servers are checked.
fn verifier(settings: &ClientTls) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if settings.insecure_skip_verify {
        return Ok(Arc::new(Anybody));
    }
    let (file, pem) = (settings.ca_file.as_deref(), settings.ca_pem.as_deref());
    let own = file.is_some() || pem.is_some();
    let given = if own { authorities(file, pem)? } else { Vec::new() };
    let mut trusted = roots(&given, file.unwrap_or("ca_pem"))?;
    if !own || settings.include_system_ca_certs_pool {
        add_system_roots(&mut trusted)?;
    }
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider())
        .build()
        .map_err(|e| format!("the CAs cannot be used: {e}"))?;
    Ok(Arc::new(Trusting { usual, given }))
}

fn add_system_roots(roots: &mut RootCertStore) -> Result<(), String> {
    let found = rustls_native_certs::load_native_certs();
    // Stores of systems hold certificates that are no use to anybody.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(());
    }
    let reason = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
    Err(format!(
        "this machine has no CA certificates{reason}; install them (ca-certificates), or give the server's CA with ca_file"
    ))
}

/// The error of a handshake with what to do about it.
fn explained(name: &str, error: &io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let next = match cause {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "; give the server's CA with ca_file"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "; write a name of the certificate as endpoint or as server_name_override",
        Some(Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        )) => "; it wants a client certificate of its CA: give cert_file and key_file",
        Some(Error::InvalidMessage(_)) => "; does it speak TLS at all? If not, write tls: {insecure: true}",
        _ => "",
    };
    io::Error::new(error.kind(), format!("no TLS with '{name}': {error}{next}"))
}

/// The certificate that is shown, as its file says now.
#[derive(Debug)]
struct Shown(Watched<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
