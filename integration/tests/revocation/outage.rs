//! No controller: what was granted goes on although nobody can renew it, what was not is refused, and when the grace is over so is
//! everything.

use crate::load::{Doomed, SOON, all_break_within, audited, refused};
use hesper_integration::{Oracle, Place, Stack, StackOptions, wait_for, wait_until};
use std::time::{Duration, Instant};

/// The shortest that can be set.
const GRANT: Duration = Duration::from_secs(5);
/// As the command lines below say.
const GRACE: Duration = Duration::from_secs(20);
/// Grants of before have lapsed for sure.
const LAPSED: Duration = Duration::from_secs(8);

fn renewals(stack: &Stack) -> usize {
    let dials = audited(stack, "dial");
    dials.iter().filter(|e| e["renewal"] == true && e["outcome"] == "success").count()
}

#[test]
fn without_a_controller_what_was_granted_goes_on_until_the_grace_ends() {
    let options = StackOptions::default().setting("grantValidity", "5s");
    let mut stack = options.router_arguments(&["--outage-grace", "20"]).start();
    let (oracle, here) = (Oracle::start(), Place::host());
    let [lenient, strict, client] = ["lenient", "strict", "client"].map(|name| stack.enroll(name, &[]));
    for (service, host) in [("granted", "@lenient"), ("never", "@lenient"), ("strict", "@strict")] {
        stack.publish(service, oracle.address(), host);
        stack.allow("Dial", service, "@client");
    }
    let lenient = stack.tunnel("lenient", &["host", "-i", &lenient, "--outage-grace", "20"]);
    let strict = stack.tunnel("strict", &["host", "-i", &strict, "--outage-grace", "0"]);
    wait_until("all are hosted", Stack::PATIENCE, || {
        let bound = |lines: Vec<String>| lines.iter().filter(|l| l.contains("service bound")).count();
        bound(lenient.lines()) == 2 && bound(strict.lines()) == 1
    });
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "granted:0", "never:0", "strict:0"]);
    let [granted, never, strict] = ["granted", "never", "strict"].map(|service| proxy.told(service));
    let streams = |via| {
        let mut streams = vec![Doomed::idle(&oracle, &here, via)];
        streams.extend(Doomed::busy(&oracle, &here, via));
        streams.iter().for_each(Doomed::is_open);
        streams
    };
    let (mut lasting, without_grace) = (streams(granted), streams(strict));

    stack.kill_controller();
    let killed = Instant::now();
    let ended = all_break_within("no grace", killed, GRANT + 2 * SOON, &without_grace);
    println!("no grace: streams ended {ended:.2?} after the controller, grants live for {GRANT:?}");
    wait_until("all grants have lapsed", Stack::PATIENCE, || killed.elapsed() > LAPSED);
    assert!(lasting.iter().all(Doomed::goes_on), "lapsed, within the grace");
    let before: u64 = lasting.iter().map(Doomed::moved).sum();
    wait_until("bytes move", SOON, || lasting.iter().map(Doomed::moved).sum::<u64>() > before);
    let again = Doomed::idle(&oracle, &here, granted);
    again.is_open();
    lasting.push(again);
    refused(&here, never, "never granted");
    refused(&here, strict, "lapsed, and no grace");
    assert!(killed.elapsed() < GRACE, "too slow a machine for this test");

    let renewed = renewals(&stack);
    stack.start_controller();
    wait_until("grants are renewed again and again", Stack::PATIENCE, || renewals(&stack) >= renewed + 4);
    assert!(lasting.iter().all(Doomed::goes_on), "the controller is back");
    wait_for("what was never granted can be had", Stack::PATIENCE, || {
        let stream = Doomed::idle(&oracle, &here, never);
        let open = || stream.moved() > 0 || !stream.goes_on();
        wait_until("an answer", Stack::PATIENCE, open);
        if stream.goes_on() { Ok(()) } else { Err("refused".to_owned()) }
    });

    stack.kill_controller();
    let killed = Instant::now();
    let ended = all_break_within("the grace is over", killed, GRACE + 2 * SOON, &lasting);
    println!("streams ended {ended:.2?} after the controller, with a grace of {GRACE:?}");
    assert!(ended > GRACE - SOON, "{ended:?}");
    refused(&here, granted, "after the grace");
    wait_until("the router carries nothing any more", GRANT + SOON, || {
        stack.router_metric(0, "hesper_router_open_pairs") == 0.0
    });
    stack.start_controller();
    let back = wait_for("a stream opens", Stack::PATIENCE, || {
        let stream = Doomed::idle(&oracle, &here, granted);
        wait_until("an answer", Stack::PATIENCE, || stream.moved() > 0 || !stream.goes_on());
        if stream.goes_on() { Ok(stream) } else { Err("refused".to_owned()) }
    });
    back.is_open();
}
