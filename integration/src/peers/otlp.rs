//! An OTLP receiver that remembers the spans it was sent: the oracle of what arrived. gRPC and HTTP/protobuf, on loopback.

use axum::{Router, body::Bytes, extract::State, http::header, response::IntoResponse, routing::post};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span's trace id and span id, lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpanId(pub String, pub String);

impl SpanId {
    /// From `trace_id span_id`.
    pub(super) fn parse(line: &str) -> Self {
        let (trace, span) = line.split_once(' ').unwrap_or_else(|| panic!("no ids in {line:?}"));
        Self(trace.into(), span.into())
    }
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<SpanId>>>);

impl Spans {
    fn take_in(&self, request: ExportTraceServiceRequest) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let scopes = request.resource_spans.into_iter().flat_map(|r| r.scope_spans);
        let spans = scopes.flat_map(|s| s.spans).map(|s| SpanId(hex(&s.trace_id), hex(&s.span_id)));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
    }
}

/// A running receiver; it stops when dropped.
pub struct OtlpReceiver {
    /// Port of OTLP/gRPC on 127.0.0.1.
    pub grpc_port: u16,
    /// Port of OTLP/HTTP on 127.0.0.1.
    pub http_port: u16,
    spans: Spans,
    _runtime: Runtime,
}

impl OtlpReceiver {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen on loopback.
    pub fn start() -> Self {
        let runtime = Runtime::new().expect("runtime");
        let spans = Spans::default();
        let (grpc, http) = runtime.block_on(async {
            let bind = || TcpListener::bind("127.0.0.1:0");
            (bind().await.expect("listen"), bind().await.expect("listen"))
        });
        let port = |listener: &TcpListener| listener.local_addr().expect("address").port();
        let (grpc_port, http_port) = (port(&grpc), port(&http));
        let service = TraceServiceServer::new(spans.clone());
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(grpc)),
        );
        let app = Router::new().route("/v1/traces", post(receive)).with_state(spans.clone());
        runtime.spawn(async move { axum::serve(http, app).await });
        Self { grpc_port, http_port, spans, _runtime: runtime }
    }

    /// The spans that arrived, sorted.
    pub fn received(&self) -> Vec<SpanId> {
        let mut spans = self.spans.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        spans.sort();
        spans
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take_in(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn receive(State(spans): State<Spans>, body: Bytes) -> impl IntoResponse {
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) => {
            spans.take_in(request);
            let answer = ExportTraceServiceResponse::default().encode_to_vec();
            ([(header::CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
        }
        Err(error) => (axum::http::StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
