//! Which terminator each dial of one node goes to, and how seldom the controller is asked for that.

use hesper_integration::{Stack, http, wait_until};
use hesper_sdk::{BindError, BindOptions, BindUpdate, Context, DialErrorKind, Listener};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    task::JoinHandle,
    time::timeout,
};

const PATIENCE: Duration = Stack::PATIENCE;

struct World {
    stack: Stack,
    runtime: Runtime,
}

impl World {
    /// One service for each strategy, which `#hosts` may bind and `#clients` may dial.
    fn new() -> Self {
        let stack = Stack::start();
        for strategy in ["smartrouting", "random", "weighted"] {
            let more = ["--terminator-strategy", strategy];
            stack.cli([&["create", "service", strategy], &more[..]].concat()).ok();
            stack.allow("Bind", strategy, "#hosts");
            stack.allow("Dial", strategy, "#clients");
        }
        Self { stack, runtime: Runtime::new().expect("a runtime") }
    }

    fn context(&self, name: &str, attributes: &[&str]) -> Context {
        let identity = self.stack.enroll(name, attributes);
        self.runtime.block_on(async {
            let ctx = Context::from_identity_file(Path::new(&identity)).expect("a context");
            ctx.ready(PATIENCE).await.expect("ready");
            ctx
        })
    }

    /// The value of a metric of the controller, summed over its labels.
    fn metric(&self, name: &str) -> f64 {
        let url = format!("https://{}/metrics", self.stack.controller_address());
        let page = http::curl(None, &["-k", &url]).expect("metrics").body;
        let named = page.lines().filter(|l| l.split(['{', ' ']).next().is_some_and(|n| n.ends_with(name)));
        let values: Vec<f64> = named.filter_map(|l| l.rsplit_once(' ')?.1.parse().ok()).collect();
        assert!(!values.is_empty(), "no metric {name}: {page}");
        values.iter().sum()
    }
}

/// A listener that answers each stream with its name, and counts them.
struct Host {
    streams: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
    updater: hesper_sdk::Updater,
}

impl Host {
    async fn bind(ctx: &Context, service: &str, instance: &str, cost: u16) -> Self {
        let options =
            BindOptions { instance: Some(instance.into()), cost: Some(cost), ..BindOptions::default() };
        let listener = ctx.bind_with(service, options).await.expect("bound");
        let (streams, updater) = (Arc::new(AtomicUsize::new(0)), listener.updater());
        let serving = tokio::spawn(serve(listener, streams.clone()));
        Self { streams, serving, updater }
    }

    fn streams(&self) -> usize {
        self.streams.load(SeqCst)
    }
}

async fn serve(mut listener: Listener, streams: Arc<AtomicUsize>) {
    while let Ok(incoming) = listener.accept().await {
        streams.fetch_add(1, SeqCst);
        tokio::spawn(async move {
            let Ok(mut stream) = incoming.into_stream().await else { return };
            let _ = stream.write_all(b"here").await;
            let _ = stream.shutdown().await;
        });
    }
}

async fn dial(client: &Context, service: &str) {
    let mut text = String::new();
    let mut stream = client.dial(service).await.expect("a stream");
    timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("in time").expect("an answer");
    assert_eq!(text, "here");
}

async fn hosted(client: &Context, service: &str, count: usize) {
    let mut state = client.state();
    let hosts = state.wait_for(|v| v.service(service).is_some_and(|s| s.hosts.len() == count));
    timeout(PATIENCE, hosts).await.expect("in time").expect("alive");
}

#[test]
fn the_dials_of_one_node_are_shared_as_the_strategy_says() {
    let world = World::new();
    let (host, client) = (world.context("host", &["hosts"]), world.context("client", &["clients"]));
    world.runtime.block_on(async {
        for (service, expected) in [("random", 430..=570), ("weighted", 680..=810)] {
            let near = Host::bind(&host, service, "near", 100).await;
            let far = Host::bind(&host, service, "far", 300).await;
            hosted(&client, service, 2).await;
            for _ in 0..1000 {
                dial(&client, service).await;
            }
            assert!(expected.contains(&near.streams()), "{service}: {} of 1000", near.streams());
            assert_eq!(near.streams() + far.streams(), 1000);
            // One that goes is drawn no more.
            near.serving.abort();
            hosted(&client, service, 1).await;
            for _ in 0..10 {
                dial(&client, service).await;
            }
            assert!(far.streams() >= 200, "{}", far.streams());
        }
    });
    let (grants, dials) = (world.metric("_grants"), world.metric("_dials_total"));
    assert!(grants <= 16.0 && dials <= 30.0, "{grants} grants, {dials} questions for 2020 dials");
}

#[test]
fn a_changed_cost_is_told_and_the_next_dial_goes_by_it() {
    let world = World::new();
    let (host, client) = (world.context("host", &["hosts"]), world.context("client", &["clients"]));
    world.runtime.block_on(async {
        let one = Host::bind(&host, "smartrouting", "one", 0).await;
        let two = Host::bind(&host, "smartrouting", "two", 500).await;
        hosted(&client, "smartrouting", 2).await;
        for _ in 0..50 {
            dial(&client, "smartrouting").await;
        }
        assert_eq!((one.streams(), two.streams()), (50, 0));
        let mut state = client.state();
        let choice = |v: &hesper_sdk::NodeView| v.service("smartrouting").map_or(0, |s| s.choice);
        let before = choice(&state.borrow());
        one.updater.update(BindUpdate { cost: Some(5000), ..BindUpdate::default() }).await.expect("updated");
        let told = timeout(PATIENCE, state.wait_for(|v| choice(v) != before)).await;
        drop(told.expect("in time").expect("alive"));
        for _ in 0..50 {
            dial(&client, "smartrouting").await;
        }
        assert_eq!((one.streams(), two.streams()), (50, 50));
    });
    assert!(world.metric("_dials_total") <= 6.0);
}

#[test]
fn a_node_does_not_dial_itself_is_renamed_and_refused() {
    let world = World::new();
    let both = world.context("both", &["hosts", "clients"]);
    let client = world.context("client", &["clients"]);
    let service = "smartrouting";
    world.runtime.block_on(async {
        let _host = Host::bind(&both, service, "here", 0).await;
        hosted(&both, service, 1).await;
        let own = both.dial(service).await.expect_err("no way leads from a node to itself");
        assert_eq!(own.kind(), DialErrorKind::Refused, "{own}");
        assert!(own.to_string().contains("this very node"), "{own}");
        hosted(&client, service, 1).await;
        dial(&client, service).await;
    });
    world.stack.cli(["update", "identity", "both", "-n", "renamed"]).ok();
    wait_until("both are told", PATIENCE, || {
        let seen = client.state().borrow().service(service).map(|s| s.hosts.clone()).unwrap_or_default();
        both.state().borrow().identity_name == "renamed" && seen.iter().all(|h| h.identity_name == "renamed")
    });
    world.runtime.block_on(async {
        let _host = Host::bind(&both, service, "renamed", 0).await;
        hosted(&client, service, 1).await;
        dial(&client, &format!("renamed@{service}")).await;
    });
    world.stack.cli(["update", "identity", "renamed", "--disabled"]).ok();
    wait_until("it is cut off", PATIENCE, || !both.state().borrow().connected);
    world.runtime.block_on(async {
        let refused = timeout(PATIENCE, both.bind(service)).await.expect("at once").expect_err("disabled");
        assert!(matches!(refused, BindError::Denied { .. }), "{refused:?}");
        assert!(refused.to_string().contains("disabled"), "{refused}");
    });
}
