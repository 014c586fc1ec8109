//! Two routers on a path: streams between nodes that share no router take the link between theirs, outlive either of the two, move to a
//! cheaper link when there is one, and end when policy says so.

use hesper_integration::{Faults, Oracle, Plan, Process, Stack, StackOptions, Transfer, http, wait_until};
use std::{
    io::{ErrorKind, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
const BYTES: &str = "hesper_router_bytes_forwarded_total";
const PACKETS: &str = "hesper_router_packets_forwarded_total";
const LINKS: &str = "hesper_router_links";
/// What ends by policy ends before a peer could be missed.
const BEFORE_IDLE: Duration = Duration::from_secs(20);

/// Nodes `client` and `host`, and what is hosted: the oracle, as `one` and `two`.
struct Mesh {
    oracle: Oracle,
    _host: Process,
    proxy: Process,
    run: Process,
    stack: Stack,
}

impl Mesh {
    /// The client may use the first router only, the host all the others.
    fn start(options: StackOptions) -> Self {
        let (stack, oracle) = (options.without_router_policies().start(), Oracle::start());
        let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
        for service in ["one", "two"] {
            stack.publish(service, oracle.address(), "@host");
            stack.allow("Dial", service, "@client");
        }
        let others: Vec<_> =
            (1..stack.router_count()).map(|i| format!("@{}", stack.router_name(i))).collect();
        place(&stack, "client", &format!("@{}", stack.router_name(0)));
        place(&stack, "host", &others.join(","));
        let all = ["--edge-router-roles", "#all", "--service-roles", "#all"];
        stack.cli([&["create", "service-edge-router-policy", "all"], &all[..]].concat()).ok();
        let host = stack.tunnel("host", &["host", "-i", &host]);
        let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "one:0", "two:0"]);
        let run = stack.tunnel("run", &["run", "-i", &client, "--proxy", "127.0.0.1:0"]);
        wait_until("both are hosted", Stack::PATIENCE, || {
            host.lines().iter().filter(|line| line.contains("service bound")).count() == 2
        });
        let mesh = Self { oracle, _host: host, proxy, run, stack };
        for index in 0..mesh.stack.router_count() {
            let others = (mesh.stack.router_count() - 1) as f64;
            let linked = || mesh.stack.router_metric(index, LINKS) == others;
            wait_until("every router is linked to every other", Stack::PATIENCE, linked);
        }
        mesh
    }

    /// Begins a transfer as soon as a dial works.
    fn transfer(&self, service: &str, plan: Plan) -> Transfer {
        let mut transfer = None;
        wait_until("a dial works", Stack::PATIENCE, || {
            let begun = self.oracle.transfer(self.proxy.told(service), plan);
            wait_until("it works or not", Stack::PATIENCE, || begun.received().1 > 0 || begun.is_over());
            transfer = Some(begun).filter(|t| t.fault().is_none());
            transfer.is_some()
        });
        transfer.expect("begun")
    }

    /// What the node says when the service cannot be dialed.
    fn refusal(&self, service: &str) -> String {
        let proxy = format!("http://{}", self.run.told("proxy"));
        let answer = http::curl(None, &["-x", &proxy, &format!("http://{service}/")]);
        let answer = answer.expect("the node answers");
        format!("{} {}", answer.status, answer.body.trim())
    }

    /// Waits until bytes flow both ways, or the transfer is over.
    fn flows(transfer: &Transfer, bytes: u64) {
        let before = transfer.received();
        wait_until("bytes flow both ways", Stack::PATIENCE, || {
            let now = transfer.received();
            transfer.is_over() || (now.0 > before.0 + bytes && now.1 > before.1 + bytes)
        });
    }

    /// Waits until nearly all that this router and the other forward is forwarded by this one.
    fn is_carried_by(&self, this: usize, other: usize) {
        let sample = || [this, other].map(|index| self.stack.router_metric(index, BYTES));
        let mut before = sample();
        wait_until(&format!("router {this} carries, not {other}"), Stack::PATIENCE, || {
            let now = sample();
            let [this, other] = [now[0] - before[0], now[1] - before[1]];
            let enough = this + other > MIB as f64;
            if enough {
                before = now;
            }
            enough && this > 9.0 * other
        });
    }
}

/// Which routers an identity may use.
fn place(stack: &Stack, identity: &str, routers: &str) {
    let (identity_roles, name) = (format!("@{identity}"), format!("{identity}.at"));
    let roles = ["--identity-roles", &identity_roles, "--edge-router-roles", routers];
    stack.cli([&["create", "edge-router-policy", &name], &roles[..]].concat()).ok();
}

