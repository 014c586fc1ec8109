//! Who may reach whom: refusals say what is missing and nothing else, and every change counts at once, for open streams too.

use hesper_integration::{Lan, Netns, Place, Process, Stack, binaries, http, wait_until};
use std::{
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// A stream that ends by policy ends before its peer could be missed: that takes 30 s of silence.
const BEFORE_IDLE: Duration = Duration::from_secs(20);

/// Gives back whatever it is sent, on loopback, for as long as the test runs.
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

/// An open connection to the echo, through `tunnel proxy`.
struct Conversation(TcpStream);

impl Conversation {
    /// Opens one; an error when it is refused.
    fn open(listener: SocketAddr) -> io::Result<Self> {
        let connection = TcpStream::connect(listener).expect("the tunneler listens");
        connection.set_read_timeout(Some(BEFORE_IDLE))?;
        let mut conversation = Self(connection);
        conversation.goes_on()?;
        Ok(conversation)
    }

    /// Says something and hears it back.
    fn goes_on(&mut self) -> io::Result<()> {
        let mut heard = [0; 5];
        self.0.write_all(b"hello")?;
        self.0.read_exact(&mut heard)?;
        assert_eq!(&heard, b"hello");
        Ok(())
    }

    /// Waits for its end, in silence.
    #[track_caller]
    fn ends(mut self) {
        match self.0.read(&mut [0; 16]) {
            Ok(0) => {}
            Ok(count) => panic!("{count} bytes that nobody sent"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "it goes on: {error}"),
        }
    }
}

/// Opens a conversation as soon as it is allowed.
fn soon(listener: SocketAddr) -> Conversation {
    let mut open = None;
    wait_until("the dial is allowed", Stack::PATIENCE, || {
        open = Conversation::open(listener).ok();
        open.is_some()
    });
    open.expect("open")
}

/// Services `one`, `two` and `guarded`, all hosted by `server`; `client` may dial the first two, `other` only `two`.
struct Mesh {
    stack: Stack,
    client: String,
    other: String,
    _server: Process,
}

impl Mesh {
    fn start() -> Self {
        let stack = Stack::start();
        let server = stack.enroll("server", &[]);
        let (client, other) = (stack.enroll("client", &["clients"]), stack.enroll("other", &["clients"]));
        let target = echo();
        for service in ["one", "two", "guarded"] {
            stack.publish(service, target, "@server");
        }
        stack.allow("Dial", "one", "@client");
        stack.allow("Dial", "two", "#clients");
        let server = stack.tunnel("server", &["host", "-i", &server]);
        wait_until("all are hosted", Stack::PATIENCE, || {
            let bound = |line: &&String| line.contains("service bound");
            server.lines().iter().filter(bound).count() == 3
        });
        Self { stack, client, other, _server: server }
    }

    /// Local listeners of one identity.
    fn proxy(&self, identity: &str, services: &[&str]) -> Process {
        let specs: Vec<_> = services.iter().map(|service| format!("{service}:0")).collect();
        let specs: Vec<_> = specs.iter().map(String::as_str).collect();
        self.stack.tunnel("proxy", &[&["proxy", "-i", identity], &specs[..]].concat())
    }

    /// The HTTP proxy of one identity.
    fn run(&self, identity: &str) -> Process {
        self.stack.tunnel("run", &["run", "-i", identity, "--proxy", "127.0.0.1:0"])
    }

    fn advice(&self, identity: &str, service: &str) -> String {
        self.stack.cli(["policy-advisor", "identities", identity, service, "-q"]).ok().stdout
    }
}

/// Asks an HTTP proxy for `http://HOST/who`.
fn get(netns: Option<&Netns>, proxy: &Process, host: &str) -> http::Response {
    let (proxy, url) = (format!("http://{}", proxy.told("proxy")), format!("http://{host}/who"));
    http::curl(netns, &["-x", &proxy, &url]).expect("the HTTP proxy answers")
}

#[test]
fn a_refusal_says_what_is_missing_and_not_what_there_is() {
    let mesh = Mesh::start();
    let (run, mut proxy) = (mesh.run(&mesh.client), mesh.proxy(&mesh.client, &["guarded", "missing"]));

    let [guarded, missing] = ["guarded", "missing"].map(|service| {
        let answer = get(None, &run, service);
        (answer.status, answer.header("x-hesper-error").map(str::to_owned), answer.body.replace(service, "?"))
    });
    assert_eq!(guarded, missing, "forbidden and unknown look alike");
    assert_eq!((guarded.0, guarded.1.as_deref()), (404, Some("unknown-service")));
    assert!(guarded.2.contains("ask for a Dial service-policy"), "{}", guarded.2);

    let [guarded, missing] = ["guarded", "missing"].map(|service| {
        let refused = Conversation::open(proxy.told(service)).err().expect("refused");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset, "{refused}");
        let refusal = format!("a connection was refused service={service} ");
        let said = proxy.wait_for_line("it says why", Stack::PATIENCE, |line| {
            line.contains(&refusal).then(|| line.to_owned())
        });
        said.split_once("reason=").expect("a reason").1.replace(service, "?")
    });
    assert_eq!(guarded, missing, "forbidden and unknown look alike");
    assert_eq!(
        guarded,
        "no service named '?' that identity 'client' may dial: check the name, or ask for a Dial service-policy that has both"
    );

    // Who runs the network is told which it was.
    let controller = mesh.stack.controller();
    for rule in [
        "no Dial service-policy has both identity 'client' and service 'guarded'",
        "there is no service 'missing'",
    ] {
        wait_until("the controller says why", Stack::PATIENCE, || controller.said(rule));
    }
    let advice = mesh.advice("client", "guarded");
    assert!(advice.contains("Dial: N") && advice.contains("Adjust service policies."), "{advice}");
}

