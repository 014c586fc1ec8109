//! Checks against real sockets, and what follows for the bind.

use super::*;
use hesper_observe::metrics::Registry;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const BOUND: Terms = Terms { precedence: Precedence::Default, cost: 20 };

fn probe(config: Value) -> Probe {
    match config.get("url") {
        Some(_) => Probe::Http(serde_json::from_value(config).expect("an httpCheck")),
        None => Probe::Port(serde_json::from_value(config).expect("a portCheck")),
    }
}

/// Answers every request with `answer`, and gives the head of the last one.
async fn server(answer: &'static str) -> (SocketAddr, tokio::sync::watch::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let (sender, heads) = tokio::sync::watch::channel(String::new());
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let n = tcp.read(&mut head).await.unwrap_or(0);
            sender.send_replace(String::from_utf8_lossy(&head[..n]).into_owned());
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    (address, heads)
}

fn http(address: SocketAddr, more: Value) -> Value {
    let mut check =
        json!({"url": format!("http://{address}/healthz?key=secret"), "interval": "1s", "timeout": "1s"});
    check.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    check
}

#[tokio::test]
async fn a_port_check_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let check = probe(json!({"address": address, "interval": "1s", "timeout": "1s"}));
    assert_eq!(check.run().await, Ok(()));
    drop(listener);
    let reason = check.run().await.expect_err("closed");
    assert!(reason.contains("refused"), "{reason}");
    assert_eq!(check.to_string(), format!("port {address}"));
}

#[tokio::test]
async fn an_https_check_trusts_no_other_certificate() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = key.cert.der().clone();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let tls = rustls::ServerConfig::builder_with_provider(hesper_pki::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], private.into())
        .expect("a key");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let _ = tls.read(&mut [0; 4096]).await;
            let _ = tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await;
            let _ = tls.shutdown().await;
        }
    });
    let check = |host: &str| {
        let url = format!("https://{host}:{port}/healthz");
        let config = json!({"url": url, "interval": "1s", "timeout": "1s", "expectInBody": "fine"});
        serde_json::from_value(config).expect("an httpCheck")
    };
    let trusting = probe::client_with(vec![certificate]).expect("a client");
    assert_eq!(probe::request(&trusting, &check("localhost")).await, Ok(()));
    let stranger = probe::client_with(Vec::new()).expect("a client");
    for (client, host) in [(&stranger, "localhost"), (&trusting, "127.0.0.1")] {
        let reason = probe::request(client, &check(host)).await.expect_err("not trusted");
        assert!(reason.contains("certificate"), "{reason}");
    }
}

#[tokio::test]
async fn an_http_check_looks_at_status_and_body() {
    let (address, head) = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall fine\n").await;
    for (more, expected) in [
        (json!({}), Ok(())),
        (json!({"expectInBody": "fine"}), Ok(())),
        (json!({"expectInBody": ""}), Ok(())),
        (json!({"expectInBody": "broken"}), Err("its answer does not contain what expectInBody says")),
        (json!({"expectStatus": 204}), Err("it answered 200, expected 204")),
    ] {
        let result = probe(http(address, more.clone())).run().await;
        assert_eq!(result, expected.map_err(str::to_owned), "{more}");
    }
    let post = probe(http(address, json!({"method": "POST", "body": "ping"})));
    assert_eq!(post.run().await, Ok(()));
    let head = head.borrow().clone();
    assert!(
        head.starts_with("POST /healthz?key=secret HTTP/1.1\r\n") && head.ends_with("\r\n\r\nping"),
        "{head}"
    );
    assert_eq!(post.to_string(), format!("http {address}"), "no secret");
    let (address, _) = server("no HTTP at all\r\n\r\n").await;
    assert!(probe(http(address, json!({}))).run().await.is_err());
}

fn target(port: u16, cost: Value, checks: Value) -> HostV1 {
    let mut host = json!({"protocol": "tcp", "address": "localhost", "port": port, "portChecks": checks});
    if !cost.is_null() {
        host["listenOptions"] = json!({ "cost": cost });
    }
    serde_json::from_value(host).expect("a host.v1")
}

