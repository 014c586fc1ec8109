//! What is set on a resource.

use super::{ALL, object, owned, put, shop, table};
use crate::{
    enrich::{Outcome, enrich, pass},
    table::{Kind, Table},
};
use hesper_telemetry::process::value::{attribute, text_value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use std::{collections::BTreeMap, collections::HashSet, net::IpAddr};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

fn shown(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::ArrayValue(list)) => {
            format!("[{}]", list.values.iter().map(shown).collect::<Vec<_>>().join(","))
        }
        other => format!("{other:?}"),
    }
}

/// What a resource with these attributes has in the end, without the address that it always gets.
fn enriched(table: &Table, before: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut attributes: Vec<KeyValue> =
        before.iter().map(|(key, text)| attribute(*key, text_value(*text))).collect();
    assert_eq!(enrich(table, &mut attributes, Some(PEER)), Outcome::Found);
    let pairs =
        attributes.iter().map(|pair| (pair.key.clone(), shown(pair.value.as_ref().expect("a value"))));
    let mut all: BTreeMap<String, String> = pairs.collect();
    assert_eq!(all.len(), attributes.len(), "no key twice");
    assert_eq!(all.remove("k8s.pod.ip").as_deref(), Some("10.0.0.1"));
    all
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_defaults_are_six_attributes() {
    let mut table = table("");
    put(&mut table, &shop("a", "10.0.0.1"));
    let expected = map(&[
        ("k8s.deployment.name", "shop"),
        ("k8s.namespace.name", "prod"),
        ("k8s.node.name", "node-7"),
        ("k8s.pod.name", "a"),
        ("k8s.pod.start_time", "2026-01-02T03:04:05Z"),
        ("k8s.pod.uid", "uid-a"),
    ]);
    assert_eq!(enriched(&table, &[]), expected);
}

#[test]
fn what_is_there_is_not_overwritten_unless_it_is_empty() {
    let mut table = table("extract: {metadata: [k8s.pod.name, k8s.pod.uid]}");
    put(&mut table, &shop("a", "10.0.0.1"));
    let before = [("k8s.pod.name", "mine"), ("k8s.pod.uid", ""), ("other", "x")];
    let expected = map(&[("k8s.pod.name", "mine"), ("k8s.pod.uid", "uid-a"), ("other", "x")]);
    assert_eq!(enriched(&table, &before), expected);
}

#[test]
fn a_pod_belongs_to_something() {
    let own = |pod| {
        let mut table = table(ALL);
        put(&mut table, &pod);
        let all = enriched(&table, &[]);
        let names = ["replicaset", "deployment", "statefulset", "daemonset", "job", "cronjob"];
        let name = |kind: &&str| all.get(&format!("k8s.{kind}.name")).map(|name| format!("{kind} {name}"));
        names.iter().filter_map(name).collect::<Vec<_>>()
    };
    let pod = || shop("a", "10.0.0.1");
    let mut alone = pod();
    alone["metadata"]["labels"] = serde_json::json!({});
    for (pod, expected) in [
        (pod(), vec!["replicaset shop-6d4cf56db6", "deployment shop"]),
        // A replica set of nobody gives its pods no hash.
        (alone, vec!["replicaset shop-6d4cf56db6"]),
        (owned(pod(), "StatefulSet", "db-2"), vec!["statefulset db-2"]),
        (owned(pod(), "DaemonSet", "agent"), vec!["daemonset agent"]),
        (owned(pod(), "Job", "nightly-28000123"), vec!["job nightly-28000123", "cronjob nightly"]),
        (owned(pod(), "Job", "once"), vec!["job once"]),
        (owned(pod(), "Rollout", "shop"), vec![]),
    ] {
        assert_eq!(own(pod), expected);
    }
    let mut by_name = table("extract: {deployment_name_from_replicaset: true}");
    let mut pod = pod();
    pod["metadata"]["labels"] = serde_json::json!({});
    put(&mut by_name, &pod);
    assert_eq!(enriched(&by_name, &[]).get("k8s.deployment.name").map(String::as_str), Some("shop"));
}

#[test]
fn what_is_above_the_owner_comes_from_other_objects() {
    let body = "extract: {metadata: [k8s.deployment.uid, k8s.cronjob.uid, k8s.node.uid, k8s.cluster.uid], labels: [{key: \
                tier, from: namespace, tag_name: ns.tier}, {key: zone, from: node}, {key: team, from: deployment}, {key: \
                x, from: job, tag_name: job.x}]}";
    let mut table = table(body);
    put(&mut table, &shop("a", "10.0.0.1"));
    assert_eq!(enriched(&table, &[]), map(&[]), "nothing is known of them yet");
    table.put(Kind::ReplicaSet, object("uid-rs", "shop-6d4cf56db6", Some(("Deployment", "uid-d")), &[]));
    table.put(Kind::Deployment, object("uid-d", "shop", None, &[("team", "a")]));
    table.put(Kind::Namespace, object("uid-ns", "prod", None, &[("tier", "1")]));
    table.put(Kind::Namespace, object("uid-cluster", "kube-system", None, &[]));
    table.put(Kind::Node, object("uid-node", "node-7", None, &[("zone", "z")]));
    let expected = map(&[
        ("k8s.cluster.uid", "uid-cluster"),
        ("k8s.deployment.uid", "uid-d"),
        ("k8s.deployment.label.team", "a"),
        ("k8s.node.labels.zone", "z"),
        ("k8s.node.uid", "uid-node"),
        ("ns.tier", "1"),
    ]);
    assert_eq!(enriched(&table, &[]), expected);
    // A resource that names them gets theirs, too.
    let mut attributes = vec![attribute("k8s.namespace.name", text_value("prod"))];
    assert_eq!(enrich(&table, &mut attributes, None), Outcome::Unknown);
    assert!(attributes.iter().any(|pair| pair.key == "ns.tier"));
    // They go again.
    table.retain(Kind::Namespace, &HashSet::from(["uid-cluster".to_owned()]));
    table.delete(Kind::Node, "uid-node");
    table.delete(Kind::Deployment, "uid-d");
    let left = map(&[("k8s.cluster.uid", "uid-cluster"), ("k8s.deployment.uid", "uid-d")]);
    assert_eq!(enriched(&table, &[]), left);
    put(&mut table, &owned(shop("a", "10.0.0.1"), "Job", "nightly-1"));
    table.put(Kind::Job, object("uid-owner", "nightly-1", Some(("CronJob", "uid-cron")), &[("x", "y")]));
    let found = enriched(&table, &[]);
    assert_eq!(found["k8s.cronjob.uid"], "uid-cron");
    assert_eq!(found["job.x"], "y");
}

#[test]
fn containers() {
    let body = "extract: {metadata: [container.id, container.image.name, container.image.tag, container.image.tags, \
                container.image.repo_digests, k8s.container.name, service.instance.id, service.version]}";
    let mut table = table(body);
    put(&mut table, &shop("a", "10.0.0.1"));
    let web = map(&[
        ("container.id", "c-1"),
        ("container.image.name", "reg:5000/web"),
        ("container.image.repo_digests", "[reg:5000/web@sha256:12]"),
        ("container.image.tag", "1.2"),
        ("container.image.tags", "[1.2]"),
        ("k8s.container.name", "web"),
        ("service.instance.id", "prod.a.web"),
        ("service.version", "1.2"),
    ]);
    assert_eq!(enriched(&table, &[]), web, "the only one");
    let mut two = shop("a", "10.0.0.1");
    let containers = two["spec"]["containers"].as_array_mut().expect("a list");
    containers.push(serde_json::json!({"name": "side", "image": "side"}));
    put(&mut table, &two);
    assert_eq!(enriched(&table, &[]), map(&[]), "which of them?");
    assert_eq!(enriched(&table, &[("k8s.container.name", "web")]), web);
    assert_eq!(enriched(&table, &[("container.id", "c-1")]), web);
    assert_eq!(enriched(&table, &[("k8s.container.name", "side")])["container.image.tag"], "latest");
    let other_run = enriched(&table, &[("k8s.container.name", "web"), ("k8s.container.restart_count", "0")]);
    assert_eq!(other_run.get("container.id"), None);
}

#[test]
fn services_are_named_by_labels_then_owners() {
    let mut table = table("extract: {metadata: [service.name, service.namespace, service.version]}");
    let mut pod = shop("a", "10.0.0.1");
    put(&mut table, &pod);
    let service = map(&[("service.name", "cart"), ("service.namespace", "prod"), ("service.version", "1.2")]);
    assert_eq!(enriched(&table, &[]), service);
    pod["metadata"]["labels"]["app.kubernetes.io/instance"] = "cart-eu".into();
    pod["metadata"]["labels"]["app.kubernetes.io/version"] = "7".into();
    put(&mut table, &pod);
    assert_eq!(enriched(&table, &[])["service.name"], "cart-eu");
    assert_eq!(enriched(&table, &[])["service.version"], "7");
    pod["metadata"]["labels"] = serde_json::json!({"pod-template-hash": "6d4cf56db6"});
    put(&mut table, &pod);
    assert_eq!(enriched(&table, &[])["service.name"], "shop");
    assert_eq!(enriched(&table, &[("service.name", "mine")])["service.name"], "mine");
}

#[test]
fn only_the_address_is_noted_in_passing() {
    let table = table("passthrough: true");
    let mut attributes = Vec::new();
    pass(&table, &mut attributes, Some(PEER));
    assert_eq!(attributes, [attribute("k8s.pod.ip", text_value("10.0.0.1"))]);
    let mut said = vec![attribute("k8s.pod.ip", text_value("10.9.9.9"))];
    pass(&table, &mut said, Some(PEER));
    assert_eq!(said, [attribute("k8s.pod.ip", text_value("10.9.9.9"))]);
}

#[test]
fn a_pod_that_is_not_known_is_missed() {
    let mut attributes = Vec::new();
    assert_eq!(enrich(&table(""), &mut attributes, Some(PEER)), Outcome::Missed);
    assert_eq!(attributes, [attribute("k8s.pod.ip", text_value("10.0.0.1"))], "another gateway may know it");
}
