//! Local listeners end to end, with targets in memory instead of on the mesh.

use crate::mesh::{Answer, Mesh};
use hesper_observe::metrics::Registry;
use hesper_sdk::{DialError, NodeView, Service};
use hesper_tunnel::{
    Known, Metrics,
    proxy::{self, LOOPBACK, Spec},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

fn metrics() -> Metrics {
    Metrics::new(&Registry::new())
}

#[tokio::test]
async fn a_connection_becomes_a_stream_and_a_refusal_a_reset() {
    let mesh = Mesh::default();
    let mut targets = mesh.target("svc");
    mesh.set("gone", Answer::Error(DialError::NoTerminators { message: "nobody hosts it".into() }));
    let specs = ["svc:0", "gone:0"].map(|s| s.parse::<Spec>().expect("a spec"));
    let listeners = proxy::open(&specs, LOOPBACK).await.expect("open");
    let addresses = listeners.addresses();
    let server = tokio::spawn(listeners.serve(mesh.clone(), metrics()));

    let mut tcp = TcpStream::connect(addresses[0].1).await.expect("connect");
    tcp.write_all(b"ping").await.expect("send");
    tcp.shutdown().await.expect("half-close");
    let mut stream = targets.recv().await.expect("a stream");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "ping");
    stream.write_all(b"pong").await.expect("send");
    drop(stream);
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "pong");
    let (service, options) = mesh.dialed().remove(0);
    assert_eq!(service, "svc");
    let local = format!(r#""dst_ip":"127.0.0.1","dst_port":"{}""#, addresses[0].1.port());
    assert!(options.app_data.contains(&local), "{}", options.app_data);

    let mut tcp = TcpStream::connect(addresses[1].1).await.expect("connect");
    let error = tcp.read(&mut [0; 1]).await.expect_err("no empty answer");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    server.abort();
}

fn known(services: &[(&str, u16)]) -> Arc<Known> {
    let services = services.iter().map(|(name, port)| Service {
        name: (*name).into(),
        may_dial: true,
        configs: [("proxy.v1".to_owned(), format!(r#"{{"port": {port}, "protocols": ["tcp"]}}"#))].into(),
        ..Service::default()
    });
    let view = NodeView { revision: 1, services: services.collect(), ..NodeView::default() };
    Arc::new(Known::of(Arc::new(view)))
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// A port that is free now.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.expect("bind").local_addr().expect("address").port()
}

#[tokio::test]
async fn listeners_of_configs_come_and_go_with_them() {
    let mesh = Mesh::default();
    let mut targets = mesh.target("a");
    let port = free_port().await;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (sender, receiver) = watch::channel(known(&[]));
    let follower = tokio::spawn(proxy::follow_configs(mesh.clone(), receiver, metrics()));
    assert!(TcpStream::connect(address).await.is_err(), "not yet");

    sender.send_replace(known(&[("a", port)]));
    until("the listener opens", async || TcpStream::connect(address).await.is_ok()).await;
    let mut stream = targets.recv().await.expect("a stream");
    assert_eq!(stream.read(&mut [0; 1]).await.expect("end"), 0, "the test's connection has ended");
    let mut open = TcpStream::connect(address).await.expect("connect");
    let mut stream = targets.recv().await.expect("a stream");

    sender.send_replace(known(&[]));
    until("the listener closes", async || TcpStream::connect(address).await.is_err()).await;
    stream.write_all(b"still here").await.expect("open connections go on");
    let mut text = [0; 10];
    open.read_exact(&mut text).await.expect("read");
    assert_eq!(&text, b"still here");

    follower.abort();
    assert!(follower.await.expect_err("aborted").is_cancelled());
    assert_eq!(open.read(&mut [0; 1]).await.unwrap_or(0), 0, "with the tunneler they end");
}
