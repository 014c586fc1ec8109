//! What answers mean (the rules of OTLP for clients).

use super::{answer, http, ok};
use crate::support::{Answer, Server, again, body, never, shipment, spans};
use hesper_otlp::{
    Encoding, PartialSuccess, Signal,
    status::{Code, Status},
    validate,
};
use hesper_telemetry::export::{Exporter, Failure};
use http::Response;
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{io::AsyncReadExt, net::TcpListener};

async fn saying(what: impl Fn() -> Answer + Send + Sync + 'static) -> (Server, Arc<AtomicUsize>) {
    let (what, asked) = (Arc::new(what), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let server = Server::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let answer = what();
        async { answer }
    })
    .await;
    (server, asked)
}

async fn export(server: &Server, keys: &str) -> Result<PartialSuccess, Failure> {
    http(&format!("endpoint: 'http://{}'{keys}", server.at)).export(&spans()).await
}

#[tokio::test]
async fn check_29_success_in_either_encoding() {
    for what in [
        ("application/json", "{}"),
        ("application/json", r#"{"partialSuccess":{}}"#),
        ("application/x-protobuf", ""),
    ] {
        let (server, _) = saying(move || answer(200, what.0, what.1)).await;
        assert_eq!(export(&server, "").await, Ok(PartialSuccess::default()));
    }
    let (server, _) =
        saying(|| Response::builder().status(204).body(body("", None)).expect("an answer")).await;
    assert_eq!(export(&server, "").await, Ok(PartialSuccess::default()));
    let (server, _) = saying(|| answer(200, "text/html", "<html>")).await;
    assert!(export(&server, "").await.expect("taken").message.contains("no OTLP"));
}

#[tokio::test]
async fn check_33_partial_success_is_told_and_not_sent_again() {
    let partial = PartialSuccess { rejected: 1, message: "too old".into() };
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let bytes = PartialSuccess::encode(Some(&partial), Signal::Traces, encoding, 1000).expect("short");
        let (server, asked) = saying(move || answer(200, encoding.content_type(), bytes.clone())).await;
        assert_eq!(export(&server, "").await.as_ref(), Ok(&partial));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn check_34_and_36_statuses_say_what_is_sent_again_and_codes_do_not() {
    for status in [400, 401, 403, 404, 405, 408, 415, 429, 500, 501, 502, 503, 504] {
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            // The code in the body says the opposite.
            let misleading = if status == 503 { Code::InvalidArgument } else { Code::Unavailable };
            let bytes = Status::new(misleading, "because").to_bytes(encoding);
            let (server, asked) =
                saying(move || answer(status, encoding.content_type(), bytes.clone())).await;
            let result = export(&server, "").await;
            let reason = match [429, 502, 503, 504].contains(&status) {
                true => again(result),
                false => never(result),
            };
            assert!(reason.contains("because") && reason.contains(&status.to_string()), "{reason}");
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }
    let (server, _) = saying(|| answer(400, "text/plain; charset=utf-8", "no\nway")).await;
    assert!(never(export(&server, "").await).contains("no way"));
}

#[tokio::test]
async fn check_42_retry_after_in_both_forms() {
    let busy = |after: &'static str| {
        move || Response::builder().status(429).header("retry-after", after).body(body("", None)).expect("x")
    };
    let (server, _) = saying(busy("7")).await;
    let result = export(&server, "").await;
    assert!(
        matches!(result, Err(Failure::Again { after: Some(after), .. }) if after == Duration::from_secs(7))
    );
    let (server, _) = saying(busy("Fri, 31 Dec 9999 23:59:59 GMT")).await;
    let result = export(&server, "").await;
    assert!(
        matches!(result, Err(Failure::Again { after: Some(after), .. }) if after > Duration::from_secs(3600))
    );
}

#[tokio::test]
async fn a_redirection_is_not_followed_but_told() {
    let (server, _) = saying(|| {
        Response::builder()
            .status(308)
            .header("location", "https://there/v1")
            .body(body("", None))
            .expect("x")
    })
    .await;
    assert!(never(export(&server, "").await).contains("https://there/v1"));
}

#[tokio::test]
async fn check_44_a_connection_that_ends_without_an_answer_is_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let mut some = [0; 100];
            let _ = io.read(&mut some).await;
        }
    });
    again(http(&format!("endpoint: 'http://{at}'")).export(&spans()).await);
}

#[tokio::test]
async fn a_silent_server_is_left_after_the_timeout() {
    let server = Server::start(|_| futures::future::pending()).await;
    assert!(again(export(&server, ", timeout: 100ms").await).contains("100ms"));
}

#[tokio::test]
async fn check_51_an_answer_beyond_4_mib_is_not_read_and_not_asked_for_again() {
    let (server, asked) = saying(|| answer(200, "application/x-protobuf", vec![0; (4 << 20) + 1])).await;
    assert!(never(export(&server, "").await).contains("4194304"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(&[0; (4 << 20) + 1]).expect("memory");
    let bomb = writer.finish().expect("memory");
    let (server, _) = saying(move || {
        let mut answer = answer(200, "application/x-protobuf", bomb.clone());
        answer.headers_mut().insert("content-encoding", "gzip".parse().expect("a header"));
        answer
    })
    .await;
    assert!(never(export(&server, "").await).contains("4194304"));
}

#[tokio::test]
async fn check_10_an_answer_may_be_compressed() {
    let partial = PartialSuccess { rejected: 1, message: "too old".into() };
    let bytes =
        PartialSuccess::encode(Some(&partial), Signal::Traces, Encoding::Protobuf, 1000).expect("short");
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(&bytes).expect("memory");
    let gzip = writer.finish().expect("memory");
    let (server, _) = saying(move || {
        let mut answer = answer(200, "application/x-protobuf", gzip.clone());
        answer.headers_mut().insert("content-encoding", "gzip".parse().expect("a header"));
        answer
    })
    .await;
    assert_eq!(export(&server, "").await, Ok(partial));
}

#[tokio::test]
async fn check_53_what_is_too_large_for_the_server_is_divided() {
    let (items, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let (sum, count) = (Arc::clone(&items), Arc::clone(&refused));
    let server = Server::start(move |request| {
        let answer = if request.body.len() > 100_000 {
            count.fetch_add(1, Ordering::SeqCst);
            answer(413, "text/plain", "too much")
        } else {
            sum.fetch_add(
                validate(Signal::Traces, &request.body).expect("a request").items,
                Ordering::SeqCst,
            );
            ok()
        };
        async { answer }
    })
    .await;
    let exporter = http(&format!("endpoint: 'http://{}', compression: none", server.at));
    let large = shipment(Signal::Traces, 1000, 500);
    assert_eq!(exporter.export(&large).await, Ok(PartialSuccess::default()));
    assert_eq!(items.load(Ordering::SeqCst), 1000);
    let before = refused.load(Ordering::SeqCst);
    assert_eq!(exporter.export(&large).await, Ok(PartialSuccess::default()));
    assert_eq!(refused.load(Ordering::SeqCst), before, "the limit is remembered");
}
