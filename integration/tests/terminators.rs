//! Several hosts of one service: health checks decide who is dialed, and dials go on when one of them freezes or dies.

use hesper_integration::{Lan, Netns, Place, Process, Stack, http, wait_until};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// In every host's network: the target and its health.
const TARGET: &str = "127.0.0.1:8080";

/// For so long after it was heard of a host is taken for alive, and told by a dial what the client has said already.
const MOMENT: Duration = Duration::from_millis(500);

/// A web server on a host's loopback: it answers with the host's name, and says at `/healthz` whether it is well.
struct Target {
    well: Arc<AtomicBool>,
}

impl Target {
    fn start(netns: &Netns, name: &'static str) -> Self {
        let well = Arc::new(AtomicBool::new(true));
        let listener = netns.inside(|| TcpListener::bind(TARGET)).expect("listen");
        let health = well.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let health = health.clone();
                thread::spawn(move || answer(connection, name, &health));
            }
        });
        Self { well }
    }

    fn set(&self, well: bool) {
        self.well.store(well, SeqCst);
    }
}

fn answer(mut connection: TcpStream, name: &str, well: &AtomicBool) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let asked_for_health = head.starts_with(b"GET /healthz ");
    let (status, body) = match (asked_for_health, well.load(SeqCst)) {
        (false, _) => ("200 OK", name),
        (true, true) => ("200 OK", "all is well"),
        (true, false) => ("503 Service Unavailable", "not well"),
    };
    let length = body.len();
    write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// A controller, two hosts that each have their own target, and a scraper.
struct Mesh {
    one: Target,
    two: Target,
    host_one: Process,
    host_two: Process,
    run: Process,
    stack: Stack,
    here: Netns,
    _networks: (Netns, Netns, Lan),
}

impl Mesh {
    fn start() -> Self {
        let lan = Lan::new();
        let ((here, address), (first, first_address), (second, second_address)) =
            (lan.host("c"), lan.host("one"), lan.host("two"));
        let stack = Stack::start_at(Place::namespace(&here, address));
        let checks = r#"[{"url":"http://127.0.0.1:8080/healthz","interval":"200ms","timeout":"2s","expectInBody":"all is well","actions":[
            {"trigger":"fail","consecutiveEvents":2,"action":"mark unhealthy"},
            {"trigger":"change","action":"send event"},
            {"trigger":"pass","action":"mark healthy"}]}]"#;
        let config =
            format!(r#"{{"protocol":"tcp","address":"127.0.0.1","port":8080,"httpChecks":{checks}}}"#);
        stack.cli(["create", "config", "web.host", "host.v1", &config]).ok();
        let scraper = stack.enroll("scraper", &[]);
        for (service, strategy) in [("web", "random"), ("stuck", "sticky")] {
            let more = ["--configs", "web.host", "--terminator-strategy", strategy];
            stack.cli([&["create", "service", service], &more[..]].concat()).ok();
            stack.allow("Bind", service, "#hosts");
            stack.allow("Dial", service, "@scraper");
        }
        let (one, two) = (Target::start(&first, "one"), Target::start(&second, "two"));
        let host = |name: &str, netns: &Netns, address| {
            let identity = stack.enroll(name, &["hosts"]);
            let place = Place::namespace(netns, address);
            stack.tunnel_at(&place, name, &["host", "-i", &identity])
        };
        let host_one = host("one", &first, first_address);
        let host_two = host("two", &second, second_address);
        let run = stack.tunnel("run", &["run", "-i", &scraper, "--proxy", "127.0.0.1:0"]);
        let _networks = (first, second, lan);
        let mesh = Self { one, two, host_one, host_two, run, stack, here, _networks };
        wait_until("both host both services", Stack::PATIENCE, || mesh.terminators("").len() == 4);
        wait_until("the scraper knows", Stack::PATIENCE, || mesh.scrape("web").is_ok());
        mesh
    }

    /// Scrapes once as Prometheus does, with ten seconds' time: the name of the host that answered.
    fn scrape(&self, service: &str) -> Result<String, String> {
        let (proxy, url) =
            (format!("http://{}", self.run.told("proxy")), format!("http://{service}/metrics"));
        let timeout = "X-Prometheus-Scrape-Timeout-Seconds: 10";
        let answer = http::curl(Some(&self.here), &["-x", &proxy, "-H", timeout, &url])?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(format!("{status}: {}", answer.body)),
        }
    }

    /// The hosts that answer `count` scrapes, each once, in order; all of them must succeed.
    #[track_caller]
    fn hosts(&self, service: &str, count: usize) -> Vec<String> {
        let mut hosts: Vec<_> = (0..count)
            .map(|n| self.scrape(service).unwrap_or_else(|e| panic!("scrape {n} of {service}: {e}")))
            .collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// Waits until each of them has answered: every dial is drawn.
    fn wait_both(&self) {
        for host in ["one", "two"] {
            wait_until("both are dialed", Stack::PATIENCE, || self.hosts("web", 1) == [host]);
        }
    }

    /// Precedences of the terminators of a host ("" = of all).
    fn terminators(&self, host: &str) -> Vec<String> {
        let list = self.stack.cli(["list", "terminators", "-j"]).ok().stdout;
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let all = list["data"].as_array().or(list.as_array()).expect("a list").clone();
        let of_host = all.iter().filter(|t| host.is_empty() || t["host"]["name"] == host);
        of_host.map(|t| t["precedence"].as_str().expect("a precedence").to_owned()).collect()
    }

    fn wait_precedence(&self, host: &str, precedence: &str) {
        wait_until("the check has its effect", Stack::PATIENCE, || {
            let of_host = self.terminators(host);
            of_host.len() == 2 && of_host.iter().all(|p| p == precedence)
        });
    }
}

