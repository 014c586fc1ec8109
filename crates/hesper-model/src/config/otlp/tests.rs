use super::*;
use crate::{
    entity::{Precedence, Service, TerminatorStrategy},
    id::{IdentityId, ServiceId},
};
use proptest::prelude::*;
use std::collections::BTreeSet;
use time::OffsetDateTime;

const T: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn identity(name: &str, attributes: &[&str]) -> Identity {
    Identity {
        id: IdentityId::new(format!("{name}-id")),
        name: name.into(),
        type_: Default::default(),
        is_admin: false,
        permissions: Default::default(),
        role_attributes: attributes.iter().map(|a| (*a).to_owned()).collect(),
        disabled: false,
        default_hosting_cost: 0,
        default_hosting_precedence: Precedence::Default,
        external_id: None,
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

fn service() -> Service {
    Service {
        id: ServiceId::new("s-id"),
        name: "telemetry".into(),
        configs: BTreeSet::new(),
        role_attributes: BTreeSet::new(),
        terminator_strategy: TerminatorStrategy::default(),
        encryption_required: true,
        max_idle_time_millis: 0,
        tags: Default::default(),
        created_at: T,
        updated_at: T,
    }
}

fn config(data: &Value) -> OtlpV1 {
    assert_eq!(crate::config::validate(&schema(), data), Ok(()), "{data}");
    serde_json::from_value(data.clone()).expect("what the schema accepts can be read")
}

fn resolve(data: &Value, who: &Identity) -> SenderTerms {
    SenderTerms::resolve(("shop.otlp", &config(data)), &service(), who).expect("it fits a grant")
}

fn example() -> Value {
    json!({
        "gateways": ["#gateway", "@edge-1"],
        "rules": [
            {"identities": ["#edge"], "signals": ["traces", "logs"], "serviceNames": ["shop.*"],
                "itemsPerSecond": 1000, "burst": 5000, "bytesPerSecond": 1_000_000},
            {"identities": ["@edge-1", "@edge-2-id"], "signals": ["metrics"]},
            {"identities": ["#edge"], "serviceNames": ["db", "*.db"], "bytesPerSecond": 10.0, "burstBytes": 20},
            {"identities": ["#none"]}
        ]
    })
}

#[test]
fn roles_are_attributes_names_and_ids() {
    for (who, gateway, rules) in [
        (identity("edge-1", &["edge"]), true, 3),
        (identity("edge-2", &[]), false, 1),
        (identity("edge-3", &["gateway"]), true, 0),
        (identity("stranger", &["edge-1", "other"]), false, 0),
    ] {
        let terms = resolve(&example(), &who);
        assert_eq!((terms.gateway, terms.rules.map(|r| r.len())), (gateway, Some(rules)), "{}", who.name);
    }
    let all = json!({"gateways": ["#all"], "rules": [{"identities": ["#all"]}]});
    let terms = resolve(&all, &identity("any", &[]));
    assert!(terms.gateway && terms.rules.is_some_and(|rules| rules.len() == 1));
    let nobody = resolve(&json!({"rules": []}), &identity("any", &[]));
    assert_eq!(nobody.rules, Some(Vec::new()));
    assert_eq!(resolve(&json!({}), &identity("any", &[])).rules, None);
}

#[test]
fn decision_table() {
    use Signal::{Logs, Metrics, Profiles, Traces};
    type Row = (&'static str, &'static [&'static str], Signal, &'static [Option<&'static str>], Verdict);
    type Verdict = Result<&'static [usize], DeniedReason>;
    let table: &[Row] = &[
        ("edge-9", &["edge"], Traces, &[Some("shop.cart")], Ok(&[0])),
        ("edge-9", &["edge"], Logs, &[Some("shop.cart"), Some("shop.web")], Ok(&[0])),
        ("edge-9", &["edge"], Traces, &[Some("shop.cart"), Some("db")], Ok(&[0, 1])),
        ("edge-9", &["edge"], Profiles, &[Some("a.db")], Ok(&[1])),
        ("edge-9", &["edge"], Traces, &[], Ok(&[0])),
        ("edge-9", &["edge"], Traces, &[Some("shop.cart"), Some("shop")], Err(DeniedReason::ServiceName)),
        ("edge-9", &["edge"], Traces, &[None], Err(DeniedReason::ServiceName)),
        ("edge-9", &["edge"], Traces, &[Some("shop.cart"), None], Err(DeniedReason::ServiceName)),
        ("edge-9", &["edge"], Metrics, &[Some("shop.cart")], Err(DeniedReason::ServiceName)),
        // A rule without limits: nothing is charged.
        ("edge-1", &[], Metrics, &[None, Some("x")], Ok(&[])),
        ("edge-1", &[], Traces, &[Some("x")], Err(DeniedReason::Signal)),
        ("edge-1", &["edge"], Metrics, &[Some("db")], Ok(&[])),
        ("stranger", &[], Traces, &[Some("shop.cart")], Err(DeniedReason::NoRule)),
        ("stranger", &[], Traces, &[], Err(DeniedReason::NoRule)),
    ];
    for (who, attributes, signal, names, expected) in table {
        let decided = resolve(&example(), &identity(who, attributes)).decide(*signal, names.iter().copied());
        let charged = decided.map(|a| a.charges.iter().map(|c| c.rule).collect::<Vec<_>>());
        let expected = expected.map(<[usize]>::to_vec);
        assert_eq!(charged.map_err(|d| d.reason), expected, "{who} {signal} {names:?}");
    }
}

#[test]
fn without_rules_everything_may_be_sent() {
    for terms in [SenderTerms::default(), resolve(&json!({}), &identity("any", &[]))] {
        for signal in Signal::ALL {
            assert_eq!(terms.decide(signal, [None, Some("x")]), Ok(Allowed::default()));
            assert!(!terms.asks_for_names(signal));
        }
    }
}

#[test]
fn names_are_asked_for_where_a_rule_has_patterns() {
    let terms = resolve(&example(), &identity("edge-2", &[]));
    assert!(Signal::ALL.iter().all(|signal| !terms.asks_for_names(*signal)));
    let rules = json!({"rules": [{"identities": ["#all"], "signals": ["logs"], "serviceNames": ["a"]}, {"identities": ["#all"]}]});
    let terms = resolve(&rules, &identity("any", &[]));
    assert!(terms.asks_for_names(Signal::Logs) && !terms.asks_for_names(Signal::Traces));
}

#[test]
fn limits_have_a_burst_of_one_second_unless_given() {
    let terms = resolve(&example(), &identity("edge-9", &["edge"]));
    let allowed = terms.decide(Signal::Traces, [Some("shop.a"), Some("db")]).expect("allowed");
    let rate = |per_second, burst| Some(Rate { per_second, burst });
    let limits: Vec<_> = allowed.charges.iter().map(|c| (c.limits.items, c.limits.bytes)).collect();
    assert_eq!(limits, [(rate(1000, 5000), rate(1_000_000, 1_000_000)), (None, rate(10, 20))]);
}

#[test]
fn a_refusal_names_everybody_and_says_why() {
    let terms = resolve(&example(), &identity("edge-9", &["edge"]));
    let long = format!("evil\n{}", "x".repeat(500));
    let text = |name| terms.decide(Signal::Traces, [name]).expect_err("denied").to_string();
    assert_eq!(
        text(Some("web")),
        "identity 'edge-9' may not send traces of service.name \"web\" to service 'telemetry': no rule for this identity \
         and signal fits it; see config 'shop.otlp' of type otlp.v1"
    );
    assert!(text(None).contains("traces without a plain service.name"));
    let cut = text(Some(&long));
    assert!(cut.contains("\"evil\\nxxx") && cut.contains('…') && cut.len() < 400, "{cut}");
    let nobody = resolve(&example(), &identity("x", &[])).decide(Signal::Logs, []).expect_err("denied");
    assert_eq!(nobody.reason.code(), "no-rule");
    assert!(
        nobody.to_string().contains("may not send logs") && nobody.to_string().contains("no rule is for")
    );
}

#[test]
fn a_batch_has_a_bounded_number_of_names() {
    let terms = resolve(&example(), &identity("edge-9", &["edge"]));
    let names: Vec<_> = (0..=SERVICE_NAMES_MAX).map(|n| format!("shop.{n}")).collect();
    let same = names.iter().take(SERVICE_NAMES_MAX).chain(&names[..10]);
    assert!(terms.decide(Signal::Traces, same.map(|n| Some(n.as_str()))).is_ok());
    let denied = terms.decide(Signal::Traces, names.iter().map(|n| Some(n.as_str())));
    assert_eq!(denied.map_err(|d| d.reason), Err(DeniedReason::TooManyNames));
}

#[test]
fn terms_that_no_grant_can_hold_are_refused() {
    let rules = |count: usize, patterns: usize, length: usize| {
        let pattern = |n: usize| format!("{n:0length$}");
        let names: Vec<_> = (0..patterns).map(pattern).collect();
        let rule = |_| json!({"identities": ["#all"], "serviceNames": names});
        config(&json!({"rules": (0..count).map(rule).collect::<Vec<_>>()}))
    };
    let resolve = |config: &OtlpV1| SenderTerms::resolve(("c", config), &service(), &identity("any", &[]));
    assert!(resolve(&rules(1, PATTERNS_MAX, 128)).is_ok(), "any single rule can be granted");
    assert!(resolve(&rules(RULES_PER_SENDER_MAX, 1, 8)).is_ok());
    let many = resolve(&rules(RULES_PER_SENDER_MAX + 1, 1, 8)).expect_err("too many");
    assert_eq!(many, TermsError::TooManyRules(RULES_PER_SENDER_MAX + 1));
    let long = resolve(&rules(2, PATTERNS_MAX, 128)).expect_err("too long");
    assert!(
        matches!(long, TermsError::TooLong(len) if len > TERMS_LEN_MAX) && long.to_string().contains("4096")
    );
}

#[test]
fn terms_are_the_same_after_their_way_as_json() {
    for (who, attributes) in [("edge-1", &["edge"][..]), ("edge-3", &["gateway"]), ("stranger", &[])] {
        let terms = resolve(&example(), &identity(who, attributes));
        let text = serde_json::to_string(&terms).expect("JSON");
        assert_eq!(serde_json::from_str::<SenderTerms>(&text).expect("terms"), terms);
    }
    let text = serde_json::to_string(&resolve(&json!({}), &identity("a", &[]))).expect("JSON");
    assert_eq!(text, r#"{"config":"shop.otlp","service":"telemetry","identity":"a"}"#);
    // A restriction that this version does not know must not be overlooked.
    for unknown in [
        r#"{"config":"c","service":"s","identity":"i","rules":[{"attributes":["a"]}]}"#,
        r#"{"config":"c","service":"s","identity":"i","rules":[{"limits":{"spans":1}}]}"#,
        r#"{"config":"c","service":"s","identity":"i","until":1}"#,
    ] {
        assert!(serde_json::from_str::<SenderTerms>(unknown).is_err(), "{unknown}");
    }
}

const PATTERNS: [&str; 3] = ["a*", "*b", "*"];

proptest! {
    /// No rule ever forbids: one more at the end only lets more in.
    #[test]
    fn one_more_rule_takes_nothing(
        rules in prop::collection::vec((any::<bool>(), 0..4usize, 0..3usize), 0..5),
        signal in 0..4usize,
        names in prop::collection::vec(prop::option::of("[ab]{1,2}"), 0..4),
    ) {
        let made: Vec<_> = rules.iter().map(|(own, signal, patterns)| json!({
            "identities": [if *own { "#all" } else { "#nobody" }],
            "signals": [Signal::ALL[*signal]],
            "serviceNames": [PATTERNS[*patterns]],
        })).collect();
        let names = || names.iter().map(Option::as_deref);
        let mut allowed = false;
        for count in 0..=made.len() {
            let terms = resolve(&json!({"rules": made[..count]}), &identity("any", &[]));
            let now = terms.decide(Signal::ALL[signal], names()).is_ok();
            prop_assert!(now || !allowed);
            allowed = now;
        }
        let of_signal = rules.iter().filter(|(own, of, _)| *own && *of == signal);
        let fits = |name: &str, pattern: usize| match pattern { 0 => name.starts_with('a'), 1 => name.ends_with('b'), _ => true };
        let expected = of_signal.clone().count() > 0
            && names().all(|name| name.is_some_and(|name| of_signal.clone().any(|(.., pattern)| fits(name, *pattern))));
        prop_assert_eq!(allowed, expected);
    }
}
