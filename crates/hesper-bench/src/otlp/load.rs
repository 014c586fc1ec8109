//! The sender: as many requests under way as it is told, each sent again as soon as the one before is answered.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use hesper_otlp::Signal;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet};

/// What is sent.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Whereto.
    pub(crate) to: SocketAddr,
    /// Of which signal.
    pub(crate) signal: Signal,
    /// Is the body compressed?
    pub(crate) gzip: bool,
    /// The messages, in turn.
    pub(crate) requests: Arc<Vec<Bytes>>,
    /// Requests under way.
    pub(crate) in_flight: usize,
}

/// A sender at work.
pub(crate) struct Sending {
    counters: Arc<Counters>,
    workers: JoinSet<Result<()>>,
}

#[derive(Default)]
struct Counters {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

impl Sending {
    /// Connects, and begins.
    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let stream = connect(plan.to).await?;
        let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let counters = Arc::<Counters>::default();
        let mut workers = JoinSet::new();
        for worker in 0..plan.in_flight {
            workers.spawn(send_all(client.clone(), plan.clone(), worker, counters.clone()));
        }
        Ok(Self { counters, workers })
    }

    /// Requests that were taken so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.counters.acknowledged.load(Ordering::Relaxed)
    }

    /// Requests that were refused so far; each was sent again.
    pub(crate) fn refused(&self) -> u64 {
        self.counters.refused.load(Ordering::Relaxed)
    }

    /// Ends when the requests under way are answered; how many were taken in all.
    pub(crate) async fn finish(mut self) -> Result<u64> {
        self.counters.stop.store(true, Ordering::Relaxed);
        let all = async {
            while let Some(ended) = self.workers.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(30), all).await.context("requests are not answered")??;
        Ok(self.acknowledged())
    }
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(to).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if begun.elapsed() > crate::process::PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn send_all(
    mut client: SendRequest<Full<Bytes>>,
    plan: Plan,
    worker: usize,
    counters: Arc<Counters>,
) -> Result<()> {
    let uri = format!("http://{}{}", plan.to, plan.signal.grpc_path());
    let mut turn = worker;
    while !counters.stop.load(Ordering::Relaxed) {
        let mut request =
            Request::post(&uri).header("content-type", "application/grpc").header("te", "trailers");
        if plan.gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        let body = Full::new(plan.requests[turn % plan.requests.len()].clone());
        client.ready().await?;
        let response = client.send_request(request.body(body)?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        match status(&head.headers).or_else(|| body.trailers().and_then(status)) {
            Some(0) => {
                counters.acknowledged.fetch_add(1, Ordering::Relaxed);
                turn += 1;
            }
            // RESOURCE_EXHAUSTED or UNAVAILABLE: it has enough for now.
            Some(8 | 14) => {
                counters.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => bail!("the request was answered with gRPC status {other:?}"),
        }
    }
    Ok(())
}

fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
