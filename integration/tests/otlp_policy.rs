//! Who may send which telemetry: a service's `otlp.v1` config, as the program that binds the service is told of each of its dialers.

use hesper_integration::Stack;
use hesper_model::{config::otlp::DeniedReason, signal::Signal};
use hesper_sdk::{Context, Listener, SenderTerms, Stream, StreamError};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    time::timeout,
};

const PATIENCE: Duration = Stack::PATIENCE;
/// What is changed holds after a second; a machine with other things to do may take longer.
const SOON: Duration = Duration::from_secs(5);

const RULES: &str = r##"{
    "gateways": ["@edge-1"],
    "rules": [
        {"identities": ["#edge"], "signals": ["traces"], "serviceNames": ["shop.*"], "itemsPerSecond": 1000, "burst": 5000},
        {"identities": ["@edge-2"], "signals": ["logs"]}
    ]
}"##;

/// Service `telemetry`, bound by `centre`; `plain` too, which has no `otlp.v1` config. Everybody else may dial both.
struct World {
    stack: Stack,
    runtime: Runtime,
    centre: Context,
    telemetry: Listener,
    plain: Listener,
}

/// Both ends of a stream, and what the binder was told of the dialer.
struct Met {
    dialer: Stream,
    binder: Stream,
    name: String,
    terms: Option<Arc<SenderTerms>>,
}

impl World {
    fn start() -> Self {
        let (stack, runtime) = (Stack::start(), Runtime::new().expect("a runtime"));
        stack.cli(["create", "config", "telemetry.otlp", "otlp.v1", RULES]).ok();
        stack.cli(["create", "service", "telemetry", "--configs", "telemetry.otlp"]).ok();
        stack.cli(["create", "service", "plain"]).ok();
        let centre = stack.enroll("centre", &[]);
        for service in ["telemetry", "plain"] {
            stack.allow("Bind", service, "@centre");
            stack.allow("Dial", service, "#all");
        }
        let centre = ready(&runtime, &centre);
        let bound = |service: &str| runtime.block_on(centre.bind(service)).expect("bound");
        let (telemetry, plain) = (bound("telemetry"), bound("plain"));
        Self { stack, runtime, centre, telemetry, plain }
    }

    fn identity(&self, name: &str, attributes: &[&str]) -> Context {
        ready(&self.runtime, &self.stack.enroll(name, attributes))
    }

    fn meet(&mut self, dialer: &Context) -> Met {
        self.runtime.block_on(meet(dialer, &mut self.telemetry))
    }

    fn terms(&mut self, dialer: &Context) -> Arc<SenderTerms> {
        self.meet(dialer).terms.expect("the service has an otlp.v1 config")
    }

    fn says(&self, rules: &str) {
        self.stack.cli(["update", "config", "telemetry.otlp", "-d", rules]).ok();
    }
}

fn ready(runtime: &Runtime, identity: &str) -> Context {
    runtime.block_on(async {
        let ctx = Context::from_identity_file(Path::new(identity)).expect("a context");
        ctx.ready(PATIENCE).await.expect("ready");
        ctx
    })
}

async fn meet(dialer: &Context, listener: &mut Listener) -> Met {
    let service = listener.service().to_owned();
    let accept = async {
        let incoming = listener.accept().await.expect("a dial");
        let (name, terms) = (incoming.dialer_name().to_owned(), incoming.sender_terms());
        (name, terms, incoming.into_stream().await.expect("a stream"))
    };
    let (dialer, (name, terms, binder)) =
        timeout(PATIENCE, async { tokio::join!(dialer.dial(&service), accept) }).await.expect("in time");
    Met { dialer: dialer.expect("a stream"), binder, name, terms }
}

impl Met {
    /// Both ends learn that it was revoked.
    async fn ends_revoked(self) {
        for mut end in [self.binder, self.dialer] {
            let end = timeout(SOON, end.read_u8()).await.expect("it ends soon").expect_err("revoked");
            let reason = end.get_ref().and_then(|e| e.downcast_ref::<StreamError>());
            assert!(matches!(reason, Some(StreamError::Revoked)), "{end:?}");
        }
    }

    async fn goes_on(&mut self) {
        self.dialer.write_all(b"x").await.expect("it is open");
        assert_eq!(timeout(PATIENCE, self.binder.read_u8()).await.expect("in time").expect("open"), b'x');
    }
}

fn reason(terms: &SenderTerms, signal: Signal, name: Option<&str>) -> Option<DeniedReason> {
    terms.decide(signal, [name]).err().map(|denied| denied.reason)
}

