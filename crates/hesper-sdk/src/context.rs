//! The handle that programs hold.

use crate::{
    BindError, BindOptions, ContextError, ContextOptions, DialError, DialOptions, Listener, NodeView,
    NotReady, RouterState, control,
    dial::{self, Dial},
    inner::Inner,
    listener, renew,
};
use hesper_client::{
    channel::ControlChannel,
    keeper::Keeper,
    renewal::{RenewAs, keep_renewed},
};
use hesper_overlay::{
    datagram::DatagramFlow, early::EarlyTcp, node::AttachState, splice::Copied, stream::Stream,
};
use hesper_pki::{identity_file::IdentityFile, spiffe::SpiffeRole};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::DropGuard;

/// How long [`Context::shutdown`] waits for the controller to be told, and for streams to be done.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const SHUTDOWN_STEP: Duration = Duration::from_millis(10);
/// What was just written is still on its way when its stream is closed.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// One identity on the overlay. Cheap to clone; it ends with its last clone (listeners hold one), or by [`Context::shutdown`]. Keep it
/// for as long as streams are used: without it nobody renews their grants.
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) inner: Arc<Inner>,
    _alive: Arc<DropGuard>,
}

impl Context {
    /// Reads an identity file and starts. Renewed certificates are written back to it. Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn from_identity_file(path: &Path) -> Result<Self, ContextError> {
        Self::from_identity_file_with(path, ContextOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn from_identity_file_with(path: &Path, options: ContextOptions) -> Result<Self, ContextError> {
        Self::from_identity_with(IdentityFile::load(path)?, Some(path.to_owned()), options)
    }

    /// Starts with an identity from memory; with a `path`, renewed certificates are written there. Needs a tokio runtime.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn from_identity(identity: IdentityFile, path: Option<PathBuf>) -> Result<Self, ContextError> {
        Self::from_identity_with(identity, path, ContextOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`ContextError`].
    pub fn from_identity_with(
        identity: IdentityFile,
        path: Option<PathBuf>,
        options: ContextOptions,
    ) -> Result<Self, ContextError> {
        tokio::runtime::Handle::try_current().map_err(|_| ContextError::NoRuntime)?;
        let controllers = identity.controllers();
        let keeper = Keeper::new(identity, path)?;
        let id = keeper.credentials().current().id.clone();
        if id.role != SpiffeRole::Identity {
            return Err(ContextError::NotAnIdentity(id.to_string()));
        }
        let control = ControlChannel::new(&controllers, keeper.credentials().clone())
            .map_err(|e| ContextError::Controller(e.into()))?;
        let inner = Arc::new(Inner::new(keeper.clone(), control, options));
        inner.spawn(control::follow(inner.clone()));
        inner.spawn(renew::keep(inner.clone()));
        inner.spawn(keep_renewed(RenewAs::Node, inner.control.clone(), keeper));
        let alive = Arc::new(inner.closing.clone().drop_guard());
        Ok(Self { inner, _alive: alive })
    }

    /// Waits until the controller has answered and a router is attached.
    ///
    /// # Errors
    /// What is missing when the deadline passes. The context goes on trying.
    pub async fn ready(&self, deadline: Duration) -> Result<(), NotReady> {
        let until = Instant::now() + deadline;
        let mut sessions = self.inner.session.subscribe();
        if !matches!(timeout_at(until, sessions.wait_for(Option::is_some)).await, Ok(Ok(_))) {
            return Err(NotReady::Controller { waited: deadline, reason: self.inner.problem() });
        }
        let mut attached = self.inner.attached.subscribe();
        let any = |states: &Vec<AttachState>| states.iter().any(|s| s.attached);
        if matches!(timeout_at(until, attached.wait_for(any)).await, Ok(Ok(_))) {
            return Ok(());
        }
        let states = attached.borrow().clone();
        if states.is_empty() {
            return Err(NotReady::NoRouters(self.inner.view.borrow().identity_name.clone()));
        }
        let reasons: Vec<_> = states.iter().map(|s| s.reason.as_str()).collect();
        Err(NotReady::Routers {
            routers: states.iter().map(|s| s.name.clone()).collect(),
            waited: deadline,
            reason: reasons.join("; "),
        })
    }

    /// What the node knows now, and each change.
    pub fn state(&self) -> watch::Receiver<Arc<NodeView>> {
        self.inner.view.subscribe()
    }

    /// The edge routers that this node uses or tries to, best first, and how that goes.
    pub fn routers(&self) -> Vec<RouterState> {
        self.inner.attached.borrow().clone()
    }

    /// What this node has refused to others since it started its session: what, and how often.
    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        let mut sums = Vec::new();
        for node in self.inner.nodes() {
            for (index, (what, count)) in node.counters().refused().into_iter().enumerate() {
                match sums.get_mut(index) {
                    None => sums.push((what, count)),
                    Some((_, sum)) => *sum += count,
                }
            }
        }
        sums
    }

