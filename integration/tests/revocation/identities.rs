//! Who is withdrawn as a whole — path, identity, certificate — as dialer and as host: whatever hangs on it ends at both ends and at the
//! router; everybody else goes on.

use crate::load::{Doomed, Flow, SOON, Survivors, all_break, refused, udp_echo};
use hesper_integration::{Oracle, Place, Process, Stack, StackOptions, wait_for, wait_until};
use serde_json::Value;
use std::{fmt::Write as _, thread, time::Instant};

const HOW: [&str; 4] = ["path", "disabled", "certificate", "deleted"];
const KEPT: &str = "kept";

fn all() -> impl Iterator<Item = &'static str> + Clone {
    HOW.into_iter().chain([KEPT])
}

/// Dialers `d-…` of the service of `b-kept`; hosts `b-…` of a service each, which `d-kept` dials.
fn manifest(oracle: &Oracle) -> String {
    let mut text = String::from("configs:\n");
    for (name, port) in [("tcp", oracle.address().port()), ("udp", udp_echo().port())] {
        let _ = writeln!(
            text,
            "  - {{name: {name}.host, configType: host.v1, data: {{protocol: {name}, address: 127.0.0.1, port: {port}}}}}"
        );
    }
    text += "services:\n";
    for how in all() {
        let _ = writeln!(text, "  - {{name: of-{how}, configs: [tcp.host], roleAttributes: [of-{how}]}}");
        let _ = writeln!(text, "  - {{name: of-{how}.udp, configs: [udp.host], roleAttributes: [of-{how}]}}");
    }
    text += "service-policies:\n  - {name: dial, type: Dial, serviceRoles: [\"#all\"], identityRoles: [\"#dialers\"]}\n";
    for how in all() {
        let _ = writeln!(
            text,
            "  - {{name: {how}.bind, type: Bind, serviceRoles: [\"#of-{how}\"], identityRoles: [\"@b-{how}\"]}}"
        );
    }
    text += "service-edge-router-policies:\n  - {name: all, serviceRoles: [\"#all\"], edgeRouterRoles: [\"#all\"]}\n";
    text += "edge-router-policies:\n";
    for side in ["d", "b"] {
        for how in all() {
            let _ = writeln!(
                text,
                "  - {{name: {side}-{how}.routers, identityRoles: [\"@{side}-{how}\"], edgeRouterRoles: [\"#all\"]}}"
            );
        }
    }
    text
}

struct Mesh {
    stack: Stack,
    oracle: Oracle,
    /// By the name of the identity, as in [`names`].
    nodes: Vec<(String, Process)>,
}

fn names() -> impl Iterator<Item = String> {
    ["b", "d"].into_iter().flat_map(|side| all().map(move |how| format!("{side}-{how}")))
}

impl Mesh {
    fn start() -> Self {
        let stack = StackOptions::default().without_router_policies().start();
        let oracle = Oracle::start();
        thread::scope(|scope| {
            for name in names() {
                let attributes: &[&str] = if name.starts_with('d') { &["dialers"] } else { &[] };
                let stack = &stack;
                scope.spawn(move || stack.enroll(&name, attributes));
            }
        });
        let file = stack.file("network.yaml", &manifest(&oracle));
        stack.cli(["policy", "apply", &file, "--yes"]).ok();
        let specs = |how: &str| [format!("of-{how}:0"), format!("of-{how}.udp:0:udp")];
        let start = |name: String| {
            let file = stack.path(&format!("{name}.json"));
            let (side, how) = name.split_once('-').expect("a name");
            let specs: Vec<String> = match (side, how) {
                ("b", _) => Vec::new(),
                (_, KEPT) => all().flat_map(specs).collect(),
                _ => specs(KEPT).to_vec(),
            };
            let verb = if side == "b" { "host" } else { "proxy" };
            let words = [verb, "-i", &file].into_iter().chain(specs.iter().map(String::as_str));
            let process = stack.tunnel(&name, &words.collect::<Vec<_>>());
            if side == "b" {
                wait_until("it hosts", Stack::PATIENCE, || {
                    process.lines().iter().filter(|l| l.contains("service bound")).count() == 2
                });
            }
            (name, process)
        };
        let nodes = names().map(start).collect();
        Self { stack, oracle, nodes }
    }

    fn node(&self, name: &str) -> &Process {
        &self.nodes.iter().find(|(found, _)| found == name).expect("a node").1
    }

    /// Where the streams of this identity begin.
    fn via(&self, name: &str, udp: bool) -> std::net::SocketAddr {
        let (side, how) = name.split_once('-').expect("a name");
        let (dialer, how) = if side == "d" { (name, KEPT) } else { ("d-kept", how) };
        self.node(dialer).told(&format!("of-{how}{}", if udp { ".udp" } else { "" }))
    }

    fn pairs(&self) -> f64 {
        self.stack.router_metric(0, "hesper_router_open_pairs")
    }

