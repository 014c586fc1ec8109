//! A new configuration while it runs: nothing is lost, and a wrong one changes nothing.

use crate::ground::{gateway, plain};
use hesper_integration::{
    Collector, free_port,
    otlp::{Load, OtlpSink},
};
use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

/// What it logs when it has taken up a configuration, when it has not, and when something of it cannot be listened at.
const RELOADED: &str = "the configuration was read again";
const KEPT: &str = "the configuration stays as it was";
const BUT: &str = "the new configuration runs, but for this: the receiver 'otlp/second/grpc' cannot start";

#[test]
fn nothing_is_lost_while_the_configuration_changes() {
    let (sink, port) = (OtlpSink::start(), free_port());
    let first = gateway(&format!("grpc: {{endpoint: '127.0.0.1:{port}'}}"), &plain(sink.grpc()));
    let marked = |generation: usize| {
        first.replace("receivers: [otlp], exporters", "receivers: [otlp], processors: [resource], exporters")
            + &format!(
                "processors: {{resource: {{attributes: [{{key: test.generation, value: g{generation}, action: upsert}}]}}}}\n"
            )
    };
    let mut collector = Collector::new("collector", &first).start();
    let load = Load::start(SocketAddr::from(([127, 0, 0, 1], port)), "shop", 20, 4);
    for generation in 1..=5 {
        load.wait_acknowledged(load.acknowledged() + 200);
        collector.configure(&marked(generation));
        collector.reload(RELOADED);
        load.wait_acknowledged(load.acknowledged() + 200);
        // One without sense.
        collector.configure("receivers: {otpl: }\n");
        collector.reload(KEPT);
    }
    load.wait_acknowledged(load.acknowledged() + 200);
    let sent = load.stop();
    assert!(sent.unsure.is_empty(), "{} spans were not acknowledged", sent.unsure.len());
    sink.wait_exactly(&sent.acknowledged, &[], Duration::from_secs(60));
    let generations: std::collections::BTreeSet<_> =
        sink.items().iter().map(|item| item.resource.get("test.generation")).collect();
    assert_eq!(generations.len(), 6, "{generations:?}");
    assert!(collector.terminate().success());
}

/// One pipeline for another; what the first had in memory waits for an hour to be put together, unless it ends in an orderly way.
#[test]
fn a_pipeline_that_is_gone_sends_what_it_had_in_memory_even_if_what_follows_it_cannot_listen() {
    let sink = OtlpSink::start();
    let occupied = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = |name: &str, port: u16| {
        format!(
            "receivers: {{otlp/{name}: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{port}'}}}}}}}}
exporters: {{otlp_grpc: {{{}, sending_queue: {{batch: {{flush_timeout: 1h, min_size: 1000000}}}}}}}}
service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces/{name}: {{receivers: [otlp/{name}], exporters: [otlp_grpc]}}}}}}
",
            plain(sink.grpc())
        )
    };
    let mut collector = Collector::new("collector", &config("first", 0)).start();
    let send = |to: SocketAddr| {
        let load = Load::start(to, "shop", 10, 2);
        load.wait_acknowledged(200);
        load.stop()
    };
    let first = send(collector.told("otlp/first/grpc"));
    assert!(sink.items().is_empty(), "it waits in memory");
    let port = occupied.local_addr().expect("an address");
    collector.configure(&config("second", port.port()));
    collector.reload(BUT);
    sink.wait_exactly(&first.acknowledged, &first.unsure, Duration::from_secs(60));
    // The port is free again: the same configuration is taken up.
    drop(occupied);
    collector.reload(RELOADED);
    let second = send(port);
    assert!(collector.terminate().success());
    let all = [first.acknowledged, second.acknowledged].concat();
    sink.wait_exactly(&all, &[first.unsure, second.unsure].concat(), Duration::from_secs(60));
}
