//! Peers that break off, say nothing, or cannot be reached.

use super::{head, ok};
use crate::support::{Server, again, body, grpc, spans};
use bytes::Bytes;
use hesper_otlp::PartialSuccess;
use http::Response;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that does something with each connection, whose number it knows.
async fn raw<F, A>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream, usize) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(serve(io, number));
            number += 1;
        }
    });
    at
}

/// Answers a call as it should be answered.
fn answer_well(mut respond: h2::server::SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
    respond.send_response(response.body(()).expect("an answer"), true).expect("sent");
}

#[tokio::test]
async fn check_44_a_connection_that_ends_without_an_answer_is_no_answer() {
    let at = raw(|mut io, _| async move {
        let mut some = [0; 200];
        let _ = io.read(&mut some).await;
    })
    .await;
    let reason = again(grpc(at, "").export(&spans()).await);
    assert!(reason.contains("otlp/test"), "{reason}");
}

#[tokio::test]
async fn check_44_an_answer_that_ends_in_the_middle_is_no_answer() {
    let at = raw(|io, _| async move {
        let mut connection = h2::server::handshake(io).await.expect("HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let response = head().body(()).expect("an answer");
            let mut stream = respond.send_response(response, false).expect("sent");
            stream.send_data(Bytes::from_static(b"\0\0\0"), false).expect("sent");
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                stream.send_reset(h2::Reason::INTERNAL_ERROR);
            });
        }
    })
    .await;
    again(grpc(at, "").export(&spans()).await);
}

#[tokio::test]
async fn an_answer_without_status_is_no_answer() {
    let server = Server::start(|_| async { head().body(body("", None)).expect("an answer") }).await;
    assert!(again(grpc(server.at, "").export(&spans()).await).contains("grpc-status"));
}

#[tokio::test]
async fn a_silent_peer_is_left_after_the_timeout() {
    let server = Server::start(|_| futures::future::pending()).await;
    let reason = again(grpc(server.at, ", timeout: 100ms").export(&spans()).await);
    assert!(reason.contains("100ms"), "{reason}");
    let at = raw(|io, _| async move {
        let _open = io;
        futures::future::pending::<()>().await;
    })
    .await;
    assert!(again(grpc(at, ", timeout: 100ms").export(&spans()).await).contains("100ms"));
}

#[tokio::test]
async fn a_peer_that_speaks_no_http2_is_named() {
    let at = raw(|mut io, _| async move {
        let _ = io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    assert!(again(grpc(at, "").export(&spans()).await).contains(&at.to_string()));
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_at_once_and_then_later() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, refusals) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(1)));
    let left = Arc::clone(&refusals);
    let at = raw(move |io, _| {
        let (count, left) = (Arc::clone(&count), Arc::clone(&left));
        async move {
            let mut connection = h2::server::handshake(io).await.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    answer_well(respond);
                }
            }
        }
    })
    .await;
    let exporter = grpc(at, "");
    assert_eq!(exporter.export(&spans()).await, Ok(PartialSuccess::default()));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    refusals.store(usize::MAX, Ordering::SeqCst);
    again(exporter.export(&spans()).await);
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_peer_that_says_goaway_gets_the_next_call_on_a_new_connection() {
    let at = raw(|io, number| async move {
        let mut connection = h2::server::handshake(io).await.expect("HTTP/2");
        while let Some(Ok((_, respond))) = connection.accept().await {
            answer_well(respond);
            if number == 0 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let exporter = grpc(at, "");
    for _ in 0..5 {
        assert_eq!(exporter.export(&spans()).await, Ok(PartialSuccess::default()));
    }
}

#[tokio::test]
async fn a_connection_that_is_gone_is_opened_again() {
    let server = Server::start(|_| async { ok() }).await;
    let exporter = grpc(server.at, ", wait_for_ready: true, timeout: 60s");
    exporter.export(&spans()).await.expect("taken");
    exporter.shutdown().await;
    exporter.export(&spans()).await.expect("taken");
    assert_eq!(server.connections(), 2);
}

/// A port that nobody listens on.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address")
}

#[tokio::test]
async fn check_43_a_peer_that_is_not_there_is_not_asked_without_end() {
    let at = nobody().await;
    let exporter = grpc(at, "");
    for _ in 0..50 {
        let reason = again(exporter.export(&spans()).await);
        assert!(reason.contains(&at.to_string()), "{reason}");
    }
}

#[tokio::test]
async fn who_waits_for_a_connection_gets_it_when_the_peer_comes() {
    let at = nobody().await;
    let exporter = grpc(at, ", wait_for_ready: true, timeout: 60s");
    let (waiting, shipment) = (Arc::clone(&exporter), spans());
    let export = tokio::spawn(async move { waiting.export(&shipment).await });
    again(grpc(at, "").export(&spans()).await);
    let listener = TcpListener::bind(at).await.expect("the port");
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(io).await.expect("HTTP/2");
        while let Some(Ok((_, respond))) = connection.accept().await {
            answer_well(respond);
        }
    });
    assert_eq!(export.await.expect("a task"), Ok(PartialSuccess::default()));
}