    /// Opens a stream to a service: its name, or `instance@name`. (A name that has an `@` itself: see [`DialOptions::instance`].)
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, service: &str) -> Result<Stream, DialError> {
        self.dial_with(service, DialOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial_with(&self, service: &str, options: DialOptions) -> Result<Stream, DialError> {
        Dial::new(&self.inner, dial::key(service, &options), &options).run().await
    }

    /// Opens a stream to a service for a TCP client, and takes its connection: what the client sends at once goes along with the dial, if the
    /// host was heard of a moment ago. Should that host be lost then, the dial fails: no other gets what was sent. Until both have ended,
    /// every close of the connection is a reset.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial_tcp(
        &self,
        service: &str,
        options: DialOptions,
        tcp: TcpStream,
    ) -> Result<TcpDialed, DialError> {
        let mut tcp = EarlyTcp::new(tcp);
        let dial = Dial::new(&self.inner, dial::key(service, &options), &options);
        let stream = dial.run_early(Some(&mut tcp)).await?;
        Ok(TcpDialed { stream, tcp })
    }

    /// Opens a flow of datagrams to a service that carries UDP, named as for [`Self::dial`].
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial_datagrams(&self, service: &str) -> Result<DatagramFlow, DialError> {
        self.dial_datagrams_with(service, DialOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial_datagrams_with(
        &self,
        service: &str,
        options: DialOptions,
    ) -> Result<DatagramFlow, DialError> {
        let dial = Dial::new(&self.inner, dial::key(service, &options), &options);
        dial.datagrams().run().await?.into_datagrams().map_err(|_| DialError::Refused {
            message: format!("service {service} was answered as a stream"),
        })
    }

    /// Hosts a service.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(&self, service: &str) -> Result<Listener, BindError> {
        self.bind_with(service, BindOptions::default()).await
    }

    /// The same with options. Returns when the controller knows; from then on the service stays bound through any outage.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind_with(&self, service: &str, options: BindOptions) -> Result<Listener, BindError> {
        listener::bind(self, service, options).await
    }

    /// Unbinds everything, gives streams a moment to be done, and ends.
    pub async fn shutdown(&self) {
        self.inner.unbinding.cancel();
        self.inner.listeners.close();
        let _ = timeout(SHUTDOWN_PATIENCE, self.inner.listeners.wait()).await;
        self.inner.closing.cancel();
        self.inner.tasks.close();
        let _ = timeout(SHUTDOWN_PATIENCE, self.inner.tasks.wait()).await;
        let nodes = self.inner.nodes();
        let until = Instant::now() + SHUTDOWN_PATIENCE;
        while nodes.iter().any(|n| n.streams() != (0, 0)) && Instant::now() < until {
            tokio::time::sleep(SHUTDOWN_STEP).await;
        }
        tokio::time::sleep(LAST_WORDS).await;
        for node in nodes {
            node.close().await;
        }
        self.inner.session.send_replace(None);
    }
}

/// A TCP connection and the stream that was dialed for it.
#[derive(Debug)]
pub struct TcpDialed {
    stream: Stream,
    tcp: EarlyTcp,
}

impl TcpDialed {
    /// Copies both ways until both directions have ended, as [`Stream::splice_tcp`].
    ///
    /// # Errors
    /// The first failure of either side.
    pub async fn splice(self) -> io::Result<Copied> {
        self.stream.splice_tcp_early(self.tcp).await
    }
}
