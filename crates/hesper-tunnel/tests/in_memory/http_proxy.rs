//! The HTTP proxy end to end, with targets in memory instead of on the mesh.

mod answers;
mod refusals;
mod streams;

use crate::mesh::{Answer, Dialed, Mesh};
use hesper_observe::metrics::Registry;
use hesper_sdk::{NodeView, Service, ServiceHost};
use hesper_tunnel::{Known, Metrics, http::HttpProxy};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};

struct World {
    mesh: Mesh,
    addr: SocketAddr,
    known: watch::Sender<Arc<Known>>,
    server: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn service(name: &str, host: &str) -> Service {
    Service {
        id: format!("{name}-id"),
        name: name.into(),
        may_dial: true,
        role_attributes: vec!["scrape".into()],
        hosts: vec![ServiceHost {
            identity_id: format!("{host}-id"),
            identity_name: host.into(),
            instance: host.into(),
            ..ServiceHost::default()
        }],
        ..Service::default()
    }
}

fn view() -> NodeView {
    NodeView {
        revision: 7,
        identity_name: "me".into(),
        attached: vec!["router".into()],
        services: vec![service("metrics", "node-1"), Service { may_dial: false, ..service("mine", "me") }],
        ..NodeView::default()
    }
}

impl World {
    async fn new() -> Self {
        Self::with_head_timeout(Duration::from_secs(30)).await
    }

    async fn with_head_timeout(timeout: Duration) -> Self {
        let mesh = Mesh::default();
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let (known, receiver) = watch::channel(Arc::new(Known::of(Arc::new(view()))));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let addr = listener.local_addr().expect("address");
        let server = tokio::spawn(
            HttpProxy::new(mesh.clone(), receiver, registry, metrics).head_timeout(timeout).serve(listener),
        );
        Self { mesh, addr, known, server }
    }

    /// Service `metrics` answers; its ends of the streams come out of the receiver.
    fn target(&self) -> mpsc::UnboundedReceiver<DuplexStream> {
        self.mesh.target("metrics")
    }

    fn set(&self, service: &str, answer: Answer) {
        self.mesh.set(service, answer);
    }

    fn dialed(&self) -> Vec<Dialed> {
        self.mesh.dialed()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("connect")
    }

    /// Sends a request and reads until the proxy closes.
    async fn exchange(&self, request: &str) -> String {
        let mut tcp = self.connect().await;
        tcp.write_all(request.as_bytes()).await.expect("send");
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.expect("answer");
        String::from_utf8(answer).expect("text")
    }

    async fn get(&self, target: &str, more: &str) -> String {
        self.exchange(&format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\n{more}Connection: close\r\n\r\n",
            self.addr
        ))
        .await
    }
}

/// Reads until the end of a head.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}
