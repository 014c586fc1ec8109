mod properties;
mod senders;

use crate::{
    Change, Changed, Model, Request, advise, common_routers, decide, hints, routers, routers_for,
    services_for,
    terminators::{Candidate, choose, reaches},
    testing::*,
};
use hesper_model::{
    entity::{Kind, PolicyType, Precedence, TerminatorStrategy},
    id::TerminatorId,
};
use rand::{SeedableRng, rngs::StdRng};

fn dial(model: &Model, identity: &str, service: &str) -> (bool, String) {
    let decision =
        decide(model, &Request::Dial { identity: &identity_id(identity), service: &service_id(service) });
    (decision.is_allowed(), decision.rule.to_string())
}

fn bind(model: &Model, identity: &str, service: &str) -> (bool, String) {
    let decision =
        decide(model, &Request::Bind { identity: &identity_id(identity), service: &service_id(service) });
    (decision.is_allowed(), decision.rule.to_string())
}

fn use_router(model: &Model, identity: &str, service: Option<&str>, router: &str) -> (bool, String) {
    let service = service.map(service_id);
    let request = Request::UseRouter {
        identity: &identity_id(identity),
        service: service.as_ref(),
        router: &router_id(router),
    };
    let decision = decide(model, &request);
    (decision.is_allowed(), decision.rule.to_string())
}

#[test]
fn every_rule_and_its_text() {
    let m = model(|_| ());
    let off = model(|e| {
        e.identities[0].disabled = true;
        e.edge_routers[0].disabled = true;
    });
    let no_serp = model(|e| e.service_edge_router_policies.clear());
    for ((allowed, text), expected_allowed, expected) in [
        (dial(&m, "client", "svc"), true, "allowed by Dial service-policy 'dial' (dial-id)"),
        (bind(&m, "host", "svc"), true, "allowed by Bind service-policy 'bind' (bind-id)"),
        (dial(&m, "host", "svc"), false, "no Dial service-policy has both identity 'host' and service 'svc'"),
        (
            bind(&m, "client", "svc"),
            false,
            "no Bind service-policy has both identity 'client' and service 'svc'",
        ),
        (
            dial(&m, "client", "other"),
            false,
            "no Dial service-policy has both identity 'client' and service 'other'",
        ),
        (dial(&m, "nobody", "svc"), false, "there is no identity 'nobody-id'"),
        (dial(&m, "client", "nothing"), false, "there is no service 'nothing-id'"),
        (dial(&off, "client", "svc"), false, "identity 'client' is disabled"),
        (use_router(&m, "client", None, "r"), true, "allowed by edge-router-policy 'erp' (erp-id)"),
        (
            use_router(&m, "client", Some("svc"), "r"),
            true,
            "allowed by edge-router-policy 'erp' (erp-id) and service-edge-router-policy 'serp' (serp-id)",
        ),
        (
            use_router(&m, "client", None, "spare"),
            false,
            "no edge-router-policy has both identity 'client' and edge router 'spare'",
        ),
        (
            use_router(&no_serp, "client", Some("svc"), "r"),
            false,
            "no service-edge-router-policy has both service 'svc' and edge router 'r'",
        ),
        (use_router(&off, "host", None, "r"), false, "edge router 'r' is disabled"),
        (use_router(&off, "client", None, "r"), false, "identity 'client' is disabled"),
        (use_router(&m, "client", None, "nowhere"), false, "there is no edge router 'nowhere-id'"),
    ] {
        assert_eq!((allowed, text.as_str()), (expected_allowed, expected));
    }
}

#[test]
fn lists_agree_with_the_policies() {
    let m = model(|_| ());
    assert_eq!(services_for(&m, &identity_id("client")), [(service_id("svc"), true, false)]);
    assert_eq!(services_for(&m, &identity_id("host")), [(service_id("svc"), false, true)]);
    assert_eq!(services_for(&m, &identity_id("stranger")), []);
    assert_eq!(routers_for(&m, &identity_id("client")), [router_id("r")]);
    assert_eq!(routers_for(&m, &identity_id("stranger")), []);
    assert_eq!(common_routers(&m, &identity_id("client"), &service_id("svc")), [router_id("r")]);
    let off = model(|e| e.identities[0].disabled = true);
    assert_eq!(services_for(&off, &identity_id("client")), []);
    assert_eq!(routers_for(&off, &identity_id("client")), []);
}

