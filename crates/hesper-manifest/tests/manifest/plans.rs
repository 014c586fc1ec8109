//! Plans: what is created, changed, deleted and left alone.

use crate::{controller::Controller, read, read_over, source, told};
use hesper_manifest::{Change, Manifest, Plan, render};
use hesper_model::entity::Kind;
use serde_json::json;

const SITE: &str = r##"
set: site
config-types:
  - name: alert.v1
    target: service
    schema: {type: object, properties: {level: {type: integer}}, additionalProperties: false}
configs:
  - {name: web.host, configType: host.v1, data: {protocol: tcp, address: 127.0.0.1, port: 9100}}
  - {name: web.alert, configType: alert.v1, data: {level: 3}}
identities:
  - {name: prometheus, roleAttributes: [scrapers], externalId: "42"}
  - {name: web-1, roleAttributes: [hosts, web], defaultHostingPrecedence: required}
edge-routers:
  - {name: r1, roleAttributes: [public], cost: 3}
services:
  - {name: metrics, configs: [web.host, web.alert], roleAttributes: [scrape], terminatorStrategy: weighted}
service-policies:
  - {name: dial, type: Dial, identityRoles: ["#scrapers"], serviceRoles: ["#scrape"]}
  - {name: bind, type: Bind, semantic: AllOf, identityRoles: ["#web", "#hosts", "@web-1"], serviceRoles: "@metrics"}
edge-router-policies:
  - {name: all, identityRoles: "#all", edgeRouterRoles: ["#public", "@r1"]}
service-edge-router-policies:
  - {name: all, serviceRoles: ["@metrics"], edgeRouterRoles: "#all"}
"##;

#[test]
fn a_second_apply_has_nothing_to_do_and_an_export_neither() {
    let mut controller = Controller::new();
    let plan = controller.apply(&read(SITE), false);
    assert_eq!(plan.counts(), (11, 0, 0));
    assert_eq!(controller.keys().len(), 11);
    let again =
        Plan::new(&read_over(SITE, &controller.snapshot()), &controller.snapshot(), true).expect("a plan");
    assert_eq!(again, Plan::default());
    let exported = render(&controller.snapshot());
    let manifest = read(&exported);
    assert_eq!(manifest.entities.len(), 11, "{exported}");
    assert_eq!(
        Plan::new(&manifest, &controller.snapshot(), true).expect("a plan"),
        Plan::default(),
        "{exported}"
    );
    assert!(exported.contains("set: site") && !exported.contains("disabled"), "{exported}");
    // And makes the same elsewhere.
    let mut other = Controller::new();
    other.apply(&manifest, false);
    assert_eq!(render(&other.snapshot()), exported);
}

