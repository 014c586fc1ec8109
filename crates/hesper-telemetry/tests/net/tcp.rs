use crate::{accept, endpoint, next, talk, underlay};
use hesper_telemetry::net::{Connector, tcp::TcpIncoming, underlay::UnderlayConnector};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};
use tokio::net::TcpStream;

/// Has this machine IPv6?
fn v6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses_at_one_port() {
    let mut incoming = TcpIncoming::bind(&underlay("localhost:0")).await.expect("bound");
    let addresses = incoming.local_addresses().to_vec();
    assert_eq!(addresses.len(), if v6() { 2 } else { 1 });
    assert!(
        addresses.iter().all(|a| a.ip().is_loopback() && a.port() == addresses[0].port()),
        "{addresses:?}"
    );
    for address in addresses {
        let stream = TcpStream::connect(address).await.expect("connected");
        let arrival = next(&mut incoming).await;
        assert_eq!(arrival.from, stream.local_addr().expect("an address").to_string());
        let (_, peer) = arrival.ready.await.expect("ready");
        assert_eq!(peer.address, Some(address.ip()));
    }
}

#[tokio::test]
async fn no_host_is_every_address_of_both_families() {
    for text in [":0", "[::]:0"] {
        let mut incoming = TcpIncoming::bind(&underlay(text)).await.expect("bound");
        let port = incoming.local_addresses()[0].port();
        let families: &[&str] = if v6() { &["127.0.0.1", "::1"] } else { &["127.0.0.1"] };
        for ip in families {
            let ip: IpAddr = ip.parse().expect("an address");
            let _stream = TcpStream::connect(SocketAddr::new(ip, port)).await.expect("connected");
            let (_, peer) = accept(&mut incoming).await;
            assert_eq!(peer.address, Some(ip), "of IPv4 as IPv4");
        }
    }
}

#[tokio::test]
async fn the_address_of_one_family_is_of_that_family_only() {
    let incoming = TcpIncoming::bind(&underlay("0.0.0.0:0")).await.expect("bound");
    let port = incoming.local_addresses()[0].port();
    TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    if v6() {
        assert!(TcpStream::connect(("::1", port)).await.is_err());
    }
}

#[tokio::test]
async fn a_taken_port_is_named_and_the_reason_told() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let text = format!("localhost:{}", taken.local_addr().expect("an address").port());
    let error = TcpIncoming::bind(&underlay(&text)).await.expect_err("taken");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&text), "{error}");
    let error = TcpIncoming::bind(&underlay("localhost")).await.expect_err("no port").to_string();
    assert!(error.contains("port"), "{error}");
}

#[tokio::test]
async fn the_port_is_free_again_while_old_connections_close() {
    let mut incoming = TcpIncoming::bind(&underlay("127.0.0.1:0")).await.expect("bound");
    let address = incoming.local_addresses()[0];
    let stream = TcpStream::connect(address).await.expect("connected");
    // The side that closes first keeps the port in TIME_WAIT.
    drop(accept(&mut incoming).await);
    drop((incoming, stream));
    TcpIncoming::bind(&underlay(&address.to_string())).await.expect("bound again");
}

#[tokio::test]
async fn a_stream_is_opened_by_any_way_to_write_it() {
    let mut incoming = TcpIncoming::bind(&underlay("localhost:0")).await.expect("bound");
    let port = incoming.local_addresses()[0].port();
    let connector = UnderlayConnector::default();
    for host in ["", "http://", "dns:///", "passthrough:///"] {
        let endpoint = endpoint(&format!("{host}localhost:{port}"));
        let mut ours = connector.connect(&endpoint).await.expect("connected");
        let (mut theirs, _) = accept(&mut incoming).await;
        talk(&mut ours, &mut theirs).await;
        talk(&mut theirs, &mut ours).await;
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_named_with_the_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for (text, reason) in [
        (&*closed.to_string(), "refused"),
        ("does-not-exist.invalid:4317", "cannot be resolved"),
        ("localhost", "port is missing"),
        ("unix:///nowhere/otlp.sock", "No such file"),
        ("hesper://eu-1@traces", "identity"),
    ] {
        let endpoint = endpoint(text);
        let error = UnderlayConnector::default().connect(&endpoint).await.err().expect("nobody there");
        let shown = error.to_string();
        assert!(shown.contains(text) && shown.contains(reason), "{shown}");
    }
}
