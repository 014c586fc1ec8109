//! TLS as operators have it: an authority, a certificate for names, and an ingress that ends TLS before a port.

use crate::Place;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{io::copy_bidirectional, net::TcpStream, runtime::Runtime};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// What ingresses offer in TLS: HTTP/2 first.
const BOTH: &[&str] = &["h2", "http/1.1"];

/// Files of PEM.
pub struct Files {
    /// The certificate of who signed it.
    pub authority: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Writes a certificate for these names (DNS names and addresses) from an authority of its own.
///
/// # Panics
/// When it cannot be written.
pub fn certificate(names: &[&str], directory: &Path) -> Files {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("an authority");
    let issuer = Issuer::new(params, key);
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("a certificate");
    let file = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).expect("write a file of TLS");
        path
    };
    Files {
        authority: file("authority.pem", authority.pem()),
        certificate: file("certificate.pem", leaf.pem()),
        key: file("key.pem", key.serialize_pem()),
    }
}

/// Ends TLS; gone when it is dropped.
pub struct Ingress {
    _runtime: Runtime,
    /// Of its certificate.
    pub files: Files,
}

impl Ingress {
    /// Listens at `place`, at this address, for these names, and leads the plain streams to an address there.
    ///
    /// # Panics
    /// When it cannot listen.
    #[track_caller]
    pub fn start(
        place: &Place,
        address: SocketAddr,
        names: &[&str],
        to: SocketAddr,
        directory: &Path,
    ) -> Self {
        Self::offering(BOTH, place, address, names, to, directory)
    }

    /// The same, for these protocols (RFC 7301).
    ///
    /// # Panics
    /// When it cannot listen.
    #[track_caller]
    pub fn offering(
        protocols: &[&str],
        place: &Place,
        address: SocketAddr,
        names: &[&str],
        to: SocketAddr,
        directory: &Path,
    ) -> Self {
        let files = certificate(names, directory);
        // Its threads are there, and so are the connections that they open.
        let there = place.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || there.enter())
            .enable_all()
            .build()
            .expect("a runtime");
        let tls = TlsAcceptor::from(server(&files, protocols));
        let started = runtime.spawn(async move {
            let listener = TcpListener::bind(address).expect("listen");
            listener.set_nonblocking(true).expect("a socket that does not block");
            tokio::spawn(serve(tokio::net::TcpListener::from_std(listener).expect("a listener"), tls, to));
        });
        runtime.block_on(started).expect("the ingress listens");
        Self { _runtime: runtime, files }
    }
}

async fn serve(listener: tokio::net::TcpListener, tls: TlsAcceptor, to: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let tls = tls.clone();
        tokio::spawn(async move {
            let mut outside = tls.accept(stream).await?;
            let mut inside = TcpStream::connect(to).await?;
            copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

fn server(files: &Files, protocols: &[&str]) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config =
        versions.with_no_client_auth().with_single_cert(chain, key).expect("a certificate and its key");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}
