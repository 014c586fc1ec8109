//! How a server ends: check 56.

use crate::support::{BOTH, Plan, TRACES, payload, soon, spans};
use hesper_otlp::Signal;
use hesper_telemetry::receive::{Ended, Outcome};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;

#[tokio::test]
async fn check_56_what_is_in_flight_is_finished() {
    let server = Plan::of(BOTH).run().await;
    server.sink.open(false);
    let client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    let mut first = client.clone();
    let call = tokio::spawn(async move { first.export(spans(1)).await.map(drop) });
    let idle = TcpStream::connect(server.address).await.expect("a connection");
    server.sink.began(1).await;
    let (address, sink, task) = (server.address, Arc::clone(&server.sink), server.task);
    server.stop.cancel();
    let closed = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the port", closed).await;
    assert!(!task.is_finished(), "a call is in flight");
    sink.open(true);
    soon("the answer", call).await.expect("no panic").expect("taken");
    assert_eq!(soon("the end", task).await.expect("no panic"), Ended { cut: 0 });
    drop(idle);
}

#[tokio::test]
async fn check_56_what_does_not_end_in_time_is_cut() {
    let server =
        Plan { more: |builder| builder.drain(Duration::from_millis(100)), ..Plan::of(BOTH) }.run().await;
    server.sink.open(false);
    let (address, counter, task) = (server.address, Arc::clone(&server.counter), server.task);
    let mut client = TraceServiceClient::connect(format!("http://{address}")).await.expect("a connection");
    let call = tokio::spawn(async move { client.export(spans(7)).await.map(drop) });
    server.sink.began(1).await;
    server.stop.cancel();
    assert_eq!(soon("the end", task).await.expect("no panic"), Ended { cut: 1 });
    soon("the answer", call).await.expect("no panic").expect_err("cut");
    let gone = async {
        while counter.seen.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of the call", gone).await;
    assert_eq!((counter.last().outcome, counter.last().refused), (Outcome::Gone, 7));
}

#[tokio::test]
async fn dropping_the_server_ends_it_at_once() {
    let server = Plan::of(BOTH).run().await;
    let reply = server.proto(TRACES, &[], payload(Signal::Traces, 1)).await;
    assert_eq!(reply.status, 200);
    server.sink.open(false);
    let mut client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    let call = tokio::spawn(async move { client.export(spans(1)).await.map(drop) });
    server.sink.began(2).await;
    server.task.abort();
    soon("the answer", call).await.expect("no panic").expect_err("cut");
    assert!(TcpStream::connect(server.address).await.is_err());
}
