//! Debian's node_exporter on loopback, scraped by Debian's Prometheus from a network that has no route to it.
//!
//! ```text
//! A: node_exporter, tunnel host ── link ── R: controller, router ── link ── B: Prometheus, tunnel run
//! ```
//! R does not forward packets, and neither A nor B knows a way to the other: whatever arrives came through Hesper's router.

use hesper_integration::{
    Lan, Netns, NodeExporter, Place, Process, Prometheus, Stack, binaries, http, wait_until,
};
use std::{fs, net::Ipv4Addr};

/// R's own address, reached over either link.
const R: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

/// The three networks. Fields are dropped in this order: the segments last.
struct Networks {
    a: (Netns, Ipv4Addr),
    b: (Netns, Ipv4Addr),
    r: Netns,
    _links: [Lan; 2],
}

impl Networks {
    fn new() -> Self {
        let links = [Lan::new(), Lan::new()];
        let r = Netns::new("r");
        r.run(["sysctl", "-qw", "net.ipv4.ip_forward=0"]).ok();
        r.ip(&["addr", "add", &format!("{R}/32"), "dev", "lo"]);
        let [a, b] = [(&links[0], "a"), (&links[1], "b")].map(|(link, label)| {
            let gateway = link.join(&r);
            let (netns, address) = link.host(label);
            netns.ip(&["route", "add", &format!("{R}/32"), "via", &gateway.to_string()]);
            (netns, address)
        });
        Self { a, b, r, _links: links }
    }

    /// Proves that the networks are what the test says: a program in A that listens for everybody is reached from R, not from B.
    fn assert_apart(&self) {
        let mut command = self.a.0.command(binaries::installed("python3", "python3"));
        command.args(["-u", "-m", "http.server", "8000", "--directory", "/proc/self/fdinfo"]);
        let _open = Process::foreign("http.server", command);
        let url = format!("http://{}:8000/", self.a.1);
        wait_until("A is reached from R", Stack::PATIENCE, || http::get_in(Some(&self.r), &url).is_ok());
        assert!(http::get_in(Some(&self.b.0), &url).is_err(), "B reaches A");
        let route = self.b.0.run(["ip", "route", "get", &self.a.1.to_string()]);
        assert!(route.code != 0 && route.stderr.contains("unreachable"), "{route:?}");
        // Not even when B sends its packets to R.
        let gateway = self.b.0.run(["ip", "route", "get", &R.to_string()]).ok().stdout;
        let gateway = gateway.split_whitespace().skip_while(|word| *word != "via").nth(1).expect("a gateway");
        self.b.0.ip(&["route", "add", &self.a.1.to_string(), "via", gateway]);
        let connect = ["-x", "", "--connect-timeout", "2", url.as_str()];
        assert!(http::curl(Some(&self.b.0), &connect).is_err(), "R forwards for B");
        self.b.0.ip(&["route", "del", &self.a.1.to_string()]);
    }
}

#[test]
fn a_node_exporter_is_scraped_from_a_network_without_a_route_to_it() {
    let networks = Networks::new();
    networks.assert_apart();
    let stack = Stack::start_at(Place::namespace(&networks.r, R));
    let exporter = NodeExporter::start_in(Some(&networks.a.0));
    assert!(exporter.address.ip().is_loopback());

    let host = format!(
        r#"{{"protocol":"tcp","address":"{}","port":{}}}"#,
        exporter.address.ip(),
        exporter.address.port()
    );
    stack.cli(["create", "config", "node.host", "host.v1", &host]).ok();
    stack.cli(["create", "service", "node", "--configs", "node.host", "-a", "scrape"]).ok();
    let bind = ["--service-roles", "@node", "--identity-roles", "#nodes"];
    stack.cli([&["create", "service-policy", "node.bind", "Bind"][..], &bind].concat()).ok();
    let dial = ["--service-roles", "#scrape", "--identity-roles", "#scrapers"];
    stack.cli([&["create", "service-policy", "node.dial", "Dial"][..], &dial].concat()).ok();

    // Both enroll from where they are, at their first start.
    let start = |name: &str, attribute: &str, netns: &Netns, address: Ipv4Addr, role: &str| {
        let (token, identity) = (stack.path(&format!("{name}.jwt")), stack.path(&format!("{name}.json")));
        stack.cli(["create", "identity", name, "-a", attribute, "-o", &token]).ok();
        let arguments = ["tunnel", role, "-i", &identity, "--jwt", &token];
        let mut node = stack.node_at(&Place::namespace(netns, address), name, arguments);
        node.wait_for_line("it is ready", Stack::PATIENCE, |line| line.starts_with("ready ").then_some(()));
        node
    };
    let _host = start("web-1", "nodes", &networks.a.0, networks.a.1, "host");
    let _run = start("prometheus", "scrapers", &networks.b.0, networks.b.1, "run");

    // The file as published: the tunneler listens where it says. Only more often.
    let config = binaries::repository().join("examples/prometheus/prometheus.yml");
    let config = fs::read_to_string(config).expect("the example's configuration").replace("15s", "1s");
    let prometheus = Prometheus::start_in(Some(&networks.b.0), &config);
    let up = prometheus.wait_all_up("up", 1);
    assert_eq!((&*up[0].labels["identity"], &*up[0].labels["service"]), ("web-1", "node"), "{up:?}");
    let uname = prometheus.wait_sample("node_uname_info", |sample| sample.value == 1.0);
    let here = fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    assert_eq!(uname.labels["nodename"], here.trim());
}
