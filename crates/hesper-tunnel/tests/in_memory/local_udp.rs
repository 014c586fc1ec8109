//! Local UDP listeners end to end, with targets in memory instead of on the mesh.

use crate::mesh::{Answer, MemoryFlow, Mesh};
use hesper_observe::metrics::Registry;
use hesper_sdk::{DialError, NodeView, Service};
use hesper_tunnel::{
    Flow, Known, Metrics,
    proxy::{self, LOOPBACK, Spec},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle, time::timeout};

const LONG: Duration = Duration::from_secs(20);

struct Proxy {
    address: SocketAddr,
    registry: Registry,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    async fn start(mesh: &Mesh) -> Self {
        let registry = Registry::new();
        let spec: Spec = "svc:0:udp".parse().expect("a spec");
        let listeners = proxy::open(&[spec], LOOPBACK).await.expect("open");
        let address = listeners.addresses()[0].1;
        let task = tokio::spawn(listeners.serve(mesh.clone(), Metrics::new(&registry)));
        Self { address, registry, task }
    }

    async fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        socket.connect(self.address).await.expect("connect");
        socket
    }

    /// Waits until a line of the metrics begins so.
    async fn says(&self, line: &str) {
        for _ in 0..1000 {
            if self.registry.encode().lines().any(|l| l.starts_with(line)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{line} is not in\n{}", self.registry.encode());
    }
}

async fn recv(flow: &mut MemoryFlow) -> Option<String> {
    let payload = timeout(LONG, flow.recv()).await.expect("in time").expect("alive");
    payload.map(|p| String::from_utf8_lossy(&p).into_owned())
}

async fn answer(client: &UdpSocket) -> String {
    let mut buffer = [0; 2000];
    let len = timeout(LONG, client.recv(&mut buffer)).await.expect("in time").expect("received");
    String::from_utf8_lossy(&buffer[..len]).into_owned()
}

#[tokio::test]
async fn each_client_has_a_flow_of_its_own() {
    let mesh = Mesh::default();
    let mut targets = mesh.udp_target("svc");
    let proxy = Proxy::start(&mesh).await;
    let mut open = Vec::new();
    for n in 0..50 {
        let client = proxy.client().await;
        client.send(format!("question {n}").as_bytes()).await.expect("send");
        let mut flow = targets.recv().await.expect("a flow");
        assert_eq!(recv(&mut flow).await, Some(format!("question {n}")));
        open.push((client, flow));
    }
    for (n, (client, flow)) in open.iter_mut().enumerate() {
        flow.send(format!("answer {n}").as_bytes()).expect("sent");
        assert_eq!(answer(client).await, format!("answer {n}"));
        client.send(b"").await.expect("an empty datagram is one too");
        assert_eq!(recv(flow).await.as_deref(), Some(""));
    }
    let (service, options) = mesh.dialed().remove(0);
    assert_eq!(service, "svc");
    for told in [r#""dst_protocol":"udp""#.into(), format!(r#""dst_port":"{}""#, proxy.address.port())] {
        assert!(options.app_data.contains(&told), "{}", options.app_data);
    }
    proxy.says(r#"hesper_tunnel_datagrams_total{service="svc",side="proxy",direction="from-mesh"} 50"#).await;
    proxy.says("hesper_tunnel_proxied_connections_open 50").await;
    // The hosting side ends one; the client's next datagram begins another.
    let (client, flow) = open.remove(0);
    drop(flow);
    proxy.says("hesper_tunnel_proxied_connections_open 49").await;
    client.send(b"again").await.expect("send");
    let mut flow = targets.recv().await.expect("a new flow");
    assert_eq!(recv(&mut flow).await.as_deref(), Some("again"));
}

#[tokio::test]
async fn what_is_refused_too_long_or_too_much_is_dropped_and_counted() {
    let mesh = Mesh::default();
    mesh.set("svc", Answer::Error(DialError::NoTerminators { message: "nobody hosts it".into() }));
    let proxy = Proxy::start(&mesh).await;
    let client = proxy.client().await;
    for _ in 0..200 {
        client.send(b"is there anybody?").await.expect("send");
    }
    proxy.says(r#"hesper_tunnel_datagrams_dropped_total{service="svc",side="proxy",reason="refused"}"#).await;
    assert!(mesh.dialed().len() < 10, "not one dial for each datagram");
    let mut targets = mesh.udp_target("svc");
    let long = proxy.client().await;
    long.send(&[7; 1300]).await.expect("send");
    let mut flow = targets.recv().await.expect("a flow");
    proxy
        .says(r#"hesper_tunnel_datagrams_dropped_total{service="svc",side="proxy",reason="too-long"} 1"#)
        .await;
    long.send(b"short").await.expect("send");
    assert_eq!(recv(&mut flow).await.as_deref(), Some("short"));
}

#[tokio::test]
async fn a_flow_on_which_nothing_moves_ends() {
    let mesh = Mesh { max_idle: Some(Duration::from_millis(100)), ..Mesh::default() };
    let mut targets = mesh.udp_target("svc");
    let proxy = Proxy::start(&mesh).await;
    let client = proxy.client().await;
    client.send(b"once").await.expect("send");
    let mut flow = targets.recv().await.expect("a flow");
    assert_eq!(recv(&mut flow).await.as_deref(), Some("once"));
    assert_eq!(recv(&mut flow).await, None, "ended");
    proxy.says("hesper_tunnel_proxied_connections_open 0").await;
}

#[tokio::test]
async fn proxy_v1_may_ask_for_both_protocols() {
    let port = UdpSocket::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address").port();
    let service = Service {
        name: "team@svc".into(),
        may_dial: true,
        configs: [("proxy.v1".to_owned(), format!(r#"{{"port": {port}, "protocols": ["tcp", "udp"]}}"#))]
            .into(),
        ..Service::default()
    };
    let view = NodeView { revision: 1, services: vec![service], ..NodeView::default() };
    let (_sender, known) = watch::channel(Arc::new(Known::of(Arc::new(view))));
    let mesh = Mesh::default();
    let mut targets = mesh.udp_target("team@svc");
    let follower = tokio::spawn(proxy::follow_configs(mesh.clone(), known, Metrics::new(&Registry::new())));
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    client.connect(("127.0.0.1", port)).await.expect("connect");
    let mut flow = loop {
        // Until somebody listens, the kernel says no.
        let _ = client.send(b"ping").await;
        if let Ok(flow) = timeout(Duration::from_millis(50), targets.recv()).await {
            break flow.expect("a flow");
        }
    };
    assert_eq!(recv(&mut flow).await.as_deref(), Some("ping"));
    let (service, options) = mesh.dialed().remove(0);
    assert_eq!(
        (service.as_str(), options.instance.as_deref()),
        ("team@svc", Some("")),
        "no instance: it is its name"
    );
    follower.abort();
}
