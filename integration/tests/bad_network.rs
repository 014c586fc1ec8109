//! One router behind a bad network: streams get through loss, delay, reordering and duplication, and survive a NAT that forgets.

use hesper_integration::{Burst, Faults, Oracle, Plan, Process, Stack, StackOptions, wait_until};
use std::time::Duration;

/// A stack whose router is behind a link, and two nodes with an oracle between them.
struct Mesh {
    oracle: Oracle,
    _host: Process,
    proxy: Process,
    stack: Stack,
}

impl Mesh {
    fn start() -> Self {
        let (stack, oracle) = (StackOptions::default().linked().start(), Oracle::start());
        let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
        stack.publish("oracle", oracle.address(), "@host");
        stack.allow("Dial", "oracle", "@client");
        let mut host = stack.tunnel("host", &["host", "-i", &host]);
        host.wait_for_line("it hosts", Stack::PATIENCE, |l| l.contains("service bound").then_some(()));
        let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "oracle:0"]);
        Self { oracle, _host: host, proxy, stack }
    }
}

#[test]
fn a_lossy_slow_disorderly_network_alters_nothing() {
    let mesh = Mesh::start();
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
        let transfer = mesh.oracle.transfer(mesh.proxy.told("oracle"), Plan::bytes(2 << 20));
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
    let mesh = Mesh::start();
    let link = mesh.stack.link();
    let transfer = mesh.oracle.transfer(mesh.proxy.told("oracle"), Plan::until_stopped().rate(4 << 20));
    for _ in 0..3 {
        let before = transfer.received();
        link.rebind();
        wait_until("bytes flow both ways again", Stack::PATIENCE, || {
            let now = transfer.received();
            transfer.is_over() || (now.0 > before.0 + (1 << 20) && now.1 > before.1 + (1 << 20))
        });
    }
    println!("{}", transfer.finish(Stack::PATIENCE));
    assert_eq!(link.counters().rebindings, 3);
}