fn ends(m: &Model) -> Result<routers::Ends, String> {
    routers::ends(m, &identity_id("client"), &identity_id("host"), &service_id("svc"))
        .map_err(|r| r.to_string())
}

/// The client has `r`, the host has `spare`, the service both.
fn apart() -> Model {
    model(|e| {
        e.edge_router_policies =
            vec![erp("a", &["@r-id"], &["#clients"]), erp("b", &["@spare-id"], &["#hosts"])];
    })
}

#[test]
fn each_end_needs_a_router_of_the_service_and_what_is_missing_is_named() {
    let r = || vec![router_id("r")];
    assert_eq!(ends(&model(|_| ())), Ok(routers::Ends { dialer: r(), host: r() }));
    assert_eq!(ends(&apart()), Ok(routers::Ends { dialer: r(), host: vec![router_id("spare")] }));
    for (m, expected) in [
        (
            model(|e| e.service_edge_router_policies.clear()),
            "no service-edge-router-policy gives service 'svc' an edge router",
        ),
        (
            model(|e| e.edge_router_policies = vec![erp("erp", &["#all"], &["#clients"])]),
            "no edge-router-policy gives identity 'host' an edge router",
        ),
        (
            model(|e| {
                e.edge_router_policies =
                    vec![erp("a", &["@r-id"], &["#clients"]), erp("b", &["@spare-id"], &["#hosts"])];
                e.service_edge_router_policies = vec![serp("s", &["@r-id"], &["#all"])];
            }),
            "identity 'host' and service 'svc' have no edge routers in common: adjust edge-router-policies or \
             service-edge-router-policies",
        ),
    ] {
        assert_eq!(ends(&m).expect_err(expected), expected);
    }
}

#[test]
fn ends_at_different_routers_are_no_fault() {
    let m = apart();
    for (identity, line) in [
        ("client", "OKAY : client (1) -> svc (2) Common Routers: (1/1) Dial: Y Bind: N "),
        ("host", "OKAY : host (1) -> svc (2) Common Routers: (1/1) Dial: N Bind: Y "),
    ] {
        let advice = advise(&m, &|_| true, &identity_id(identity), &service_id("svc")).expect("both exist");
        assert_eq!(advice.to_string(), line);
    }
    assert_eq!(hints::after_create_service(&m, &service_id("svc")), None);
}

#[test]
fn the_advisor_prints_the_line_and_each_of_its_sentences() {
    let line = |m: &Model, online: bool, identity: &str| {
        advise(m, &|_| online, &identity_id(identity), &service_id("svc")).expect("both exist").to_string()
    };
    let m = model(|_| ());
    assert_eq!(
        line(&m, true, "client"),
        "OKAY : client (1) -> svc (2) Common Routers: (1/1) Dial: Y Bind: N "
    );
    assert_eq!(line(&m, true, "host"), "OKAY : host (1) -> svc (2) Common Routers: (1/1) Dial: N Bind: Y ");
    assert_eq!(
        line(&m, false, "client"),
        "ERROR: client (1) -> svc (2) Common Routers: (0/1) Dial: Y Bind: N \n  - Common edge routers are all off-line. Bring \
         routers back on-line or adjust edge router policies and/or service edge router policies to increase common router \
         pool."
    );
    assert_eq!(
        line(&m, true, "stranger"),
        "ERROR: stranger (0) -> svc (2) Common Routers: (0/0) Dial: N Bind: N \n  - No access to service. Adjust service \
         policies.\n  - Identity has no edge routers assigned. Adjust edge router policies."
    );
    let no_serp = model(|e| e.service_edge_router_policies.clear());
    assert!(
        line(&no_serp, true, "client")
            .ends_with("\n  - Service has no edge routers assigned. Adjust service edge router policies.")
    );
    let apart = model(|e| e.service_edge_router_policies = vec![serp("s", &["@spare-id"], &["#all"])]);
    assert!(line(&apart, true, "client").ends_with(
        "\n  - Identity and services have no edge routers in common. Adjust edge router policies and/or service edge router \
         policies."
    ));
    let alone = advise::advise_identity(&m, &|_| true, &identity_id("stranger"));
    assert_eq!(
        alone[0].to_string(),
        "ERROR: stranger \n  - Identity does not have access to any services. Adjust service policies."
    );
    assert_eq!(advise::advise_service(&m, &|_| true, &service_id("svc")).len(), 2);
    let unused = advise::advise_service(&m, &|_| true, &service_id("other"));
    assert_eq!(
        unused[0].to_string(),
        "ERROR: other \n  - Service is not accessible by any identities. Adjust service policies."
    );
}

