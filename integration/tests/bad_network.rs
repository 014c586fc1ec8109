//! Routers behind a bad network: streams get through loss, delay, reordering and duplication, survive a NAT that forgets, and with two
//! routers the end of either of them on top.
//!
//! `HESPER_FAILOVER_BYTES=1000000000` moves 1 GB under all of that at once; it takes half an hour.

use hesper_integration::{Burst, Faults, Oracle, Plan, Process, Stack, StackOptions, Transfer, wait_until};
use std::time::Duration;

/// A stack whose router is behind a link, and two nodes with an oracle between them.
struct Mesh {
    oracle: Oracle,
    _host: Process,
    proxy: Process,
    stack: Stack,
}

impl Mesh {
    fn start(routers: usize) -> Self {
        let (stack, oracle) = (StackOptions::default().routers(routers).linked().start(), Oracle::start());
        let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
        stack.publish("oracle", oracle.address(), "@host");
        stack.allow("Dial", "oracle", "@client");
        let mut host = stack.tunnel("host", &["host", "-i", &host]);
        host.wait_for_line("it hosts", Stack::PATIENCE, |l| l.contains("service bound").then_some(()));
        let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "oracle:0"]);
        Self { oracle, _host: host, proxy, stack }
    }

    fn transfer(&self, plan: Plan) -> Transfer {
        self.oracle.transfer(self.proxy.told("oracle"), plan)
    }
}

/// Waits until a transfer has moved so many more bytes both ways.
#[track_caller]
fn moves(transfer: &Transfer, bytes: u64) {
    let before = transfer.received();
    wait_until("bytes flow both ways again", Stack::PATIENCE, || {
        let now = transfer.received();
        transfer.is_over() || (now.0 > before.0 + bytes && now.1 > before.1 + bytes)
    });
    assert_eq!(transfer.fault(), None);
}

#[test]
fn a_lossy_slow_disorderly_network_alters_nothing() {
    let mesh = Mesh::start(1);
    let link = mesh.stack.link();
    let networks = [
        ("a perfect one", Faults::default()),
        ("2 % loss and 40 ms", Faults { loss: 0.02, delay: Duration::from_millis(10), ..Faults::default() }),
        (
            "jitter, reordering, duplication",
            Faults {
                delay: Duration::from_millis(2),
                jitter: Duration::from_millis(3),
                reorder: 0.05,
                reorder_by: Duration::from_millis(4),
                duplicate: 0.05,
                ..Faults::default()
            },
        ),
        (
            "bursts of loss on a slow line",
            Faults {
                burst: Some(Burst { begin: 0.002, end: 0.2, loss: 0.8 }),
                rate: Some(8 << 20),
                ..Faults::default()
            },
        ),
    ];
    for (name, faults) in networks {
        link.set(faults);
        let transfer = mesh.transfer(Plan::bytes(2 << 20));
        println!("{name}: {}", transfer.finish(Stack::PATIENCE));
    }
    let counters = link.counters();
    println!("{counters:?}");
    for way in [counters.to_router, counters.to_client] {
        assert!(way.lost > 0 && way.lost_in_bursts > 0 && way.duplicated > 0 && way.reordered > 0, "{way:?}");
    }
}

#[test]
fn a_nat_that_forgets_costs_a_pause_and_no_byte() {
    let mesh = Mesh::start(1);
    let link = mesh.stack.link();
    let transfer = mesh.transfer(Plan::until_stopped().rate(4 << 20));
    for _ in 0..3 {
        link.rebind();
        moves(&transfer, 1 << 20);
    }
    println!("{}", transfer.finish(Stack::PATIENCE));
    assert_eq!(link.counters().rebindings, 3);
}

/// What a stream goes through between two nodes, of which a link is half the way: 2 % loss, 20 ms there and 20 ms back.
const FAR: Faults = Faults { loss: 0.01, delay: Duration::from_millis(10), ..Faults::PERFECT };

#[test]
fn far_routers_that_lose_packets_are_killed_behind_a_nat_that_forgets() {
    let mut mesh = Mesh::start(2);
    (0..2).for_each(|router| mesh.stack.link_of(router).set(FAR));
    let one_way = mesh.transfer(Plan::bytes(2 << 20).down_only()).finish(Stack::PATIENCE);
    let rate = one_way.down.bytes as f64 / one_way.took.as_secs_f64() / 1e6;
    println!("one stream, one way, 2 % loss and 40 ms: {one_way}; {rate:.2} MB/s");
    let (bulk, light) = (
        mesh.transfer(Plan::bytes_or_asked(6 << 20).seed(1)),
        mesh.transfer(Plan::until_stopped().rate(64 << 10).seed(2)),
    );
    let mut kills = 0;
    while kills < 4 || !bulk.is_over() {
        let router = kills % 2;
        kills += 1;
        mesh.stack.kill_router_of(router);
        moves(&light, 64 << 10);
        // The way that is left changes its address, too.
        mesh.stack.link_of(1 - router).rebind();
        moves(&light, 32 << 10);
        mesh.stack.start_router_of(router);
        moves(&light, 64 << 10);
        mesh.stack.link_of(router).rebind();
    }
    moves(&light, 32 << 10);
    println!("{kills} kills; bulk: {}", bulk.finish(Stack::PATIENCE));
    println!("light: {}", light.finish(Stack::PATIENCE));
}