#[test]
fn a_policy_counts_from_when_it_is_made_to_when_it_is_removed() {
    let mesh = Mesh::start();
    let proxy = mesh.proxy(&mesh.client, &["one", "two", "guarded"]);
    let [one, two, guarded] = ["one", "two", "guarded"].map(|service| proxy.told(service));
    let (first, mut second) = (soon(one), soon(two));
    assert!(Conversation::open(guarded).is_err());

    mesh.stack.allow("Dial", "guarded", "@client");
    soon(guarded).goes_on().expect("allowed now");

    mesh.stack.cli(["delete", "service-policy", "one.dial"]).ok();
    first.ends();
    assert!(Conversation::open(one).is_err(), "no grant is left");
    second.goes_on().expect("another service of the same two nodes");

    mesh.stack.allow("Dial", "one", "@client");
    let again = soon(one);
    mesh.stack.cli(["delete", "service-policy", "one.bind"]).ok();
    again.ends();
    assert!(Conversation::open(one).is_err(), "nobody may host it");
    second.goes_on().expect("another service of the same two nodes");
    mesh.stack.allow("Bind", "one", "@server");
    soon(one).goes_on().expect("hosted again");
}

#[test]
fn a_disabled_identity_is_out_at_once() {
    let mesh = Mesh::start();
    let (mut proxy, others) = (mesh.proxy(&mesh.client, &["one", "two"]), mesh.proxy(&mesh.other, &["two"]));
    let [one, two] = ["one", "two"].map(|service| proxy.told(service));
    let (first, second, mut unconcerned) = (soon(one), soon(two), soon(others.told("two")));

    mesh.stack.cli(["update", "identity", "client", "--disabled"]).ok();
    first.ends();
    second.ends();
    for (service, listener) in [("one", one), ("two", two)] {
        assert!(Conversation::open(listener).is_err());
        let refusal = format!("a connection was refused service={service} ");
        proxy.wait_for_line("it says why", Stack::PATIENCE, |line| {
            (line.contains(&refusal) && line.ends_with("reason=identity 'client' is disabled")).then_some(())
        });
    }
    unconcerned.goes_on().expect("another identity's");
    let advice = mesh.advice("client", "one");
    assert!(advice.contains("Identity is disabled. Enable it."), "{advice}");

    mesh.stack.cli(["update", "identity", "client", "--disabled=false"]).ok();
    soon(one).goes_on().expect("enabled again");

    mesh.stack.cli(["update", "identity", "server", "--disabled"]).ok();
    while unconcerned.goes_on().is_ok() {}
    assert!(Conversation::open(two).is_err(), "its host is disabled");
}

#[test]
fn missing_router_policies_are_named() {
    let mesh = Mesh::start();
    let run = mesh.run(&mesh.client);
    let stack = &mesh.stack;
    let why = |expected: &str| {
        wait_until(expected, Stack::PATIENCE, || {
            let answer = get(None, &run, "one");
            answer.status == 502 && answer.body.contains(expected)
        });
    };
    let all = ["--edge-router-roles", "#all"];

    stack.cli(["delete", "service-edge-router-policy", "where", "true"]).ok();
    why("no service-edge-router-policy gives service 'one' an edge router");
    let advice = mesh.advice("client", "one");
    assert!(advice.contains("Adjust service edge router policies."), "{advice}");
    stack.cli([&["create", "serp", "two-only", "--service-roles", "@two"], &all[..]].concat()).ok();
    why("no service-edge-router-policy gives service 'one' an edge router");
    stack.cli([&["create", "serp", "all", "--service-roles", "#all"], &all[..]].concat()).ok();

    stack.cli(["delete", "edge-router-policy", "where", "true"]).ok();
    stack.cli([&["create", "erp", "servers", "--identity-roles", "@server"], &all[..]].concat()).ok();
    why("no edge-router-policy gives identity 'client' an edge router");
    let advice = mesh.advice("client", "one");
    assert!(advice.contains("Adjust edge router policies."), "{advice}");

    stack.cli([&["create", "erp", "all", "--identity-roles", "#all"], &all[..]].concat()).ok();
    let proxy = mesh.proxy(&mesh.client, &["one"]);
    soon(proxy.told("one")).goes_on().expect("a path again");
}

