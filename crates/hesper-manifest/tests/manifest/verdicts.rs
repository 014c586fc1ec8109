//! The tests in files: what holds, what does not, and what is said about it.

use crate::{controller::Controller, read, read_over};
use hesper_manifest::{Manifest, Plan, World, run};

const SITE: &str = r##"
identities:
  - {name: prometheus, roleAttributes: [scrapers]}
  - {name: host}
  - {name: guest, disabled: true, roleAttributes: [scrapers]}
edge-routers: [{name: r1}, {name: r2, disabled: true}]
services: [{name: metrics, roleAttributes: [scrape]}, {name: db}]
service-policies:
  - {name: dial, type: Dial, identityRoles: ["#scrapers"], serviceRoles: ["#scrape"]}
  - {name: bind, type: Bind, identityRoles: ["@host"], serviceRoles: ["#all"]}
edge-router-policies:
  - {name: erp, identityRoles: ["#scrapers"], edgeRouterRoles: ["#all"]}
service-edge-router-policies:
  - {name: serp, serviceRoles: ["@metrics"], edgeRouterRoles: ["#all"]}
"##;

fn failures(manifest: &Manifest, world: &World) -> Vec<String> {
    run(manifest, world).expect("a world").failures.iter().map(ToString::to_string).collect()
}

#[test]
fn what_holds_holds() {
    let tests = r##"
tests:
  - {identity: prometheus, can-dial: metrics, cannot-dial: [db], cannot-bind: "#all"}
  - {identity: "@prometheus", can-dial-only: "#scrape", via: r1}
  - {identity: host, can-bind-only: [metrics, "@db"], cannot-dial: "#all", cannot-use: [r1, r2]}
  - {identity: ["prometheus"], can-use: r1, cannot-use: r2}
  - {identity: guest, cannot-dial: "#all", cannot-use: "#all", why: it left}
"##;
    let manifest = read(&format!("{SITE}{tests}"));
    assert_eq!(failures(&manifest, &World::declared(&manifest)), [""; 0]);
    let report = run(&manifest, &World::declared(&manifest)).expect("a world");
    assert_eq!((report.tests, report.assertions.len()), (5, 19));
}

#[test]
fn what_does_not_hold_names_the_rule_and_its_place() {
    for (test, expected) in [
        (
            "{identity: prometheus, can-dial: db}",
            "f.yaml:1:10: identity 'prometheus' can-dial service 'db': expected allow, got deny: no Dial service-policy has both identity 'prometheus' and service 'db'",
        ),
        (
            "{identity: prometheus, cannot-dial: \"#all\", why: secret}",
            "f.yaml:1:10: identity 'prometheus' cannot-dial service 'metrics': expected deny, got allow: allowed by Dial service-policy 'dial' (f.yaml:9:5) (must hold: secret)",
        ),
        (
            "{identity: host, can-bind-only: db}",
            "f.yaml:1:10: identity 'host' can-bind-only service 'metrics': expected deny, got allow: allowed by Bind service-policy 'bind' (f.yaml:10:5)",
        ),
        (
            "{identity: \"#scrapers\", can-dial: metrics}",
            "f.yaml:1:10: identity 'guest' can-dial service 'metrics': expected allow, got deny: identity 'guest' is disabled",
        ),
        (
            "{identity: prometheus, can-dial: metrics, via: [r1, r2]}",
            "f.yaml:1:10: identity 'prometheus' can-dial service 'metrics' via edge-router 'r2': expected allow, got deny: edge router 'r2' is disabled",
        ),
        (
            "{identity: host, can-bind: db, via: r1}",
            "f.yaml:1:10: identity 'host' can-bind service 'db' via edge-router 'r1': expected allow, got deny: no edge-router-policy has both identity 'host' and edge router 'r1'",
        ),
        (
            "{identity: prometheus, cannot-use: r1}",
            "f.yaml:1:10: identity 'prometheus' cannot-use edge-router 'r1': expected deny, got allow: allowed by edge-router-policy 'erp' (f.yaml:12:5)",
        ),
        (
            "{identity: \"#nobody\", can-dial: metrics}",
            "f.yaml:1:21: identity: '#nobody' matches no identity, so the test proves nothing",
        ),
        (
            "{identity: host, cannot-dial: [\"#nothing\"]}",
            "f.yaml:1:41: cannot-dial: '#nothing' matches no service, so the test proves nothing",
        ),
    ] {
        let manifest = read(&format!("tests: [ {test} ]{SITE}"));
        assert_eq!(failures(&manifest, &World::declared(&manifest)), [expected]);
    }
}

#[test]
fn the_world_is_the_one_after_the_change() {
    let mut controller = Controller::new();
    controller.apply(&read(SITE), false);
    controller.apply(&read("set: x\nidentities: [{name: late, roleAttributes: [scrapers]}]\n"), false);
    let present = controller.snapshot();
    let judged = |text: &str, prune| {
        let manifest = read_over(text, &present);
        let plan = Plan::new(&manifest, &present, prune).expect("a plan");
        failures(&manifest, &World::after(&present, &plan))
    };
    let test = "tests: [{identity: host, can-dial: metrics}]\n";
    assert_eq!(judged(test, false).len(), 1, "as it is now");
    let change = "identities: [{name: host, roleAttributes: [scrapers]}]\n";
    assert_eq!(judged(&format!("{change}{test}"), false), [""; 0], "as it will be");
    let found = judged("tests: [{identity: late, cannot-dial: metrics}]\n", false);
    assert!(found[0].ends_with("allowed by Dial service-policy 'dial' (at the controller)"), "{found:?}");
    // An entity that goes takes its roles along.
    let gone = "set: x\ntests: [{identity: \"#scrapers\", can-dial: metrics}]\n";
    assert_eq!(judged(gone, false).len(), 1, "guest is disabled");
    assert_eq!(judged("set: x\ntests: [{identity: [host, prometheus], cannot-dial: db}]\n", true), [""; 0]);
}
