//! A new configuration while it runs: nothing is lost, and a wrong one changes nothing.

use crate::ground::{gateway, plain};
use hesper_integration::{
    Collector, free_port,
    otlp::{Load, OtlpSink},
};
use std::{net::SocketAddr, time::Duration};

/// What it logs when it has taken up a configuration, and when it has not.
const RELOADED: &str = "the configuration was read again";
const KEPT: &str = "the configuration stays as it was";

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
