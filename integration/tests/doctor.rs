//! `hesper doctor` in worlds that are broken in one place each: it says where, and what to do.

use hesper_integration::{Stack, StackOptions, wait_until};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

/// What one run found.
struct Found(Value);

impl Found {
    /// Of the checks whose name begins so: how it ended, what was found, what to do.
    #[track_caller]
    fn check(&self, name: &str) -> (&str, &str, &str) {
        let text =
            |check: &'static str, of: &Value| -> String { of[check].as_str().unwrap_or_default().into() };
        let mut all = self.0["checks"].as_array().expect("checks").iter();
        let found = all.find(|check| text("check", check).starts_with(name));
        let found = found.unwrap_or_else(|| panic!("nothing about {name}: {:#}", self.0));
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        (text("status"), text("found"), text("next"))
    }

    #[track_caller]
    fn assert(&self, name: &str, status: &str, found: &str, next: &str) {
        let check = self.check(name);
        assert!(
            check.0 == status && check.1.contains(found) && check.2.contains(next),
            "{name}: {check:?}, not {status} … {found} … {next}"
        );
    }

    fn failures(&self) -> u64 {
        self.0["failures"].as_u64().expect("a number")
    }
}

/// Failures end it with 1, and nothing else does.
#[track_caller]
fn doctor(stack: &Stack, arguments: &[&str], environment: &[(&str, &str)]) -> Found {
    let output = stack.cli_with([&["doctor", "-j"], arguments].concat(), environment, "");
    let found = Found(output.json());
    output.fails_with(i32::from(found.failures() > 0));
    found
}

#[test]
fn what_is_well_is_said_to_be_and_what_is_not_is_named() {
    let mut stack = Stack::separate();
    let (client, host) = (stack.enroll("client", &[]), stack.enroll("host", &[]));
    stack.publish("echo", SocketAddr::from(([127, 0, 0, 1], 9)), "@host");
    stack.allow("Dial", "echo", "@client");
    let host = stack.tunnel("host", &["host", "-i", &host]);
    wait_until("it is hosted", Stack::PATIENCE, || host.said("service bound"));

    let found = doctor(&stack, &["-i", &client], &[]);
    assert_eq!(found.failures(), 0, "{:#}", found.0);
    for (name, words) in [
        ("identity file", "its owner's alone"),
        ("certificate", "valid until"),
        ("CA trust", "1 trusted"),
        ("clock", "agrees"),
        ("session", "identity 'client'"),
        ("router 'router'", "attached"),
        ("service 'echo'", "may dial; hosted by host"),
        ("login", "is good"),
        ("edge router 'router'", "online"),
    ] {
        found.assert(name, "ok", words, "");
    }
    let controller = stack.controller_address();
    for step in ["DNS", "TCP", "TLS", "HTTP"] {
        found.assert(&format!("controller {controller} {step}"), "ok", "", "");
    }
    // The same for people: one line each.
    let lines = stack.cli(["doctor", "-i", &client]).ok().stdout;
    let count = found.0["checks"].as_array().map_or(0, Vec::len);
    assert_eq!(lines.lines().count(), count, "{lines}");
    let known = |line: &str| ["ok ", "warning ", "failure "].iter().any(|status| line.starts_with(status));
    assert!(lines.lines().all(known), "{lines}");

    identity_files(&stack, &client);
    wrong_clocks(&stack, &client);

    drop(host);
    wait_until("nobody hosts it", Stack::PATIENCE, || {
        doctor(&stack, &["-i", &client], &[]).check("service 'echo'").0 == "warning"
    });
    stack.kill_router();
    let found = doctor(&stack, &["-i", &client, "--timeout", "3"], &[]);
    found.assert("router 'router' (UDP)", "failure", "", "UDP");
    found.assert("session", "ok", "", "");
    wait_until("the controller has missed the router", Stack::PATIENCE, || {
        doctor(&stack, &[], &[]).check("edge router 'router'").0 == "failure"
    });

    stack.cli(["delete", "identity", "client"]).ok();
    let found = doctor(&stack, &["-i", &client, "--timeout", "3"], &[]);
    assert!(found.failures() > 1, "{:#}", found.0);
    found.assert("session", "failure", "", "deleted");

    stack.kill_controller();
    let found = doctor(&stack, &["-i", &client], &[]);
    found.assert(
        &format!("controller {controller} TCP"),
        "failure",
        "refused",
        "check that the controller runs",
    );
}

/// Files that are no good, or too good for others.
fn identity_files(stack: &Stack, client: &str) {
    let missing = doctor(stack, &["-i", &stack.path("no.json")], &[]);
    missing.assert("identity file", "failure", "no.json", "enroll");
    let garbage = doctor(stack, &["-i", &stack.file("garbage.json", "{}")], &[]);
    garbage.assert("identity file", "failure", "is not an identity file", "enroll");
    let open = stack.file("open.json", &fs::read_to_string(client).expect("the identity"));
    fs::set_permissions(&open, Permissions::from_mode(0o644)).expect("permissions");
    let open = doctor(stack, &["-i", &open], &[]);
    open.assert("identity file", "warning", "can be read or written by others", "chmod 600");
    assert_eq!(open.failures(), 0, "{:#}", open.0);
}

/// By ten minutes, and by ten years.
fn wrong_clocks(stack: &Stack, client: &str) {
    let directories = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let libraries = directories.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let library: PathBuf = libraries.into_iter().find(|path| path.is_file()).expect("faketime is installed");
    let library = library.display().to_string();
    let at = |offset: &'static str| {
        let clock =
            [("LD_PRELOAD", library.as_str()), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        doctor(
            stack,
            &["-i", client, "--timeout", "3"],
            &[&clock[..], &[("DONT_FAKE_MONOTONIC", "1")]].concat(),
        )
    };
    at("+600").assert("clock", "failure", "at the controller", "set this machine's clock");
    let years = at("+10y");
    years.assert("certificate", "failure", "expired at", "if the clock of this machine is right");
    years.assert("clock", "failure", "at the controller", "set this machine's clock");
}

#[test]
fn what_policy_misses_is_named_with_the_command_that_mends_it() {
    let stack = StackOptions::default().without_router_policies().start();
    let client = stack.enroll("client", &[]);
    let found = doctor(&stack, &["-i", &client, "--timeout", "3"], &[]);
    found.assert("routers", "failure", "no policy lets identity 'client'", "create edge-router-policy");
    found.assert("services", "warning", "neither dial nor bind", "create service-policy");
    stack.cli(["create", "service", "lonely"]).ok();
    let found = doctor(&stack, &[], &[]);
    found.assert("service 'lonely'", "warning", "Bind policy", "policy-advisor services lonely");
    // Without a login and an identity there is little to say.
    let nobody = stack.path("nobody");
    let found = doctor(&stack, &[], &[("HESPER_CONFIG_DIR", &nobody)]);
    found.assert("network", "warning", "nobody is logged in", "hesper edge login");
}