#[test]
fn dials_go_where_checks_pass_and_on_when_a_host_freezes_or_dies() {
    let mut mesh = Mesh::start();
    mesh.wait_both();

    mesh.one.set(false);
    mesh.wait_precedence("one", "failed");
    assert!(mesh.host_one.said("health check failed") && mesh.host_one.said("health event"));
    // The scraper chooses anew once it has been told.
    wait_until("the healthy one is dialed", Stack::PATIENCE, || mesh.hosts("web", 4) == ["two"]);
    assert_eq!(mesh.hosts("web", 10), ["two"]);
    mesh.one.set(true);
    mesh.two.set(false);
    mesh.wait_precedence("one", "default");
    mesh.wait_precedence("two", "failed");
    wait_until("the other is dialed", Stack::PATIENCE, || mesh.hosts("web", 4) == ["one"]);
    mesh.two.set(true);
    mesh.wait_precedence("two", "default");

    // Sticky: always the same, until it is gone; then always the other.
    let first = mesh.hosts("stuck", 10);
    assert_eq!(first.len(), 1, "{first:?}");

    // Frozen: nobody says that it is gone. Every scrape is answered in its ten seconds.
    mesh.host_two.freeze();
    assert_eq!(mesh.hosts("web", 5), ["one"]);
    assert_eq!(mesh.hosts("stuck", 5), ["one"]);
    mesh.host_two.thaw();
    mesh.wait_both();

    // Killed under scrapes: also the one that was on its way is answered.
    mesh.host_one.kill();
    assert_eq!(mesh.hosts("web", 10), ["two"]);
    assert_eq!(mesh.hosts("stuck", 10), ["two"]);
}

