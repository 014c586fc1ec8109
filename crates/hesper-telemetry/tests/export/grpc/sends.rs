//! What is sent, to whom, and what with it.

use super::ok;
use crate::support::{Credentials, Server, To, again, grpc, otlp_settings, quoted, shipment, spans};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hesper_collector_config::Endpoint;
use hesper_otlp::{PartialSuccess, Signal};
use hesper_telemetry::{
    export::{Exporter, otlp},
    net::underlay::UnderlayConnector,
    origin::{FORWARDED_HEADER, Forwarded, Origin},
};
use opentelemetry_proto::tonic::collector::{
    logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    metrics::v1::{
        ExportMetricsServiceRequest, ExportMetricsServiceResponse,
        metrics_service_server::{MetricsService, MetricsServiceServer},
    },
    profiles::v1development::{
        ExportProfilesServiceRequest, ExportProfilesServiceResponse,
        profiles_service_server::{ProfilesService, ProfilesServiceServer},
    },
    trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
};
use prost::Message;
use std::{
    io::Read,
    sync::{Arc, Mutex},
};
use tokio::{
    net::TcpListener,
    sync::{Barrier, mpsc},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A server as others make it, with all services. It keeps what came, encoded again.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Vec<u8>>>>);

macro_rules! service {
    ($service:ident, $request:ident, $response:ident) => {
        #[tonic::async_trait]
        impl $service for Collector {
            async fn export(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                self.0.lock().expect("a lock").push(request.into_inner().encode_to_vec());
                Ok(Response::new($response::default()))
            }
        }
    };
}

service!(TraceService, ExportTraceServiceRequest, ExportTraceServiceResponse);
service!(MetricsService, ExportMetricsServiceRequest, ExportMetricsServiceResponse);
service!(LogsService, ExportLogsServiceRequest, ExportLogsServiceResponse);
service!(ProfilesService, ExportProfilesServiceRequest, ExportProfilesServiceResponse);

#[tokio::test]
async fn check_2_every_signal_reaches_a_server_of_others() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let router = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()))
        .add_service(ProfilesServiceServer::new(collector.clone()));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    let exporter = grpc(at, ", compression: none");
    for signal in Signal::ALL {
        let shipment = shipment(signal, 3, 8);
        assert_eq!(exporter.export(&shipment).await, Ok(PartialSuccess::default()), "{signal}");
        let seen = collector.0.lock().expect("a lock").pop();
        assert_eq!(seen.as_deref(), Some(&shipment.batch.payload[..]), "{signal}");
    }
    // tonic does not know a compression that it was not told of, and says so.
    let refused = grpc(at, ", compression: zstd").export(&spans()).await;
    assert!(crate::support::never(refused).contains("UNIMPLEMENTED"));
}

/// A server that keeps requests.
async fn keeping() -> (Server, mpsc::UnboundedReceiver<crate::support::Seen>) {
    let (keep, kept) = mpsc::unbounded_channel();
    let server = Server::start(move |seen| {
        let keep = keep.clone();
        async move {
            keep.send(seen).expect("a receiver");
            ok()
        }
    })
    .await;
    (server, kept)
}

#[tokio::test]
async fn check_8_requests_are_compressed_as_the_settings_say() {
    let (server, mut kept) = keeping().await;
    let shipment = shipment(Signal::Logs, 50, 3000);
    for (name, header) in
        [("none", None), ("gzip", Some("gzip")), ("zstd", Some("zstd")), ("snappy", Some("snappy"))]
    {
        let exporter = grpc(server.at, &format!(", compression: {name}"));
        exporter.export(&shipment).await.expect("taken");
        let seen = kept.recv().await.expect("a request");
        let encoding = seen.headers.get("grpc-encoding").map(|value| value.to_str().expect("text"));
        assert_eq!(encoding, header);
        assert_eq!(seen.body[0], u8::from(header.is_some()));
        let len = u32::from_be_bytes(seen.body[1..5].try_into().expect("four bytes"));
        assert_eq!(len as usize, seen.body.len() - 5);
        let (mut out, message) = (Vec::new(), &seen.body[5..]);
        match name {
            "gzip" => flate2::read::GzDecoder::new(message).read_to_end(&mut out),
            "zstd" => zstd::stream::read::Decoder::new(message).expect("zstd").read_to_end(&mut out),
            "snappy" => snap::read::FrameDecoder::new(message).read_to_end(&mut out),
            _ => (&mut &*message).read_to_end(&mut out),
        }
        .expect("what was sent");
        assert_eq!(out, shipment.batch.payload);
    }
}

#[tokio::test]
async fn headers_are_those_of_grpc_and_of_the_settings() {
    let (server, mut kept) = keeping().await;
    let more = ", timeout: 2s, authority: other.example, headers: {X-Tenant: a, trace-bin: b}";
    grpc(server.at, more).export(&spans()).await.expect("taken");
    let seen = kept.recv().await.expect("a request");
    let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().expect("text"));
    assert_eq!((seen.uri.path(), seen.version), (Signal::Traces.grpc_path(), http::Version::HTTP_2));
    assert_eq!(seen.uri.authority().map(|a| a.as_str()), Some("other.example"));
    assert_eq!(header("content-type"), Some("application/grpc"));
    assert_eq!(header("te"), Some("trailers"));
    assert_eq!(header("grpc-timeout"), Some("2000000u"));
    assert_eq!(header("x-tenant"), Some("a"));
    assert_eq!(header("trace-bin"), Some("Yg"));
    assert!(header("user-agent").is_some_and(|agent| agent.starts_with("hesper/")));
    assert_eq!(header(FORWARDED_HEADER), None);
}

