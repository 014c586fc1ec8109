//! Nothing large is buffered, and nothing slow stops the others.

use crate::support::Harness;
use hesper_pki::tls;
use reqwest::StatusCode;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const ENROLL: &str = "/edge/client/v1/enroll";

/// A connection that speaks HTTP/1.1 by hand.
async fn raw(h: &Harness) -> TlsStream<TcpStream> {
    let config = tls::ca_client(&h.running().ca_pem()).expect("CA");
    let stream = TcpStream::connect(h.running().local_addr()).await.expect("connect");
    let name = "127.0.0.1".to_owned().try_into().expect("name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS")
}

/// The answer's first line; what was written after it may be lost.
async fn first_line(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.contains(&b'\n') {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => answer.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_announced_large_body_is_refused_unread() {
    let h = Harness::start().await;
    let mut stream = raw(&h).await;
    let head = format!("POST {ENROLL} HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("write");
    assert_eq!(first_line(&mut stream).await, "HTTP/1.1 413 Payload Too Large");
}

#[tokio::test]
async fn a_large_chunked_body_is_refused_at_the_cap() {
    let h = Harness::start().await;
    let mut stream = raw(&h).await;
    let head = format!("POST {ENROLL} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("write");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    // 17 × 64 KiB: one chunk beyond the cap.
    for _ in 0..17 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let _ = stream.flush().await;
    assert_eq!(first_line(&mut stream).await, "HTTP/1.1 413 Payload Too Large");
}

#[tokio::test]
async fn over_http2_too_and_exactly_the_cap_is_read() {
    let h = Harness::start().await;
    let send = async |size: usize| {
        let request = h.client.post(h.url(ENROLL)).body(vec![b'x'; size]);
        request.send().await.expect("answer").status()
    };
    assert_eq!(send(1024 * 1024).await, StatusCode::BAD_REQUEST, "read, and no JSON");
    assert_eq!(send(1024 * 1024 + 1).await, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn unauthorised_bodies_are_not_even_read() {
    let h = Harness::start().await;
    let mut stream = raw(&h).await;
    let head = "POST /edge/management/v1/services HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("write");
    assert_eq!(first_line(&mut stream).await, "HTTP/1.1 401 Unauthorized", "without waiting for the body");
}

#[tokio::test]
async fn strangers_who_hold_connections_open_stop_nobody() {
    let h = Harness::start().await;
    let mut held = Vec::new();
    for _ in 0..200 {
        // Half of them never begin the handshake.
        held.push(TcpStream::connect(h.running().local_addr()).await.expect("connect"));
    }
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(raw(&h).await);
    }
    let answer = h.client.get(h.url("/healthz")).send().await.expect("answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn garbage_instead_of_tls_ends_that_connection_only() {
    let h = Harness::start().await;
    let mut stream = TcpStream::connect(h.running().local_addr()).await.expect("connect");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("write");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "nothing is served without TLS");
    assert_eq!(h.client.get(h.url("/healthz")).send().await.expect("answer").status(), StatusCode::OK);
}
