//! What is asked, and what comes of each kind of answer.

use crate::support::{Run, Target, answer, job, metrics, serve, settings};
use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use hesper_telemetry::scrape::Health;
use http::{HeaderMap, Response};
use http_body_util::Full;
use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::net::TcpListener;

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("gzip");
    encoder.finish().expect("gzip")
}

#[tokio::test]
async fn a_target_is_asked_as_prometheus_asks_and_over_one_connection() {
    let asked: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
    let seen = asked.clone();
    let target = Target::start(move |request| {
        let mut seen = seen.lock().expect("the list");
        seen.push((request.uri().to_string(), request.headers().clone()));
        let text = format!("# TYPE c counter\nc {}\n", seen.len());
        let response =
            Response::builder().header("content-type", "text/plain").header("content-encoding", "gzip");
        response.body(Full::new(gzip(text.as_bytes()).into())).expect("an answer")
    })
    .await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "secret\n").expect("write");
    let keys = format!(
        "metrics_path: /m, params: {{a: ['1', 'x y']}}, http_headers: {{X-Y: {{values: [z]}}}}, \
         basic_auth: {{username: u, password_file: '{}'}}",
        file.path().display()
    );
    let mut run = Run::start(settings(&[&job("j", target.at, &keys)]));
    let mut last = Vec::new();
    for number in 1..=3 {
        last = run.until(&format!(" c{{}} {number} ")).await;
    }
    let instance = target.at.to_string();
    assert!(last.contains(&format!("{instance} up{{}} 1 0")), "{last:#?}");
    assert_eq!(target.count(), 1, "the connection is kept");
    let state = run.scraper.targets();
    assert_eq!((state[0].health, state[0].url.as_str()), (Health::Up, &*format!("http://{instance}/m")));
    run.end().await;
    let asked = asked.lock().expect("the list");
    let (uri, headers) = &asked[0];
    assert_eq!(uri, "/m?a=1&a=x%20y");
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("host"), instance);
    assert!(
        header("accept")
            .starts_with("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,")
    );
    assert_eq!(header("accept-encoding"), "gzip");
    assert_eq!(header("x-prometheus-scrape-timeout-seconds"), "0.5");
    assert_eq!(header("x-y"), "z");
    assert_eq!(header("authorization"), format!("Basic {}", STANDARD.encode("u:secret")));
    assert!(header("user-agent").starts_with("hesper/"));
}

#[tokio::test]
async fn who_is_slow_or_dead_holds_up_nobody() {
    let silent = Target::silent().await;
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    };
    let good = Target::start(|_| metrics("a 1\n")).await;
    let mut run = Run::start(settings(&[&job("dead", dead, ""), &job("good", good.at, "")]));
    for _ in 0..5 {
        run.until(&format!("{} a{{}} 1 ", good.at)).await;
    }
    run.until(&format!("{dead} up{{}} 0 ")).await;
    let state = run.scraper.targets().into_iter().find(|state| state.job == "dead").expect("a state");
    assert_eq!(state.health, Health::Down);
    assert!(state.error.as_ref().is_some_and(|error| error.contains("refused")), "{state:?}");
    run.end().await;
    let mut run = Run::start(settings(&[&job("silent", silent, ""), &job("good", good.at, "")]));
    for _ in 0..5 {
        run.until(&format!("{} a{{}} 1 ", good.at)).await;
    }
    run.until(&format!("{silent} up{{}} 0 ")).await;
    let state = run.scraper.targets().into_iter().find(|state| state.job == "silent").expect("a state");
    assert_eq!(state.error.as_deref(), Some("no whole answer in 500ms"));
    run.end().await;
}

/// What the state of a target says after its first scrape, which fails.
async fn error(keys: &str, handler: impl Fn() -> crate::support::Answer + Send + Sync + 'static) -> String {
    let target = Target::start(move |_| handler()).await;
    // Long enough for a machine that is busy: what is asserted is not that it is in time.
    let keys = format!("scrape_interval: 3s, {keys}");
    let mut run = Run::start(settings(&[&job("j", target.at, keys.trim_end_matches(", "))]));
    run.until(" up{} 0 ").await;
    let error = run.scraper.targets()[0].error.clone().expect("an error");
    run.end().await;
    error
}