#[test]
fn the_binder_learns_what_each_dialer_may_send_and_no_dialer_learns_the_rules() {
    let mut world = World::start();
    let edge_1 = world.identity("edge-1", &["edge"]);
    let edge_2 = world.identity("edge-2", &[]);
    let other = world.identity("other", &[]);

    let met = world.meet(&edge_1);
    let terms = met.terms.expect("terms");
    assert_eq!((met.name.as_str(), &*terms.identity, &*terms.service), ("edge-1", "edge-1", "telemetry"));
    assert!(terms.gateway);
    let allowed = terms.decide(Signal::Traces, [Some("shop.cart")]).expect("a rule allows it");
    let items = allowed.charges[0].limits.items.expect("a limit");
    assert_eq!((items.per_second, items.burst), (1000, 5000));
    assert_eq!(reason(&terms, Signal::Traces, Some("web")), Some(DeniedReason::ServiceName));
    assert_eq!(reason(&terms, Signal::Logs, Some("shop.cart")), Some(DeniedReason::Signal));

    let terms = world.terms(&edge_2);
    assert!(!terms.gateway);
    assert_eq!(reason(&terms, Signal::Logs, None), None);
    let terms = world.terms(&other);
    let denied = terms.decide(Signal::Logs, [None]).expect_err("no rule");
    assert_eq!(denied.reason, DeniedReason::NoRule);
    let text = denied.to_string();
    for name in ["'other'", "'telemetry'", "'telemetry.otlp'", "otlp.v1"] {
        assert!(text.contains(name), "{text}");
    }

    let plain = world.runtime.block_on(meet(&edge_1, &mut world.plain));
    assert_eq!((plain.name.as_str(), plain.terms), ("edge-1", None));
    for node in [&edge_1, &world.centre] {
        let view = node.state().borrow().clone();
        let service = view.service("telemetry").expect("it may use it");
        assert!(service.configs.is_empty(), "{:?}", service.configs);
    }
}

#[test]
fn a_change_of_what_may_be_sent_holds_at_once_for_whom_it_concerns() {
    let mut world = World::start();
    let (edge_1, edge_2) = (world.identity("edge-1", &["edge"]), world.identity("edge-2", &[]));
    let (first, mut other) = (world.meet(&edge_1), world.meet(&edge_2));
    let mut plain = world.runtime.block_on(meet(&edge_1, &mut world.plain));

    world.says(&RULES.replace(r#""traces""#, r#""metrics""#));
    world.runtime.block_on(first.ends_revoked());
    let second = world.meet(&edge_1);
    let terms = second.terms.clone().expect("terms");
    assert_eq!(reason(&terms, Signal::Metrics, Some("shop.cart")), None);
    assert_eq!(reason(&terms, Signal::Traces, Some("shop.cart")), Some(DeniedReason::Signal));

    world.stack.cli(["update", "identity", "edge-1", "-a", "retired"]).ok();
    world.runtime.block_on(second.ends_revoked());
    let third = world.meet(&edge_1);
    let terms = third.terms.clone().expect("terms");
    assert_eq!(reason(&terms, Signal::Metrics, Some("shop.cart")), Some(DeniedReason::NoRule));
    assert!(terms.gateway, "by its name");

    world.runtime.block_on(async {
        other.goes_on().await;
        plain.goes_on().await;
    });
    // Without the config everything may be sent, and all who were held to it come back so.
    world.stack.cli(["update", "service", "telemetry", "--configs", ""]).ok();
    world.runtime.block_on(async {
        third.ends_revoked().await;
        other.ends_revoked().await;
        plain.goes_on().await;
    });
    assert_eq!(world.meet(&edge_1).terms, None);
}

#[test]
fn an_identity_is_called_by_the_name_that_it_has() {
    let mut world = World::start();
    let edge = world.identity("edge-1", &["edge"]);
    let before = world.meet(&edge);
    let mut plain = world.runtime.block_on(meet(&edge, &mut world.plain));
    assert!(before.terms.as_ref().is_some_and(|terms| terms.gateway));

    world.stack.cli(["update", "identity", "edge-1", "-n", "edge-9"]).ok();
    world.runtime.block_on(before.ends_revoked());
    let after = world.meet(&edge);
    let terms = after.terms.expect("terms");
    assert_eq!((after.name.as_str(), &*terms.identity, terms.gateway), ("edge-9", "edge-9", false));
    world.runtime.block_on(plain.goes_on());
    assert_eq!(plain.name, "edge-1", "as when it was granted");
    // Another node of the same identity has no grant yet.
    let again = ready(&world.runtime, &world.stack.path("edge-1.json"));
    assert_eq!(world.runtime.block_on(meet(&again, &mut world.plain)).name, "edge-9");
}

#[test]
fn bad_rules_are_refused_where_they_are_written() {
    let stack = Stack::start();
    for (data, expected) in [
        (r#"{"rules":[{"identities":["edge"]}]}"#, "data.rules[0].identities[0]"),
        (r##"{"gateways":["#all","@a"]}"##, "data.gateways if using #all"),
        (
            r##"{"rules":[{"identities":["#all"]},{"identities":["#a"],"serviceNames":[""]}]}"##,
            "data.rules[1].serviceNames[0]",
        ),
        (
            r##"{"rules":[{"identities":["#a"],"signals":["spans"]}]}"##,
            "\"traces\", \"metrics\", \"logs\" or \"profiles\"",
        ),
        (r##"{"rules":[{"identities":["#a"],"itemsPerSecond":0}]}"##, "data.rules[0].itemsPerSecond"),
        (r##"{"rules":[{"identities":["#a"],"burst":1}]}"##, "itemsPerSecond"),
        (r#"{"rule":[]}"#, "\"rule\" is not known here"),
    ] {
        let refused = stack.cli(["create", "config", "bad", "otlp.v1", data]).fails_with(1).stderr;
        assert!(refused.contains(expected), "{data}: {refused}");
    }
    stack.cli(["create", "config", "good", "otlp.v1", RULES]).ok();
    let listed = stack.cli(["list", "configs"]).ok().stdout;
    assert!(listed.contains("good") && listed.contains("otlp.v1") && !listed.contains("bad"), "{listed}");
}
