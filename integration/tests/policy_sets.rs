//! The ready sets of `policies/`: each is sound offline, and on a real network every dial and bind goes as its tests say.

use hesper_integration::{Process, Stack, binaries, wait_until};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    thread,
    time::Duration,
};

/// A stream that is refused ends long before.
const PATIENCE: Duration = Duration::from_secs(20);

fn sets() -> Vec<PathBuf> {
    let list = fs::read_dir(binaries::repository().join("policies")).expect("policies/");
    let mut sets: Vec<PathBuf> = list.map(|entry| entry.expect("an entry").path()).collect();
    sets.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    sets.sort();
    sets
}

/// Gives back whatever it is sent.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &connection, &mut &connection));
        }
    });
    address
}

/// Does a stream through this listener reach the echo?
fn reaches(listener: SocketAddr) -> bool {
    let mut heard = [0; 5];
    let mut connection = TcpStream::connect(listener).expect("the tunneler listens");
    connection.set_read_timeout(Some(PATIENCE)).expect("set");
    let exchange = connection.write_all(b"hello").and_then(|()| connection.read_exact(&mut heard));
    exchange.is_ok() && &heard == b"hello"
}

/// The set with every `host.v1` at the echo instead of the port of the real program.
fn at_the_echo(path: &PathBuf, echo: SocketAddr) -> String {
    let text = fs::read_to_string(path).expect("a set");
    let lines = text.lines().map(|line| match line.split_once("port: ") {
        Some((before, _)) => format!("{before}port: {}}}\n", echo.port()),
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// `(identity, service) → allowed`, of one verb, from what the set's tests say.
fn said(checked: &Value, verb: &str) -> BTreeMap<(String, String), bool> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let all = checked["assertions"].as_array().expect("assertions").iter();
    all.filter(|a| a["verb"] == verb)
        .map(|a| ((text(&a["identity"]), text(&a["name"])), a["allowed"] == true))
        .collect()
}

#[test]
fn every_set_is_sound_and_they_live_together() {
    let stack = Stack::start();
    let files: Vec<String> = sets().iter().map(|path| path.display().to_string()).collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in &files {
        let told = stack.cli(["policy", "check", file]).ok().stdout;
        assert!(told.starts_with("ok: ") && told.contains("tests passed"), "{told}");
    }
    let directory = binaries::repository().join("policies").display().to_string();
    stack.cli(["policy", "check", &directory]).ok();
    stack.cli(["policy", "apply", &directory, "--yes", "--jwt-dir", "tokens"]).ok();
    let again = stack.cli(["policy", "diff", &directory, "--prune", "--exit-code"]).ok().stdout;
    assert!(again.starts_with("nothing to do: "), "{again}");
    // Their tests still hold for the controller's own administrator and each other, and each goes without the others.
    for file in &files {
        let set = fs::read_to_string(file)
            .expect("a set")
            .lines()
            .find_map(|l| l.strip_prefix("set: ").map(str::to_owned));
        let gone = stack.file("gone.yaml", &format!("set: {}\n", set.expect("a set's name")));
        stack.cli(["policy", "apply", &gone, "--prune", "--yes"]).ok();
    }
    let left = stack.cli(["policy", "export"]).ok().stdout;
    assert!(!left.contains("set: "), "{left}");
}

fn goes_as_its_tests_say(name: &str) {
    let stack = Stack::start();
    let path = sets().into_iter().find(|p| p.file_stem().is_some_and(|s| s == name)).expect(name);
    let file = stack.file("set.yaml", &at_the_echo(&path, echo()));
    let checked = stack.cli(["policy", "check", &file, "-j"]).ok().json();
    stack.cli(["policy", "apply", &file, "--yes", "--jwt-dir", "tokens"]).ok();
    let (dials, binds) = (said(&checked, "dial"), said(&checked, "bind"));
    let identities: BTreeSet<&String> =
        dials.keys().chain(binds.keys()).map(|(identity, _)| identity).collect();
    let enrolled = |identity: &str| {
        let file = stack.path(&format!("{identity}.json"));
        stack.cli(["enroll", &format!("tokens/{identity}.jwt"), "-o", &file]).ok();
        file
    };
    let files: BTreeMap<&String, String> = identities.iter().map(|i| (*i, enrolled(i))).collect();

    let hosts: BTreeMap<&String, Process> = files
        .iter()
        .map(|(identity, file)| (*identity, stack.tunnel(identity, &["host", "-i", file])))
        .collect();
    let bound = |identity: &String, service: &str| {
        let line = format!("service bound service=\"{service}\"");
        hosts[identity].lines().iter().any(|l| l.contains(&line))
    };
    for ((identity, service), _) in binds.iter().filter(|(_, allowed)| **allowed) {
        wait_until(&format!("{identity} hosts {service}"), Stack::PATIENCE, || bound(identity, service));
    }
    for ((identity, service), _) in binds.iter().filter(|(_, allowed)| !**allowed) {
        assert!(!bound(identity, service), "{identity} hosts {service}");
    }

    for (identity, file) in &files {
        let of = dials.iter().filter(|((who, _), _)| who == *identity);
        let services: Vec<(String, bool)> = of.map(|((_, service), yes)| (service.clone(), *yes)).collect();
        let listeners: Vec<String> = services.iter().map(|(service, _)| format!("{service}:0")).collect();
        let listeners: Vec<&str> = listeners.iter().map(String::as_str).collect();
        assert!(!services.is_empty(), "{identity} is tested for no dial");
        let proxy = stack.tunnel("proxy", &[&["proxy", "-i", file.as_str()], &listeners[..]].concat());
        for (service, allowed) in services {
            let listener = proxy.told(&service);
            if allowed {
                wait_until(&format!("{identity} dials {service}"), Stack::PATIENCE, || reaches(listener));
            } else {
                assert!(!reaches(listener), "{identity} dials {service}");
            }
        }
    }
}

#[test]
fn prometheus_goes_as_its_tests_say() {
    goes_as_its_tests_say("prometheus");
}

#[test]
fn otlp_goes_as_its_tests_say() {
    goes_as_its_tests_say("otlp");
}

#[test]
fn federation_goes_as_its_tests_say() {
    goes_as_its_tests_say("federation");
}
