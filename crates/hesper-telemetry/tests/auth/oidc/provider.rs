use super::{Signer, authenticator, bearer, claims_with, jwks};
use crate::check;
use bytes::Bytes;
use hesper_collector_config::{Endpoint, Secret, ServerTls, TlsIdentity, TlsVersion};
use hesper_otlp::Refusal;
use hesper_telemetry::{
    auth::{Authenticator, server::Raw},
    net::listen,
};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::json;
use std::{
    convert::Infallible,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;

/// A provider with HTTPS.
struct Provider {
    issuer: String,
    /// What it says that its issuer is, and its keys; none: it is out of order.
    says: Arc<Mutex<Option<(String, String)>>>,
    asked: Arc<AtomicUsize>,
    dir: TempDir,
}

impl Provider {
    async fn new(keys: String) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("signed").pem();
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("ca.pem"), &cert).expect("written");
        let identity = TlsIdentity {
            cert_pem: Some(cert),
            key_pem: Some(Secret::new(key.serialize_pem())),
            ..TlsIdentity::default()
        };
        let tls = ServerTls {
            identity,
            client_ca_file: None,
            client_ca_file_reload: false,
            reload_interval: Duration::ZERO,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        };
        let Ok(Endpoint::Underlay(address)) = Endpoint::parse("127.0.0.1:0") else { panic!("an address") };
        let mut listener = listen(&address, Some(&tls)).await.expect("listens");
        let issuer = format!("https://{}", listener.addresses[0]);
        let provider = Self {
            says: Arc::new(Mutex::new(Some((issuer.clone(), keys)))),
            asked: Arc::default(),
            issuer: issuer.clone(),
            dir,
        };
        let (says, asked) = (provider.says.clone(), provider.asked.clone());
        tokio::spawn(async move {
            while let Some(arrival) = listener.incoming.next().await {
                // Who does not trust the certificate goes away here.
                let Ok((io, _)) = arrival.ready.await else { continue };
                let (says, asked, issuer) = (says.clone(), asked.clone(), issuer.clone());
                let serve = service_fn(move |request: Request<Incoming>| {
                    let answer = answer(request.uri().path(), &issuer, &says, &asked);
                    async { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), serve));
            }
        });
        provider
    }

    fn authenticator(&self, ca: bool) -> Arc<dyn Authenticator> {
        let ca = if ca { self.dir.path().join("ca.pem") } else { self.dir.path().join("other.pem") };
        let text = format!(
            "oidc: {{issuer_url: '{}', audience: collector, issuer_ca_path: '{}'}}",
            self.issuer,
            ca.display()
        );
        authenticator(&text, Raw::Forget)
    }

    fn token(&self, signer: &Signer) -> http::HeaderMap {
        bearer(&signer.token(&claims_with(&json!({"iss": self.issuer}))))
    }
}

fn answer(
    path: &str,
    issuer: &str,
    says: &Mutex<Option<(String, String)>>,
    asked: &AtomicUsize,
) -> Response<Full<Bytes>> {
    asked.fetch_add(1, Ordering::Relaxed);
    let says = says.lock().expect("no panic").clone();
    let body = match (path, says) {
        ("/.well-known/openid-configuration", Some((name, _))) => {
            Some(json!({"issuer": name, "jwks_uri": format!("{issuer}/keys")}).to_string())
        }
        ("/keys", Some((_, keys))) => Some(keys),
        _ => None,
    };
    let status = if body.is_some() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut response = Response::new(Full::from(body.unwrap_or_default()));
    *response.status_mut() = status;
    response
}

fn is_overloaded(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Overloaded { after, .. } if !after.is_zero())
}

#[tokio::test]
async fn keys_are_asked_for_once_however_many_come() {
    let (signer, stranger) = (Signer::es256("a"), Signer::es256("b"));
    let provider = Provider::new(jwks(&[&signer])).await;
    let server = provider.authenticator(true);
    let token = provider.token(&signer);
    let answers = futures::future::join_all((0..100).map(|_| check(&*server, &token))).await;
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
    assert_eq!(provider.asked.load(Ordering::Relaxed), 2, "its description and its keys");

    // It may be a key that came a moment ago: who sends it comes again. The provider is not asked for every one.
    let refusal = check(&*server, &provider.token(&stranger)).await.expect_err("unknown");
    assert!(is_overloaded(&refusal), "{refusal:?}");
    assert_eq!(provider.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_key_that_the_provider_does_not_have_is_refused() {
    let (signer, stranger) = (Signer::es256("a"), Signer::es256("b"));
    let provider = Provider::new(jwks(&[&signer])).await;
    let server = provider.authenticator(true);
    for _ in 0..3 {
        let refusal = check(&*server, &provider.token(&stranger)).await.expect_err("unknown");
        assert!(matches!(refusal, Refusal::Unauthenticated(_)), "{refusal:?}");
    }
    check(&*server, &provider.token(&signer)).await.expect("the key");
    assert_eq!(provider.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_provider_that_is_away_is_no_fault_of_the_caller() {
    let signer = Signer::es256("a");
    let provider = Provider::new(jwks(&[&signer])).await;
    *provider.says.lock().expect("no panic") = None;
    let server = provider.authenticator(true);
    for _ in 0..10 {
        let refusal = check(&*server, &provider.token(&signer)).await.expect_err("no keys");
        assert!(is_overloaded(&refusal), "{refusal:?}");
    }
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1, "it is left alone for a while");
}

#[tokio::test]
async fn a_provider_that_is_another_one_is_not_believed() {
    let signer = Signer::es256("a");
    let provider = Provider::new(jwks(&[&signer])).await;
    provider.says.lock().expect("no panic").as_mut().expect("it speaks").0 = "https://other.example".into();
    let server = provider.authenticator(true);
    let refusal = check(&*server, &provider.token(&signer)).await.expect_err("no keys");
    assert!(is_overloaded(&refusal), "{refusal:?}");

    // One whose certificate is of another CA.
    let provider = Provider::new(jwks(&[&signer])).await;
    let other = Provider::new(jwks(&[&signer])).await;
    fs::copy(other.dir.path().join("ca.pem"), provider.dir.path().join("other.pem")).expect("copied");
    let server = provider.authenticator(false);
    let refusal = check(&*server, &provider.token(&signer)).await.expect_err("no keys");
    assert!(is_overloaded(&refusal), "{refusal:?}");
    assert_eq!(provider.asked.load(Ordering::Relaxed), 0);
}