#[tokio::test]
async fn check_54_many_calls_are_under_way_on_one_connection() {
    let barrier = Arc::new(Barrier::new(20));
    let server = Server::start(move |_| {
        let barrier = Arc::clone(&barrier);
        async move {
            barrier.wait().await;
            ok()
        }
    })
    .await;
    let exporter = grpc(server.at, "");
    let shipment = spans();
    let calls = (0..20).map(|_| exporter.export(&shipment));
    for done in futures::future::join_all(calls).await {
        assert_eq!(done, Ok(PartialSuccess::default()));
    }
    assert_eq!(server.connections(), 1);
}

fn with_credentials(endpoint: &str, tls: &str) -> Result<Arc<otlp::Grpc>, otlp::BuildError> {
    let settings = otlp_settings(endpoint, tls);
    let connector = Arc::new(UnderlayConnector::default());
    otlp::Grpc::new("otlp/x", &settings, connector, Some(Arc::new(Credentials)), otlp::Hop::Receiver)
}

#[tokio::test]
async fn credentials_are_never_sent_in_the_clear() {
    for endpoint in ["127.0.0.1:4317", "traces.example:4317", "http://traces.example"] {
        let error = with_credentials(endpoint, ", tls: {insecure: true}").err().expect("refused");
        let text = error.to_string();
        assert!(text.contains("otlp/x") && text.contains("hesper://"), "{text}");
    }
    assert!(with_credentials("unix:///run/x.sock", ", tls: {insecure: true}").is_ok());
    assert!(with_credentials("hesper://traces", "").is_ok());
}

fn over_the_mesh(server: &Server, hop: otlp::Hop) -> Arc<dyn Exporter> {
    let settings = otlp_settings("hesper://eu-1@dark%2Ftraces", "");
    let auth: Arc<dyn hesper_telemetry::auth::ClientAuth> = Arc::new(Credentials);
    otlp::Grpc::new("otlp", &settings, Arc::new(To(server.at)), Some(auth), hop).expect("an exporter")
}

#[tokio::test]
async fn a_gateway_of_the_mesh_is_told_whose_data_it_is() {
    let (server, mut kept) = keeping().await;
    let shipment = spans();
    over_the_mesh(&server, otlp::Hop::Gateway).export(&shipment).await.expect("taken");
    let seen = kept.recv().await.expect("a request");
    assert_eq!(seen.uri.authority().map(|a| a.as_str()), Some("dark-traces"));
    assert_eq!(seen.headers["authorization"], "Basic dXNlci0xOjEyMzQ=");
    let value = STANDARD_NO_PAD.decode(&seen.headers[FORWARDED_HEADER]).expect("base64");
    let forwarded = Forwarded::decode(&value).expect("forwarded");
    assert_eq!(
        forwarded,
        Forwarded { origin: (*shipment.origin).clone(), batch: shipment.id.expect("an id") }
    );

    over_the_mesh(&server, otlp::Hop::Receiver).export(&shipment).await.expect("taken");
    assert!(!kept.recv().await.expect("a request").headers.contains_key(FORWARDED_HEADER));

    let mut merged = shipment.clone();
    merged.id = None;
    over_the_mesh(&server, otlp::Hop::Gateway).export(&merged).await.expect("taken");
    assert!(!kept.recv().await.expect("a request").headers.contains_key(FORWARDED_HEADER));
}

#[tokio::test]
async fn the_network_under_the_mesh_is_not_told_whose_data_it_is() {
    let (server, mut kept) = keeping().await;
    let settings = otlp_settings(&server.at.to_string(), ", tls: {insecure: true}");
    assert!(matches!(settings.client.endpoint, Endpoint::Underlay(_)));
    let connector = Arc::new(UnderlayConnector::default());
    let exporter =
        otlp::Grpc::new("otlp", &settings, connector, None, otlp::Hop::Gateway).expect("an exporter");
    exporter.export(&spans()).await.expect("taken");
    assert!(!kept.recv().await.expect("a request").headers.contains_key(FORWARDED_HEADER));
}

#[tokio::test]
async fn without_credentials_it_is_tried_again_later() {
    let (server, _kept) = keeping().await;
    let mut shipment = spans();
    shipment.origin = Arc::new(Origin { received_ms: u64::MAX, ..Origin::default() });
    let reason = again(over_the_mesh(&server, otlp::Hop::Receiver).export(&shipment).await);
    assert!(reason.contains("the file is gone"), "{reason}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn tls_is_spoken_and_the_server_checked() {
    let (keep, mut kept) = mpsc::unbounded_channel();
    let (server, ca) = Server::start_tls(&[b"h2"], move |seen| {
        keep.send(seen).expect("a receiver");
        async { ok() }
    })
    .await;
    let endpoint = format!("localhost:{}", server.at.port());
    let exporter =
        with_credentials(&endpoint, &format!(", tls: {{ca_pem: {}}}", quoted(&ca))).expect("an exporter");
    exporter.export(&spans()).await.expect("taken");
    let seen = kept.recv().await.expect("a request");
    assert_eq!(seen.headers["authorization"], "Basic dXNlci0xOjEyMzQ=");
    assert_eq!(seen.uri.authority().map(|a| a.as_str()), Some(&*endpoint));

    let (stranger, _) = Server::start_tls(&[b"h2"], |_| async { ok() }).await;
    let endpoint = format!("localhost:{}", stranger.at.port());
    let exporter =
        with_credentials(&endpoint, &format!(", tls: {{ca_pem: {}}}", quoted(&ca))).expect("an exporter");
    again(exporter.export(&spans()).await);
    assert!(with_credentials("localhost:1", ", tls: {ca_file: /nowhere}").is_err());
}
