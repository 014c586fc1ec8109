//! `kill -9` at any moment: every acknowledged span arrives, and none twice.

use crate::ground::{between, centre, edge, service, settled};
use hesper_integration::{
    Collector, Stack, free_port,
    otlp::{Load, OtlpSink},
};
use rand::Rng;
use std::{net::SocketAddr, time::Duration};

/// Kills when nothing is said; `HESPER_TEST_LONG` asks for as many as the promise has.
const SHORT: usize = 6;
const LONG: usize = 200;
/// Spans of one request.
const BATCH: usize = 50;
/// Requests at once.
const AT_ONCE: usize = 4;
/// After the last kill, until everything has arrived.
const DRAINED: Duration = Duration::from_secs(180);

/// An edge and a centre that are killed, and a third gateway that is not: where the mesh ends, OTLP has nothing by which a receiver
/// could know a batch again.
#[test]
fn no_acknowledged_span_is_lost_and_none_comes_twice() {
    let kills = if std::env::var_os("HESPER_TEST_LONG").is_some() { LONG } else { SHORT };
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let [third_id, centre_id, edge_id] =
        ["third", "centre", "edge"].map(|name| stack.enroll(name, &["gateway"]));
    service(&stack, "otlp", "@centre", "@edge");
    service(&stack, "archive", "@third", "@centre");
    let third = Collector::new("third", &centre("archive", sink.grpc())).identity(&third_id).start();
    let port = free_port();
    let mut gateways = [
        Collector::new("centre", &between("otlp", "archive")).identity(&centre_id).start(),
        Collector::new("edge", &edge(port, "otlp")).identity(&edge_id).start(),
    ];

    let load = Load::start(SocketAddr::from(([127, 0, 0, 1], port)), "shop", BATCH, AT_ONCE);
    let mut random = rand::rng();
    for kill in 0..kills {
        // Somewhere between two acknowledgements, of which nobody knows how far the others are.
        load.wait_acknowledged(load.acknowledged() + random.random_range(1..=40) * BATCH);
        let gateway = &mut gateways[kill % 2];
        gateway.kill();
        gateway.restart();
    }
    load.wait_acknowledged(load.acknowledged() + BATCH);
    let sent = load.stop();
    println!("{kills} kills: {} spans acknowledged, {} unsure", sent.acknowledged.len(), sent.unsure.len());
    sink.wait_exactly(&sent.acknowledged, &sent.unsure, DRAINED);
    for item in sink.items() {
        assert_eq!(item.resource.get("hesper.forwarded.for").as_deref(), Some("[centre]"), "{item:?}");
        assert_eq!(item.resource.get("hesper.identity.name").as_deref(), Some("edge"), "{item:?}");
    }
    // The ledgers are exact: each gateway says of the whole way what the last one has seen of it.
    let arrived = sink.items().len() as u64;
    let [centre, edge] = &gateways;
    for (gateway, sender) in [(edge, ""), (centre, "edge"), (&third, "edge")] {
        let row = settled(gateway, sender, DRAINED);
        assert_eq!((row.accepted, row.delivered, row.dropped.len()), (arrived, arrived, 0), "{row:?}");
    }
}