#[tokio::test]
async fn answers_that_cannot_be_taken() {
    let html = || answer(200, "text/html", "<html>");
    assert!(error("", html).await.contains("the Content-Type 'text/html', which is no format of metrics"));
    assert_eq!(error("", || answer(503, "text/plain", "")).await, "it answered 503 Service Unavailable");
    assert!(error("", || metrics("a 1\nb")).await.starts_with("line 2, byte 2: there is no value"));
    let bytes: bytes::Bytes = gzip(&vec![b'\n'; 10 << 20]).into();
    let bomb = move || {
        let body = Full::new(bytes.clone());
        let response =
            Response::builder().header("content-type", "text/plain").header("content-encoding", "gzip");
        response.body(body).expect("an answer")
    };
    assert_eq!(error("body_size_limit: 1MB", bomb).await, "the answer has more than 1048576 bytes");
    assert_eq!(
        error("body_size_limit: 10B", || metrics("a 1\na 2\na 3\n")).await,
        "the answer has more than 10 bytes"
    );
    let odd = || {
        let response =
            Response::builder().header("content-type", "text/plain").header("content-encoding", "br");
        response.body(Full::new("a 1\n".into())).expect("an answer")
    };
    assert!(error("", odd).await.contains("the Content-Encoding 'br' was not asked for"));
    let broken = || {
        let response =
            Response::builder().header("content-type", "text/plain").header("content-encoding", "gzip");
        response.body(Full::new("a 1\n".into())).expect("an answer")
    };
    assert!(
        error("", broken).await.contains("is no gzip") || error("", broken).await.contains("no whole gzip")
    );
    assert!(error("bearer_token_file: /nowhere", || metrics("")).await.contains("no credentials: /nowhere"));
}

#[tokio::test]
async fn an_answer_without_type_is_what_the_job_takes_it_for() {
    let target = Target::start(|_| Response::new(Full::new("a 1\n".into()))).await;
    let keys = "fallback_scrape_protocol: PrometheusText0.0.4";
    let mut run = Run::start(settings(&[&job("j", target.at, keys)]));
    run.until(" a{} 1 ").await;
    run.end().await;
}

#[tokio::test]
async fn redirects_are_followed_and_take_no_credentials_elsewhere() {
    let other = Target::start(|request| match request.headers().contains_key("authorization") {
        true => answer(500, "text/plain", ""),
        false => metrics("elsewhere 1\n"),
    })
    .await;
    let to = other.at;
    let target = Target::start(move |request| {
        let location = match request.uri().path() {
            "/metrics" => "/here".to_owned(),
            _ => format!("http://{to}/there"),
        };
        Response::builder().status(302).header("location", location).body(Full::default()).expect("an answer")
    })
    .await;
    let mut run = Run::start(settings(&[&job("j", target.at, "bearer_token: t")]));
    run.until(" elsewhere{} 1 ").await;
    run.end().await;
    let mut run = Run::start(settings(&[&job("j", target.at, "follow_redirects: false")]));
    run.until(" up{} 0 ").await;
    assert_eq!(run.scraper.targets()[0].error.as_deref(), Some("it answered 302 Found"));
    run.end().await;
}

#[tokio::test]
async fn what_the_pipeline_does_not_take_is_counted() {
    let target = Target::start(|_| metrics("a 1\n")).await;
    let mesh = Arc::new(crate::support::Mesh::default());
    let settings = settings(&[&job("j", target.at, "")]);
    let mut run = Run::with(settings, mesh, crate::support::Finds::new(&[]), true);
    run.until(" a{} 1 ").await;
    run.until(" a{} 1 ").await;
    assert!(run.scraper.targets()[0].refused >= 1);
    run.end().await;
}

#[tokio::test]
async fn targets_with_tls() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .and_then(|parameters| parameters.self_signed(&key))
        .expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let scrapes = Arc::new(AtomicU32::new(0));
    let count = scrapes.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), count.clone());
            tokio::spawn(async move {
                let Ok(io) = acceptor.accept(io).await else { return };
                let handler = move |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                    metrics("secret 1\n")
                };
                serve(io, Arc::new(handler)).await;
            });
        }
    });
    let pem = certificate.pem().replace('\n', "\\n");
    let good = format!("scheme: https, tls_config: {{ca: \"{pem}\", server_name: localhost}}");
    let mut run = Run::start(settings(&[&job("j", at, &good)]));
    run.until(" secret{} 1 ").await;
    run.end().await;
    let before = scrapes.load(Ordering::Relaxed);
    let mut run = Run::start(settings(&[&job("j", at, "scheme: https")]));
    run.until(" up{} 0 ").await;
    run.end().await;
    assert_eq!(
        scrapes.load(Ordering::Relaxed),
        before,
        "nobody is told anything whose certificate is not trusted"
    );
}
