//! Whatever is declared: applying it leaves nothing to do, exporting it says the same, and every step finds what it refers to.

use crate::{controller::Controller, read, read_over, source};
use hesper_manifest::{Manifest, Plan, World, render, run};
use proptest::{prelude::*, sample::subsequence};
use serde_json::{Map, Value, json};

const NAMES: [&str; 6] = ["a", "b c", "#c", "@d", "null", "\u{e9}\"\\"];
const ATTRIBUTES: [&str; 4] = ["x", "y z", "1.5", "true"];

fn attributes() -> impl Strategy<Value = Value> {
    subsequence(ATTRIBUTES.to_vec(), 0..=4).prop_map(|a| json!(a))
}

fn some<T: std::fmt::Debug + Clone + 'static>(
    s: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![Just(None), s.prop_map(Some)]
}

/// Roles that name only what is declared.
fn roles(names: Vec<&'static str>) -> impl Strategy<Value = Value> {
    let some = (subsequence(names.clone(), 0..=names.len()), subsequence(ATTRIBUTES.to_vec(), 0..=4));
    let mixed = some.prop_map(|(names, attributes)| {
        let names = names.into_iter().map(|n| format!("@{n}"));
        json!(names.chain(attributes.into_iter().map(|a| format!("#{a}"))).collect::<Vec<_>>())
    });
    prop_oneof![3 => mixed, 1 => Just(json!(["#all"]))]
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9f64..1e9).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ];
    let tree = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ -~]{1,6}", inner, 0..4).prop_map(|m| json!(m)),
        ]
    });
    prop::collection::btree_map(any::<String>().prop_filter("a key", |k| !k.is_empty()), tree, 0..4)
        .prop_map(|m| json!(m))
}

fn object(pairs: Vec<(&str, Option<Value>)>) -> Value {
    let pairs = pairs.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn named(name: &str, mut fields: Value) -> Value {
    fields["name"] = json!(name);
    fields
}

/// A whole declaration as JSON, which is YAML.
fn declaration() -> impl Strategy<Value = String> {
    let pick = || subsequence(NAMES.to_vec(), 0..=NAMES.len());
    (pick(), pick(), pick(), pick(), some(Just("s"))).prop_flat_map(
        |(identities, routers, configs, services, set)| {
            let identity =
                (attributes(), some(any::<bool>()), some(any::<u16>())).prop_map(|(a, admin, cost)| {
                    object(vec![
                        ("roleAttributes", Some(a)),
                        ("isAdmin", admin.map(Value::from)),
                        (
                            "permissions",
                            admin.map(|yes| {
                                serde_json::json!(if yes { vec!["telemetry.forward"] } else { vec![] })
                            }),
                        ),
                        ("defaultHostingCost", cost.map(Value::from)),
                    ])
                });
            let router = (attributes(), some(any::<bool>())).prop_map(|(a, off)| {
                object(vec![("roleAttributes", Some(a)), ("disabled", off.map(Value::from))])
            });
            let config = data().prop_map(|data| json!({ "configType": "any", "data": data }));
            let service =
                (attributes(), some(data()), subsequence(configs.clone(), 0..=configs.len().min(1)))
                    .prop_map(|(a, tags, configs)| {
                        object(vec![
                            ("roleAttributes", Some(a)),
                            ("tags", tags),
                            ("configs", Some(json!(configs))),
                        ])
                    });
            let policy = (roles(identities.clone()), roles(services.clone()), any::<bool>(), any::<bool>())
                .prop_map(|(i, s, dial, all)| {
                    let (type_, semantic) =
                        (if dial { "Dial" } else { "Bind" }, if all { "AllOf" } else { "AnyOf" });
                    json!({ "type": type_, "semantic": semantic, "identityRoles": i, "serviceRoles": s })
                });
            let erp = (roles(identities.clone()), roles(routers.clone()))
                .prop_map(|(i, r)| json!({ "identityRoles": i, "edgeRouterRoles": r }));
            let serp = (roles(services.clone()), roles(routers.clone()))
                .prop_map(|(s, r)| json!({ "serviceRoles": s, "edgeRouterRoles": r }));
            fn of<T: Strategy<Value = Value>>(
                names: Vec<&'static str>,
                one: T,
            ) -> impl Strategy<Value = Value> {
                let count = names.len();
                prop::collection::vec(one, count..=count)
                    .prop_map(move |list| list.into_iter().zip(&names).map(|(e, n)| named(n, e)).collect())
            }
            (
                of(identities, identity),
                of(routers, router),
                of(configs, config),
                of(services, service),
                of(vec!["p", "q"], policy),
                of(vec!["e"], erp),
                of(vec!["e"], serp),
            )
                .prop_map(
                    move |(identities, routers, configs, services, policies, erps, serps)| {
                        let mut document = json!({
                            "service-edge-router-policies": serps, "edge-router-policies": erps,
                            "service-policies": policies, "services": services, "configs": configs,
                            "edge-routers": routers, "identities": identities,
                            "config-types": [{"name": "any"}],
                            "tests": [{"identity": "#all", "cannot-use": "#all"}],
                        });
                        if let Some(set) = set {
                            document["set"] = json!(set);
                        }
                        document.to_string()
                    },
                )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_left_to_do_after_apply(first in declaration(), second in declaration(), prune: bool) {
        let mut controller = Controller::new();
        controller.apply(&read(&first), false);
        let manifest = read_over(&second, &controller.snapshot());
        // The other declaration may name what pruning would take away; then nothing is done at all.
        if let Ok(plan) = Plan::new(&manifest, &controller.snapshot(), prune) {
            let world = World::after(&controller.snapshot(), &plan);
            for change in &plan.changes {
                controller.make(change);
            }
            let present = controller.snapshot();
            prop_assert_eq!(&Plan::new(&manifest, &present, prune).expect("a plan").changes, &[]);
            prop_assert_eq!(&World::after(&present, &Plan::default()).model().is_ok(), &true);
            // What the tests were put to is what there is now.
            let told = |world: &World| run(&manifest, world).expect("a world");
            prop_assert_eq!(told(&world), told(&World::after(&present, &Plan::default())));
        }
    }

    #[test]
    fn an_export_declares_what_is_there(text in declaration()) {
        let mut controller = Controller::new();
        controller.apply(&read(&text), false);
        let present = controller.snapshot();
        let exported = render(&present);
        let manifest = match Manifest::read(&source(&exported), None) {
            Ok(manifest) => manifest,
            Err(faults) => return Err(TestCaseError::fail(format!("{}\n{exported}", crate::told(&faults)))),
        };
        prop_assert_eq!(&Plan::new(&manifest, &present, true).expect("a plan"), &Plan::default(), "{}", exported);
        let mut other = Controller::new();
        other.apply(&manifest, false);
        prop_assert_eq!(render(&other.snapshot()), exported);
    }

    #[test]
    fn no_text_is_too_strange(text in ".{0,200}", cut in 0usize..4000) {
        let _ = Manifest::read(&source(&text), None);
        let site: String = format!("{{\"services\": [{{\"name\": {text:?}}}]}}").chars().take(cut).collect();
        let _ = Manifest::read(&source(&site), None);
    }
}
