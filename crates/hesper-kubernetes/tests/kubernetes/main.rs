//! The processor against an API of Kubernetes that speaks HTTP: lists, watches, errors, silence.

mod fake;

use fake::Fake;
use hesper_collector_config::{
    load,
    processors::{K8sAttributes, Processor as Settings},
};
use hesper_kubernetes::{Access, Counted, KubernetesAttributes, StartError};
use hesper_otlp::{Batch, Signal, json};
use hesper_telemetry::{
    origin::Origin,
    process::{Processor, Work},
};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, time::Duration};

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

fn settings(body: &str) -> K8sAttributes {
    let base = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {debug: }\n\
                service: {pipelines: {traces: {receivers: [otlp], exporters: [debug]}}}\n";
    let text = format!("processors: {{k8sattributes: {{auth_type: kubeConfig, {body}}}}}");
    let env = |name: &str| (name == "KUBE_NODE_NAME").then(|| "node-7".to_owned());
    let (config, _) = load(&[("base.yaml", base), ("f.yaml", &text)], &env).expect("a configuration");
    match config.processors.into_values().next().map(|processor| processor.settings) {
        Some(Settings::K8sAttributes(settings)) => *settings,
        other => panic!("{other:?}"),
    }
}

async fn start(fake: &Fake, body: &str) -> Result<KubernetesAttributes, StartError> {
    let access = Access { kubeconfig: Some(fake.kubeconfig()) };
    KubernetesAttributes::start("k8sattributes", &settings(body), &access).await
}

fn pod(name: &str, ip: &str) -> Json {
    json!({
        "metadata": {
            "name": name, "namespace": "prod", "uid": format!("uid-{name}"), "creationTimestamp": "2026-01-02T03:04:05Z",
            "resourceVersion": "1", "labels": {"pod-template-hash": "6d4cf56db6"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-6d4cf56db6",
                "uid": "uid-rs", "controller": true}]
        },
        "spec": {"nodeName": "node-7", "containers": []},
        "status": {"podIP": ip, "startTime": "2026-01-02T03:04:06Z"}
    })
}

/// The attributes that a resource gets whose sender has this address.
fn attributes(processor: &KubernetesAttributes, peer: &str) -> BTreeMap<String, String> {
    let request = json!({"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [{"name": "s"}]}]}]});
    let payload = json::decode(Signal::Traces, request.to_string().as_bytes()).expect("a request");
    let origin = Origin { peer: Some(peer.parse().expect("an address")), ..Origin::default() };
    let work = Work::new(Batch { signal: Signal::Traces, payload });
    let left = processor.process(work, &origin).expect("taken").expect("left").into_batch();
    let text = json::encode(left.signal, &left.payload).expect("a request");
    let request: Json = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "s");
    let pairs = request["resourceSpans"][0]["resource"]["attributes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    pairs.iter().map(|pair| (text(&pair["key"]), text(&pair["value"]["stringValue"]))).collect()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Waits until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never {what}"));
}

#[tokio::test]
async fn pods_of_the_node_are_known_though_replica_sets_may_not_be_read() {
    let fake = Fake::start(&[pod("a", "10.1.2.3")], None).await;
    let body = "filter: {node_from_env_var: KUBE_NODE_NAME}, wait_for_metadata: true, extract: {metadata: \
                [k8s.namespace.name, k8s.pod.name, k8s.pod.uid, k8s.pod.start_time, k8s.deployment.name, k8s.node.name, \
                k8s.deployment.uid, k8s.node.uid, k8s.cluster.uid]}";
    let processor = start(&fake, body).await.expect("started");
    let expected = map(&[
        ("k8s.deployment.name", "shop"),
        ("k8s.namespace.name", "prod"),
        ("k8s.node.name", "node-7"),
        ("k8s.pod.ip", "10.1.2.3"),
        ("k8s.pod.name", "a"),
        ("k8s.pod.start_time", "2026-01-02T03:04:05Z"),
        ("k8s.pod.uid", "uid-a"),
    ]);
    assert_eq!(attributes(&processor, "10.1.2.3"), expected);
    assert_eq!(attributes(&processor, "10.9.9.9"), map(&[("k8s.pod.ip", "10.9.9.9")]));
    let counted = Counted { pods: 1, added: 1, missed: 1, ..Counted::default() };
    assert_eq!(processor.counted(), counted);
    let asks = |path: &str, query: &str| {
        fake.asked().iter().any(|asked| asked.starts_with(path) && asked.contains(query))
    };
    assert!(asks("/api/v1/pods?", "fieldSelector=spec.nodeName%3Dnode-7"), "{:?}", fake.asked());
    until("are the others asked", || {
        asks("/apis/apps/v1/replicasets?", "")
            && asks("/api/v1/nodes?", "metadata.name%3Dnode-7")
            && asks("/api/v1/namespaces?", "metadata.name%3Dkube-system")
    })
    .await;
}

