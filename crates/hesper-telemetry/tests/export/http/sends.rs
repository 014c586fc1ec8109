//! What is sent, where to, and how.

use super::{http, http_settings, ok};
use crate::support::{Credentials, Seen, Server, To, again, never, quoted, shipment, spans};
use hesper_collector_config::Endpoint;
use hesper_otlp::{Batch, PartialSuccess, Signal, json};
use hesper_telemetry::{
    auth::ClientAuth,
    export::{Exporter, otlp},
    net::underlay::UnderlayConnector,
    origin::FORWARDED_HEADER,
};
use http::Version;
use std::{
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

async fn keeping() -> (Server, mpsc::UnboundedReceiver<Seen>) {
    let (keep, kept) = mpsc::unbounded_channel();
    let server = Server::start(move |seen| {
        keep.send(seen).expect("a receiver");
        async { ok() }
    })
    .await;
    (server, kept)
}

fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.get(name).map(|value| value.to_str().expect("text"))
}

#[tokio::test]
async fn check_3_every_signal_has_its_path_or_its_own_url() {
    let (server, mut kept) = keeping().await;
    let base =
        format!("endpoint: 'http://{}/base/', logs_endpoint: 'http://{}/other?key=a'", server.at, server.at);
    let exporter = http(&format!("{base}, compression: none, headers: {{X-Tenant: a}}"));
    for (signal, path) in [
        (Signal::Traces, "/base/v1/traces"),
        (Signal::Metrics, "/base/v1/metrics"),
        (Signal::Logs, "/other?key=a"),
        (Signal::Profiles, "/base/v1development/profiles"),
    ] {
        let shipment = shipment(signal, 3, 8);
        assert_eq!(exporter.export(&shipment).await, Ok(PartialSuccess::default()));
        let seen = kept.recv().await.expect("a request");
        assert_eq!(seen.uri.path_and_query().map(|path| path.as_str()), Some(path));
        assert_eq!(seen.body, shipment.batch.payload);
        assert_eq!(header(&seen, "content-type"), Some("application/x-protobuf"));
        assert_eq!(header(&seen, "content-encoding"), None);
        assert_eq!(header(&seen, "x-tenant"), Some("a"));
        assert_eq!(header(&seen, "host"), Some(&*server.at.to_string()));
        assert_eq!(seen.version, Version::HTTP_11);
    }
    assert_eq!(server.connections(), 1, "check 55: connections are kept");
    let only = http(&format!("traces_endpoint: 'http://{}/t'", server.at));
    assert!(never(only.export(&shipment(Signal::Logs, 1, 8)).await).contains("logs_endpoint"));
}

#[tokio::test]
async fn check_8_requests_are_compressed_as_the_settings_say() {
    let (server, mut kept) = keeping().await;
    let shipment = shipment(Signal::Logs, 50, 500);
    for name in ["gzip", "zstd", "snappy", "zlib", "deflate", "lz4"] {
        let exporter = http(&format!("endpoint: 'http://{}', compression: {name}", server.at));
        exporter.export(&shipment).await.expect("taken");
        let seen = kept.recv().await.expect("a request");
        assert_eq!(header(&seen, "content-encoding"), Some(name));
        assert!(seen.body.len() < shipment.batch.payload.len() / 2);
        let (mut out, body) = (Vec::new(), &seen.body[..]);
        match name {
            "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut out),
            "zstd" => zstd::stream::read::Decoder::new(body).expect("zstd").read_to_end(&mut out),
            "snappy" => {
                out = snap::raw::Decoder::new().decompress_vec(body).expect("snappy");
                Ok(0)
            }
            "lz4" => lz4_flex::frame::FrameDecoder::new(body).read_to_end(&mut out),
            _ => flate2::read::ZlibDecoder::new(body).read_to_end(&mut out),
        }
        .expect("what was sent");
        assert_eq!(out, shipment.batch.payload);
    }
}

