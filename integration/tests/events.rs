//! `hesper events`: what happened, who was refused what by which rule; followed across a restart of the controller.

use hesper_integration::{Process, Stack, wait_until};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Where nobody has to answer: the dials of these tests are refused.
fn target() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    (listener, address)
}

/// The events that a process has printed as JSON.
fn printed(process: &Process) -> Vec<Value> {
    process.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for an event that is printed.
#[track_caller]
fn wait_for_event(process: &Process, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    wait_until(what, Stack::PATIENCE, || {
        found = printed(process).into_iter().find(|event| wanted(event));
        found.is_some()
    });
    found.expect(what)
}

/// The last events as JSON, with these arguments.
#[track_caller]
fn last(stack: &Stack, arguments: &[&str]) -> Vec<Value> {
    let output = stack.cli([&["events", "-j"], arguments].concat()).ok();
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_denied_dial_is_followed_with_identity_service_and_rule_and_a_restart_is_survived() {
    let mut stack = Stack::separate();
    let (_listener, address) = target();
    let client = stack.enroll("client", &[]);
    stack.publish("web", address, "@client");
    let mut json = stack.node("events -j", ["events", "-f", "-j", "--event", "dial,change"]);
    let text = stack.node("events", ["edge", "events", "--follow", "--outcome", "denied"]);
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "web:0"]);
    let refused = || drop(TcpStream::connect(proxy.told("web")).expect("the tunneler listens"));
    refused();
    let denied = wait_for_event(&json, "the denied dial is told", |event| {
        event["event"] == "dial" && event["outcome"] == "denied"
    });
    assert_eq!((&denied["identity"], &denied["service"]), (&"client".into(), &"web".into()), "{denied}");
    let rule = "no Dial service-policy has both identity 'client' and service 'web'";
    assert_eq!(denied["rule"], rule, "{denied}");
    for id in ["identityId", "serviceId"] {
        assert!(denied[id].as_str().is_some_and(|id| !id.is_empty()), "{denied}");
    }
    wait_until("it is told to people, too", Stack::PATIENCE, || {
        let parts = ["  dial ", "  denied  ", "  client ", "  web ", rule];
        text.lines().iter().any(|line| parts.iter().all(|part| line.contains(part)))
    });

    stack.kill_controller();
    wait_until("that is told", Stack::PATIENCE, || json.said("trying again"));
    stack.start_controller();
    stack.cli(["create", "service", "after"]).ok();
    wait_for_event(&json, "it goes on", |event| event["event"] == "change" && event["name"] == "after");
    assert!(json.said("the controller was restarted"), "{:?}", json.lines());
    let mut told: Vec<_> = printed(&json).iter().map(Value::to_string).collect();
    let count = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), count, "none is told twice");
    assert_eq!(json.terminate(Stack::PATIENCE).code(), Some(0));
}

#[test]
fn the_last_events_are_shown_by_event_outcome_identity_service_and_time() {
    let stack = Stack::start();
    let (_listener, address) = target();
    let client = stack.enroll("client", &[]);
    stack.publish("web", address, "@client");
    let proxy = stack.tunnel("proxy", &["proxy", "-i", &client, "web:0"]);
    drop(TcpStream::connect(proxy.told("web")).expect("the tunneler listens"));
    wait_until("the denial is there", Stack::PATIENCE, || !last(&stack, &["--outcome", "denied"]).is_empty());
    let denied = |event: &Value| event["outcome"] == "denied" && event["event"] == "dial";
    for (arguments, holds) in [
        (&["--event", "dial", "--identity", "client"][..], &denied as &dyn Fn(&Value) -> bool),
        (&["--event", "circuit", "--service", "web"], &denied),
        (&["--outcome", "denied", "--since", "1h"], &denied),
        (&["--event", "enrollment", "--identity", "client"], &|event| event["outcome"] == "success"),
        (&["--event", "router.online"], &|event| event["namespace"] == "router"),
        (&["-n", "1"], &|event| event["sequence"].as_u64() > Some(1)),
    ] {
        let found = last(&stack, arguments);
        assert!(!found.is_empty() && found.iter().all(holds), "{arguments:?}: {found:?}");
    }
    for nothing in [&["-n", "0"][..], &["--identity", "nobody"], &["--since", "0s"]] {
        assert_eq!(last(&stack, nothing), Vec::<Value>::new(), "{nothing:?}");
    }
    let failed = stack.cli(["events", "--event", "dail"]).fails_with(1);
    assert!(failed.stderr.contains("there is no event 'dail'"), "{}", failed.stderr);
    let piped = stack.script("hesper events -n 50 | head -1");
    assert_eq!((piped.code, piped.stdout.lines().count()), (0, 1), "{}", piped.stderr);
}

#[test]
fn who_is_no_administrator_any_more_follows_no_more() {
    let stack = Stack::start();
    let admin = stack.path("operator.json");
    stack.cli(["create", "identity", "operator", "--admin", "-o", "operator.jwt"]).ok();
    stack.cli(["enroll", "operator.jwt", "-o", &admin]).ok();
    let controller = stack.controller_address();
    stack.cli(["edge", "login", &controller, "-f", &admin, "-i", "operator"]).ok();
    stack.login();
    let mut follower = stack.node("events", ["events", "-f", "-j", "-i", "operator"]);
    stack.cli(["create", "service", "seen"]).ok();
    wait_for_event(&follower, "it follows", |event| event["name"] == "seen");
    stack.cli(["update", "identity", "operator", "--admin=false"]).ok();
    wait_until("it is over", Stack::PATIENCE, || follower.ended().is_some());
    assert_eq!(follower.ended().and_then(|status| status.code()), Some(1));
    let refusal = "not authorized: the identity 'operator' is no administrator";
    assert!(follower.said(refusal), "{:?}", follower.lines());
    let refused = stack.cli(["events", "-i", "operator"]).fails_with(1);
    assert!(refused.stderr.contains(refusal), "{}", refused.stderr);
}

#[test]
fn the_audit_file_is_rotated_and_no_line_is_lost() {
    let mut stack = Stack::separate();
    stack.kill_controller();
    let settings = stack.path("controller/controller.json");
    let mut text: Value = serde_json::from_slice(&std::fs::read(&settings).expect("settings")).expect("JSON");
    text["auditFileSize"] = "64KiB".into();
    text["auditFiles"] = 50.into();
    std::fs::write(&settings, text.to_string()).expect("written");
    stack.start_controller();
    // Each is refused by the controller, and so an event of some 400 bytes.
    let name = "x".repeat(200);
    let refused =
        format!("for i in $(seq 250); do hesper create service '{name}' >/dev/null 2>&1 || true; done");
    stack.script(&refused);
    let path = stack.path("controller/audit.jsonl");
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
    let rotated = read(format!("{path}.1"));
    assert!(!rotated.is_empty() && rotated.len() <= 64 * 1024, "{} bytes", rotated.len());
    let mut all: Vec<String> = (1..50).rev().map(|n| read(format!("{path}.{n}"))).collect();
    all.push(read(path));
    let lines: Vec<Value> =
        all.concat().lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect();
    let changes =
        lines.iter().filter(|e| e["event"] == "change" && e["name"].as_str().is_none_or(|n| n.len() >= 200));
    assert_eq!(changes.filter(|e| e["entityType"] == "service").count(), 250);
}
