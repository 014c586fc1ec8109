//! As much of a Kubernetes API as a service account with the article's role sees: pods, and nothing else.

use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use hesper_integration::{Netns, Place, pki::Ingress};
use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::runtime::Runtime;

/// Where the API listens.
const PORT: u16 = 6443;
/// Where it is before TLS.
const PLAIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);

/// An API with one pod.
pub(crate) struct Kubernetes {
    asked: Arc<Mutex<Vec<String>>>,
    address: Ipv4Addr,
    account: PathBuf,
    _runtime: Runtime,
    _tls: Ingress,
    _directory: tempfile::TempDir,
}

/// The pod: part of the deployment `shop`, on node `node-a`.
fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "shop-7d9c5b8f6d-x2x4z", "namespace": "store", "uid": "6f2c2a9e-1111-4222-8333-444455556666",
            "resourceVersion": "7", "creationTimestamp": "2026-01-02T03:04:00Z",
            "labels": {"app": "shop", "pod-template-hash": "7d9c5b8f6d"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7d9c5b8f6d",
                "uid": "0a0b0c0d-1111-4222-8333-444455556666", "controller": true
            }]
        },
        "spec": {"nodeName": "node-a", "containers": [{"name": "shop", "image": "shop:1"}]},
        "status": {"phase": "Running", "podIP": Kubernetes::POD_IP, "podIPs": [{"ip": Kubernetes::POD_IP}],
            "startTime": "2026-01-02T03:04:05Z"}
    })
}

impl Kubernetes {
    /// Of its pod.
    pub(crate) const POD_IP: &str = "10.244.1.7";
    /// What the processor finds about it, by default. The time is that of its creation, as the Collector has it.
    pub(crate) const POD: [(&str, &str); 6] = [
        ("k8s.pod.name", "shop-7d9c5b8f6d-x2x4z"),
        ("k8s.pod.uid", "6f2c2a9e-1111-4222-8333-444455556666"),
        ("k8s.namespace.name", "store"),
        ("k8s.pod.start_time", "2026-01-02T03:04:00Z"),
        ("k8s.node.name", "node-a"),
        ("k8s.deployment.name", "shop"),
    ];

    /// Serves at `place`.
    pub(crate) fn start(place: &Place) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (asked, there) = (Arc::<Mutex<Vec<String>>>::default(), place.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .on_thread_start(move || there.enter())
            .enable_all()
            .build()
            .expect("a runtime");
        let app = axum::Router::new().fallback(answer).with_state(asked.clone());
        let listening = runtime.spawn(async move {
            let listener = TcpListener::bind(PLAIN).expect("listen");
            listener.set_nonblocking(true).expect("a socket that does not block");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            tokio::spawn(async move { axum::serve(listener, app).await });
        });
        runtime.block_on(listening).expect("the API listens");
        let address = place.address();
        let names = [address.to_string()];
        let tls = Ingress::start(place, (address, PORT).into(), &[&names[0]], PLAIN, directory.path());
        let account = directory.path().join("account");
        fs::create_dir(&account).expect("a directory");
        fs::copy(&tls.files.authority, account.join("ca.crt")).expect("copy the authority");
        fs::write(account.join("token"), "a-token").expect("write the token");
        fs::write(account.join("namespace"), "default").expect("write the namespace");
        Self { asked, address, account, _runtime: runtime, _tls: tls, _directory: directory }
    }

    /// What was asked: paths with their queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The command that runs a program in a namespace as in a pod: with a service account where pods have it.
    pub(crate) fn in_pod(&self, netns: &Netns, program: &Path) -> Command {
        let mut command = netns.command("unshare");
        let script = r#"mount -t tmpfs tmpfs /run
            mkdir -p /run/secrets/kubernetes.io
            cp -r "$0" /run/secrets/kubernetes.io/serviceaccount
            exec "$@""#;
        command.args(["--mount", "sh", "-ec", script]).arg(&self.account).arg(program);
        command.env("KUBERNETES_SERVICE_HOST", self.address.to_string());
        command.env("KUBERNETES_SERVICE_PORT", PORT.to_string());
        command
    }
}

async fn answer(State(asked): State<Arc<Mutex<Vec<String>>>>, uri: Uri) -> Response {
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(uri.to_string());
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if path != "/api/v1/pods" {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
            "message": format!("{path} is forbidden: no rule of the role allows it"),
        });
        return (StatusCode::FORBIDDEN, axum::Json(status)).into_response();
    }
    if !query.contains("watch=true") {
        let items = [pod()];
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items});
        return axum::Json(list).into_response();
    }
    // A watch that asks for the state first gets it and the mark behind it; then nothing happens any more.
    let mut events = Vec::new();
    if query.contains("sendInitialEvents=true") {
        let mark = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}});
        events.push(json!({"type": "ADDED", "object": pod()}));
        events.push(json!({"type": "BOOKMARK", "object": mark}));
    }
    let lines = events.into_iter().map(|event| Ok::<_, std::io::Error>(format!("{event}\n")));
    let body = Body::from_stream(stream::iter(lines.collect::<Vec<_>>()).chain(stream::pending()));
    ([("content-type", "application/json")], body).into_response()
}
