//! A controller made for tests: the real TLS settings, and answers as each test wants them.

use bytes::Bytes;
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    credentials::{Credentials, SharedCredentials},
    csr,
    key::{self, PrivateKey},
    spiffe::{SpiffeId, SpiffeRole},
    tls,
    token::{EnrollmentClaims, EnrollmentMethod, Signer},
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A network: its authority and token key.
pub(crate) struct Network {
    pub(crate) ca: CertificateAuthority,
    pub(crate) signer: Signer,
}

impl Network {
    pub(crate) fn new() -> Arc<Self> {
        let ca = CertificateAuthority::create("mesh.example", OffsetDateTime::now_utc()).unwrap();
        Arc::new(Self { ca, signer: Signer::generate().unwrap() })
    }

    pub(crate) fn chain(&self, role: SpiffeRole, id: &str, spki_der: &[u8], validity: Duration) -> String {
        let request = IssueRequest {
            subject: SpiffeId::new("mesh.example", role, id).unwrap(),
            spki_der: spki_der.to_vec(),
            validity,
            dns_names: vec!["localhost".into()],
            ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        };
        self.ca.issue(&request, OffsetDateTime::now_utc()).unwrap().chain_pem
    }

    pub(crate) fn credentials(&self, role: SpiffeRole, id: &str, validity: Duration) -> SharedCredentials {
        let key = key::generate().unwrap();
        let chain = self.chain(role, id, key.spki_der(), validity);
        Credentials::from_pem(&chain, &key.to_pem(), &self.ca.ca_pem()).unwrap().into()
    }

    pub(crate) fn controller(&self) -> SharedCredentials {
        self.credentials(SpiffeRole::Controller, "c1", HOUR)
    }

    pub(crate) fn claims(&self, urls: &[String], method: EnrollmentMethod) -> EnrollmentClaims {
        EnrollmentClaims {
            iss: urls[0].clone(),
            sub: "alice".into(),
            jti: "secret".into(),
            exp: OffsetDateTime::now_utc().unix_timestamp() as u64 + 60,
            em: method,
            ctrls: urls.to_vec(),
            ca_sha256: self.ca.ca_sha256(),
        }
    }

    pub(crate) fn token(&self, url: &str) -> String {
        self.signer.sign(&self.claims(&[url.to_owned()], EnrollmentMethod::Ott)).unwrap()
    }
}

/// What the enrollment endpoint is asked.
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: serde_json::Value,
}

impl Asked {
    pub(crate) fn spki(&self) -> Vec<u8> {
        csr::public_key(&csr::from_pem(self.body["csr"].as_str().unwrap()).unwrap()).unwrap()
    }
}

/// Status and body, or nothing: the connection is dropped.
pub(crate) type Answer = Option<(u16, String)>;

pub(crate) fn granted(chain: &str, ca: &str) -> Answer {
    Some((200, serde_json::json!({ "data": { "cert": chain, "ca": ca }, "meta": {} }).to_string()))
}

/// A listening controller that ends with its handle.
pub(crate) struct Serving {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves HTTP/1.1 with `answer`.
pub(crate) async fn serve(
    credentials: SharedCredentials,
    answer: impl Fn(Asked) -> Answer + Send + Sync + 'static,
) -> Serving {
    let (listener, address) = listen().await;
    let acceptor = TlsAcceptor::from(Arc::new(tls::controller_server(credentials)));
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let answer = answer.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let asked = Asked { path, body: serde_json::from_slice(&body).unwrap() };
                    let (status, body) = answer(asked).ok_or("dropped")?;
                    let answer = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                    Ok::<_, &str>(answer.unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    Serving { url: format!("https://127.0.0.1:{}", address.port()), task }
}

/// A TLS and HTTP/2 server for gRPC routes. `seen` gets the client's serial and the connection's task at each
/// handshake; aborting the task cuts the connection.
pub(crate) async fn serve_grpc(
    listener: TcpListener,
    credentials: SharedCredentials,
    routes: tonic::service::Routes,
    seen: tokio::sync::mpsc::UnboundedSender<(String, JoinHandle<()>)>,
) -> JoinHandle<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::controller_server(credentials)));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else { continue };
            let peer = tls::peer_of(stream.get_ref().1.peer_certificates().unwrap()).unwrap();
            let service = hyper_util::service::TowerToHyperService::new(routes.clone());
            let task = tokio::spawn(async move {
                let executor = hyper_util::rt::TokioExecutor::new();
                let connection = hyper::server::conn::http2::Builder::new(executor);
                let _: Result<(), hyper::Error> =
                    connection.serve_connection(TokioIo::new(stream), service).await;
            });
            if seen.send((peer.serial, task)).is_err() {
                return;
            }
        }
    })
}

/// A fresh key's public key, for answers about somebody else.
pub(crate) fn other_key() -> PrivateKey {
    key::generate().unwrap()
}
