//! The tables with pods as the API writes them, and what resources get from them.

mod enriching;
mod finding;

use crate::{
    pod::{Owner, Pod},
    processor::tests::settings,
    rules::Rules,
    table::{Object, Table},
};
use k8s_openapi::api::core::v1 as api;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Every attribute that a pod can say.
const ALL: &str = "extract: {metadata: [k8s.pod.name, k8s.pod.uid, k8s.pod.hostname, k8s.pod.start_time, k8s.namespace.name, \
                   k8s.node.name, k8s.replicaset.name, k8s.replicaset.uid, k8s.deployment.name, k8s.deployment.uid, \
                   k8s.statefulset.name, k8s.daemonset.name, k8s.job.name, k8s.cronjob.name, k8s.cronjob.uid, \
                   k8s.node.uid, k8s.cluster.uid]}";

/// A pod of the deployment `shop`.
fn shop(name: &str, ip: &str) -> Json {
    json!({
        "metadata": {
            "name": name, "namespace": "prod", "uid": format!("uid-{name}"), "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"pod-template-hash": "6d4cf56db6", "app.kubernetes.io/name": "cart", "team": "a"},
            "annotations": {"owner": "me"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6d4cf56db6",
                "uid": "uid-rs", "controller": true}]
        },
        "spec": {"nodeName": "node-7", "hostname": "h", "containers": [{"name": "web", "image": "reg:5000/web:1.2"}]},
        "status": {"podIP": ip, "podIPs": [{"ip": ip}], "startTime": "2026-01-02T03:04:06Z",
            "containerStatuses": [{"name": "web", "containerID": "containerd://c-1", "restartCount": 1, "ready": true,
                "image": "reg:5000/web:1.2", "imageID": "reg:5000/web@sha256:12"}]}
    })
}

fn owned(mut pod: Json, kind: &str, name: &str) -> Json {
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "x/v1", "kind": kind, "name": name, "uid": "uid-owner"}]);
    pod
}

fn read(pod: &Json, rules: &Rules) -> Pod {
    let pod: api::Pod = serde_json::from_value(pod.clone()).expect("a pod");
    Pod::read(&pod, rules).expect("a uid")
}

fn table(body: &str) -> Table {
    let settings = settings(&format!("{{{body}}}"));
    Table::new(Rules::new(&settings), settings.associations)
}

fn put(table: &mut Table, pod: &Json) -> bool {
    let pod = read(pod, table.rules());
    table.put_pod(pod)
}

fn object(uid: &str, name: &str, owner: Option<(&str, &str)>, labels: &[(&str, &str)]) -> Object {
    let owner = owner.map(|(kind, uid)| Owner { kind: kind.into(), uid: uid.into(), name: "above".into() });
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Object { uid: uid.into(), name: name.into(), owner, labels, annotations: BTreeMap::new() }
}
