//! Certificates that live for seconds, and a CA that is replaced, while streams go on: nobody notices. And those who could not take part
//! are told what to do.

mod ground;
mod load;

use ground::{Mesh, SERVICE};
use hesper_integration::{Process, Stack, wait_until};
use load::Load;
use std::{
    fs,
    time::{Duration, Instant},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Set it to run the certificates' test with one-minute certificates for ten minutes.
const LONG: &str = "HESPER_TEST_LONG";

/// What an operator is told to do.
const NEXT_STEP: &str = "hesper create enrollment";

#[test]
fn short_lived_certificates_are_renewed_under_load_and_no_stream_notices() {
    let long = std::env::var_os(LONG).is_some_and(|value| !value.is_empty());
    let (life, lives) = if long { (60, 10) } else { (6, 10) };
    let mesh = Mesh::start(&[("leafValidity", &format!("{life}s"))]);
    let load = Load::start(&mesh.proxy(), SERVICE);
    let until = Instant::now() + Duration::from_secs(life * lives);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_secs(1));
        load.is_well("under load");
    }
    load.stop();
    for (role, name) in [("identity", "host"), ("identity", "dialer"), ("router", "router")] {
        let filter = format!(r#"role = "{role}" and name = "{name}""#);
        let all = mesh.certificates(&filter);
        assert!(all.len() as u64 > lives, "{} certificates of {name} in {lives} lifetimes", all.len());
        let valid = all.iter().filter(|c| c["state"] == "valid").count();
        assert_eq!(valid, 1, "one is in use, the others are renewed or expired: {all:#?}");
    }
    let table = mesh.stack.cli(["edge", "list", "certs"]).ok().stdout;
    for header in ["ROLE", "NAME", "SERIAL", "ISSUER CA", "NOT AFTER", "DAYS LEFT", "STATE"] {
        assert!(table.contains(header), "{table}");
    }
    assert!(!mesh.host.said("certificate not renewed"), "every renewal worked at once");
}

