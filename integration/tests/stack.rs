//! The ground of all other tests: the network starts, answers, and comes back from `kill -9` with everything it knew.

use hesper_integration::{Stack, sockets};

#[test]
fn quickstart_serves_on_two_ports_and_comes_back() {
    let mut stack = Stack::start();
    let identity = stack.enroll("node", &["scraped", "edge"]);
    assert!(std::path::Path::new(&identity).is_file());
    let (controller, router) = (stack.controller_address(), stack.router_address());
    let open: Vec<_> = sockets::of_process(stack.controller().pid())
        .into_iter()
        .filter(|socket| socket.open)
        .map(|socket| socket.local.to_string())
        .collect();
    for address in [&controller, &router] {
        assert!(open.contains(address), "{address} in {open:?}");
    }
    stack.kill();
    stack.start_both();
    assert_eq!((stack.controller_address(), stack.router_address()), (controller, router));
    let listed = stack.cli(["list", "identities", "-j", "name=\"node\""]).ok().json();
    assert_eq!(listed["data"][0]["name"], "node", "{listed}");
    assert_eq!(listed["data"][0]["roleAttributes"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn controller_and_router_are_killed_and_started_again_on_their_own() {
    let mut stack = Stack::separate();
    stack.cli(["create", "service", "metrics"]).ok();
    stack.kill_router();
    stack.kill_controller();
    assert_ne!(stack.cli(["list", "services"]).code, 0, "nobody answers");
    stack.start_controller();
    stack.start_router();
    let listed = stack.cli(["list", "services", "-j"]).ok().json();
    assert_eq!(listed["data"][0]["name"], "metrics", "{listed}");
}
