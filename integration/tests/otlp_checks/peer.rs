//! A small OTLP server under the test's control: it remembers every request word for word, and answers by a script.

use crate::{
    client::{HeaderMap, Version, frame, spawn},
    codings::decompress,
};
use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    serve::ListenerExt,
};
use bytes::Bytes;
use hesper_integration::{Stack, otlp::RpcStatus, wait_until};
use http_body_util::{BodyExt, Full};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Instant, SystemTime},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub(crate) type Answer = axum::response::Response;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) when: Instant,
    pub(crate) date: SystemTime,
    /// How often the same message has come before.
    pub(crate) before: usize,
}

impl Seen {
    /// A header; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn is_grpc(&self) -> bool {
        self.header("content-type").starts_with("application/grpc")
    }

    /// The request itself: out of its frame, decompressed.
    #[track_caller]
    pub(crate) fn message(&self) -> Vec<u8> {
        if !self.is_grpc() {
            return decompress(self.header("content-encoding"), &self.body);
        }
        let (head, message) = self.body.split_first_chunk::<5>().expect("a frame");
        assert_eq!(
            head[1..],
            u32::try_from(message.len()).expect("short").to_be_bytes(),
            "one whole message"
        );
        match (head[0], self.header("grpc-encoding")) {
            (0, _) => message.to_vec(),
            (_, "snappy") => decompress("snappy-frames", message),
            (_, coding) => decompress(coding, message),
        }
    }
}

/// The server; gone when dropped.
pub(crate) struct Peer {
    pub(crate) at: SocketAddr,
    state: Arc<Inner>,
    task: JoinHandle<()>,
}

struct Inner {
    script: Box<dyn Fn(&Seen) -> Answer + Send + Sync>,
    seen: Mutex<Vec<Seen>>,
    /// Requests that are answered.
    open: watch::Sender<bool>,
    connections: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Peer {
    /// Takes everything.
    pub(crate) fn taking() -> Self {
        Self::start(ok)
    }

    /// Answers by a script.
    #[track_caller]
    pub(crate) fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let at = listener.local_addr().expect("an address");
        let state = Arc::new(Inner {
            script: Box::new(script),
            seen: Mutex::default(),
            open: watch::Sender::new(true),
            connections: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let served = state.clone();
        let task = spawn(async move {
            let counted = served.clone();
            let listener = TcpListener::from_std(listener).expect("a listener").tap_io(move |io| {
                io.set_nodelay(true).expect("a socket");
                counted.connections.fetch_add(1, SeqCst);
            });
            let app = axum::Router::new().fallback(answer).with_state(served);
            axum::serve(listener, app).await.expect("serve");
        });
        Self { at, state, task }
    }

    /// From now on answers nothing, until it is opened again.
    pub(crate) fn hold(&self) {
        self.state.open.send_replace(false);
    }

    /// Answers again, and what it has not answered meanwhile.
    pub(crate) fn release(&self) {
        self.state.open.send_replace(true);
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen().clone()
    }

    /// The requests, once there are so many; there must not be more.
    #[track_caller]
    pub(crate) fn wait(&self, count: usize) -> Vec<Seen> {
        wait_until(&format!("{count} requests have come"), Stack::PATIENCE, || {
            self.state.seen().len() >= count
        });
        let seen = self.seen();
        assert_eq!(seen.len(), count, "{seen:?}");
        seen
    }

    /// Forgets all requests so far; the messages of them.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.state.seen()).iter().map(Seen::message).collect()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// How many requests were under way at once, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most.load(SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, seen: &mut Seen) {
        let mut all = self.seen();
        let message = seen.message();
        seen.before =
            all.iter().filter(|other| other.path == seen.path && other.message() == message).count();
        all.push(seen.clone());
    }
}

async fn answer(State(state): State<Arc<Inner>>, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let mut seen = Seen {
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        version: head.version,
        headers: head.headers,
        body: to_bytes(body, usize::MAX).await.expect("a body"),
        when: Instant::now(),
        date: SystemTime::now(),
        before: 0,
    };
    let under_way = state.under_way.fetch_add(1, SeqCst) + 1;
    state.most.fetch_max(under_way, SeqCst);
    state.note(&mut seen);
    let mut open = state.open.subscribe();
    open.wait_for(|open| *open).await.expect("there is a sender");
    let answer = (state.script)(&seen);
    state.under_way.fetch_sub(1, SeqCst);
    answer
}

/// Full success, in the protocol of the request.
pub(crate) fn ok(seen: &Seen) -> Answer {
    if seen.is_grpc() {
        grpc(b"")
    } else {
        http(
            200,
            seen.header("content-type"),
            if seen.header("content-type").ends_with("json") { "{}" } else { "" },
        )
    }
}

/// An answer over HTTP.
pub(crate) fn http(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let answer = axum::http::Response::builder().status(status).header(CONTENT_TYPE, content_type);
    answer.body(Body::from(body.into())).expect("an answer")
}

/// With another header.
pub(crate) fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    answer.headers_mut().insert(name, value.parse().expect("a value"));
    answer
}

/// A message and OK over gRPC.
pub(crate) fn grpc(message: &[u8]) -> Answer {
    grpc_framed(frame(0, message))
}

/// The same with a frame that is there already.
pub(crate) fn grpc_framed(frame: Bytes) -> Answer {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    let body = Full::new(frame).with_trailers(std::future::ready(Some(Ok(trailers))));
    axum::http::Response::builder()
        .header(CONTENT_TYPE, "application/grpc")
        .body(Body::new(body))
        .expect("an answer")
}

/// A failure over gRPC.
pub(crate) fn grpc_failure(status: RpcStatus) -> Answer {
    tonic::Status::from(status).into_http()
}
