//! A client of HTTP that shows all that it was answered.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use hesper_integration::{Stack, otlp::RpcStatus};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use prost::Message;
use std::{net::SocketAddr, sync::LazyLock};
use tokio::{runtime::Runtime, task::JoinHandle, time::timeout};

pub(crate) use axum::http::{HeaderMap, Method, Version};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

/// Runs it to its end, which must come.
#[track_caller]
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(async { timeout(Stack::PATIENCE, work).await }).expect("it ends in time")
}

/// Runs it beside the test.
pub(crate) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    RUNTIME.spawn(work)
}

pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const TRACES: &str = "/v1/traces";
pub(crate) const TRACES_RPC: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    trailers: HeaderMap,
}

impl Reply {
    /// A header; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The failure in its body, in the encoding that its type names.
    #[track_caller]
    pub(crate) fn failure(&self) -> RpcStatus {
        RpcStatus::of_body(self.header("content-type"), &self.body)
    }

    /// What a call of gRPC ended with.
    #[track_caller]
    pub(crate) fn grpc(&self) -> RpcStatus {
        let all = if self.trailers.is_empty() { &self.headers } else { &self.trailers };
        let text = |name: &str| all.get(name).map(|value| value.to_str().expect("text"));
        let code: i32 = text("grpc-status").expect("a status").parse().expect("a number");
        let Some(details) = text("grpc-status-details-bin") else {
            return RpcStatus::new(code.into(), text("grpc-message").unwrap_or_default());
        };
        let status = RpcStatus::decode(&*STANDARD_NO_PAD.decode(details).expect("base64")).expect("a status");
        assert_eq!(status.code, code, "both say the same");
        status
    }
}

/// Sends a request over a connection of its own.
pub(crate) async fn send(
    version: Version,
    method: Method,
    at: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    let client: Client<HttpConnector, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).http2_only(version == Version::HTTP_2).build_http();
    let mut request = axum::http::Request::builder().method(method).uri(format!("http://{at}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("a request");
    let (head, body) = client.request(request).await.expect("an answer").into_parts();
    let body = body.collect().await.expect("a body");
    let trailers = body.trailers().cloned().unwrap_or_default();
    let body = body.to_bytes();
    Reply { status: head.status.as_u16(), version: head.version, headers: head.headers, body, trailers }
}

/// Posts a body over HTTP/1.1.
#[track_caller]
pub(crate) fn post(at: SocketAddr, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    block_on(send(Version::HTTP_11, Method::POST, at, path, headers, body))
}

/// Posts protobuf.
#[track_caller]
pub(crate) fn proto(at: SocketAddr, path: &str, more: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    post(at, path, &[&[PROTOBUF], more].concat(), body)
}

/// Posts JSON.
#[track_caller]
pub(crate) fn json(at: SocketAddr, path: &str, body: impl Into<Bytes>) -> Reply {
    post(at, path, &[JSON], body)
}

/// Calls by gRPC with these bytes as the whole body.
pub(crate) async fn call_with(
    at: SocketAddr,
    path: &str,
    more: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Reply {
    let headers = [&[("content-type", "application/grpc"), ("te", "trailers")], more].concat();
    send(Version::HTTP_2, Method::POST, at, path, &headers, body).await
}

/// Calls by gRPC with this message, not compressed.
#[track_caller]
pub(crate) fn call(at: SocketAddr, path: &str, message: &[u8]) -> RpcStatus {
    block_on(call_with(at, path, &[], frame(0, message))).grpc()
}

/// A message in its frame.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[flag][..], &len, message].concat().into()
}