#[test]
fn changes_are_told_field_by_field() {
    let mut controller = Controller::new();
    controller.apply(&read(SITE), false);
    let changed = SITE
        .replace("cost: 3", "cost: 4")
        .replace("roleAttributes: [scrapers], ", "")
        .replace("port: 9100", "port: 9101")
        .replace("[\"#public\", \"@r1\"]", "[\"@r1\"]");
    let plan = Plan::new(&read(&changed), &controller.snapshot(), false).expect("a plan");
    let told: Vec<_> = plan
        .changes
        .iter()
        .flat_map(|change| match change {
            Change::Update { key, fields, .. } => {
                fields.iter().map(|f| format!("{key} {} {} → {}", f.field, f.from, f.to)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"config 'web.host' data {"address":"127.0.0.1","port":9100,"protocol":"tcp"} → {"address":"127.0.0.1","port":9101,"protocol":"tcp"}"#,
            r#"identity 'prometheus' roleAttributes ["scrapers"] → []"#,
            "edge-router 'r1' cost 3 → 4",
            r##"edge-router-policy 'all' edgeRouterRoles ["#public","@r1"] → ["@r1"]"##,
        ]
    );
    controller.apply(&read(&changed), false);
    assert!(Plan::new(&read(&changed), &controller.snapshot(), false).expect("a plan").changes.is_empty());
}

#[test]
fn what_silence_must_not_undo_stays() {
    let mut controller = Controller::new();
    controller.apply(&read(SITE), false);
    controller.set(Kind::Identity, "prometheus", "disabled", json!(true));
    controller.set(Kind::Identity, "web-1", "externalId", json!("elsewhere"));
    controller.set(Kind::Service, "metrics", "tags", json!({"policySet": "site", "team": "a"}));
    assert!(Plan::new(&read(SITE), &controller.snapshot(), true).expect("a plan").changes.is_empty());
    // What is said, counts.
    let said = SITE.replace("externalId: \"42\"", "disabled: false, externalId: ~");
    let plan = controller.apply(&read(&said), false);
    assert_eq!(plan.counts(), (0, 1, 0));
    let said = SITE.replace("- {name: metrics,", "- {name: metrics, tags: {team: b},");
    controller.apply(&read(&said), false);
    let snapshot = controller.snapshot();
    let metrics = snapshot.entities.iter().find(|(k, _)| k.name == "metrics").expect("there").1;
    assert_eq!((metrics.set.as_deref(), &metrics.fields["tags"]), (Some("site"), &json!({"team": "b"})));
}

#[test]
fn pruning_deletes_only_what_the_set_made() {
    let mut controller = Controller::new();
    controller.apply(&read("identities: [{name: by-hand}, {name: kept}]\n"), false);
    controller.apply(&read("set: other\nservices: [{name: theirs}]\n"), false);
    controller.apply(&read(SITE), false);
    // Declared by the set, but not made by it.
    let adopted = SITE.replace("identities:", "identities:\n  - {name: by-hand}");
    assert!(controller.apply(&read(&adopted), true).changes.is_empty());

    let less =
        "set: site\nidentities: [{name: prometheus, roleAttributes: [scrapers], externalId: \"42\"}]\n";
    let plan = Plan::new(&read(less), &controller.snapshot(), false).expect("a plan");
    assert_eq!((plan.changes.len(), plan.left.len()), (0, 10));
    let plan = controller.apply(&read(less), true);
    assert_eq!(plan.counts(), (0, 0, 10));
    assert_eq!(
        controller.keys(),
        ["identity 'by-hand'", "identity 'kept'", "identity 'prometheus'", "service 'theirs'"]
    );
    assert!(controller.has(Kind::ConfigType, "host.v1"));
    // A set that declares nothing any more.
    assert_eq!(controller.apply(&read("set: other\n"), true).counts(), (0, 0, 1));
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is() {
    let mut controller = Controller::new();
    controller.apply(&read(SITE), false);
    controller.apply(
        &read_over("services: [{name: by-hand, configs: [web.host]}]\n", &controller.snapshot()),
        false,
    );
    for (text, prune, expected) in [
        (
            "set: mine\nservices: [{name: metrics}]\n",
            false,
            "f.yaml:2:12: service 'metrics' belongs to the set 'site', not to 'mine'",
        ),
        (
            "configs: [{name: web.alert, configType: scrape.v1, data: {}}]\n",
            false,
            "f.yaml:1:41: configType of config 'web.alert' cannot be changed; it is \"alert.v1\": give the new one another name",
        ),
        (
            "set: site\nservice-policies:\n  - {name: mine, type: Dial, serviceRoles: [\"@metrics\"]}\n",
            true,
            "f.yaml:3:45: service-policy 'mine' names service 'metrics', which would be pruned; declare service 'metrics' too",
        ),
        (
            "set: site\ntests: [{identity: prometheus, cannot-dial: \"#all\"}]\n",
            true,
            "f.yaml:2:20: a test names identity 'prometheus', which would be pruned",
        ),
        (
            "set: site\nidentities: [{name: x}]\n",
            true,
            "config 'web.host' would be pruned, but service 'by-hand', which no file declares, uses it",
        ),
    ] {
        let present = controller.snapshot();
        let manifest =
            Manifest::read(&source(text), Some(&present)).unwrap_or_else(|f| panic!("{}", told(&f)));
        let faults = told(&Plan::new(&manifest, &present, prune).expect_err(text));
        assert!(faults.contains(expected), "{faults}");
    }
}

#[test]
fn a_set_holds_for_the_documents_behind_it_and_files_may_have_several() {
    let manifest = read(
        "services: [{name: a}]\n---\nset: x\nservices: [{name: b}]\n---\nservices: [{name: c}]\n---\nset: y\n",
    );
    let sets: Vec<_> = manifest.entities.values().map(|d| d.set.as_deref()).collect();
    assert_eq!(sets, [None, Some("x"), Some("x")]);
    assert_eq!(manifest.sets.iter().collect::<Vec<_>>(), ["x", "y"]);
}
