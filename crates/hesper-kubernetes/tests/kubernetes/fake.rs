//! The API of Kubernetes, as far as lists and watches go, on a port of this machine.

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};

/// What it knows and has been asked.
#[derive(Default)]
struct State {
    pods: Vec<Json>,
    replica_sets: Option<Vec<Json>>,
    version: u64,
    /// Open watches of pods.
    watches: Vec<UnboundedSender<Bytes>>,
    /// Open watches of replica sets, of which nothing more is told.
    quiet: Vec<UnboundedSender<Bytes>>,
    asked: Vec<String>,
    /// It takes requests and does not answer.
    silent: bool,
}

/// A server that ends with this.
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
    dir: TempDir,
}

type Body = BoxBody<Bytes, Infallible>;

impl Fake {
    /// Knows these pods, and replica sets if it may tell of them.
    pub(crate) async fn start(pods: &[Json], replica_sets: Option<&[Json]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let dir = tempfile::tempdir().expect("a directory");
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
             users: [{{name: u, user: {{token: secret}}}}]\ncontexts: [{{name: test, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(dir.path().join("config"), config).expect("written");
        let replica_sets = replica_sets.map(<[Json]>::to_vec);
        let state = State { pods: pods.to_vec(), replica_sets, version: 1, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { state, task, dir }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Paths with queries, in the order in which they were asked.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().expect("no panic").asked.clone()
    }

    pub(crate) fn be_silent(&self) {
        self.state.lock().expect("no panic").silent = true;
    }

    /// Tells all watches; `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) fn tell(&self, what: &str, pod: &Json) {
        let mut state = self.state.lock().expect("no panic");
        state.version += 1;
        let mut pod = pod.clone();
        pod["metadata"]["resourceVersion"] = state.version.to_string().into();
        let name = pod["metadata"]["name"].clone();
        state.pods.retain(|known| known["metadata"]["name"] != name);
        if what != "DELETED" {
            state.pods.push(pod.clone());
        }
        pod["kind"] = "Pod".into();
        pod["apiVersion"] = "v1".into();
        let line = format!("{}\n", json!({"type": what, "object": pod}));
        state.watches.retain(|watch| watch.send(line.clone().into()).is_ok());
    }

    /// Ends all watches, and changes what is there while nobody watches.
    pub(crate) fn cut(&self, change: impl FnOnce(&mut Vec<Json>)) {
        let mut state = self.state.lock().expect("no panic");
        // The next watch is told that it is too old.
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": "too old", "reason": "Expired", "code": 410}});
        state.watches.drain(..).for_each(|watch| drop(watch.send(format!("{gone}\n").into())));
        state.version += 1;
        change(&mut state.pods);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let asked = request.uri().to_string();
    let watch = asked.contains("watch=true");
    let (silent, response) = {
        let mut state = state.lock().expect("no panic");
        state.asked.push(asked.clone());
        let response = match request.uri().path() {
            path if path.ends_with("/pods") && watch => {
                let (sender, receiver) = unbounded_channel();
                state.watches.push(sender);
                Response::new(streamed(receiver))
            }
            path if path.ends_with("/pods") => list("v1", "PodList", &state.pods, state.version),
            path if path.ends_with("/replicasets") => match &state.replica_sets {
                Some(_) if watch => {
                    let (sender, receiver) = unbounded_channel();
                    state.quiet.push(sender);
                    Response::new(streamed(receiver))
                }
                Some(sets) => list("meta.k8s.io/v1", "PartialObjectMetadataList", sets, state.version),
                None => forbidden(),
            },
            _ => forbidden(),
        };
        (state.silent, response)
    };
    if silent {
        std::future::pending::<()>().await;
    }
    Ok(response)
}

fn full(status: u16, body: &Json) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed();
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .expect("a response")
}

fn list(api: &str, kind: &str, items: &[Json], version: u64) -> Response<Body> {
    let metadata = json!({"resourceVersion": version.to_string()});
    full(200, &json!({"apiVersion": api, "kind": kind, "metadata": metadata, "items": items}))
}

fn forbidden() -> Response<Body> {
    full(
        403,
        &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": "the service account may not list them", "metadata": {}}),
    )
}

fn streamed(receiver: UnboundedReceiver<Bytes>) -> Body {
    let frames = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|line| (Ok::<_, Infallible>(Frame::data(line)), receiver))
    });
    StreamBody::new(frames).boxed()
}
