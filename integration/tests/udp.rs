//! UDP services: questions and answers of many clients, what is dropped and counted, and the end with the permission.

use hesper_integration::{Process, Stack, free_port, http, wait_until};
use std::{
    io,
    io::Read,
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

/// Answers every datagram with its text in capitals, on loopback, for as long as the test runs.
fn shouting() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let address = socket.local_addr().expect("address");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            buffer[..len].make_ascii_uppercase();
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
    address
}

/// A client with a socket of its own.
struct Client(UdpSocket);

impl Client {
    fn of(listener: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.connect(listener).expect("connect");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        Self(socket)
    }

    /// Asks as a resolver does: again, when no answer comes.
    fn ask(&self, question: &str) -> Result<String, io::Error> {
        let mut buffer = [0; 2048];
        let mut last = io::ErrorKind::TimedOut.into();
        for _ in 0..3 {
            self.0.send(question.as_bytes())?;
            loop {
                match self.0.recv(&mut buffer) {
                    // An answer to a question that was asked again may come twice.
                    Ok(len) if buffer[..len] == *question.to_uppercase().as_bytes() => {
                        return Ok(question.to_uppercase());
                    }
                    Ok(_) => {}
                    Err(error) => {
                        last = error;
                        break;
                    }
                }
            }
        }
        Err(last)
    }
}

struct Mesh {
    stack: Stack,
    server: Process,
    proxy: Process,
    metrics: [u16; 2],
}

impl Mesh {
    fn start() -> Self {
        let stack = Stack::start();
        let target = shouting();
        let config = format!(r#"{{"protocol":"udp","address":"127.0.0.1","port":{}}}"#, target.port());
        stack.cli(["create", "config", "dns.host", "host.v1", &config]).ok();
        stack.cli(["create", "service", "dns", "--configs", "dns.host"]).ok();
        let (server, client) = (stack.enroll("server", &[]), stack.enroll("client", &[]));
        stack.allow("Bind", "dns", "@server");
        stack.allow("Dial", "dns", "@client");
        let metrics = [free_port(), free_port()];
        let [at_server, at_client] = metrics.map(|port| format!("127.0.0.1:{port}"));
        let server = stack.tunnel("server", &["host", "-i", &server, "--metrics", &at_server]);
        wait_until("it is hosted", Stack::PATIENCE, || server.said("service bound"));
        let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "dns:0:udp", "--metrics", &at_client]);
        Self { stack, server, proxy, metrics }
    }

    fn listener(&self) -> SocketAddr {
        self.proxy.told("dns")
    }

    /// The sum of a metric's samples whose labels contain all of these, at the host (0) or the proxy (1).
    fn metric(&self, at: usize, name: &str, labels: &[&str]) -> f64 {
        let page =
            http::get(&format!("http://127.0.0.1:{}/metrics", self.metrics[at])).expect("metrics").body;
        let samples =
            page.lines().filter(|l| l.starts_with(name) && labels.iter().all(|label| l.contains(label)));
        samples.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

#[test]
fn udp_is_carried_dropped_by_rule_and_ended_with_the_permission() {
    let mesh = Mesh::start();
    let listener = mesh.listener();
    let first = Client::of(listener);
    wait_until("the first answer", Stack::PATIENCE, || first.ask("hello").is_ok());

    // Many clients, each with its own flow.
    let clients: Vec<_> = (0..100).map(|_| Client::of(listener)).collect();
    for (n, client) in clients.iter().enumerate() {
        for m in 0..3 {
            let question = format!("question {m} of client {n}");
            wait_until("an answer", Stack::PATIENCE, || client.ask(&question).is_ok());
        }
    }
    assert!(mesh.metric(0, "hesper_tunnel_hosted_streams_open", &[]) >= 100.0);
    assert!(mesh.metric(1, "hesper_tunnel_datagrams_total", &["from-mesh"]) >= 300.0);

    // As long as a path of 1500 carries, and longer than any path does.
    let long = "x".repeat(1100);
    wait_until("a long answer", Stack::PATIENCE, || first.ask(&long).is_ok());
    first.0.send(&[b'x'; 60_000]).expect("sent");
    wait_until("it is counted", Stack::PATIENCE, || {
        mesh.metric(1, "hesper_tunnel_datagrams_dropped_total", &[r#"reason="too-long""#]) >= 1.0
    });

    // A flood by one client: dropped beyond what is bounded, and the others are served all the same.
    let flood = Client::of(listener);
    for _ in 0..50_000 {
        let _ = flood.0.send(&[b'f'; 1000]);
    }
    wait_until("the others are answered", Stack::PATIENCE, || clients[7].ask("still there?").is_ok());

    // A TCP client of a UDP service is told so.
    let client = mesh.stack.path("client.json");
    let tcp = mesh.stack.tunnel("tcp", &["proxy", "-i", &client, "dns:0"]);
    let mut connection = TcpStream::connect(tcp.told("dns")).expect("connect");
    assert!(connection.read(&mut [0; 1]).is_err(), "a reset");
    wait_until("it says why", Stack::PATIENCE, || tcp.said("the service carries udp here, not tcp"));

    // The permission ends, and every flow with it; nobody is answered any more. Then it comes back.
    mesh.stack.cli(["delete", "service-policy", "dns.dial"]).ok();
    wait_until("the flows have ended", Stack::PATIENCE, || {
        mesh.metric(0, "hesper_tunnel_hosted_streams_open", &[]) == 0.0
    });
    assert!(first.ask("is anybody there?").is_err());
    mesh.stack.allow("Dial", "dns", "@client");
    wait_until("an answer again", Stack::PATIENCE, || first.ask("hello again").is_ok());
    drop(mesh.server);
}

#[test]
fn a_flow_on_which_nothing_moves_ends() {
    let mesh = Mesh::start();
    mesh.stack.cli(["update", "service", "dns", "--max-idle-time", "1000"]).ok();
    let client = Client::of(mesh.listener());
    wait_until("an answer", Stack::PATIENCE, || client.ask("hello").is_ok());
    for at in [0, 1] {
        let open = ["hesper_tunnel_hosted_streams_open", "hesper_tunnel_proxied_connections_open"][at];
        wait_until("both sides have forgotten it", Stack::PATIENCE, || mesh.metric(at, open, &[]) == 0.0);
    }
    wait_until("and begin anew", Stack::PATIENCE, || client.ask("hello").is_ok());
}