    fn id(&self, name: &str) -> String {
        let filter = format!("name = \"{name}\"");
        let listed = self.stack.cli(["list", "identities", &filter, "-j"]).ok().json();
        listed["data"][0]["id"].as_str().expect("an id").to_owned()
    }

    fn serials(&self, name: &str, state: &str) -> Vec<String> {
        let filter = format!("name = \"{name}\" and state = \"{state}\"");
        let listed = self.stack.cli(["list", "certs", &filter, "-j"]).ok().json();
        let text = |c: &Value| c["serial"].as_str().expect("a serial").to_owned();
        listed["data"].as_array().expect("a list").iter().map(text).collect()
    }

    /// What the administrator types, and what the controller says of it.
    fn withdrawal(&self, name: &str) -> (Vec<String>, String) {
        let words = |words: &[&str]| words.iter().map(|&w| w.to_owned()).collect();
        match name.split_once('-').expect("a name").1 {
            "path" => (
                words(&["delete", "edge-router-policy", &format!("{name}.routers")]),
                format!("no edge-router-policy gives identity '{name}' an edge router"),
            ),
            "disabled" => {
                (words(&["update", "identity", name, "--disabled"]), format!("identity '{name}' is disabled"))
            }
            "certificate" => {
                let serials = self.serials(name, "valid");
                let [serial] = serials.as_slice() else {
                    panic!("{name} has not one certificate: {serials:?}")
                };
                (words(&["revoke", "cert", serial]), format!("the certificate {serial} was revoked"))
            }
            _ => {
                let id = self.id(name);
                (words(&["delete", "identity", name]), format!("there is no identity '{id}'"))
            }
        }
    }
}

#[test]
fn a_dialer_or_host_that_is_withdrawn_is_out_at_once_and_nobody_else() {
    let mesh = Mesh::start();
    let (stack, here) = (&mesh.stack, Place::host());
    let mut loads = Vec::new();
    for name in names().filter(|name| !name.ends_with(KEPT)) {
        let via = mesh.via(&name, false);
        let mut streams = vec![Doomed::idle(&mesh.oracle, &here, via)];
        streams.extend(Doomed::busy(&mesh.oracle, &here, via));
        streams.iter().for_each(Doomed::is_open);
        loads.push((name.clone(), streams, Flow::begin(mesh.via(&name, true))));
    }
    let (mut survivors, kept) = (Survivors::none(), Flow::begin(mesh.via("d-kept", true)));
    survivors.add("between the two that are kept", &mesh.oracle, &here, mesh.via("d-kept", false));
    survivors.go_on();
    let mut pairs = loads.len() as f64 + 1.0;
    wait_for("the router has a pair for each", Stack::PATIENCE, || {
        let found = mesh.pairs();
        if found == pairs { Ok(()) } else { Err(format!("{found} and not {pairs}")) }
    });
    while let Some((name, streams, flow)) = loads.pop() {
        let (command, rule) = mesh.withdrawal(&name);
        let begun = Instant::now();
        stack.cli(&command).ok();
        let told = begun.elapsed();
        let ended = all_break(&name, begun, &streams);
        pairs -= 1.0;
        wait_for(&format!("{name}: the router has closed the pair"), SOON, || {
            let found = mesh.pairs();
            if found <= pairs { Ok(()) } else { Err(format!("{found} and not {pairs}")) }
        });
        let closed = begun.elapsed();
        let last = flow.ends(&name, begun, &kept);
        println!(
            "{name}: confirmed after {told:.2?}, streams ended after {ended:.2?}, pair closed after {closed:.2?}, \
             last datagram after {last:.2?}"
        );
        refused(&here, mesh.via(&name, false), &name);
        wait_until(&format!("the controller names the rule: {rule}"), Stack::PATIENCE, || {
            stack.controller().said(&rule)
        });
        if name.ends_with("certificate") {
            assert_eq!(mesh.serials(&name, "valid"), Vec::<String>::new());
            let again = stack.cli(&command).ok().stdout;
            assert!(again.contains("nothing to revoke"), "{again}");
            drop(flow);
            returns(&mesh, &name);
        }
        for (left, streams, flow) in &loads {
            assert!(streams.iter().all(Doomed::goes_on), "{name} ended {left}");
            flow.goes_on();
        }
        assert!(mesh.pairs() >= pairs, "{name} closed another pair too");
        survivors.go_on();
    }
    survivors.finish();
}

/// Whoever lost a certificate enrolls again, with another key, and is back.
fn returns(mesh: &Mesh, name: &str) {
    let (stack, again) = (&mesh.stack, format!("{name}-again"));
    let (token, file) = (stack.path(&format!("{again}.jwt")), stack.path(&format!("{again}.json")));
    stack.cli(["create", "enrollment", "ott", name, "-o", &token]).ok();
    stack.cli(["enroll", &token, "-o", &file]).ok();
    let verb: &[&str] = if name.starts_with('b') { &["host"] } else { &["proxy", "of-kept:0"] };
    let _back = stack.tunnel(&again, &[verb, &["-i", &file]].concat());
}
