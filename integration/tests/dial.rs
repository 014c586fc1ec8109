//! `hesper dial`: a service on standard input and output; `hesper trace dial`: the way of a dial, step by step.

use hesper_integration::{Process, Stack, StackOptions, wait_until};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

/// Answers with what came, in capitals, once all of it has come.
fn shouter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.expect("a connection");
            thread::spawn(move || {
                let mut text = Vec::new();
                // A dial that was only looked at ends early.
                let _ = tcp.read_to_end(&mut text);
                let _ = tcp.write_all(&text.to_ascii_uppercase());
            });
        }
    });
    address
}

/// A client at the first router, a host at the second: every path leads over their link.
struct Mesh {
    stack: Stack,
    client: String,
    _host: Process,
}

impl Mesh {
    fn start() -> Self {
        let stack = StackOptions::default().routers(2).without_router_policies().start();
        let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
        for (identity, router) in [("client", 0), ("host", 1)] {
            let router = format!("@{}", stack.router_name(router));
            let identity_roles = format!("@{identity}");
            let roles = ["--identity-roles", &identity_roles, "--edge-router-roles", &router];
            stack.cli([&["create", "edge-router-policy", identity], &roles[..]].concat()).ok();
        }
        let all = ["--edge-router-roles", "#all", "--service-roles", "#all"];
        stack.cli([&["create", "service-edge-router-policy", "all"], &all[..]].concat()).ok();
        stack.publish("shout", shouter(), "@host");
        let closed = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
        stack.publish("closed", closed, "@host");
        stack.allow("Dial", "shout", "@client");
        stack.allow("Dial", "closed", "@client");
        let host = stack.tunnel("host", &["host", "-i", &host]);
        wait_until("both are hosted", Stack::PATIENCE, || {
            host.lines().iter().filter(|line| line.contains("service bound")).count() == 2
        });
        wait_until("the routers are linked", Stack::PATIENCE, || {
            (0..2).all(|router| stack.router_metric(router, "hesper_router_links") == 1.0)
        });
        Self { stack, client, _host: host }
    }
}

#[test]
fn a_service_is_standard_input_and_output() {
    let mesh = Mesh::start();
    let dial =
        |service: &str, input: &str| mesh.stack.cli_with(["dial", service, "-i", &mesh.client], &[], input);
    // The answer comes only after the end of the question: each direction closes by itself.
    assert_eq!(dial("shout", "hello").ok().stdout, "HELLO");
    let long = "a".repeat(3_000_000);
    assert_eq!(dial("host@shout", &long).ok().stdout, long.to_ascii_uppercase());
    let denied = dial("nothing", "x").fails_with(1);
    assert!(denied.stderr.contains("no service named 'nothing'"), "{}", denied.stderr);
    assert_eq!(denied.stdout, "");
    let closed = dial("closed", "x").fails_with(1);
    assert!(closed.stderr.contains("cannot connect to the target"), "{}", closed.stderr);
    mesh.stack.cli(["dial", "shout"]).fails_with(2);
    mesh.stack.cli(["dial", "shout", "-i", &mesh.stack.path("no.json")]).fails_with(1);

    the_way_and_the_time_of_each_step_are_shown(&mesh);
}

fn the_way_and_the_time_of_each_step_are_shown(mesh: &Mesh) {
    let trace =
        |arguments: &[&str]| mesh.stack.cli([&["trace", "dial"], arguments, &["-i", &mesh.client]].concat());
    let told = trace(&["shout", "-n", "2", "-j"]).ok().json();
    let steps = |dial: &Value| -> Vec<String> {
        let steps = dial["steps"].as_array().expect("steps").iter();
        steps.map(|step| step["name"].as_str().expect("a name").to_owned()).collect()
    };
    let dials = told["dials"].as_array().expect("dials");
    let rpc = "hesper.control.v1.NodeControl/Dial";
    assert_eq!(steps(&dials[0]), ["grant", rpc, "pass", "connect", "accept"]);
    assert_eq!(steps(&dials[1]), ["connect", "accept"], "by the grant of before");
    assert_eq!((&dials[0]["cached"], &dials[1]["cached"]), (&false.into(), &true.into()));
    assert_eq!(dials[0]["router"], mesh.stack.router_name(0));
    assert_eq!(dials[0]["path"].as_array().map(Vec::len), Some(2), "over the link");
    assert_eq!(told["from"]["identity"], "client");
    assert_ne!(dials[0]["traceId"], dials[1]["traceId"]);
    let sum: f64 =
        dials[0]["steps"].as_array().into_iter().flatten().filter_map(|s| s["tookMs"].as_f64()).sum();
    assert!(sum > 0.0, "{told}");

    let shown = trace(&["shout"]).ok().stdout;
    for words in ["controller https://", "over a link", "host", "grant", "accept", "trace "] {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let failed = trace(&["closed", "-j"]).fails_with(1);
    let one = &failed.json()["dials"][0];
    assert_eq!(one["failedAt"], "accept", "{one}");
    assert!(one["error"].as_str().is_some_and(|e| e.contains("cannot connect to the target")), "{one}");
    let denied = trace(&["nothing"]).fails_with(1);
    assert!(denied.stdout.contains("failed at grant: no service named 'nothing'"), "{}", denied.stdout);
}
