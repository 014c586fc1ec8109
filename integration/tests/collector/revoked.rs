//! A sender whose permission ends is refused at once; what it had sent is still delivered and accounted for.

use crate::ground::{Pair, ledger, service, settled};
use hesper_integration::{
    Collector, Stack,
    otlp::{Failure, Load, OtlpSink},
    wait_until,
};
use std::time::{Duration, Instant};

/// The promise: nothing that is sent later than this after the withdrawal is taken.
const SOON: Duration = Duration::from_secs(1);

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
    // Others are served many times over, and this one is refused many times, with what it sent after the promised time.
    wait_until("the promised time is over", Stack::PATIENCE, || withdrawn.elapsed() > SOON);
    let refused = revoked.refused();
    wait_until("the sender is refused", Stack::PATIENCE, || revoked.refused() >= refused + 200);
    kept.wait_acknowledged(kept.acknowledged() + 200);
    let taken = revoked.last_taken().expect("something was taken").saturating_duration_since(withdrawn);
    println!("what was sent {taken:?} after the withdrawal was the last that was taken");
    assert!(taken <= SOON, "what was sent {taken:?} after the withdrawal was taken");
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
