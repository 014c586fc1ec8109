//! What is told as events: each denial with identity, service and rule, and what happens to sessions, grants, terminators and links.

use super::{
    ask,
    world::{DEADLINE, KEY, World, call},
};
use hesper_observe::events::{Begin, Follower};
use hesper_pki::{csr, key};
use hesper_proto::control::{BindRequest, RenewRequest, node_control_client::NodeControlClient};
use serde_json::{Value, json};
use std::collections::VecDeque;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;

/// What is told, line by line.
struct Told {
    follower: Follower,
    lines: VecDeque<Value>,
}

impl Told {
    fn from(world: &World, begin: Begin) -> Self {
        Self { follower: world.state.events.subscribe(begin), lines: VecDeque::new() }
    }

    /// The next event of this name.
    async fn next(&mut self, event: &str) -> Value {
        let mut before = Vec::new();
        let found = async {
            loop {
                while let Some(line) = self.lines.pop_front() {
                    if line["event"] == event {
                        return line;
                    }
                    before.push(line);
                }
                let batch = self.follower.next().await;
                assert_eq!(batch.missed, 0);
                self.lines
                    .extend(batch.events.iter().map(|r| serde_json::from_str::<Value>(&r.line).unwrap()));
            }
        };
        let found = timeout(DEADLINE, found).await.ok();
        found.unwrap_or_else(|| panic!("{event} is not told, only {before:?}"))
    }
}

/// Identity, its id, service, its id.
fn about(line: &Value) -> [Value; 4] {
    ["identity", "identityId", "service", "serviceId"].map(|name| line[name].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_denial_names_identity_service_and_rule() {
    let world = World::new().await;
    let (mut dialer, mut binder, _router) = world.hosted().await;
    let mut stranger = world.node("stranger").await;
    let mut client = NodeControlClient::new(world.channel());
    let other_key = key::generate().unwrap();
    let mut renewal = call("dialer", RenewRequest { csr_der: csr::make(&other_key).unwrap() });
    renewal.metadata_mut().insert(KEY, MetadataValue::from_static("key-of-dialer"));

    let known = |who: &str| [json!(format!("{who}-name")), json!(who), json!("s-name"), json!("s")];
    let cases = [
        ("dial", known("stranger"), "no Dial service-policy has both identity 'stranger-name'"),
        ("bind", known("dialer"), "no Bind service-policy has both identity 'dialer-name'"),
        (
            "dial",
            [json!("dialer-name"), json!("dialer"), json!("nothing"), Value::Null],
            "there is no service 'nothing'",
        ),
        (
            "bind",
            [json!("binder-name"), json!("binder"), json!("s-name"), json!("s")],
            "cost '70000' is not valid: a cost is 0 to 65535",
        ),
        (
            "renew",
            [json!("dialer-name"), json!("dialer"), json!("control"), Value::Null],
            "the request is for another key",
        ),
    ];
    for (n, (event, expected, rule)) in cases.into_iter().enumerate() {
        let mut told = Told::from(&world, Begin::Now);
        let message = match n {
            0 => stranger.dial(ask("s-name")).await.unwrap_err(),
            1 => dialer.bind("s", "").await.unwrap_err(),
            2 => dialer.dial(ask("nothing")).await.unwrap_err(),
            3 => {
                let dear = BindRequest { service: "s".into(), cost: Some(70_000), ..BindRequest::default() };
                client.bind(call("binder", dear)).await.unwrap_err()
            }
            _ => client
                .renew(std::mem::replace(&mut renewal, call("x", RenewRequest::default())))
                .await
                .unwrap_err(),
        };
        let line = told.next(event).await;
        assert_eq!((&line["outcome"], about(&line)), (&json!("denied"), expected), "{line}");
        assert!(line["rule"].as_str().is_some_and(|text| text.contains(rule)), "{rule}: {line}");
        assert!(line["code"].is_string() && !message.message().is_empty());
    }
    binder.bind("s", "again").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_grants_terminators_and_links_are_told() {
    let world = World::new().await;
    let mut told = Told::from(&world, Begin::Oldest);
    let (mut dialer, binder, router) = world.hosted().await;
    let line = told.next("router.online").await;
    assert_eq!((&line["identityId"], &line["namespace"]), (&json!("r1"), &json!("router")));
    let line = told.next("attach").await;
    assert_eq!((&line["outcome"], &line["resumed"]), (&json!("success"), &json!(false)));
    let line = told.next("terminator.created").await;
    assert_eq!(about(&line), ["binder-name", "binder", "s-name", "s"].map(Value::from));

    let answer = dialer.dial(ask("s")).await.unwrap();
    let line = told.next("dial").await;
    assert_eq!((&line["grant"], &line["outcome"]), (&json!(answer.grant_id), &json!("success")));
    world.delete_policy("dialer-Dial").await;
    let line = told.next("grant.revoked").await;
    assert_eq!(about(&line), ["dialer-name", "dialer", "s-name", "s"].map(Value::from));
    assert!(line["rule"].as_str().is_some_and(|rule| rule.contains("no Dial service-policy")), "{line}");
    assert_eq!((&line["binder"], &line["grants"]), (&json!("binder"), &json!(1)));

    world.disable("dialer").await;
    let line = told.next("session.ended").await;
    assert_eq!(
        (&line["identity"], &line["rule"]),
        (&json!("dialer-name"), &json!("identity 'dialer-name' is disabled"))
    );
    world.delete_policy("binder-Bind").await;
    let line = told.next("terminator.removed").await;
    assert!(line["rule"].as_str().is_some_and(|rule| rule.contains("no Bind service-policy")), "{line}");
    drop(binder);
    let line = told.next("detach").await;
    assert!(line["session"].is_string(), "{line}");

    let second = world.router("r2").await;
    router.report(false, &[("r2", 100)]).await;
    second.report(false, &[("r1", 100)]).await;
    let line = told.next("link.up").await;
    let mut ends = [&line["identityId"], &line["peerId"]].map(|end| end.as_str().unwrap().to_owned());
    ends.sort();
    assert_eq!(ends, ["r1", "r2"]);
    drop(second);
    let line = told.next("link.down").await;
    assert_eq!((&line["identityId"], &line["peerId"]), (&json!("r2"), &json!("r1")));
    let line = told.next("router.offline").await;
    assert_eq!(line["identityId"], "r2");
}
