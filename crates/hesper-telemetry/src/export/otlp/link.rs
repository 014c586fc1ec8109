//! One connection of HTTP/2 to one address, that all requests share and that is opened again when it ends.

use super::{dial::Dial, frame::Body};
use crate::export::backoff::Backoff;
use futures::{FutureExt, future::Shared};
use hesper_collector_config::KeepaliveClient;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

/// A connection that is not open by then is given up and tried again: gRPC's least time for it.
const DEADLINE: Duration = Duration::from_secs(20);
/// How many requests may be waiting in one connection before the peer has said how many it takes.
const STREAMS: usize = 100;

/// What requests are sent through.
pub(crate) type Sender = SendRequest<Body>;

/// A connection, or the wish for one.
pub(crate) struct Link {
    dial: Arc<Dial>,
    at: Option<SocketAddr>,
    keepalive: KeepaliveClient,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    backoff: Backoff,
}

enum Phase {
    Idle,
    Opening(Shared<oneshot::Receiver<Result<Sender, String>>>),
    Open(Sender),
    /// Why the last attempt failed, and when the next may be made.
    Failed(String, Instant),
}

/// How much a connection is worth to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// It is open.
    Open,
    /// Nobody knows yet.
    Unknown,
    /// It failed just now.
    Failed,
}

impl Link {
    pub(crate) fn new(dial: Arc<Dial>, at: Option<SocketAddr>, keepalive: KeepaliveClient) -> Arc<Self> {
        let state = State { phase: Phase::Idle, backoff: Backoff::default() };
        Arc::new(Self { dial, at, keepalive, state: Mutex::new(state) })
    }

    /// The address, where it is known.
    pub(crate) fn at(&self) -> Option<SocketAddr> {
        self.at
    }

    pub(crate) fn worth(&self) -> Worth {
        match &self.lock().phase {
            Phase::Open(sender) if !sender.is_closed() => Worth::Open,
            Phase::Failed(_, until) if *until > Instant::now() => Worth::Failed,
            _ => Worth::Unknown,
        }
    }

    /// The connection, opened if need be. The attempt goes on when the caller gives up, and others wait for the same one.
    /// With `wait` an attempt that failed is followed by the next until the caller gives up.
    pub(crate) async fn sender(self: &Arc<Self>, wait: bool) -> Result<Sender, String> {
        loop {
            let opening = match self.step() {
                Step::Ready(sender) => return Ok(sender),
                Step::Failed(reason, _) if !wait => return Err(reason),
                Step::Failed(_, until) => {
                    sleep_until(until).await;
                    continue;
                }
                Step::Wait(opening) => opening,
            };
            match opening.await {
                Ok(Ok(sender)) => return Ok(sender),
                Ok(Err(reason)) if !wait => return Err(reason),
                Err(_) if !wait => return Err("the attempt to connect was abandoned".into()),
                _ => {}
            }
        }
    }

    fn step(self: &Arc<Self>) -> Step {
        let mut state = self.lock();
        match &state.phase {
            Phase::Open(sender) if !sender.is_closed() => return Step::Ready(sender.clone()),
            Phase::Opening(opening) if opening.peek().is_none() => return Step::Wait(opening.clone()),
            Phase::Failed(reason, until) if *until > Instant::now() => {
                return Step::Failed(reason.clone(), *until);
            }
            _ => {}
        }
        let (done, opening) = oneshot::channel();
        let opening = opening.shared();
        state.phase = Phase::Opening(opening.clone());
        drop(state);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let result = this.open().await;
            // Nobody may be waiting any more.
            let _ = done.send(result);
        });
        Step::Wait(opening)
    }

    async fn open(&self) -> Result<Sender, String> {
        let result = match timeout(DEADLINE, self.connect()).await {
            Ok(result) => result,
            Err(_) => Err(format!("no connection in {DEADLINE:?}")),
        };
        let mut state = self.lock();
        match &result {
            Ok(sender) => {
                state.backoff = Backoff::default();
                state.phase = Phase::Open(sender.clone());
            }
            Err(reason) => {
                let wait = state.backoff.fail(rand::random());
                state.phase = Phase::Failed(reason.clone(), Instant::now() + wait);
            }
        }
        result
    }

    async fn connect(&self) -> Result<Sender, String> {
        let io = self.dial.open(self.at).await.map_err(|error| error.to_string())?;
        let interval = Some(self.keepalive.time).filter(|time| !time.is_zero());
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(STREAMS)
            .keep_alive_interval(interval)
            .keep_alive_timeout(self.keepalive.timeout)
            .keep_alive_while_idle(self.keepalive.permit_without_stream);
        let opened = builder.handshake(TokioIo::new(io)).await;
        let (sender, connection) = opened.map_err(|error| super::chain(&error))?;
        let endpoint = self.dial.endpoint.to_string();
        tokio::spawn(async move {
            // Requests learn of it themselves; it ends when the last sender is gone.
            if let Err(error) = connection.await {
                tracing::debug!(endpoint, error = super::chain(&error), "a connection ended");
            }
        });
        Ok(sender)
    }

    /// Gives up a connection that turned out to be broken.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Open(_)) {
            state.phase = Phase::Idle;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Step {
    Ready(Sender),
    Wait(Shared<oneshot::Receiver<Result<Sender, String>>>),
    Failed(String, Instant),
}