#[test]
fn the_ca_is_rotated_and_rolled_back_at_every_phase_under_load_with_a_controller_that_crashes_at_each() {
    let mut mesh = Mesh::start(&[]);
    let first = mesh.issuing();
    let load = Load::start(&mesh.proxy(), SERVICE);
    // A token of before the rotation is good until it is finished.
    let early = mesh.stack.path("early.jwt");
    mesh.stack.cli(["create", "identity", "early", "-o", &early]).ok();

    mesh.expect_phase("standby");
    assert!(mesh.rotate(&["issue"]).fails_with(1).stderr.contains("start one first"));
    mesh.rotate(&["start"]).ok();
    mesh.controller_crashes();
    mesh.expect_phase("started");
    assert!(mesh.rotate(&["start"]).fails_with(1).stderr.contains("under way already"));
    assert!(mesh.rotate(&["finish"]).fails_with(1).stderr.contains("does not issue yet"));
    enrolls(&mesh, "in-started");
    mesh.rotate(&["rollback"]).ok();
    mesh.controller_crashes();
    mesh.expect_phase("standby");
    load.is_well("rolled back from started");

    mesh.rotate(&["start"]).ok();
    mesh.rotate_when_ready("issue");
    mesh.controller_crashes();
    mesh.expect_phase("issuing");
    assert_ne!(mesh.issuing(), first);
    mesh.stack.cli(["enroll", &early, "-o", &mesh.stack.path("early.json")]).ok();
    enrolls(&mesh, "in-issuing");
    mesh.rotate(&["rollback"]).ok();
    mesh.controller_crashes();
    mesh.expect_phase("rolling-back");
    assert_eq!(mesh.issuing(), first);
    load.is_well("rolling back from issuing");
    enrolls(&mesh, "in-rolling-back");
    // Those who have enrolled in between and never run keep it from being finished.
    let refused = mesh.rotate(&["finish"]).fails_with(1).stderr;
    assert!(refused.contains("in-issuing") && refused.contains("force"), "{refused}");
    mesh.stack.cli(["delete", "identity", "in-issuing"]).ok();
    mesh.stack.cli(["delete", "identity", "early"]).ok();
    mesh.rotate_when_ready("finish");
    mesh.controller_crashes();
    mesh.expect_phase("standby");
    load.is_well("rolled back from issuing");

    mesh.stack.cli(["delete", "identity", "in-started"]).ok();
    mesh.stack.cli(["delete", "identity", "in-rolling-back"]).ok();
    mesh.rotate(&["start"]).ok();
    mesh.rotate_when_ready("issue");
    mesh.rotate_when_ready("finish");
    mesh.controller_crashes();
    mesh.expect_phase("standby");
    let second = mesh.issuing();
    assert_ne!(second, first);
    enrolls(&mesh, "afterwards");
    // New handshakes everywhere, by the new CA alone.
    mesh.stack.kill_router();
    mesh.stack.start_router();
    let in_use = mesh.certificates(r#"state = "valid""#);
    assert!(in_use.len() >= 3 && in_use.iter().all(|c| c["issuer"] == second.as_str()), "{in_use:#?}");
    load.stop();
    assert!(!fs::exists(mesh.stack.path("controller/pki/ca.key")).expect("readable"), "the old key is gone");
}

/// An identity is created and enrolled.
#[track_caller]
fn enrolls(mesh: &Mesh, name: &str) {
    mesh.stack.enroll(name, &[]);
}

#[test]
fn a_node_that_cannot_renew_keeps_the_old_ca_and_one_that_was_away_learns_or_is_told_what_to_do() {
    let mesh = Mesh::start(&[]);
    let [away, lost] = ["away", "lost"].map(|name| mesh.stack.enroll(name, &["hosts"]));
    mesh.rotate(&["start"]).ok();
    mesh.rotate_when_ready("issue");
    wait_until("the host has renewed", Stack::PATIENCE, || mesh.host.said("certificate renewed"));
    let refused = mesh.rotate(&["finish"]).fails_with(1).stderr;
    assert!(refused.contains("away") && refused.contains("lost") && !refused.contains("host,"), "{refused}");

    // Its file knows the old CA only, and still it finds the controller and catches up.
    let returned = mesh.stack.tunnel("away", &["host", "-i", &away]);
    wait_until("it has renewed", Stack::PATIENCE, || returned.said("certificate renewed"));
    wait_until("only one is left", Stack::PATIENCE, || {
        mesh.status()["holders"].as_array().is_some_and(|names| names.len() == 1 && names[0] == "lost")
    });
    mesh.rotate(&["finish", "--force"]).ok();
    let untrusted = mesh.certificates(r#"name = "lost""#);
    assert_eq!(untrusted[0]["state"], "untrusted", "{untrusted:#?}");

    let late = mesh.stack.node("lost", ["tunnel", "host", "-i", &lost]);
    told_what_to_do(&late, "CA was rotated");
}

#[test]
fn a_node_that_was_away_for_longer_than_its_certificate_lives_is_told_so() {
    let mesh = Mesh::start(&[("leafValidity", "6s")]);
    let file = mesh.stack.enroll("sleeper", &["hosts"]);
    wait_until("its certificate has expired", Stack::PATIENCE, || {
        mesh.certificates(r#"name = "sleeper""#).iter().all(|c| c["state"] == "expired")
    });
    // Its last second counts in full (RFC 5280, section 4.1.2.5).
    let end = mesh.certificates(r#"name = "sleeper""#)[0]["notAfter"].as_str().expect("a time").to_owned();
    let end = OffsetDateTime::parse(&end, &Rfc3339).expect("RFC 3339") + Duration::from_secs(1);
    wait_until("its last second is over", Stack::PATIENCE, || OffsetDateTime::now_utc() > end);
    let mut sleeper = mesh.stack.node("sleeper", ["tunnel", "host", "-i", &file]);
    sleeper = sleeper.forgive("the certificate has expired");
    told_what_to_do(&sleeper, "expired at");
    // And so does an administrator who logs in with it.
    let refused =
        mesh.stack.cli(["edge", "login", &mesh.stack.controller_address(), "-f", &file]).fails_with(1).stderr;
    assert!(refused.contains("expired at") && refused.contains(NEXT_STEP), "{refused}");
}

#[track_caller]
fn told_what_to_do(node: &Process, reason: &str) {
    wait_until("it says why and what to do", Stack::PATIENCE, || {
        node.lines().iter().any(|line| line.contains(reason) && line.contains(NEXT_STEP))
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_with_their_bounds() {
    let stack = Stack::separate();
    for (value, said) in [("soon", "is no duration"), ("1s", "it must be from 5s to 365d")] {
        let refused =
            stack.cli(["controller", "run", "--home", &stack.path("controller"), "--leaf-validity", value]);
        assert!(refused.code != 0 && refused.stderr.contains(said), "{refused:?}");
    }
}
