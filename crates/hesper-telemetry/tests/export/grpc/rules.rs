//! What answers mean (the rules of OTLP for clients).

use super::{answer, head, ok};
use crate::support::{Answer, Server, again, body, grpc, never, shipment, spans};
use hesper_otlp::{
    Encoding, PartialSuccess, Signal,
    status::{self, RetryInfo},
    validate,
};
use hesper_telemetry::export::Failure;
use http::Response;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tonic::{Code, Status};

/// A server that always says the same.
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

#[tokio::test]
async fn check_33_partial_success_is_told_and_not_sent_again() {
    let partial = PartialSuccess { rejected: 1, message: "too old".into() };
    let said = partial.clone();
    let (server, asked) = saying(move || {
        let message = PartialSuccess::encode(Some(&said), Signal::Traces, Encoding::Protobuf, 1000);
        answer(&message.expect("short"), &Status::ok(""))
    })
    .await;
    assert_eq!(grpc(server.at, "").export(&spans()).await, Ok(partial));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn check_37_and_39_codes_say_what_is_sent_again() {
    let again = [
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unavailable,
        Code::DataLoss,
    ];
    for number in 1..17 {
        let code = Code::from_i32(number);
        let (server, asked) = saying(move || answer(b"", &Status::new(code, "because"))).await;
        let result = grpc(server.at, "").export(&spans()).await;
        let expected_again = again.contains(&code);
        match &result {
            Err(Failure::Again { reason, after: None }) if expected_again => {
                assert!(reason.contains("because"))
            }
            Err(Failure::Never { reason }) if !expected_again => assert!(reason.contains("because")),
            other => panic!("{code:?}: {other:?}"),
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{code:?}");
    }
}

/// A status with RetryInfo, in the trailers or alone in the headers.
fn exhausted(code: Code, trailers_only: bool) -> Answer {
    let details =
        status::Status::new(status::Code::ResourceExhausted, "later").with_retry(Duration::from_secs(9));
    let details = details.to_bytes(Encoding::Protobuf);
    let status = Status::with_details(code, "later", details.into());
    if trailers_only { status.into_http() } else { answer(b"", &status) }
}

#[tokio::test]
async fn check_38_40_and_41_retry_info_is_honoured() {
    assert_eq!(RetryInfo::default().retry_delay, None);
    for trailers_only in [false, true] {
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let (server, _) = saying(move || exhausted(code, trailers_only)).await;
            let result = grpc(server.at, "").export(&spans()).await;
            let Err(Failure::Again { after, reason }) = result else { panic!("{result:?}") };
            assert_eq!(after, Some(Duration::from_secs(9)), "{code:?}");
            assert!(reason.contains("otlp/test") && reason.contains("later"), "{reason}");
        }
        let (server, _) = saying(move || exhausted(Code::PermissionDenied, trailers_only)).await;
        never(grpc(server.at, "").export(&spans()).await);
    }
}

#[tokio::test]
async fn check_42_a_proxy_that_is_busy_says_when_to_come_again() {
    let busy = |status: u16| {
        move || Response::builder().status(status).header("retry-after", "3").body(body("", None)).expect("x")
    };
    for status in [429, 502, 503, 504] {
        let (server, _) = saying(busy(status)).await;
        let result = grpc(server.at, "").export(&spans()).await;
        let Err(Failure::Again { after, .. }) = result else { panic!("{status}: {result:?}") };
        assert_eq!(after, Some(Duration::from_secs(3)));
    }
    for status in [200, 301, 400, 401, 403, 404, 500] {
        let (server, _) = saying(busy(status)).await;
        let reason = never(grpc(server.at, "").export(&spans()).await);
        assert!(reason.contains(&format!("HTTP {status}")), "{reason}");
    }
}

#[tokio::test]
async fn check_51_an_answer_beyond_4_mib_is_not_read_and_not_asked_for_again() {
    use http_body_util::{BodyExt, StreamBody};
    let endless = || {
        let chunk = hyper::body::Frame::data(bytes::Bytes::from(vec![0; 60_000]));
        let chunks = futures::stream::repeat_with(move || {
            Ok(hyper::body::Frame::data(chunk.data_ref().expect("data").clone()))
        });
        head().body(BodyExt::boxed(StreamBody::new(chunks))).expect("an answer")
    };
    let (server, asked) = saying(endless).await;
    let reason = never(grpc(server.at, ", timeout: 60s").export(&spans()).await);
    assert!(reason.contains("4194304"), "{reason}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn check_51_nor_one_that_becomes_larger_when_decompressed() {
    use std::io::Write;
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..5 {
        writer.write_all(&[0; 1 << 20]).expect("memory");
    }
    let bomb = writer.finish().expect("memory");
    let (server, _) = saying(move || {
        let mut framed = vec![1];
        framed.extend_from_slice(&(bomb.len() as u32).to_be_bytes());
        framed.extend_from_slice(&bomb);
        let mut trailers = http::HeaderMap::new();
        Status::ok("").add_header(&mut trailers).expect("a status");
        head().header("grpc-encoding", "gzip").body(body(framed, Some(trailers))).expect("an answer")
    })
    .await;
    assert!(never(grpc(server.at, "").export(&spans()).await).contains("4194304"));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_told_with_the_success() {
    let (server, _) = saying(|| answer(b"\xff\xff", &Status::ok(""))).await;
    let partial = grpc(server.at, "").export(&spans()).await.expect("taken");
    assert_eq!(partial.rejected, 0);
    assert!(partial.message.contains("took the data"), "{}", partial.message);
}

#[tokio::test]
async fn check_53_what_is_too_large_for_the_peer_is_divided() {
    const LIMIT: usize = 100_000;
    for how in 0..3 {
        let (spans, refused) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (seen, count) = (Arc::clone(&spans), Arc::clone(&refused));
        let server = Server::start(move |request| {
            let len = request.body.len() - 5;
            let answer = if len > LIMIT {
                count.fetch_add(1, Ordering::SeqCst);
                match how {
                    0 => answer(b"", &Status::resource_exhausted(format!("grpc: received message larger than max ({len} vs. {LIMIT})"))),
                    1 => answer(b"", &Status::out_of_range(format!("Error, decoded message length too large: found {len} bytes, the limit is: {LIMIT} bytes"))),
                    _ => Response::builder().status(413).body(body("", None)).expect("an answer"),
                }
            } else {
                let counts = validate(Signal::Traces, &request.body[5..]).expect("a request");
                seen.lock().expect("a lock").push(counts.items);
                ok()
            };
            async { answer }
        })
        .await;
        let exporter = grpc(server.at, ", compression: none");
        let large = shipment(Signal::Traces, 1000, 500);
        assert_eq!(exporter.export(&large).await, Ok(PartialSuccess::default()));
        assert_eq!(spans.lock().expect("a lock").iter().sum::<u64>(), 1000);
        let before = refused.load(Ordering::SeqCst);
        assert!(before >= 1);
        assert_eq!(exporter.export(&large).await, Ok(PartialSuccess::default()));
        assert_eq!(refused.load(Ordering::SeqCst), before, "the limit is remembered");
        let lone = exporter.export(&shipment(Signal::Traces, 1, 200_000)).await;
        assert!(matches!(lone, Err(Failure::Never { .. })), "{lone:?}");
    }
}

#[tokio::test]
async fn a_piece_that_may_arrive_later_stops_the_rest() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |request| {
        let answer = match (request.body.len() > 100_000, count.fetch_add(1, Ordering::SeqCst)) {
            (true, _) => answer(b"", &Status::resource_exhausted("message larger than max (1 vs. 100000)")),
            (false, 1) => ok(),
            (false, _) => answer(b"", &Status::unavailable("not now")),
        };
        async { answer }
    })
    .await;
    let result = grpc(server.at, ", compression: none").export(&shipment(Signal::Logs, 1000, 500)).await;
    assert!(again(result).contains("not now"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
