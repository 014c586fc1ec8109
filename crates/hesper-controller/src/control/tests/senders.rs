//! What dialers may send: signed into their grants, and altered by ending those.

use super::{
    ask,
    world::{Node, World},
};
use crate::{
    control::{
        dial::{Dialer, route},
        issue::{Recipient, issue},
        testing::{config, mesh},
        unix_now,
    },
    state::Changes,
};
use hesper_model::{
    config::otlp::SenderTerms,
    entity::{Config, Identity, Service},
    id::IdentityId,
};
use hesper_pki::token::GrantClaims;
use hesper_proto::control::{DialRequest, DialResponse, Hosted, NodeReport, node_report};
use serde_json::{Value, json};
use tonic::Code;

fn rules(role: &str, signal: &str) -> Value {
    json!({"gateways": ["@dialer-name"], "rules": [{"identities": [role], "signals": [signal]}]})
}

impl World {
    /// Service `s` gets the config `s-otlp`, or that other data.
    async fn says(&self, data: Value) {
        let config = config("s-otlp", "otlp.v1", data);
        let mut changes = Changes::default();
        match self.state.get::<Config>("s-otlp") {
            Some(old) => changes.update(&old, &config),
            None => {
                changes.create(&config);
                let old = self.state.get::<Service>("s").expect("the service");
                let service = mesh().sending(json!({})).0.services.swap_remove(0);
                changes.update(&old, &service);
            }
        }
        self.state.commit(changes).await.expect("written");
    }

    async fn change_dialer(&self, change: impl FnOnce(&mut Identity)) {
        let old = self.state.get::<Identity>("dialer").expect("the dialer");
        let mut identity = old.entity.clone();
        change(&mut identity);
        let mut changes = Changes::default();
        changes.update(&old, &identity);
        self.state.commit(changes).await.expect("written");
    }

    fn claims(&self, answer: &DialResponse) -> GrantClaims {
        self.state.verifier().verify(&answer.grant, unix_now()).expect("a grant")
    }

    fn terms(&self, answer: &DialResponse) -> Option<SenderTerms> {
        self.claims(answer).otlp
    }
}

/// The grant of before ends at both; the next one is dialed.
async fn again(dialer: &mut Node, binder: &mut Node, before: &DialResponse) -> DialResponse {
    for revoked in [binder.revoked().await, dialer.revoked().await] {
        assert_eq!(revoked.grant_ids, std::slice::from_ref(&before.grant_id));
        assert!(revoked.reason.contains("otlp.v1 config has changed"), "{}", revoked.reason);
    }
    dialer.dial(ask("s")).await.expect("a dial")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_says_what_its_dialer_may_send_and_ends_when_that_changes() {
    let world = World::new().await;
    let (mut dialer, mut binder, _router) = world.hosted().await;
    let plain = dialer.dial(ask("s")).await.expect("a dial");
    let claims = world.claims(&plain);
    assert_eq!((claims.dialer_name.as_str(), claims.otlp), ("dialer-name", None));

    world.says(rules("#dialers", "traces")).await;
    let first = again(&mut dialer, &mut binder, &plain).await;
    let terms = world.terms(&first).expect("terms");
    assert_eq!((&*terms.config, &*terms.service, &*terms.identity), ("s-otlp", "s-name", "dialer-name"));
    assert!(terms.gateway && terms.rules.as_ref().is_some_and(|rules| rules.len() == 1), "{terms:?}");

    // Rules for others are nothing to this one.
    let mut more = rules("#dialers", "traces");
    more["rules"].as_array_mut().expect("rules").push(json!({"identities": ["#others"]}));
    world.says(more).await;
    world.says(rules("#dialers", "logs")).await;
    let second = again(&mut dialer, &mut binder, &first).await;
    assert_ne!(world.terms(&second), Some(terms));

    world.change_dialer(|identity| identity.role_attributes.clear()).await;
    let third = again(&mut dialer, &mut binder, &second).await;
    assert_eq!(world.terms(&third).and_then(|terms| terms.rules), Some(Vec::new()));

    world.change_dialer(|identity| identity.name = "renamed".into()).await;
    let fourth = again(&mut dialer, &mut binder, &third).await;
    let claims = world.claims(&fourth);
    assert_eq!((&*claims.dialer_name, &*claims.otlp.expect("terms").identity), ("renamed", "renamed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_decided_before_a_change_are_given_to_nobody() {
    let world = World::new().await;
    let (dialer, _binder, _router) = world.hosted().await;
    let old = world.state.model();
    let route = {
        let shared = world.state.control.lock();
        let identity = old.identity(&IdentityId::new("dialer")).expect("the dialer");
        let who = Dialer { identity, tag: dialer.tag() };
        let renewal = DialRequest { terminator_id: world.terminators()[0].clone(), ..ask("s") };
        route(&old, &shared.sessions, &who, &renewal, &|_| 0, &mut rand::rng()).expect("a route")
    };
    let to = Recipient { tag: dialer.tag(), spki_sha256: "key-of-dialer", name: "dialer-name" };
    world.says(rules("#dialers", "traces")).await;
    let refused = issue(&world.state, &old, &route, to).expect_err("everything may be sent, said the route");
    assert_eq!((refused.code, refused.passing), ("TERMS_CHANGED", true), "it is decided again at once");
    assert_eq!(world.state.control.lock().ledger.len(), 0, "what is not given out is not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn terms_that_fit_no_grant_are_refused_with_the_reason() {
    let world = World::new().await;
    let (mut dialer, mut binder, _router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.expect("a dial");
    let many: Vec<_> = (0..40).map(|_| json!({"identities": ["#dialers"]})).collect();
    world.says(json!({ "rules": many })).await;
    for revoked in [binder.revoked().await, dialer.revoked().await] {
        assert_eq!(revoked.grant_ids, std::slice::from_ref(&answer.grant_id));
    }
    let refused = dialer.dial(ask("s")).await.expect_err("too many rules");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused.message().contains("'s-otlp'") && refused.message().contains("40 of its rules"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_terms_end_a_grant_of_before_a_restart_when_it_is_reported() {
    let world = World::new().await;
    world.says(rules("#dialers", "traces")).await;
    let (mut dialer, binder, _router) = world.hosted().await;
    let answer = dialer.dial(ask("s")).await.expect("a dial");
    let token = binder.token().to_owned();
    drop((dialer, binder));
    let world = world.restart().await;
    let report = || {
        let hosted = node_report::Report::Hosted(Hosted { grants: vec![answer.grant.clone()] });
        NodeReport { report: Some(hosted) }
    };
    let binder = world.resume("binder", &token).await.expect("a watch");
    binder.reports.send(report()).await.expect("sent");
    world.until_here("it goes on", |c| c.lock().ledger.is_live(&answer.grant_id)).await;
    drop(binder);
    let world = world.restart().await;
    world.says(rules("#dialers", "logs")).await;
    let mut binder = world.resume("binder", &token).await.expect("a watch");
    binder.reports.send(report()).await.expect("sent");
    let revoked = binder.revoked().await;
    assert_eq!(revoked.grant_ids, [answer.grant_id]);
    assert!(revoked.reason.contains("otlp.v1 config has changed"), "{}", revoked.reason);
}
