//! Whatever permission hangs on: one dialer and one host, a service for each way of withdrawing, cut one after the other. Those that are
//! not yet cut, those that never are, and those of another dialer go on.

use crate::load::{
    Doomed, Flow, SOON, Scrape, Scraped, Survivors, all_break, answer, connect, refused, rule_is_named,
    udp_echo,
};
use hesper_integration::{Oracle, Place, Process, Stack, StackOptions, wait_until};
use std::{fmt::Write as _, time::Instant};

/// One way to withdraw permission.
struct Way {
    name: &'static str,
    /// What the administrator types.
    commands: &'static [&'static [&'static str]],
    /// In which events of the audit log, or else in the log, which rule is missing then.
    event: &'static str,
    rule: &'static str,
    /// Does it concern other dialers of the service too?
    everybody: bool,
    /// What the HTTP proxy answers.
    status: u16,
}

const WAYS: [Way; 7] = [
    Way {
        name: "dial-policy-deleted",
        commands: &[&["delete", "service-policy", "dial-policy-deleted.dial"]],
        event: "dial",
        rule: "no Dial service-policy has both identity 'client' and service",
        everybody: false,
        status: 404,
    },
    Way {
        name: "dial-policy-changed",
        commands: &[&["update", "service-policy", "dial-policy-changed.dial", "--identity-roles", "#nobody"]],
        event: "dial",
        rule: "no Dial service-policy has both identity 'client' and service",
        everybody: false,
        status: 404,
    },
    Way {
        name: "dialer-attribute-removed",
        commands: &[&["update", "identity", "client", "-a", ""]],
        event: "dial",
        rule: "no Dial service-policy has both identity 'client' and service",
        everybody: false,
        status: 404,
    },
    Way {
        name: "service-attribute-removed",
        commands: &[
            &["update", "service", "service-attribute-removed", "-a", "service-attribute-removed"],
            &["update", "service", "service-attribute-removed.http", "-a", "service-attribute-removed"],
            &["update", "service", "service-attribute-removed.udp", "-a", "service-attribute-removed"],
        ],
        event: "dial",
        rule: "no Dial service-policy has both identity 'client' and service",
        everybody: false,
        status: 404,
    },
    Way {
        name: "bind-policy-deleted",
        commands: &[&["delete", "service-policy", "bind-policy-deleted.bind"]],
        event: "revocation",
        rule: "no Bind service-policy has both identity 'server' and service 'bind-policy-deleted'",
        everybody: true,
        status: 503,
    },
    Way {
        name: "routers-of-service-removed",
        commands: &[&["delete", "service-edge-router-policy", "routers-of-service-removed.routers"]],
        event: "dial",
        rule: "no service-edge-router-policy gives service",
        everybody: true,
        status: 502,
    },
    Way {
        name: "service-deleted",
        commands: &[&["delete", "service", "service-deleted", "service-deleted.http", "service-deleted.udp"]],
        event: "dial",
        rule: "there is no service 'service-deleted'",
        everybody: true,
        status: 404,
    },
];

const KEPT: &str = "kept";

fn names() -> impl Iterator<Item = &'static str> + Clone {
    WAYS.iter().map(|way| way.name).chain([KEPT])
}

/// The whole network in one file.
fn manifest(oracle: &Oracle, scraped: &Scraped) -> String {
    let mut text = String::from("configs:\n");
    let udp = udp_echo();
    for (name, protocol, port) in [
        ("tcp", "tcp", oracle.address().port()),
        ("http", "tcp", scraped.address.port()),
        ("udp", "udp", udp.port()),
    ] {
        let _ = writeln!(
            text,
            "  - {{name: {name}.host, configType: host.v1, data: {{protocol: {protocol}, address: 127.0.0.1, port: {port}}}}}"
        );
    }
    text += "services:\n";
    for name in names() {
        for (service, config) in
            [(name.to_owned(), "tcp"), (format!("{name}.http"), "http"), (format!("{name}.udp"), "udp")]
        {
            let _ = writeln!(
                text,
                "  - {{name: {service}, configs: [{config}.host], roleAttributes: [{name}, open-{name}, all-of-them]}}"
            );
        }
    }
    text += "service-policies:\n";
    for name in names() {
        let (services, identities) = match name {
            "dialer-attribute-removed" => (format!("#{name}"), "#clients"),
            "service-attribute-removed" => (format!("#open-{name}"), "@client"),
            _ => (format!("#{name}"), "@client"),
        };
        let _ = writeln!(
            text,
            "  - {{name: {name}.dial, type: Dial, serviceRoles: [\"{services}\"], identityRoles: [\"{identities}\"]}}"
        );
        let _ = writeln!(
            text,
            "  - {{name: {name}.bind, type: Bind, serviceRoles: [\"#{name}\"], identityRoles: [\"@server\"]}}"
        );
    }
    text += "  - {name: other.dial, type: Dial, serviceRoles: [\"#all\"], identityRoles: [\"@other\"]}\n";
    text +=
        "edge-router-policies:\n  - {name: all, identityRoles: [\"#all\"], edgeRouterRoles: [\"#all\"]}\n";
    text += "service-edge-router-policies:\n";
    for name in names() {
        let _ = writeln!(
            text,
            "  - {{name: {name}.routers, serviceRoles: [\"#{name}\"], edgeRouterRoles: [\"#all\"]}}"
        );
    }
    text
}

