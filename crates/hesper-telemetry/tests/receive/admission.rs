//! One budget for all that is in flight, over both protocols and all receivers.

use crate::support::{BOTH, Plan, TRACES, frame, payload, soon};
use hesper_otlp::{Signal, status::Code};
use hesper_telemetry::receive::{Admission, Outcome};
use std::sync::Arc;

const RPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const BUDGET: usize = 4 << 20;

/// An unknown field of one MiB.
fn mib() -> Vec<u8> {
    let mut bytes = b"\xc2\x3e\x80\x80\x40".to_vec();
    bytes.resize(bytes.len() + (1 << 20), b'a');
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_40_what_finds_no_room_comes_again() {
    let admission = Admission::new(BUDGET);
    let one = Plan { admission: admission.clone(), ..Plan::of(BOTH) }.run().await;
    let two = Arc::new(Plan { admission: admission.clone(), ..Plan::of(BOTH) }.run().await);
    two.sink.open(false);
    let held: Vec<_> = (0..3)
        .map(|_| {
            let two = Arc::clone(&two);
            tokio::spawn(async move { two.proto(TRACES, &[], mib()).await.status })
        })
        .collect();
    two.sink.began(3).await;
    assert!(admission.in_flight() > 3 << 20, "{}", admission.in_flight());
    // Another receiver has no room, because they share it.
    let reply = one.proto(TRACES, &[], mib()).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert!(reply.failure().message.contains("4194304"), "{reply:?}");
    let reply = one.call(RPC, &[], frame(0, &mib())).await;
    assert_eq!(reply.grpc().code(), Code::Unavailable);
    assert!(reply.grpc().retry_delay().is_some());
    assert_eq!(one.counter.last().outcome, Outcome::Refused("overloaded"));
    two.sink.open(true);
    for held in held {
        assert_eq!(soon("an answer", held).await.expect("no panic"), 200);
    }
    assert_eq!(admission.in_flight(), 0);
    assert_eq!(one.proto(TRACES, &[], mib()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_large_requests_stay_within_it_and_some_come_through() {
    let server = Arc::new(Plan { admission: Admission::new(BUDGET), ..Plan::of(BOTH) }.run().await);
    let requests: Vec<_> = (0..1000)
        .map(|i| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                assert!(server.admission.in_flight() <= BUDGET);
                let code = match i % 2 {
                    0 => match server.proto(TRACES, &[], mib()).await.status {
                        200 => Code::Ok,
                        503 => Code::Unavailable,
                        _ => Code::Unknown,
                    },
                    _ => server.call(RPC, &[], frame(0, &mib())).await.grpc().code(),
                };
                assert!(server.admission.in_flight() <= BUDGET);
                code
            })
        })
        .collect();
    let mut taken = 0;
    for request in requests {
        let code = request.await.expect("no panic");
        assert!(matches!(code, Code::Ok | Code::Unavailable), "{code:?}");
        taken += usize::from(code == Code::Ok);
    }
    assert!(taken > 0);
    assert_eq!((server.sink.take().len(), server.admission.in_flight()), (taken, 0));
}

#[tokio::test]
async fn what_would_never_fit_is_too_large() {
    let server = Plan { admission: Admission::new(1 << 20), ..Plan::of(BOTH) }.run().await;
    assert_eq!(server.proto(TRACES, &[], mib()).await.status, 413);
    assert_eq!(server.proto(TRACES, &[], payload(Signal::Traces, 10)).await.status, 200);
    // JSON counts with what it becomes.
    let json = format!(r#"{{"resourceSpans":[{{"schemaUrl":"{}"}}]}}"#, "a".repeat(700_000));
    let reply = server.post(TRACES, &[("content-type", "application/json")], json).await;
    assert_eq!((reply.status, server.admission.in_flight()), (413, 0));
}