#[test]
fn nodes_without_a_common_router_meet_over_a_link_that_outlives_its_routers() {
    let mut mesh = Mesh::start(StackOptions::default().routers(2));
    let sample = |mesh: &Mesh, metric| [0, 1].map(|index| mesh.stack.router_metric(index, metric));
    let (bytes, packets) = (sample(&mesh, BYTES), sample(&mesh, PACKETS));
    println!("over the link: {}", mesh.transfer("one", Plan::bytes(8 * MIB)).finish(Stack::PATIENCE));
    let (more_bytes, more_packets) = (sample(&mesh, BYTES), sample(&mesh, PACKETS));
    for index in [0, 1] {
        let forwarded = (more_bytes[index] - bytes[index], more_packets[index] - packets[index]);
        assert!(forwarded.0 > 16.0 * MIB as f64 && forwarded.1 > 256.0, "router {index}: {forwarded:?}");
    }
    let advice = mesh.stack.cli(["policy-advisor", "identities", "client", "one", "-q"]).ok().stdout;
    assert!(advice.starts_with("OKAY "), "{advice}");

    let transfer = mesh.transfer("one", Plan::until_stopped().rate(2 * MIB));
    Mesh::flows(&transfer, MIB / 4);
    for index in [0, 1, 0, 1] {
        mesh.stack.kill_router_of(index);
        mesh.stack.start_router_of(index);
        Mesh::flows(&transfer, MIB / 4);
    }
    println!("either router killed twice: {}", transfer.finish(Stack::PATIENCE));
}

#[test]
fn without_a_way_the_refusal_says_what_is_missing() {
    let mut mesh = Mesh::start(StackOptions::default().routers(2));
    mesh.transfer("one", Plan::bytes(1000)).finish(Stack::PATIENCE);
    mesh.stack.kill_router_of(1);
    let refused = |mesh: &Mesh, expected: &str| {
        wait_until(expected, Stack::PATIENCE, || mesh.refusal("two").contains(expected));
    };
    refused(&mesh, "for this node: 'router' is attached; for the host: 'router2' is offline");
    mesh.stack.cli(["delete", "edge-router-policy", "host.at"]).ok();
    refused(&mesh, "no edge-router-policy gives identity 'host' an edge router");
    let advice = mesh.stack.cli(["policy-advisor", "identities", "host", "two", "-q"]).stdout;
    assert!(
        advice.contains("Identity has no edge routers assigned. Adjust edge router policies."),
        "{advice}"
    );
    mesh.stack.start_router_of(1);
    refused(&mesh, "no edge-router-policy gives identity 'host' an edge router");
    place(&mesh.stack, "host", "@router2");
    mesh.transfer("two", Plan::bytes(1000)).finish(Stack::PATIENCE);
}

#[test]
fn the_cheaper_link_is_taken_and_no_stream_notices() {
    let mesh = Mesh::start(StackOptions::default().routers(3).linked());
    let transfer = mesh.transfer("one", Plan::until_stopped().rate(2 * MIB));
    for (near, far) in [(1, 2), (2, 1), (1, 2)] {
        let changed = Instant::now();
        mesh.stack.link_of(near).set(Faults::default());
        mesh.stack.link_of(far).set(Faults { delay: Duration::from_millis(20), ..Faults::default() });
        mesh.is_carried_by(near, far);
        println!("over router {near} {:.2?} after the other way became longer", changed.elapsed());
    }
    println!("{}", transfer.finish(Stack::PATIENCE));
}

#[test]
fn a_revoked_policy_ends_the_streams_over_a_link_and_no_others() {
    let mesh = Mesh::start(StackOptions::default().routers(2));
    let plan = Plan::until_stopped().rate(MIB / 2);
    let (survivor, doomed) = (mesh.transfer("two", plan.seed(2)), mesh.transfer("one", plan));
    Mesh::flows(&doomed, MIB / 8);
    let revoked = Instant::now();
    mesh.stack.cli(["delete", "service-policy", "one.dial"]).ok();
    wait_until("the stream has ended", BEFORE_IDLE, || doomed.is_over());
    println!("ended {:.2?} after the command was given: {:?}", revoked.elapsed(), doomed.fault());
    assert!(doomed.fault().is_some_and(|fault| fault.contains("reset")), "{:?}", doomed.fault());
    let mut refused = TcpStream::connect(mesh.proxy.told("one")).expect("the tunneler listens");
    refused.set_read_timeout(Some(BEFORE_IDLE)).expect("an option");
    let refused = refused.read(&mut [0; 16]).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "{refused}");
    Mesh::flows(&survivor, MIB / 4);
    println!("the survivor: {}", survivor.finish(Stack::PATIENCE));
}
