//! Who may send: check 46, and that nobody's body is read before.

use crate::support::{BOTH, Plan, TRACES, frame, payload, soon, spans};
use futures::future::BoxFuture;
use hesper_otlp::{Refusal, Signal, status::Code};
use hesper_telemetry::{
    auth::{AuthData, Authenticator},
    net::Peer,
    receive::{BuildError, Outcome, Server},
};
use http::HeaderMap;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Knows one token, in one header.
struct Token;

impl Authenticator for Token {
    fn check<'a>(&'a self, headers: &'a HeaderMap, _: &'a Peer) -> BoxFuture<'a, Result<AuthData, Refusal>> {
        let answer = match headers.get("x-token").and_then(|token| token.to_str().ok()) {
            Some("right") => Ok([("username".to_owned(), "user-1".to_owned())].into()),
            Some("known") => Err(Refusal::Denied("user-2 may not send".into())),
            _ => Err(Refusal::Unauthenticated("the token is not known".into())),
        };
        Box::pin(async move { answer })
    }
}

const PROTOCOLS: &str = "{grpc: {auth: {authenticator: basicauth/server}}, http: {auth: {authenticator: basicauth/server, request_params: [x-token]}}}";

fn plan() -> Plan {
    Plan { auth: Some(Arc::new(Token)), ..Plan::of(PROTOCOLS) }
}

#[tokio::test]
async fn check_46_strangers_are_unauthenticated_and_the_unwelcome_denied() {
    let server = plan().run().await;
    let path = Signal::Traces.grpc_path();
    for (token, status, code) in
        [("wrong", 401, Code::Unauthenticated), ("known", 403, Code::PermissionDenied)]
    {
        let reply = server.proto(TRACES, &[("x-token", token)], payload(Signal::Traces, 1)).await;
        assert_eq!((reply.status, reply.failure().code()), (status, code));
        assert_eq!(reply.headers.contains_key("www-authenticate"), status == 401);
        let reply = server.call(path, &[("x-token", token)], frame(0, &payload(Signal::Traces, 1))).await;
        assert_eq!((reply.status, reply.grpc().code()), (200, code));
    }
    assert_eq!(server.counter.last().outcome, Outcome::Refused("denied"));
    assert_eq!(server.sink.take().len(), 0);
    assert_eq!(server.proto(TRACES, &[("x-token", "right")], "").await.status, 200);
    assert_eq!(server.sink.only().origin.auth["username"], "user-1");
    assert_eq!(server.call(path, &[("x-token", "right")], frame(0, b"")).await.grpc().code(), Code::Ok);
    assert_eq!(server.sink.only().origin.auth["username"], "user-1");
}

#[tokio::test]
async fn an_authenticator_sees_the_parameters_that_it_may() {
    let server = plan().run().await;
    assert_eq!(server.proto("/v1/traces?x-token=right&other=1", &[], "").await.status, 200);
    assert_eq!(server.proto("/v1/traces?X-Token=wrong", &[], "").await.status, 401);
}

#[tokio::test]
async fn a_strangers_body_is_not_waited_for() {
    let server = plan().run().await;
    let mut stream = TcpStream::connect(server.address).await.expect("a connection");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[test]
fn settings_that_name_an_authenticator_make_no_server_without_it() {
    let settings = crate::support::settings(PROTOCOLS);
    let sink = crate::support::Recorder::taking();
    let builder = || Server::builder().sink(Signal::Traces, sink.clone());
    let nobody = || BuildError::NoAuthenticator("basicauth/server".into());
    let grpc = builder().grpc(settings.grpc.expect("gRPC"), None).build();
    assert_eq!(grpc.map(drop), Err(nobody()));
    let http = builder().http(settings.http.clone().expect("HTTP"), None).build();
    assert_eq!(http.map(drop), Err(nobody()));
    assert_eq!(builder().build().map(drop), Err(BuildError::NoProtocol));
    let mut same = settings.http.expect("HTTP");
    same.server.auth = None;
    same.logs_url_path = "/v1/traces".into();
    let error = BuildError::SamePath(Signal::Traces, Signal::Logs, "/v1/traces".into());
    assert_eq!(builder().http(same.clone(), None).build().map(drop), Err(error));
    assert_eq!(Server::builder().http(same, None).build().map(drop), Err(BuildError::NoSink));
}

#[tokio::test]
async fn without_settings_everybody_may_send() {
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    let server = Plan::of(BOTH).run().await;
    let mut client =
        TraceServiceClient::connect(format!("http://{}", server.address)).await.expect("a connection");
    client.export(spans(1)).await.expect("taken");
    let origin = server.sink.only().origin;
    assert!(origin.auth.is_empty() && origin.metadata.is_empty() && origin.sender.is_none());
    assert!(origin.peer.expect("an address").is_loopback() && origin.received_ms > 0);
}
