//! What dialers may send, and whom a change of it concerns.

use super::super::{Change, Changed, Model, Rule, sender_terms, testing::*};
use hesper_model::{
    config::OtlpV1,
    entity::{Config, Identity, Kind, Service},
    id::{ConfigId, ConfigTypeId},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;

fn config(name: &str, data: Value) -> Config {
    Config {
        id: ConfigId::new(id(name)),
        name: name.into(),
        config_type_id: ConfigTypeId::new(OtlpV1::NAME),
        data,
        tags: Default::default(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
    }
}

fn with_configs(name: &str, configs: &[&str]) -> Service {
    Service { configs: configs.iter().map(|c| ConfigId::new(id(c))).collect(), ..service(name, &["web"]) }
}

fn named(identity_: &str, name: &str, attributes: &[&str]) -> Identity {
    Identity { name: name.into(), ..identity(identity_, attributes) }
}

fn rules(identities: &str) -> Value {
    json!({"rules": [{"identities": [identities]}]})
}

/// `svc` has the config `c`.
fn guarded(data: Value) -> Model {
    model(|e| {
        e.configs = vec![config("c", data), config("unused", rules("#all"))];
        e.services[0] = with_configs("svc", &["c"]);
    })
}

fn terms(model: &Model, who: &str) -> Result<Option<(bool, Option<usize>)>, Rule> {
    let terms = sender_terms(model, &identity_id(who), &service_id("svc"))?;
    Ok(terms.map(|t| (t.gateway, t.rules.as_ref().map(Vec::len))))
}

#[test]
fn terms_are_of_the_dialer_and_of_the_services_config() {
    assert_eq!(terms(&model(|_| ()), "client"), Ok(None), "no config");
    let data = json!({"gateways": ["@host"], "rules": [{"identities": ["#clients", "@host-id"]}]});
    let m = guarded(data);
    assert_eq!(terms(&m, "client"), Ok(Some((false, Some(1)))));
    assert_eq!(terms(&m, "host"), Ok(Some((true, Some(1)))));
    assert_eq!(terms(&m, "stranger"), Ok(Some((false, Some(0)))));
    assert_eq!(terms(&guarded(json!({})), "stranger"), Ok(Some((false, None))));
    let of = sender_terms(&m, &identity_id("client"), &service_id("svc")).expect("terms").expect("a config");
    assert_eq!((&*of.config, &*of.service, &*of.identity), ("c", "svc", "client"));
    let disabled = m.with(2, [Identity { disabled: true, ..identity("client", &["clients"]) }.into()]);
    assert_eq!(terms(&disabled, "client"), Err(Rule::IdentityDisabled("client".into())));
}

#[test]
fn what_cannot_be_read_or_granted_is_no_gap() {
    let unreadable = terms(&guarded(json!({"rules": "all"})), "client").expect_err("unreadable");
    assert_eq!(unreadable.code(), "unusable-sender-terms");
    let text = unreadable.to_string();
    let expected =
        "the otlp.v1 config 'c' of service 'svc' cannot be granted to identity 'client': invalid type";
    assert!(text.starts_with(expected), "{text}");
    let many: Vec<_> = (0..40).map(|_| json!({"identities": ["#clients"]})).collect();
    let m = guarded(json!({"rules": many}));
    assert!(terms(&m, "client").expect_err("too many").to_string().contains("40 of its rules"));
    assert_eq!(terms(&m, "stranger"), Ok(Some((false, Some(0)))), "it is for others");
}

#[test]
fn a_change_concerns_whose_terms_it_alters() {
    let before = guarded(rules("#clients"));
    let delete = |kind, name: &str| Change::Delete(kind, id(name));
    for (n, (changes, concerned)) in [
        (vec![config("c", rules("#hosts")).into()], true),
        (vec![Config { name: "other".into(), ..config("c", rules("#clients")) }.into()], true),
        (vec![config("unused", rules("#hosts")).into()], false),
        (vec![delete(Kind::Config, "unused")], false),
        (vec![with_configs("svc", &[]).into()], true),
        (vec![with_configs("svc", &["unused"]).into()], true),
        (vec![with_configs("svc", &["c", "nothing"]).into()], false),
        (vec![Service { name: "other-name".into(), ..with_configs("svc", &["c"]) }.into()], true),
        (vec![with_configs("other", &["c"]).into()], false),
        (vec![identity("client", &["clients", "more"]).into()], true),
        (vec![named("client", "customer", &["clients"]).into()], true),
        (vec![named("stranger", "somebody", &[]).into()], false),
    ]
    .into_iter()
    .enumerate()
    {
        let after = before.with(2, changes);
        let changed = Changed::between(&before, &after);
        let (client, svc, host) = (identity_id("client"), service_id("svc"), identity_id("host"));
        assert_eq!((n, changed.may_end(&after, &client, &svc, &host)), (n, concerned));
        assert!(!concerned || !changed.takes_nothing(), "{n}");
        assert!(Changed::between(&after, &after).takes_nothing());
    }
    // Without such a config a name is nothing to the streams.
    let plain = model(|_| ());
    let after = plain.with(2, [named("client", "customer", &["clients"]).into()]);
    let changed = Changed::between(&plain, &after);
    assert!(!changed.may_end(&after, &identity_id("client"), &service_id("svc"), &identity_id("host")));
}

fn some_model() -> impl Strategy<Value = (Value, bool, &'static str, bool)> {
    let role = prop::sample::select(vec!["#clients", "#more", "@client", "@client-id", "@customer", "#all"]);
    let data = role.prop_flat_map(|role| {
        prop_oneof![
            Just(json!({})),
            Just(rules(role)),
            Just(json!({"gateways": [role]})),
            Just(json!({"rules": 1}))
        ]
    });
    (data, any::<bool>(), prop::sample::select(vec!["client", "customer"]), any::<bool>())
}

proptest! {
    #[test]
    fn no_change_of_terms_is_overlooked(one in some_model(), other in some_model()) {
        let change = |(data, attached, name, more): (Value, bool, &str, bool)| -> [Change; 3] {
            let attributes: &[&str] = if more { &["clients", "more"] } else { &["clients"] };
            let configs: &[&str] = if attached { &["c"] } else { &[] };
            [config("c", data).into(), with_configs("svc", configs).into(), named("client", name, attributes).into()]
        };
        let before = model(|_| ()).with(2, change(one));
        let (client, svc, host) = (identity_id("client"), service_id("svc"), identity_id("host"));
        let had = sender_terms(&before, &client, &svc);
        // What is equal stays the very same, as in the store.
        let differing = change(other).into_iter().filter(|change| match change {
            Change::Config(c) => before.config(&c.id).is_none_or(|there| **there != **c),
            Change::Service(s) => before.service(&s.id).is_none_or(|there| **there != **s),
            Change::Identity(i) => before.identity(&i.id).is_none_or(|there| **there != **i),
            _ => true,
        });
        let after = before.with(3, differing);
        let changed = Changed::between(&before, &after);
        prop_assert!(had == sender_terms(&after, &client, &svc) || changed.may_end(&after, &client, &svc, &host));
        prop_assert!(had == sender_terms(&after, &client, &svc) || !changed.takes_nothing());
    }
}