#[tokio::test]
async fn json_is_sent_where_it_is_wanted() {
    let (server, mut kept) = keeping().await;
    let exporter = http(&format!("endpoint: 'http://{}', encoding: json, compression: none", server.at));
    for shipment in [spans(), shipment(Signal::Logs, 200, 500)] {
        exporter.export(&shipment).await.expect("taken");
        let seen = kept.recv().await.expect("a request");
        assert_eq!(header(&seen, "content-type"), Some("application/json"));
        let Batch { signal, payload } = shipment.batch;
        assert_eq!(json::decode(signal, &seen.body).expect("JSON"), payload);
    }
}

#[tokio::test]
async fn check_4_http2_is_spoken_where_the_server_offers_it() {
    for (offered, version) in [
        (&[&b"h2"[..], b"http/1.1"][..], Version::HTTP_2),
        (&[b"http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let (keep, mut kept) = mpsc::unbounded_channel();
        let (server, ca) = Server::start_tls(offered, move |seen| {
            keep.send(seen).expect("a receiver");
            async { ok() }
        })
        .await;
        let url =
            format!("endpoint: 'https://localhost:{}', tls: {{ca_pem: {}}}", server.at.port(), quoted(&ca));
        http(&url).export(&spans()).await.expect("taken");
        assert_eq!(kept.recv().await.expect("a request").version, version);
        http(&format!("{url}, disable_keep_alives: true")).export(&spans()).await.expect("taken");
        let seen = kept.recv().await.expect("a request");
        assert_eq!((seen.version, header(&seen, "connection")), (Version::HTTP_11, Some("close")));
    }
}

#[tokio::test]
async fn check_55_there_are_no_more_connections_than_allowed() {
    let (server, _kept) = keeping().await;
    let exporter = http(&format!("endpoint: 'http://{}', max_conns_per_host: 2", server.at));
    let shipment = spans();
    for done in futures::future::join_all((0..20).map(|_| exporter.export(&shipment))).await {
        done.expect("taken");
    }
    assert!(server.connections() <= 2, "{}", server.connections());
}

#[tokio::test]
async fn cookies_are_sent_back_if_the_settings_say_so() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let cookies = Arc::clone(&seen);
    let server = Server::start(move |request| {
        cookies.lock().expect("a lock").push(request.headers.get("cookie").cloned());
        async {
            let mut answer = ok();
            answer.headers_mut().insert("set-cookie", "server=7; Path=/".parse().expect("a header"));
            answer
        }
    })
    .await;
    for keys in ["cookies: {enabled: true}", "timeout: 60s"] {
        let exporter = http(&format!("endpoint: 'http://{}', {keys}", server.at));
        exporter.export(&spans()).await.expect("taken");
        exporter.export(&spans()).await.expect("taken");
    }
    let seen: Vec<_> = seen
        .lock()
        .expect("a lock")
        .iter()
        .map(|value| value.clone().map(|v| v.as_bytes().to_vec()))
        .collect();
    assert_eq!(seen, [None, Some(b"server=7".to_vec()), None, None]);
}

/// A proxy that tells the first line and the credentials of each connection, and passes on to wherever it is asked.
async fn proxy(to: SocketAddr) -> (SocketAddr, mpsc::UnboundedReceiver<(String, bool)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut io = BufReader::new(io);
                let (mut head, mut line) = (Vec::new(), String::new());
                while io.read_line(&mut line).await.is_ok_and(|len| len > 2) {
                    head.push(std::mem::take(&mut line));
                }
                let first = head[0].trim_end().to_owned();
                let known = head.iter().any(|line| line.trim_end() == "proxy-authorization: Basic bWU6cEA=");
                let known = known
                    || head.iter().any(|line| {
                        line.trim_end().eq_ignore_ascii_case("proxy-authorization: basic bWU6cEA=")
                    });
                let connect = first.starts_with("CONNECT ");
                tell.send((first, known)).expect("a receiver");
                let mut server = TcpStream::connect(to).await.expect("the server");
                if connect {
                    io.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.expect("written");
                } else {
                    head.push("\r\n".into());
                    server.write_all(head.concat().as_bytes()).await.expect("written");
                }
                let _ = copy_bidirectional(&mut io, &mut server).await;
            });
        }
    });
    (at, told)
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_or_for_the_url() {
    let (server, mut kept) = keeping().await;
    let (at, mut told) = proxy(server.at).await;
    let keys = format!("endpoint: 'http://far.example:4318', proxy_url: 'http://me:p%40@{at}'");
    http(&keys).export(&spans()).await.expect("taken");
    let expected = "POST http://far.example:4318/v1/traces HTTP/1.1".to_owned();
    assert_eq!(told.recv().await, Some((expected, true)));
    assert_eq!(header(&kept.recv().await.expect("a request"), "host"), Some("far.example:4318"));

    let (server, ca) = Server::start_tls(&[b"h2"], |_| async { ok() }).await;
    let (at, mut told) = proxy(server.at).await;
    let tls = format!("tls: {{ca_pem: {}}}", quoted(&ca));
    let keys = format!("endpoint: 'https://localhost', proxy_url: 'http://me:p%40@{at}', {tls}");
    http(&keys).export(&spans()).await.expect("taken");
    assert_eq!(told.recv().await, Some(("CONNECT localhost:443 HTTP/1.1".to_owned(), true)));
}