/// A machine with a program on port 8000 of its loopback that says which machine it is.
struct Machine {
    _server: Process,
    _netns: Netns,
    place: Place,
}

impl Machine {
    fn start(stack: &Stack, lan: &Lan, name: &str) -> Self {
        let (netns, address) = lan.host(name);
        let directory = stack.path(&format!("{name}.d"));
        fs::create_dir(&directory)
            .and_then(|()| fs::write(format!("{directory}/who"), name))
            .expect("a file");
        let mut command = netns.command(binaries::installed("python3", "python3"));
        command.args(["-u", "-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory", &directory]);
        let server = Process::foreign("http.server", command);
        wait_until("it serves", Stack::PATIENCE, || {
            http::get_in(Some(&netns), "http://127.0.0.1:8000/who").is_ok_and(|answer| answer.body == name)
        });
        let place = Place::namespace(&netns, address);
        Self { _server: server, _netns: netns, place }
    }
}

#[test]
fn an_instance_is_exactly_one_host() {
    let lan = Lan::new();
    let (netns, address) = lan.host("mesh");
    let stack = Stack::start_at(Place::namespace(&netns, address));
    let identities = ["web-1", "web-2"].map(|name| stack.enroll(name, &["web"]));
    let dialer = stack.enroll("dialer", &[]);
    stack.publish("site", "127.0.0.1:8000".parse().expect("address"), "#web");
    stack.allow("Dial", "site", "@dialer");
    let machines = ["web-1", "web-2"].map(|name| Machine::start(&stack, &lan, name));
    let hosts: Vec<_> = machines
        .iter()
        .zip(&identities)
        .map(|(machine, identity)| stack.tunnel_at(&machine.place, "host", &["host", "-i", identity]))
        .collect();
    let run = stack.tunnel("run", &["run", "-i", &dialer, "--proxy", "127.0.0.1:0"]);
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &dialer, "web-1@site:0", "web-2@site:0"]);

    let sd = format!("http://{}/sd", run.told("proxy"));
    let targets = || {
        let groups = http::get_in(Some(&netns), &sd).expect("/sd answers").json();
        let target = |group: &serde_json::Value| group["targets"][0].as_str().map(str::to_owned);
        groups.as_array().expect("a list").iter().filter_map(target).collect::<Vec<_>>()
    };
    wait_until("/sd has both", Stack::PATIENCE, || {
        targets() == ["web-1.site.hesper:80", "web-2.site.hesper:80"]
    });
    for _ in 0..3 {
        for name in ["web-1", "web-2"] {
            assert_eq!(get(Some(&netns), &run, &format!("{name}.site.hesper")).body, name);
            let listener = format!("http://{}/who", proxy.told(&format!("{name}@site")));
            assert_eq!(http::get_in(Some(&netns), &listener).expect("an answer").body, name);
        }
        let any = get(Some(&netns), &run, "site").body;
        assert!(["web-1", "web-2"].contains(&any.as_str()), "{any}");
    }

    // One of them poses as the other: refused, and what was there stays.
    let posing =
        r#"{"protocol":"tcp","address":"127.0.0.1","port":8000,"listenOptions":{"identity":"web-2"}}"#;
    stack.cli(["update", "config", "site.host", "-d", posing]).ok();
    wait_until("the first is refused", Stack::PATIENCE, || {
        hosts[0].said("instance 'web-2' of service 'site' belongs to another identity")
    });
    assert_eq!(get(Some(&netns), &run, "web-2.site.hesper").body, "web-2");

    // Without the one that was asked for, nobody else answers.
    drop(hosts);
    let _second = stack.tunnel_at(&machines[1].place, "host", &["host", "-i", &identities[1]]);
    wait_until("only one is left", Stack::PATIENCE, || targets() == ["web-2.site.hesper:80"]);
    let gone = get(Some(&netns), &run, "web-1.site.hesper");
    assert_eq!((gone.status, gone.header("x-hesper-error")), (503, Some("no-terminators")), "{}", gone.body);
    assert_eq!(get(Some(&netns), &run, "site").body, "web-2");
}