#[test]
fn hints_say_what_is_missing_until_nothing_is() {
    assert_eq!(hints::after_create_service(&model(|_| ()), &service_id("svc")), None);
    let hint = hints::after_create_service(&model(|_| ()), &service_id("other")).expect("no policies");
    assert!(hint.starts_with("before 'other' can be dialed it still needs a Bind policy"), "{hint}");
    assert!(hint.contains(" and a Dial policy") && !hint.contains('\n'), "{hint}");
    let no_serp = model(|e| e.service_edge_router_policies.clear());
    let hint = hints::after_create_service(&no_serp, &service_id("svc")).expect("no router");
    assert!(hint.contains("service-edge-router-policy"), "{hint}");
    let no_erp = model(|e| e.edge_router_policies = vec![erp("erp", &["#public"], &["#hosts"])]);
    let hint = hints::after_create_service(&no_erp, &service_id("svc")).expect("no router for the dialer");
    assert!(
        hint.ends_with(
            "an edge-router-policy that gives its dialer 'client' one of the service's edge routers"
        ),
        "{hint}"
    );
    let policy_hint =
        |m: &Model| hints::after_create_service_policy(m, &hesper_model::id::ServicePolicyId::new("dial-id"));
    assert_eq!(policy_hint(&model(|_| ())), None);
    let unbound = model(|e| e.service_policies.truncate(1));
    assert!(policy_hint(&unbound).expect("no Bind").contains("Bind policy"));
    let nobody = model(|e| e.identities.remove(0).disabled = true);
    assert!(policy_hint(&nobody).expect("no identity").contains("matches no identity"));
    let nothing = model(|e| e.services.clear());
    assert!(policy_hint(&nothing).expect("no service").contains("matches no service"));
}

#[test]
fn a_terminator_that_nobody_has_bound_is_said_to_stay_offline() {
    let hint = |session| {
        let mut t = terminator("t");
        t.session = session;
        let m = model(|e| e.terminators = vec![t]);
        hints::after_create_terminator(&m, &TerminatorId::new("t-id"))
    };
    let text = hint(None).expect("it cannot work");
    assert!(text.starts_with("this terminator stays offline") && text.ends_with("as 'host'"), "{text}");
    assert!(text.contains("'svc' a host.v1 config for tcp:localhost:80"), "{text}");
    assert_eq!(hint(Some(hesper_model::id::Tag([1; 8]))), None);
}

#[test]
fn changes_make_the_next_model_and_leave_the_old_one() {
    let before = model(|_| ());
    let mut renamed = identity("client", &["clients"]);
    renamed.name = "customer".into();
    let after = before.with(2, [renamed.into(), Change::Delete(Kind::ServicePolicy, "dial-id".into())]);
    assert_eq!((before.revision(), after.revision()), (1, 2));
    assert!(dial(&before, "client", "svc").0 && !dial(&after, "client", "svc").0);
    assert!(after.identity_by_name("client").is_none() && after.identity_by_name("customer").is_some());
    assert!(
        after.service_policy_by_name("dial").is_none() && before.service_policy_by_name("dial").is_some()
    );
    // Two swap a name: whoever holds it last keeps it.
    let mut thief = identity("host", &[]);
    thief.name = "customer".into();
    let mut victim = identity("client", &[]);
    victim.name = "host".into();
    let swapped = after.with(3, [thief.into(), victim.into()]);
    assert_eq!(swapped.identity_by_name("customer").map(|i| i.id.clone()), Some(identity_id("host")));
    assert_eq!(swapped.identity_by_name("host").map(|i| i.id.clone()), Some(identity_id("client")));
}

