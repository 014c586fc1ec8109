//! A controller, and in this process two routers that only their link joins, a client at the one and a host at the other.

use crate::recorder::Recorder;
use hesper_integration::{Stack, StackOptions, wait_until};
use hesper_router::{Router, RunOptions as RouterOptions, Running as RunningRouter};
use hesper_sdk::Context;
use hesper_tunnel::run::{RunOptions, Running, start};
use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
};
use tokio::{net::TcpListener, runtime::Runtime};

pub(crate) struct World {
    pub(crate) client: Context,
    /// What is hosted as `tcp`, by a tunneler.
    pub(crate) target: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) proxy: SocketAddr,
    _udp: UdpSocket,
    _tunnels: [Running; 2],
    _routers: Vec<RunningRouter>,
    pub(crate) runtime: Runtime,
    _stack: Stack,
}

impl World {
    /// The target answers nothing by itself: the test accepts its connections.
    pub(crate) fn start() -> (Self, TcpListener) {
        Recorder::get();
        let stack = StackOptions::default().routers(0).without_router_policies().start();
        let runtime = Runtime::new().expect("a runtime");
        let (host, client) = (stack.enroll("host", &[]), stack.enroll("client", &[]));
        let routers = ["near", "far"].map(|name| router(&stack, &runtime, name));
        for (identity, router) in [("client", "near"), ("host", "far")] {
            let roles =
                ["--identity-roles", &format!("@{identity}"), "--edge-router-roles", &format!("@{router}")];
            stack.cli([&["create", "edge-router-policy", identity], &roles[..]].concat()).ok();
        }
        let all = ["--edge-router-roles", "#all", "--service-roles", "#all"];
        stack.cli([&["create", "service-edge-router-policy", "all"], &all[..]].concat()).ok();
        let target = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = target.local_addr().expect("address");
        for service in ["tcp", "closed"] {
            let port = if service == "tcp" { address.port() } else { closed_port() };
            stack.publish(service, SocketAddr::new(address.ip(), port), "@host");
            stack.allow("Dial", service, "@client");
        }
        let (_udp, udp) = publish_udp(&stack);
        let contexts = [client, host].map(|identity| {
            let _guard = runtime.enter();
            Context::from_identity_file(Path::new(&identity)).expect("a context")
        });
        let tunnels = contexts.clone().map(|ctx| {
            runtime.block_on(async {
                ctx.ready(Stack::PATIENCE).await.expect("ready");
                let options =
                    RunOptions { proxy: "127.0.0.1:0".parse().expect("address"), ..RunOptions::default() };
                start(ctx, options).await.expect("a tunneler")
            })
        });
        let [client, _] = contexts;
        let state = client.state();
        wait_until("all is hosted", Stack::PATIENCE, || {
            let view = state.borrow();
            view.services.len() == 3 && view.services.iter().all(|service| !service.hosts.is_empty())
        });
        wait_until("the routers are linked", Stack::PATIENCE, || {
            routers.iter().all(|router| {
                let page = router.registry().encode();
                page.lines().any(|line| line.trim() == "hesper_router_links 1")
            })
        });
        let proxy = tunnels[0].proxy_addr;
        let _routers = routers.into_iter().collect();
        let world = Self {
            client,
            target: address,
            udp,
            proxy,
            _udp,
            _tunnels: tunnels,
            _routers,
            runtime,
            _stack: stack,
        };
        (world, target)
    }
}

fn router(stack: &Stack, runtime: &Runtime, name: &str) -> RunningRouter {
    let (token, home) = (stack.path(&format!("{name}.jwt")), stack.path(name));
    stack.cli(["create", "edge-router", name, "-o", &token]).ok();
    stack.cli(["router", "enroll", &token, "--home", &home]).ok();
    let options = RouterOptions::new("127.0.0.1:0".parse().expect("address"));
    runtime.block_on(Router::start(Path::new(&home), options)).expect("a router")
}

/// A service over UDP; its target takes what comes.
fn publish_udp(stack: &Stack) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("address");
    let config = format!(r#"{{"protocol":"udp","address":"127.0.0.1","port":{}}}"#, address.port());
    stack.cli(["create", "config", "udp.host", "host.v1", &config]).ok();
    stack.cli(["create", "service", "udp", "--configs", "udp.host"]).ok();
    stack.allow("Bind", "udp", "@host");
    stack.allow("Dial", "udp", "@client");
    (socket, address)
}

/// Nobody listens there.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}