#[tokio::test]
async fn what_is_told_later_counts() {
    let set = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {
        "name": "shop-6d4cf56db6", "namespace": "prod", "uid": "uid-rs", "resourceVersion": "1", "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": "uid-d", "controller": true}]}});
    let fake = Fake::start(&[pod("a", "10.0.0.1")], Some(&[set])).await;
    let body = "wait_for_metadata: true, filter: {namespace: prod}, extract: {metadata: [k8s.pod.name, k8s.deployment.uid]}";
    let processor = start(&fake, body).await.expect("started");
    let name = |ip: &str| attributes(&processor, ip).get("k8s.pod.name").cloned();
    until("is the deployment known", || {
        attributes(&processor, "10.0.0.1").contains_key("k8s.deployment.uid")
    })
    .await;
    assert_eq!(attributes(&processor, "10.0.0.1")["k8s.deployment.uid"], "uid-d");
    let watches = |fake: &Fake| {
        fake.asked().iter().filter(|asked| asked.contains("/pods?") && asked.contains("watch=true")).count()
    };
    until("are pods watched", || watches(&fake) > 0).await;
    assert!(fake.asked().iter().all(|asked| asked.contains("/namespaces/prod/")), "{:?}", fake.asked());

    fake.tell("ADDED", &pod("b", "10.0.0.2"));
    until("is a pod added", || name("10.0.0.2").is_some()).await;
    fake.tell("MODIFIED", &pod("b", "10.0.0.3"));
    until("has it moved", || name("10.0.0.3").is_some()).await;
    assert_eq!(name("10.0.0.2"), None);
    fake.tell("DELETED", &pod("b", "10.0.0.3"));
    until("is it deleted", || processor.counted().deleted == 1).await;
    assert_eq!(name("10.0.0.3").as_deref(), Some("b"), "for two minutes more");

    // The watch ends; in the meantime one pod goes and one comes.
    let before = watches(&fake);
    fake.cut(|pods| {
        pods.clear();
        pods.push(pod("c", "10.0.0.4"));
    });
    until("is it listed again", || name("10.0.0.4").is_some()).await;
    until("is the other one deleted", || processor.counted().deleted == 2).await;
    until("is it watched again", || watches(&fake) > before).await;
    fake.tell("ADDED", &pod("d", "10.0.0.5"));
    until("is a pod added", || name("10.0.0.5").is_some()).await;
}

#[tokio::test]
async fn outside_kubernetes_data_passes_unless_it_is_strict() {
    let nowhere = Access { kubeconfig: Some("/nonexistent/config".into()) };
    let idle = KubernetesAttributes::start("k8sattributes", &settings("strict: false"), &nowhere)
        .await
        .expect("started");
    assert_eq!(attributes(&idle, "10.0.0.1"), map(&[]));
    let error = KubernetesAttributes::start("k8sattributes/x", &settings("strict: true"), &nowhere).await;
    let error = error.expect_err("strict").to_string();
    assert!(error.contains("'k8sattributes/x'") && error.contains("/nonexistent/config"), "{error}");
    // In passing nobody is asked.
    let settings = settings("strict: true, passthrough: true");
    let pass = KubernetesAttributes::start("k8sattributes", &settings, &nowhere).await.expect("started");
    assert_eq!(attributes(&pass, "10.0.0.1"), map(&[("k8s.pod.ip", "10.0.0.1")]));
}

#[tokio::test]
async fn who_waits_for_metadata_does_not_wait_for_ever() {
    let fake = Fake::start(&[], None).await;
    fake.be_silent();
    let error = start(&fake, "wait_for_metadata: true, wait_for_metadata_timeout: 50ms")
        .await
        .expect_err("nobody answers");
    assert!(matches!(error, StartError::NotReady { .. }), "{error}");
    // Who does not wait begins at once.
    let processor = start(&fake, "").await.expect("started");
    assert_eq!(attributes(&processor, "10.0.0.1"), map(&[("k8s.pod.ip", "10.0.0.1")]));
    until("is it asked", || !fake.asked().is_empty()).await;
}