#[test]
fn a_change_concerns_whom_it_takes_something_from() {
    let before = model(|_| ());
    let delete = |kind, id: &str| Change::Delete(kind, id.to_owned());
    let mut renamed = identity("client", &["clients"]);
    renamed.name = "customer".into();
    let mut off = before.edge_router(&router_id("r")).expect("there").as_ref().clone();
    off.disabled = true;
    let mut moved = before.edge_router(&router_id("r")).expect("there").as_ref().clone();
    moved.addresses = vec!["elsewhere:1".into()];
    for (n, (change, stranger, client)) in [
        (delete(Kind::ServicePolicy, "dial-id"), false, true),
        (delete(Kind::ServicePolicy, "bind-id"), false, true),
        (delete(Kind::EdgeRouterPolicy, "erp-id"), false, true),
        (delete(Kind::ServiceEdgeRouterPolicy, "serp-id"), true, true),
        (delete(Kind::Service, "svc-id"), true, true),
        (delete(Kind::EdgeRouter, "r-id"), true, true),
        (off.into(), true, true),
        (moved.into(), false, false),
        (renamed.into(), false, false),
        (identity("client", &["others"]).into(), false, true),
        (service_policy("more", PolicyType::Dial, &["#all"], &["#all"]).into(), false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let after = before.with(2, [change]);
        let changed = Changed::between(&before, &after);
        let may_end = |dialer, host| {
            changed.may_end(&after, &identity_id(dialer), &service_id("svc"), &identity_id(host))
        };
        assert_eq!((n, may_end("stranger", "stranger"), may_end("client", "host")), (n, stranger, client));
        assert!(Changed::between(&after, &after).takes_nothing());
    }
}

fn candidate(id: &str, cost: u32, precedence: Precedence) -> Candidate {
    Candidate { id: TerminatorId::new(id), host: identity_id("h"), instance: String::new(), cost, precedence }
}

#[test]
fn terminators_are_chosen_by_precedence_then_strategy() {
    use Precedence::{Default, Failed, Required};
    use TerminatorStrategy::{Random, Smartrouting, Sticky, Weighted};
    let all = [
        candidate("a", 0, Default),
        candidate("b", 9, Required),
        candidate("c", 5, Required),
        candidate("f", 0, Failed),
    ];
    let counts = |strategy, sticky: Option<&str>| {
        let mut rng = StdRng::seed_from_u64(1);
        let sticky = sticky.map(TerminatorId::new);
        let mut n = [0; 4];
        for _ in 0..1_000 {
            n[choose(&all, strategy, sticky.as_ref(), &mut rng).expect("some")] += 1;
        }
        n
    };
    assert_eq!(counts(Smartrouting, None), [0, 0, 1_000, 0]);
    assert_eq!(counts(Sticky, None), [0, 0, 1_000, 0]);
    assert_eq!(counts(Sticky, Some("b")), [0, 1_000, 0, 0], "though it costs more");
    assert_eq!(counts(Sticky, Some("a")), [0, 0, 1_000, 0], "a better precedence is there");
    assert_eq!(counts(Sticky, Some("f")), [0, 0, 1_000, 0], "a failed one is not kept");
    let random = counts(Random, None);
    assert!(random[0] == 0 && random[3] == 0 && random[1] > 400 && random[2] > 400, "{random:?}");
    let weighted = counts(Weighted, None);
    assert!(weighted[1] + weighted[2] == 1_000 && weighted[2] > weighted[1], "{weighted:?}");
    assert_eq!(choose(&[], Random, None, &mut StdRng::seed_from_u64(1)), None);
    assert_eq!(
        choose(&all[3..], Smartrouting, None, &mut StdRng::seed_from_u64(1)),
        Some(0),
        "better than none"
    );
    assert!(
        reaches("", "x") && reaches("", "") && reaches("x", "x") && !reaches("x", "") && !reaches("x", "y")
    );
}

#[test]
fn a_decision_among_ten_thousand_identities_looks_at_policies_only() {
    let m = model(|e| {
        e.identities.extend((0..10_000).map(|n| identity(&format!("n{n}"), &["clients"])));
        e.service_policies
            .extend((0..100).map(|n| service_policy(&format!("p{n}"), PolicyType::Dial, &["#x"], &["#all"])));
    });
    assert!((0..10_000).all(|n| dial(&m, &format!("n{n}"), "svc").0));
}
