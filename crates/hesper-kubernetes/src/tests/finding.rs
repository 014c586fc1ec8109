//! Which pod is found by what, and for how long.

use super::{put, shop, table};
use crate::{
    association::identify,
    table::{GRACE, Table},
};
use hesper_telemetry::process::value::{attribute, text_value};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use serde_json::{Value as Json, json};
use std::{
    collections::HashSet,
    net::IpAddr,
    time::{Duration, Instant},
};

fn said(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    pairs.iter().map(|(key, value)| attribute(*key, text_value(*value))).collect()
}

fn found(table: &Table, pairs: &[(&str, &str)], peer: Option<&str>) -> Option<String> {
    let peer: Option<IpAddr> = peer.map(|ip| ip.parse().expect("an address"));
    let identifier = identify(table.associations(), &said(pairs), peer)?;
    table.pod(&identifier).map(|pod| pod.name.clone())
}

#[test]
fn without_associations_the_address_finds_the_pod() {
    let mut table = table("");
    assert!(put(&mut table, &shop("a", "10.0.0.1")));
    assert!(put(&mut table, &shop("b", "fd00::0002")));
    for (pairs, peer, expected) in [
        (&[][..], Some("10.0.0.1"), Some("a")),
        (&[], Some("::ffff:10.0.0.1"), Some("a")),
        (&[], Some("fd00::2"), Some("b")),
        (&[], Some("10.0.0.9"), None),
        (&[], None, None),
        // What the resource says comes first, also when it finds nothing.
        (&[("k8s.pod.ip", "fd00:0::2")], Some("10.0.0.1"), Some("b")),
        (&[("k8s.pod.ip", "10.9.9.9")], Some("10.0.0.1"), None),
        (&[("ip", "10.0.0.1")], None, Some("a")),
        (&[("host.name", "10.0.0.1")], None, Some("a")),
        (&[("host.name", "fd00::2")], Some("10.0.0.1"), Some("a")),
        (&[("host.name", "h")], None, None),
        (&[("k8s.pod.ip", "")], Some("10.0.0.1"), Some("a")),
    ] {
        assert_eq!(found(&table, pairs, peer).as_deref(), expected, "{pairs:?} {peer:?}");
    }
}

#[test]
fn the_first_association_that_yields_a_value_is_used() {
    let rules = "pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.uid}]}, {sources: [{from: \
                 resource_attribute, name: k8s.pod.name}, {from: resource_attribute, name: k8s.namespace.name}]}, {sources: \
                 [{from: resource_attribute, name: container.id}]}, {sources: [{from: resource_attribute, name: team}]}, \
                 {sources: [{from: connection}]}], extract: {metadata: [container.id], labels: [{tag_name: team, key: \
                 team}]}";
    let mut table = table(rules);
    put(&mut table, &shop("a", "10.0.0.1"));
    for (pairs, peer, expected) in [
        (&[("k8s.pod.uid", "uid-a")][..], None, Some("a")),
        (&[("k8s.pod.uid", "uid-x")], Some("10.0.0.1"), None),
        (&[("k8s.pod.name", "a"), ("k8s.namespace.name", "prod")], None, Some("a")),
        (&[("k8s.pod.name", "a"), ("k8s.namespace.name", "dev")], None, None),
        // Without the namespace the rule yields nothing: the next one is asked.
        (&[("k8s.pod.name", "a")], Some("10.0.0.1"), Some("a")),
        (&[("container.id", "c-1")], None, Some("a")),
        (&[("team", "a")], None, Some("a")),
        (&[], Some("10.0.0.1"), Some("a")),
        (&[], None, None),
    ] {
        assert_eq!(found(&table, pairs, peer).as_deref(), expected, "{pairs:?} {peer:?}");
    }
}

#[test]
fn pods_that_nobody_looks_at_are_not_found() {
    let mut table = table("exclude: {pods: [{name: ^noise}]}");
    let mut ignored = shop("a", "10.0.0.1");
    ignored["metadata"]["annotations"]["opentelemetry.io/k8s-processor/ignore"] = "true".into();
    let mut host = shop("c", "10.0.0.3");
    host["spec"]["hostNetwork"] = true.into();
    for pod in [ignored, shop("noise-1", "10.0.0.2"), host, shop("d", "10.0.0.4")] {
        put(&mut table, &pod);
    }
    for (ip, expected) in
        [("10.0.0.1", None), ("10.0.0.2", None), ("10.0.0.3", None), ("10.0.0.4", Some("d"))]
    {
        assert_eq!(found(&table, &[], Some(ip)).as_deref(), expected, "{ip}");
    }
}

fn started(mut pod: Json, second: u32) -> Json {
    pod["status"]["startTime"] = json!(format!("2026-01-02T03:05:{second:02}Z"));
    pod
}

#[test]
fn an_address_is_that_of_the_pod_that_was_started_last() {
    let mut table = table("");
    put(&mut table, &started(shop("old", "10.0.0.1"), 1));
    put(&mut table, &started(shop("new", "10.0.0.1"), 2));
    assert_eq!(found(&table, &[], Some("10.0.0.1")).as_deref(), Some("new"));
    // News of the old one come late.
    assert!(!put(&mut table, &started(shop("old", "10.0.0.1"), 1)), "it is known");
    assert_eq!(found(&table, &[], Some("10.0.0.1")).as_deref(), Some("new"));
    // The old one goes, the new one stays.
    let now = Instant::now();
    table.delete_pod("uid-old", now);
    table.expire(now + GRACE);
    assert_eq!(found(&table, &[], Some("10.0.0.1")).as_deref(), Some("new"));
    // The new one gets another address.
    put(&mut table, &started(shop("new", "10.0.0.2"), 2));
    assert_eq!(found(&table, &[], Some("10.0.0.1")), None);
    assert_eq!(found(&table, &[], Some("10.0.0.2")).as_deref(), Some("new"));
}

#[test]
fn a_deleted_pod_is_known_for_two_minutes() {
    let mut table = table("");
    let now = Instant::now();
    for name in ["a", "b", "c"] {
        put(&mut table, &shop(name, &format!("10.0.0.{}", name.len())));
    }
    assert!(table.delete_pod("uid-a", now));
    assert!(!table.delete_pod("uid-a", now), "once");
    assert!(!table.delete_pod("uid-x", now));
    table.expire(now + GRACE - Duration::from_millis(1));
    assert_eq!(table.pods(), 3);
    // One comes back, and is deleted again later.
    assert!(table.delete_pod("uid-b", now));
    put(&mut table, &shop("b", "10.0.0.1"));
    table.expire(now + GRACE);
    assert_eq!(table.pods(), 2, "a is gone");
    assert!(table.delete_pod("uid-b", now + GRACE));
    table.expire(now + GRACE + Duration::from_secs(1));
    assert_eq!(table.pods(), 2);
    // What a new list does not have was deleted.
    let there = HashSet::from(["uid-b".to_owned()]);
    assert_eq!(table.retain_pods(&there, now + GRACE), 1);
    table.expire(now + 2 * GRACE);
    assert_eq!(table.pods(), 0);
    assert_eq!(found(&table, &[], Some("10.0.0.1")), None);
}

#[test]
fn there_are_not_more_pods_than_so_many() {
    let mut table = table("").at_most(2);
    for name in ["a", "b", "c", "b"] {
        put(&mut table, &shop(name, "10.0.0.1"));
    }
    assert_eq!((table.pods(), table.refused()), (2, 1));
}
