//! Two binders, two dialers, three services, and what the tests need of them.

use crate::{PATIENCE, forge::Forge, now, variants::Material};
use hesper_integration::{
    Process, Stack, free_port,
    hostile::{Ask, HostileNode},
    http, wait_until,
};
use hesper_overlay::peer::Peer;
use hesper_pki::token::{GrantClaims, Verifier};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};
use tokio::runtime::Runtime;

/// Gives back what it is sent, on loopback; counts connections.
fn echo(accepted: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            accepted.fetch_add(1, Relaxed);
            thread::spawn(move || io::copy(&mut &connection, &mut &connection));
        }
    });
    address
}

/// Two binders, two dialers, three services.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    mallory: HostileNode,
    alice: HostileNode,
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Each with the address of its metrics.
    binders: [(Process, String); 2],
    stack: Stack,
}

impl World {
    pub(crate) fn start() -> Self {
        let (stack, accepted) = (Stack::separate(), Arc::default());
        let files = ["binder", "elsewhere", "mallory", "alice"].map(|name| stack.enroll(name, &["any"]));
        let target = echo(Arc::clone(&accepted));
        for (service, host) in [("first", "@binder"), ("second", "@binder"), ("third", "@elsewhere")] {
            stack.publish(service, target, host);
            stack.allow("Dial", service, "#any");
        }
        let binders =
            [("binder", &files[0], 2), ("elsewhere", &files[1], 1)].map(|(name, file, services)| {
                let metrics = format!("127.0.0.1:{}", free_port());
                let process = stack.tunnel(name, &["host", "-i", file, "--metrics", &metrics]);
                let bound = || process.lines().iter().filter(|line| line.contains("service bound")).count();
                wait_until("it hosts", PATIENCE, || bound() == services);
                (process, format!("http://{metrics}/metrics"))
            });
        let runtime = Runtime::new().expect("a runtime");
        let [mallory, alice] = [&files[2], &files[3]].map(|file| runtime.block_on(HostileNode::start(file)));
        Self { runtime, mallory, alice, accepted, binders, stack }
    }

    /// What both binders say that they refused of this kind. Not every refusal is worth a line in the log.
    pub(crate) fn refused(&self, what: &str) -> usize {
        let counter = format!("hesper_node_refused_total{{what=\"{what}\"}} ");
        let of = |url: &str| {
            let told = http::get(url).expect("metrics").body;
            told.lines().find_map(|line| line.strip_prefix(&counter)?.parse().ok()).unwrap_or(0)
        };
        self.binders.iter().map(|(_, url)| of(url)).sum()
    }

    pub(crate) fn material(&self) -> Material {
        let forge = Forge::steal(&self.stack.path("controller/pki/tokens.key"));
        let grant = |node: &HostileNode, service| self.runtime.block_on(node.grant(service));
        let verifier = Verifier::new([(forge.kid.clone(), forge.public_key)]);
        let claims = |ask: &Ask| {
            let claims: GrantClaims = verifier.verify(&ask.grant, now()).expect("a grant");
            serde_json::to_value(claims).expect("JSON").as_object().cloned().expect("an object")
        };
        let honest = grant(&self.mallory, "first");
        let (own, others) = (Ask::from(&honest), Ask::from(&grant(&self.alice, "first")));
        let elsewhere = Ask::from(&grant(&self.mallory, "third"));
        let unused = self.stack.path("unused.jwt");
        self.stack.cli(["create", "identity", "unused", "-o", &unused]).ok();
        let foreign = vec![
            ("pass", honest.pass),
            ("session", self.mallory.session_token().to_owned()),
            ("enrollment", fs::read_to_string(unused).expect("a token")),
        ];
        Material {
            rng: StdRng::seed_from_u64(20_260_822),
            claims: claims(&own),
            others_claims: claims(&others),
            elsewhere_claims: claims(&elsewhere),
            second: Ask::from(&grant(&self.mallory, "second")),
            forge,
            own,
            elsewhere,
            others,
            foreign,
        }
    }

    pub(crate) fn peers(&self) -> [Peer; 3] {
        [(&self.mallory, "first"), (&self.mallory, "third"), (&self.alice, "first")].map(|(node, service)| {
            self.runtime.block_on(async { node.connect_by(&node.grant(service).await).await })
        })
    }
}