fn with_credentials(
    keys: &str,
    hop: otlp::Hop,
    to: Option<SocketAddr>,
) -> Result<Arc<otlp::Http>, otlp::BuildError> {
    let auth: Arc<dyn ClientAuth> = Arc::new(Credentials);
    match to {
        Some(to) => otlp::Http::new("otlphttp", &http_settings(keys), Arc::new(To(to)), Some(auth), hop),
        None => {
            let connector = Arc::new(UnderlayConnector::default());
            otlp::Http::new("otlphttp", &http_settings(keys), connector, Some(auth), hop)
        }
    }
}

#[tokio::test]
async fn credentials_are_never_sent_in_the_clear() {
    let error = with_credentials("endpoint: 'http://x:1'", otlp::Hop::Receiver, None).err().expect("refused");
    assert!(error.to_string().contains("hesper://"), "{error}");
    let one = "endpoint: 'https://x:1', logs_endpoint: 'http://y:1/l'";
    assert!(with_credentials(one, otlp::Hop::Receiver, None).is_err());
    assert!(with_credentials("endpoint: 'https://x:1'", otlp::Hop::Receiver, None).is_ok());
}

#[tokio::test]
async fn a_gateway_of_the_mesh_is_told_whose_data_it_is() {
    let (server, mut kept) = keeping().await;
    let keys = "endpoint: 'hesper://eu-1@dark%2Ftraces/otlp', proxy_url: 'http://127.0.0.1:1'";
    assert!(matches!(http_settings(keys).endpoint, Some(Endpoint::Mesh { .. })));
    for (hop, told) in [(otlp::Hop::Gateway, true), (otlp::Hop::Receiver, false)] {
        let exporter = with_credentials(keys, hop, Some(server.at)).expect("an exporter");
        exporter.export(&spans()).await.expect("taken");
        let seen = kept.recv().await.expect("a request");
        assert_eq!(seen.uri.path(), "/otlp/v1/traces");
        assert_eq!(header(&seen, "host"), Some("dark-traces"));
        assert_eq!(header(&seen, "authorization"), Some("Basic dXNlci0xOjEyMzQ="));
        assert_eq!(seen.headers.contains_key(FORWARDED_HEADER), told);
    }
    let keys = format!("endpoint: 'http://user-1:12%2034@{}'", server.at);
    let connector = Arc::new(UnderlayConnector::default());
    let exporter = otlp::Http::new("x", &http_settings(&keys), connector, None, otlp::Hop::Gateway)
        .expect("an exporter");
    exporter.export(&spans()).await.expect("taken");
    let seen = kept.recv().await.expect("a request");
    assert!(!seen.headers.contains_key(FORWARDED_HEADER));
    assert_eq!(header(&seen, "authorization"), Some("Basic dXNlci0xOjEyIDM0"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    drop(listener);
    let reason = again(http(&format!("endpoint: 'http://{at}'")).export(&spans()).await);
    assert!(reason.contains(&at.to_string()) && reason.contains("otlphttp/test"), "{reason}");
}
