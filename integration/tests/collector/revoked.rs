//! A sender whose permission ends is refused at once; what it had sent is still delivered and accounted for.

use crate::ground::{Pair, ledger, service, settled};
use hesper_integration::{
    Collector, Stack,
    otlp::{Failure, Load, OtlpSink},
    wait_until,
};
use std::time::{Duration, Instant};

/// One second, and what a busy machine takes.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_revoked_sender_is_refused_and_its_data_is_kept() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let [centre, shop, other] = ["centre", "shop", "other"].map(|name| stack.enroll(name, &[]));
    service(&stack, "otlp", "@centre", "@shop,@other");
    let centre =
        Collector::new("centre", &crate::ground::centre("otlp", sink.grpc())).identity(&centre).start();
    let shop = stack.tunnel("shop", &["proxy", "-i", &shop, "otlp:0"]);
    let other = stack.tunnel("other", &["proxy", "-i", &other, "otlp:0"]);
    // What is acknowledged from now on is in the centre's queue.
    sink.fail(Failure::Unavailable(None));
    let revoked = Load::start(shop.told("otlp"), "shop", 10, 2);
    let kept = Load::start(other.told("otlp"), "other", 10, 2);
    revoked.wait_acknowledged(200);
    kept.wait_acknowledged(200);

    stack.cli(["delete", "identity", "shop"]).ok();
    let withdrawn = Instant::now();
    let mut last = revoked.acknowledged();
    let mut since = Instant::now();
    // Refused: others have been served many times over while nothing of this one was taken.
    wait_until("the sender is refused", Stack::PATIENCE, || {
        let now = revoked.acknowledged();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(3)
    });
    assert!(since - withdrawn < SOON, "taken for {:?} after the withdrawal", since - withdrawn);
    kept.wait_acknowledged(kept.acknowledged() + 200);
    assert!(revoked.last_error().is_some());

    let (revoked, kept) = (revoked.stop(), kept.stop());
    let queued = ledger(&centre)["shop"].clone();
    assert!(queued.queued >= revoked.acknowledged.len() as u64 && queued.delivered == 0, "{queued:?}");
    sink.fail(Failure::None);
    let all = [revoked.acknowledged, kept.acknowledged].concat();
    sink.wait_exactly(&all, &[revoked.unsure, kept.unsure].concat(), Stack::PATIENCE);
    for sender in ["shop", "other"] {
        let row = settled(&centre, sender, Stack::PATIENCE);
        let arrived =
            sink.items().iter().filter(|i| i.resource.get("service.name").as_deref() == Some(sender)).count();
        assert_eq!((row.delivered, row.dropped.len()), (arrived as u64, 0), "{row:?}");
    }
}

#[test]
fn a_revoked_gateway_keeps_what_it_has_and_sends_it_when_it_may_again() {
    let (stack, sink) = (Stack::start(), OtlpSink::start());
    let mut pair = Pair::start(&stack, sink.grpc());
    let load = Load::start(pair.port, "shop", 10, 2);
    load.wait_acknowledged(200);
    wait_until("spans arrive", Stack::PATIENCE, || !sink.items().is_empty());
    stack.cli(["delete", "service-policy", "otlp.dial"]).ok();
    wait_until("the edge is refused", Stack::PATIENCE, || {
        pair.edge.process().said("cannot dial hesper://otlp")
    });
    load.wait_acknowledged(load.acknowledged() + 200);
    let sent = load.stop();
    let held = ledger(&pair.edge)[""].clone();
    assert!(held.queued > 0 && held.accepted >= sent.acknowledged.len() as u64, "{held:?}");
    stack.allow("Dial", "otlp", "#gateway");
    sink.wait_exactly(&sent.acknowledged, &sent.unsure, Stack::PATIENCE);
    let arrived = sink.items().len() as u64;
    for (gateway, sender) in [(&pair.edge, ""), (&pair.centre, "edge")] {
        let row = settled(gateway, sender, Stack::PATIENCE);
        assert_eq!((row.accepted, row.delivered, row.dropped.len()), (arrived, arrived, 0), "{row:?}");
    }
}
