//! Requests that are not answered: of other sites, ambiguous, too large, too slow.

use super::{World, head, status};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn pages_of_other_sites_are_not_answered() {
    let world = World::new().await;
    for (host, more) in [
        ("evil.example", ""),
        ("evil.example:9180", ""),
        ("localhost", "Origin: https://evil.example\r\n"),
        ("localhost", "Sec-Fetch-Site: cross-site\r\n"),
    ] {
        for path in ["/sd", "/metrics", "/healthz"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
            assert_eq!(status(&world.exchange(&request).await), "403", "{request}");
        }
    }
}

#[tokio::test]
async fn heads_that_are_ambiguous_or_too_large_are_refused() {
    let world = World::new().await;
    let many: String = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (request, expected) in [
        ("GET http://metrics/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), "400"),
        ("GET /sd HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (
            "POST http://metrics/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
                .to_owned(),
            "400",
        ),
        ("POST http://metrics/ HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx".to_owned(), "400"),
        ("POST http://metrics/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nx".to_owned(), "400"),
        (
            "POST http://metrics/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\nx"
                .to_owned(),
            "400",
        ),
        ("GET http://metrics/ HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), "400"),
        (format!("GET http://metrics/ HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(300_000)), "431"),
        (format!("GET http://metrics/ HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
    ] {
        let mut tcp = world.connect().await;
        tcp.write_all(request.as_bytes()).await.expect("send");
        tcp.shutdown().await.expect("end");
        let mut answer = Vec::new();
        let _reset_after_the_answer = tcp.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(status(&answer), expected, "{request:.80} {answer}");
    }
    assert!(world.dialed().is_empty(), "nothing was dialed");
}

/// RFC 9112 §6.3 allows to go by the transfer coding alone; then nothing else may be passed on, and the connection ends.
#[tokio::test]
async fn a_length_beside_a_transfer_coding_is_not_passed_on() {
    let world = World::new().await;
    let mut targets = world.target();
    let smuggled = "POST http://metrics/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
        GET http://metrics/second HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut tcp = world.connect().await;
    tcp.write_all(smuggled.as_bytes()).await.expect("send");
    let mut stream = targets.recv().await.expect("a stream");
    let asked = head(&mut stream).await.to_lowercase();
    assert!(asked.contains("transfer-encoding: chunked\r\n") && !asked.contains("content-length"), "{asked}");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("answer");
    let mut answer = Vec::new();
    let _closed = tcp.read_to_end(&mut answer).await;
    assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1").count(), 1, "{answer:?}");
    assert_eq!(world.dialed().len(), 1, "what follows is not read");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let world = World::with_head_timeout(Duration::from_millis(100)).await;
    let mut tcp = world.connect().await;
    tcp.write_all(b"GET http://metrics/ HTTP/1.1\r\nHost: ").await.expect("send");
    let mut answer = Vec::new();
    let _closed = tcp.read_to_end(&mut answer).await;
    assert!(world.dialed().is_empty());
}
