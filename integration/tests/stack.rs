//! The ground of all other tests: the network starts, answers, and comes back from `kill -9` with everything it knew.

use hesper_integration::{Stack, StackOptions, sockets, wait_until};

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

#[test]
fn two_routers_behind_links_are_killed_started_and_drained_by_number() {
    let mut stack = StackOptions::default().routers(2).linked().start();
    let identity = stack.enroll("node", &[]);
    let node = stack.tunnel("node", &["host", "-i", &identity]);
    let attached = |part: &str| node.lines().iter().filter(|line| line.contains(part)).count();
    wait_until("the node is attached to both", Stack::PATIENCE, || attached(" attached router=") == 2);
    // The node at each, and one of the routers at the other.
    let clients = || (0..2).map(|router| stack.link_of(router).clients().len()).sum::<usize>();
    wait_until("all of them go through the links", Stack::PATIENCE, || clients() == 3);
    let addresses = [0, 1].map(|router| stack.router_address_of(router));
    assert_ne!(addresses[0], addresses[1]);

    stack.kill_router_of(1);
    wait_until("the node has noticed", Stack::PATIENCE, || attached("detached router=router2") == 1);
    stack.start_router_of(1);
    wait_until("it is back", Stack::PATIENCE, || attached(" attached router=router2") == 2);
    assert_eq!(stack.terminate_router_of(0).code(), Some(0), "drained");
    stack.start_router_of(0);
    let first = |line: &&String| line.ends_with(" attached router=router");
    wait_until("it is back", Stack::PATIENCE, || node.lines().iter().filter(first).count() == 2);
    assert_eq!([0, 1].map(|router| stack.router_address_of(router)), addresses);
}