#[test]
fn a_stream_on_which_nothing_moves_ends_when_its_service_says_so() {
    let stack = Stack::start();
    let target = echo();
    let (server, client) = (stack.enroll("server", &[]), stack.enroll("client", &[]));
    stack.publish("patient", target, "@server");
    stack.publish("hasty", target, "@server");
    stack.cli(["update", "service", "hasty", "--max-idle-time", "2000"]).ok();
    stack.allow("Dial", "patient", "@client");
    stack.allow("Dial", "hasty", "@client");
    let server = stack.tunnel("server", &["host", "-i", &server]);
    wait_until("both are hosted", Stack::PATIENCE, || {
        server.lines().iter().filter(|line| line.contains("service bound")).count() == 2
    });
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "patient:0", "hasty:0"]);
    let open = |service: &str| {
        let mut connection = TcpStream::connect(proxy.told(service)).expect("connect");
        connection.set_read_timeout(Some(Stack::PATIENCE)).expect("a timeout");
        talk(&mut connection).expect("it is hosted");
        connection
    };
    let (mut patient, mut hasty) = (open("patient"), open("hasty"));
    // Longer than the limit in all, but never idle for so long.
    for _ in 0..20 {
        talk(&mut hasty).expect("it moves");
        thread::sleep(Duration::from_millis(200));
    }
    let end = hasty.read(&mut [0; 1]).expect_err("nobody has said that it is all");
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "{end}");
    assert!(proxy.said("idle streams ended"), "and the tunneler says why");
    talk(&mut patient).expect("no other");
}

/// A TCP server on the host's loopback that says what it hears.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &connection, &mut &connection));
        }
    });
    address
}

#[test]
fn when_one_of_two_hosts_is_killed_its_connections_are_reset_and_new_ones_go_to_the_other() {
    let stack = Stack::start();
    stack.publish("echo", echo(), "#hosts");
    stack.cli(["update", "service", "echo", "--terminator-strategy", "random"]).ok();
    let client = stack.enroll("client", &[]);
    stack.allow("Dial", "echo", "@client");
    let [one, two] = ["one", "two"].map(|name| {
        let identity = stack.enroll(name, &["hosts"]);
        let host = stack.tunnel(name, &["host", "-i", &identity]);
        wait_until("it is hosted", Stack::PATIENCE, || host.said("service bound"));
        host
    });
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "echo:0"]);
    let open = || {
        let mut connection = TcpStream::connect(proxy.told("echo")).expect("connect");
        connection.set_read_timeout(Some(Stack::PATIENCE)).expect("a timeout");
        talk(&mut connection).map(|()| connection)
    };
    wait_until("it answers", Stack::PATIENCE, || open().is_ok());
    let mut connections: Vec<_> = (0..20).map(|_| open().expect("an answer")).collect();
    let mut one = one;
    one.kill();
    let killed = Instant::now();
    for n in 0..20 {
        let soon = killed.elapsed() < MOMENT;
        match open() {
            Ok(_) => {}
            // What its client said at once may have been used, so that nobody else may hear it.
            Err(e) if soon => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset, "new connection {n}"),
            Err(e) => panic!("new connection {n}: {e}"),
        }
    }
    let ends: Vec<_> = connections.iter_mut().filter_map(|c| talk(c).err()).collect();
    assert!((1..20).contains(&ends.len()), "those through the other go on: {ends:?}");
    for end in &ends {
        let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
        assert!(kinds.contains(&end.kind()), "{end}");
    }
    drop(two);
}

#[test]
fn when_the_tunneler_is_killed_its_clients_do_not_take_it_for_an_end() {
    let stack = Stack::start();
    let (client, host) = (stack.enroll("client", &[]), stack.enroll("host", &[]));
    stack.publish("echo", echo(), "@host");
    stack.allow("Dial", "echo", "@client");
    let _host = stack.tunnel("host", &["host", "-i", &host]);
    let mut proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "echo:0"]);
    let address: SocketAddr = proxy.told("echo");
    let mut connection = None;
    wait_until("it answers", Stack::PATIENCE, || {
        let mut tcp = TcpStream::connect(address).expect("connect");
        tcp.set_read_timeout(Some(Stack::PATIENCE)).expect("a timeout");
        let answered = talk(&mut tcp).is_ok();
        connection = Some(tcp);
        answered
    });
    proxy.kill();
    let end = connection.expect("open").read(&mut [0; 1]).expect_err("cut");
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "{end}");
}

fn talk(connection: &mut TcpStream) -> io::Result<()> {
    let mut heard = [0; 5];
    connection.write_all(b"hello")?;
    connection.read_exact(&mut heard)?;
    assert_eq!(&heard, b"hello");
    Ok(())
}