fn check(address: SocketAddr, actions: Value) -> Value {
    json!([{"address": address.to_string(), "interval": "100ms", "timeout": "1s", "actions": actions}])
}

fn start(targets: Vec<HostV1>) -> (Checks, Registry) {
    let registry = Registry::new();
    let binding = Binding { cost: None, precedence: None, max_idle: None, targets };
    (Checks::start("svc", binding, BOUND, Metrics::new(&registry)), registry)
}

#[tokio::test]
async fn a_target_that_dies_makes_way_for_another_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let actions = json!([
        {"trigger": "fail", "consecutiveEvents": 2, "action": "mark unhealthy"},
        {"trigger": "change", "action": "send event"},
        {"trigger": "pass", "action": "mark healthy"}]);
    let (mut checks, registry) =
        start(vec![target(1, Value::Null, check(address, actions)), target(2, json!(30), json!([]))]);
    let ports = |b: &Binding| b.targets.iter().filter_map(|t| t.port).collect::<Vec<_>>();
    let healthy = checks.binding();
    assert_eq!(
        (healthy.cost, healthy.precedence, ports(&healthy)),
        (Some(20), Some(Precedence::Default), vec![1, 2])
    );
    drop(listener);
    checks.changed().await;
    let unhealthy = checks.binding();
    assert_eq!(ports(&unhealthy), [2, 1], "new streams go to the other");
    assert_eq!(
        (unhealthy.cost, unhealthy.precedence),
        (None, None),
        "which has no checks: its terms are the config's"
    );
    let _listener = TcpListener::bind(address).await.expect("bind again");
    checks.changed().await;
    assert_eq!(checks.binding(), healthy);
    let text = registry.encode();
    for line in [
        format!(r#"hesper_tunnel_health_check_passing{{service="svc",check="port {address}"}} 1"#),
        r#"hesper_tunnel_health_check_events_total{service="svc",outcome="fail"} 1"#.into(),
        r#"hesper_tunnel_health_check_events_total{service="svc",outcome="pass"} 1"#.into(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn cost_rises_and_falls_with_the_results_and_survives_a_change_of_config() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let actions = json!([
        {"trigger": "change", "action": "increase cost 100"},
        {"trigger": "pass", "action": "decrease cost 1000"}]);
    let (mut checks, _) = start(vec![target(1, Value::Null, check(address, actions.clone()))]);
    checks.changed().await;
    assert_eq!(checks.binding().cost, Some(120));
    let moved = Binding {
        cost: None,
        precedence: None,
        max_idle: None,
        targets: vec![target(9, json!(7), check(address, actions))],
    };
    checks.rebase(moved, BOUND);
    assert_eq!(
        (checks.binding().cost, checks.binding().targets[0].port),
        (Some(107), Some(9)),
        "still not well"
    );
    let _listener = TcpListener::bind(address).await.expect("bind again");
    checks.changed().await;
    assert_eq!(checks.binding().cost, Some(7));
    checks.rebase(
        Binding {
            cost: None,
            precedence: None,
            max_idle: None,
            targets: vec![target(9, Value::Null, json!([]))],
        },
        BOUND,
    );
    assert_eq!(checks.binding().cost, None);
    assert!(timeout(Duration::from_millis(300), checks.changed()).await.is_err(), "no checks, no changes");
}

#[tokio::test]
async fn a_check_that_does_not_answer_has_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let mut host = json!({"protocol": "tcp", "address": "localhost", "port": 1});
    host["httpChecks"] = json!([{"url": format!("http://{address}/"), "interval": "100ms", "timeout": "100ms",
        "actions": [{"trigger": "fail", "action": "mark unhealthy"}]}]);
    let (mut checks, _) = start(vec![serde_json::from_value(host).expect("a host.v1")]);
    checks.changed().await;
    assert_eq!(checks.binding().precedence, Some(Precedence::Failed));
    drop(listener);
}
