//! The backend: takes every request at once, and counts what is in it.

use anyhow::Result;
use bytes::Bytes;
use flate2::read::GzDecoder;
use hesper_otlp::{Signal, validate};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2::Builder,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io::Read,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A running sink; it ends when this is dropped.
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    items: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sink {
    /// Listens on a free port.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, items) = (listener.local_addr()?, Arc::<AtomicU64>::default());
        let counted = items.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let counted = counted.clone();
                let service = service_fn(move |request| take(request, counted.clone()));
                tokio::spawn(async move {
                    let mut server = Builder::new(TokioExecutor::new());
                    server.initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
                    server.max_concurrent_streams(1024);
                    // A sender that goes away is none of our business.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, items, task })
    }

    /// Items that have arrived.
    pub(crate) fn items(&self) -> u64 {
        self.items.load(Ordering::Relaxed)
    }
}

type Answer = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn take(request: Request<Incoming>, counted: Arc<AtomicU64>) -> Result<Response<Answer>, hyper::Error> {
    let signal = Signal::of_grpc_path(request.uri().path());
    let message = request.into_body().collect().await?.to_bytes();
    let items = signal.and_then(|signal| count(signal, &message));
    counted.fetch_add(items.unwrap_or(0), Ordering::Relaxed);
    let mut trailers = HeaderMap::new();
    let code = if items.is_some() { "0" } else { "3" };
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    // The empty message is full success.
    let frames = vec![Ok(Frame::data(Bytes::from_static(&[0; 5]))), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn count(signal: Signal, message: &[u8]) -> Option<u64> {
    let (prefix, body) = message.split_at_checked(5)?;
    let counts = match prefix[0] {
        0 => validate(signal, body),
        _ => {
            let mut plain = Vec::new();
            GzDecoder::new(body).read_to_end(&mut plain).ok()?;
            validate(signal, &plain)
        }
    };
    counts.ok().map(|counts| counts.items)
}
