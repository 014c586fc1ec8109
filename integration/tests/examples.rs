//! The example programs do what their help says: an axum server without a port, and a client that dials it by name.

use hesper_integration::{Place, Stack, binaries, sockets, wait_until};

/// A network in which identity `server` may bind `greeter`, and `client` may dial it.
fn greeter(stack: &Stack) -> (String, String) {
    let (server, client) = (stack.enroll("server", &[]), stack.enroll("client", &[]));
    stack.cli(["create", "service", "greeter"]).ok();
    for (kind, identity) in [("Bind", "@server"), ("Dial", "@client")] {
        let roles = ["--service-roles", "@greeter", "--identity-roles", identity];
        stack.cli([&["create", "service-policy", kind, kind], &roles[..]].concat()).ok();
    }
    (server, client)
}

#[test]
fn an_axum_server_answers_over_the_overlay_and_listens_nowhere() {
    let stack = Stack::start();
    let (server, client) = greeter(&stack);
    let process = stack.example_at(
        &Place::host(),
        "dark-axum",
        ["serve", "--identity", &server, "--service", "greeter"],
    );
    wait_until("greeter is bound", Stack::PATIENCE, || process.said("dark-axum serves greeter"));

    let get = |identity: &str| {
        let program = binaries::example("dark-axum").display().to_string();
        stack.script(&format!("{program} get --identity {identity} --service greeter --path /hello/night"))
    };
    assert_eq!(get(&client).ok().stdout, "hello, night\n");
    let listening: Vec<_> = sockets::of_process(process.pid())
        .into_iter()
        .filter(sockets::Socket::listens_outside_loopback)
        .collect();
    assert!(listening.is_empty(), "{listening:?}");
    let refused = get(&server).fails_with(1);
    assert!(refused.stderr.contains("no service named 'greeter'"), "{}", refused.stderr);
}
