//! Controller, router, hosting node and dialing node as four processes, killed with `-9` in every order: the network comes back
//! by itself, with everything it knew, and what one of them is not needed for goes on without it.

use hesper_integration::{Process, Stack, http, http::Response, wait_for, wait_until};
use hesper_pki::digest::sha256_hex;
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

const SERVICE: &str = "target";
/// Everything stored that is no trace of who is connected just now.
const KINDS: [&str; 8] = [
    "identities",
    "services",
    "configs",
    "config-types",
    "service-policies",
    "edge-routers",
    "edge-router-policies",
    "service-edge-router-policies",
];
/// Fields that tell of the moment.
const OF_THE_MOMENT: [&str; 5] =
    ["isOnline", "hasApiSession", "hasEdgeRouterConnection", "dynamicCost", "updatedAt"];
/// How long a tunnel may keep silent before it counts as broken.
const SILENCE: Duration = Duration::from_secs(20);
/// Far less than a grant lives: what has ended by then has been ended.
const SOON: Duration = Duration::from_secs(30);

/// A program on loopback that knows no Hesper: to `GET …` it answers as an HTTP server, any other line it sends back.
fn start_target() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

fn serve(stream: TcpStream) {
    let mut writer = stream.try_clone().expect("a second handle");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let answer = if line.starts_with("GET ") {
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nserved\n".to_owned()
        } else if line.starts_with("echo ") {
            line + "\n"
        } else {
            continue;
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The four processes and what they need to be started again.
struct Mesh {
    stack: Stack,
    host: Option<Process>,
    dialer: Option<Process>,
    identities: [String; 2],
    proxy: String,
}

impl Mesh {
    fn start() -> Self {
        let stack = Stack::separate();
        let target = format!(r#"{{"protocol":"tcp","address":"127.0.0.1","port":{}}}"#, start_target());
        stack.cli(["create", "config", "target.host", "host.v1", &target]).ok();
        stack.cli(["create", "service", SERVICE, "--configs", "target.host", "-a", "scraped"]).ok();
        let identities = ["host", "dialer"].map(|name| stack.enroll(name, &[]));
        for (name, kind, who) in [("bind", "Bind", "@host"), ("dial", "Dial", "@dialer")] {
            let (service, identity) = (["--service-roles", "@target"], ["--identity-roles", who]);
            stack.cli([&["create", "service-policy", name, kind][..], &service, &identity].concat()).ok();
        }
        let mut mesh = Self { stack, host: None, dialer: None, identities, proxy: "127.0.0.1:0".into() };
        mesh.start_host();
        mesh.start_dialer();
        mesh.works();
        mesh
    }

    fn start_host(&mut self) {
        self.host = Some(self.stack.node("host", ["tunnel", "host", "-i", &self.identities[0]]));
    }

    fn start_dialer(&mut self) {
        let arguments = ["tunnel", "run", "-i", &self.identities[1], "--proxy", &self.proxy];
        let mut process = self.stack.node("dialer", arguments);
        let proxy = process.wait_for_line("the dialer is ready", Stack::PATIENCE, |line| {
            line.strip_prefix("ready ")?.split_once("proxy=").map(|(_, address)| address.trim().to_owned())
        });
        (self.dialer, self.proxy) = (Some(process), proxy);
    }

    fn kill(&mut self, part: Part) {
        match part {
            Part::Controller => self.stack.kill_controller(),
            Part::Router => self.stack.kill_router(),
            Part::Host => self.host = None,
            Part::Dialer => self.dialer = None,
        }
    }

    fn start_again(&mut self, part: Part) {
        match part {
            Part::Controller => self.stack.start_controller(),
            Part::Router => self.stack.start_router(),
            Part::Host => self.start_host(),
            Part::Dialer => self.start_dialer(),
        }
    }

    /// One request through the mesh, over a stream of its own.
    fn get(&self) -> Result<Response, String> {
        http::curl(None, &["-x", &format!("http://{}", self.proxy), &format!("http://{SERVICE}/")])
    }

    fn served(&self) -> Result<(), String> {
        match self.get()? {
            Response { status: 200, body, .. } if body == "served\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    /// Waits until a request is served.
    fn works(&self) {
        wait_for("a request is served", Stack::PATIENCE, || self.served());
    }

    /// Everything stored, by kind and id, and the identity files.
    fn stored(&self) -> BTreeMap<String, Value> {
        let mut stored = BTreeMap::new();
        for kind in KINDS {
            let listed = self.stack.cli(["edge", "list", kind, "true limit none", "-j"]).ok().json();
            for entity in listed["data"].as_array().expect("a list") {
                let mut entity = entity.clone();
                entity
                    .as_object_mut()
                    .expect("an object")
                    .retain(|f, _| !OF_THE_MOMENT.contains(&f.as_str()));
                stored.insert(format!("{kind}/{}", entity["id"]), entity);
            }
            assert!(stored.keys().any(|k| k.starts_with(kind)), "nothing of {kind}");
        }
        for file in &self.identities {
            // Not the text: it holds a private key, and a failure is printed.
            stored.insert(file.clone(), sha256_hex(&fs::read(file).expect("an identity file")).into());
        }
        stored
    }

    /// Events of the controller's audit log.
    fn audited(&self, event: &str) -> Vec<Map<String, Value>> {
        let text = fs::read_to_string(self.stack.path("controller/audit.jsonl")).expect("an audit log");
        // The last line may be in the middle of being written.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
        events.filter(|e| e["event"] == event).collect()
    }

    fn renewals(&self) -> usize {
        let dials = self.audited("dial");
        dials.iter().filter(|e| e["renewal"] == true && e["outcome"] == "success").count()
    }

    /// Opens a tunnel through the mesh.
    fn tunnel(&self) -> Tunnel {
        wait_for("a tunnel opens", Stack::PATIENCE, || Tunnel::open(&self.proxy))
    }
}

/// Names what differs, not everything.
#[track_caller]
fn assert_same(now: &BTreeMap<String, Value>, before: &BTreeMap<String, Value>, when: &str) {
    let names: BTreeSet<_> = now.keys().chain(before.keys()).collect();
    for name in names {
        assert_eq!(now.get(name), before.get(name), "{when}: {name}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Controller,
    Router,
    Host,
    Dialer,
}

impl Part {
    const ALL: [Self; 4] = [Self::Controller, Self::Router, Self::Host, Self::Dialer];
}

/// A stream through the mesh that stays open.
struct Tunnel {
    stream: BufReader<TcpStream>,
}

impl Tunnel {
    fn open(proxy: &str) -> Result<Self, String> {
        let mut stream = TcpStream::connect(proxy).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(SILENCE)).map_err(|e| e.to_string())?;
        let request = format!("CONNECT {SERVICE}:80 HTTP/1.1\r\nhost: {SERVICE}:80\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let mut tunnel = Self { stream: BufReader::new(stream) };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if tunnel.stream.read_line(&mut head).map_err(|e| e.to_string())? == 0 {
                return Err(format!("ended: {head}"));
            }
        }
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head);
        }
        tunnel.echoes("opened");
        Ok(tunnel)
    }

    /// A line goes to the target and comes back.
    #[track_caller]
    fn echoes(&mut self, word: &str) {
        let line = format!("echo {word}\n");
        self.stream.get_mut().write_all(line.as_bytes()).expect("the tunnel takes a line");
        let mut back = String::new();
        self.stream.read_line(&mut back).expect("the tunnel answers");
        assert_eq!(back, line);
    }

    /// Waits until the other side ends it.
    #[track_caller]
    fn ends(mut self, within: Duration) {
        let until = Instant::now() + within;
        self.stream.get_ref().set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        loop {
            match self.stream.read(&mut [0; 64]) {
                Ok(0) => return,
                Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
                Ok(_) | Err(_) => assert!(Instant::now() < until, "still open after {within:?}"),
            }
        }
    }
}

#[test]
fn each_comes_back_from_kill_9_and_nothing_stored_is_lost() {
    let mut mesh = Mesh::start();
    let (stored, enrollments) = (mesh.stored(), mesh.audited("enrollment").len());
    let rounds = Part::ALL.iter().map(|part| vec![*part]).chain([Part::ALL.to_vec()]);
    for round in rounds {
        round.iter().for_each(|part| mesh.kill(*part));
        round.iter().for_each(|part| mesh.start_again(*part));
        mesh.works();
        assert_same(&mesh.stored(), &stored, &format!("after {round:?}"));
        // Not by luck of what was cached: a node that knows nothing yet finds everything.
        mesh.kill(Part::Dialer);
        mesh.start_dialer();
        mesh.works();
        mesh.tunnel().echoes("all is well");
    }
    assert_eq!(mesh.audited("enrollment").len(), enrollments, "nobody enrolled again");
    let terminators = || mesh.stack.cli(["edge", "list", "terminators", "-j"]).ok().json();
    wait_until("only the living host's terminator is left", 2 * Stack::PATIENCE, || {
        terminators()["data"].as_array().is_some_and(|list| list.len() == 1)
    });
}

#[test]
fn without_the_controller_streams_go_on_and_cached_grants_open_new_ones() {
    let mut mesh = Mesh::start();
    let mut tunnel = mesh.tunnel();
    mesh.kill(Part::Controller);
    tunnel.echoes("without a controller");
    let lost = "no watch at the controller";
    for node in [&mesh.host, &mesh.dialer] {
        let node = node.as_ref().expect("running");
        wait_until("the node has noticed", Stack::PATIENCE, || node.said(lost));
    }
    tunnel.echoes("still");
    mesh.served().expect("a grant of before opens a stream");
    mesh.start_again(Part::Controller);
    tunnel.echoes("with a controller again");
    mesh.works();
}

#[test]
fn without_the_router_a_scrape_fails_with_a_reason_and_recovers() {
    let mut mesh = Mesh::start();
    mesh.kill(Part::Router);
    let failed = mesh.get().expect("the node itself answers");
    assert!([502, 504].contains(&failed.status), "{failed:?}");
    let word = failed.header("x-hesper-error").unwrap_or_default();
    assert!(["no-route", "timeout"].contains(&word), "{failed:?}");
    assert!(failed.body.contains(SERVICE) || failed.body.contains("hosting identity"), "{failed:?}");
    println!("without a router: {} {}: {}", failed.status, word, failed.body.trim());
    let named = wait_for("the node has noticed that the router is gone", Stack::PATIENCE, || {
        let failed = mesh.get()?;
        if failed.status == 502 { Ok(failed) } else { Err(format!("{failed:?}")) }
    });
    assert!(named.body.contains("router"), "it names what is missing: {named:?}");
    mesh.start_again(Part::Router);
    mesh.works();
}

#[test]
fn a_policy_removed_after_the_controller_came_back_ends_streams_of_before() {
    let mut mesh = Mesh::start();
    let remove = |mesh: &Mesh| {
        mesh.stack.cli(["delete", "service-policy", "dial"]).ok();
    };
    let restore = |mesh: &Mesh| {
        let roles = ["--service-roles", "@target", "--identity-roles", "@dialer"];
        mesh.stack.cli([&["create", "service-policy", "dial", "Dial"][..], &roles].concat()).ok();
    };

    // Once the new controller knows the grant, because the node renewed it at once.
    let mut tunnel = mesh.tunnel();
    mesh.kill(Part::Controller);
    let renewals = mesh.renewals();
    mesh.start_again(Part::Controller);
    wait_until("the grant is renewed", SOON, || mesh.renewals() > renewals);
    tunnel.echoes("renewed");
    remove(&mesh);
    tunnel.ends(SOON);
    let refused = mesh.get().expect("the node itself answers");
    assert!([403, 404].contains(&refused.status), "{refused:?}");

    // And before the node is back: the new controller hears of the grant from the host, or refuses to renew it.
    restore(&mesh);
    let tunnel = mesh.tunnel();
    let dialer = mesh.dialer.take().expect("running");
    dialer.freeze();
    mesh.kill(Part::Controller);
    mesh.start_again(Part::Controller);
    remove(&mesh);
    dialer.thaw();
    tunnel.ends(SOON);
}

#[test]
fn each_ends_with_0_when_it_is_asked_to() {
    let mut mesh = Mesh::start();
    for mut node in [mesh.dialer.take(), mesh.host.take()].into_iter().flatten() {
        let status = node.terminate(Stack::PATIENCE);
        assert_eq!(status.code(), Some(0), "{:?}", node.lines());
    }
    assert_eq!(mesh.stack.terminate_router().code(), Some(0), "the router");
    assert_eq!(mesh.stack.terminate_controller().code(), Some(0), "the controller");
}
