//! Heads of requests to the HTTP proxy, and what of them reaches a target.

use hesper_observe::metrics::Registry;
use hesper_sdk::{Copied, DatagramFlow, DialError, DialOptions, NodeView, Service};
use hesper_tunnel::{Dialer, Known, Metrics, http::HttpProxy};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
    time::timeout,
};

/// Without an answer for so long, none comes: the head or the body is not whole.
const PATIENCE: Duration = Duration::from_millis(30);
/// After the input: it ends a head that is not whole, and asks for the end of the connection.
const REST: &[u8] = b"\r\n\r\nGET /end HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
/// Fields that are for one hop only, so that no target may see them.
const ONE_HOP: [&str; 6] =
    ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "upgrade"];

/// Hosts every service itself, in memory.
#[derive(Clone)]
struct Targets;

impl Dialer for Targets {
    type Stream = DuplexStream;
    type Flow = DatagramFlow;

    async fn dial(&self, service: &str, _: DialOptions) -> Result<DuplexStream, DialError> {
        assert!(["metrics", "web.example"].contains(&service), "a service that is not there: {service}");
        let (near, far) = duplex(64 << 10);
        tokio::spawn(answer(far));
        Ok(near)
    }

    /// HTTP has none.
    async fn dial_datagrams(&self, _: &str, _: DialOptions) -> Result<DatagramFlow, DialError> {
        Err(DialError::Shutdown)
    }

    fn max_idle(&self, _: &str) -> Option<Duration> {
        None
    }

    async fn splice(_: DuplexStream, _: TcpStream, _: bytes::Bytes) -> io::Result<Copied> {
        Ok(Copied::default())
    }
}

async fn answer(mut stream: DuplexStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut byte = [0; 512];
        match stream.read(&mut byte).await {
            Ok(0) | Err(_) => return,
            Ok(len) => head.extend_from_slice(&byte[..len]),
        }
    }
    check_head(&String::from_utf8_lossy(&head));
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
}

/// What a target gets is one request in origin form to one host, with nothing that was for the proxy.
fn check_head(head: &str) {
    let head = head.split_once("\r\n\r\n").map_or(head, |(head, _)| head);
    let mut lines = head.split("\r\n");
    let target = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default();
    assert!(target.starts_with('/') || target == "*", "not in origin form: {head:?}");
    let names: Vec<_> =
        lines.filter_map(|l| l.split_once(':')).map(|(name, _)| name.to_ascii_lowercase()).collect();
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert_eq!(count("host"), 1, "{head:?}");
    assert!(count("content-length") + count("transfer-encoding") <= 1, "two lengths: {head:?}");
    assert!(ONE_HOP.iter().all(|name| count(name) == 0), "{head:?}");
}

struct Proxy {
    runtime: Runtime,
    address: SocketAddr,
}

impl Proxy {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let service = |name: &str| Service {
                id: name.into(),
                name: name.into(),
                may_dial: true,
                ..Service::default()
            };
            let services = vec![service("metrics"), service("web.example")];
            let view = NodeView { revision: 1, services, ..NodeView::default() };
            let (known, receiver) = watch::channel(Arc::new(Known::of(Arc::new(view))));
            let registry = Registry::new();
            let proxy = HttpProxy::new(Targets, receiver, registry.clone(), Metrics::new(&registry));
            tokio::spawn(async move {
                proxy.serve(listener).await;
                drop(known);
            });
            address
        });
        Self { runtime, address }
    }
}

thread_local! {
    static PROXY: Proxy = Proxy::start();
}

/// What a client sends.
///
/// # Panics
/// When the answer is no HTTP, or a target gets what it must not. Panics in the proxy's tasks are for the caller's panic hook.
pub fn run(input: &[u8]) {
    PROXY.with(|proxy| {
        let said = proxy.runtime.block_on(talk(proxy.address, input));
        assert!(said.is_empty() || said.starts_with(b"HTTP/1."), "{:?}", String::from_utf8_lossy(&said));
    });
}

async fn talk(proxy: SocketAddr, input: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy listens");
    let mut said = Vec::new();
    // The proxy may close before it has read everything.
    let _ = stream.write_all(&[input, REST, REST].concat()).await;
    let mut buf = [0; 4096];
    while let Ok(Ok(len)) = timeout(PATIENCE, stream.read(&mut buf)).await {
        if len == 0 {
            break;
        }
        said.extend_from_slice(&buf[..len]);
    }
    said
}