struct Mesh {
    stack: Stack,
    oracle: Oracle,
    scraped: Scraped,
    _server: Process,
    /// Local listeners of the client.
    proxy: Process,
    /// Its HTTP proxy.
    run: Process,
    other: Process,
}

impl Mesh {
    fn start() -> Self {
        let stack = StackOptions::default().without_router_policies().start();
        let (oracle, scraped) = (Oracle::start(), Scraped::start());
        let [server, client, other] = [("server", &[][..]), ("client", &["clients"]), ("other", &[])]
            .map(|(name, attributes)| stack.enroll(name, attributes));
        let file = stack.file("network.yaml", &manifest(&oracle, &scraped));
        stack.cli(["policy", "apply", &file, "--yes"]).ok();
        let host = stack.tunnel("server", &["host", "-i", &server]);
        let bound = |line: &&String| line.contains("service bound");
        wait_until("everything is hosted", Stack::PATIENCE, || {
            host.lines().iter().filter(bound).count() == 3 * names().count()
        });
        let tcp = names().map(|name| format!("{name}:0"));
        let udp = names().map(|name| format!("{name}.udp:0:udp"));
        let specs: Vec<String> = tcp.clone().chain(udp).collect();
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let proxy = stack.tunnel("proxy", &[&["proxy", "-i", &client], &specs[..]].concat());
        let run = stack.tunnel("run", &["run", "-i", &client, "--proxy", "127.0.0.1:0"]);
        let tcp: Vec<String> = tcp.collect();
        let tcp: Vec<&str> = tcp.iter().map(String::as_str).collect();
        let other = stack.tunnel("other", &[&["proxy", "-i", &other], &tcp[..]].concat());
        Self { stack, oracle, scraped, _server: host, proxy, run, other }
    }
}

/// What the client has under way with one service.
struct Load {
    streams: Vec<Doomed>,
    scrape: Scrape,
    flow: Flow,
}

impl Load {
    fn begin(mesh: &Mesh, name: &str) -> Self {
        let (oracle, here) = (&mesh.oracle, Place::host());
        let (listener, proxy) = (mesh.proxy.told(name), mesh.run.told("proxy"));
        let mut streams = vec![Doomed::idle(oracle, &here, listener)];
        streams.extend(Doomed::busy(oracle, &here, listener));
        let tunnel = connect(proxy, name).unwrap_or_else(|e| panic!("no tunnel to {name}: {e}"));
        streams.push(Doomed::over("CONNECT", oracle, tunnel));
        streams.iter().for_each(Doomed::is_open);
        let scrape = Scrape::begin(proxy, &format!("{name}.http"));
        let flow = Flow::begin(mesh.proxy.told(&format!("{name}.udp")));
        Self { streams, scrape, flow }
    }

    #[track_caller]
    fn goes_on(&self, what: &str) {
        for stream in &self.streams {
            assert!(stream.goes_on(), "{what}");
        }
        self.scrape.goes_on();
        self.flow.goes_on();
    }
}

#[test]
fn every_way_to_withdraw_permission_ends_what_hangs_on_it_and_nothing_else() {
    let mesh = Mesh::start();
    let (stack, here) = (&mesh.stack, Place::host());
    let mut loads: Vec<(&str, Load)> = names().map(|name| (name, Load::begin(&mesh, name))).collect();
    let mut survivors = Survivors::none();
    survivors.add("of the same two, another service", &mesh.oracle, &here, mesh.proxy.told(KEPT));
    for way in WAYS.iter().filter(|way| !way.everybody) {
        survivors.add(
            &format!("of another dialer, {}", way.name),
            &mesh.oracle,
            &here,
            mesh.other.told(way.name),
        );
    }
    survivors.go_on();
    for way in &WAYS {
        let mut load = loads.remove(0).1;
        // One that never has to wait for its target, right now.
        let bulk = Doomed::bulk(&mesh.oracle, &here, mesh.proxy.told(way.name));
        bulk.is_open();
        load.streams.push(bulk);
        let scrapes = mesh.scraped.open();
        let begun = Instant::now();
        for command in way.commands {
            stack.cli(*command).ok();
        }
        let told = begun.elapsed();
        let streams = all_break(way.name, begun, &load.streams);
        load.scrape.breaks(way.name);
        wait_until("the target of the scrape knows too", SOON, || mesh.scraped.open() < scrapes);
        let kept = &loads.last().expect("the one that is kept").1;
        let flow = load.flow.ends(way.name, begun, &kept.flow);
        println!(
            "{}: confirmed after {told:.2?}, streams ended after {streams:.2?}, last datagram after {flow:.2?}",
            way.name
        );

        refused(&here, mesh.proxy.told(way.name), way.name);
        let proxy = mesh.run.told("proxy");
        let no = answer(proxy, way.name);
        assert_eq!(no.0, way.status, "{}: {no:?}", way.name);
        if way.status == 404 {
            assert_eq!(no, answer(proxy, "no-such-service"), "unknown and forbidden look alike");
        }
        if way.event == "revocation" {
            // New dials find nobody who hosts it: its host has been told that it may not, and has not even tried again.
            wait_until(way.rule, Stack::PATIENCE, || stack.controller().said(way.rule));
            rule_is_named(stack, "dial", way.name, "terminators");
        } else {
            rule_is_named(stack, way.event, way.name, way.rule);
        }
        for (name, load) in &loads {
            load.goes_on(&format!("{} ended {name}", way.name));
        }
        survivors.go_on();
    }
    survivors.finish();
}
