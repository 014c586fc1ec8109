//! The hosting side: a bound service and what arrives for it.

use crate::{
    BindError, BindOptions, BindUpdate, Context, ListenerClosed, Observer, Precedence,
    inner::{Inner, Session, call},
    status::Failure,
};
use hesper_client::{backoff::Backoff, rpc::Rpc};
use hesper_model::{
    config::{Protocol, otlp::SenderTerms},
    id::{ServiceId, TerminatorId},
};
use hesper_overlay::{datagram::DatagramFlow, inbound::Arrival, stream::Stream};
use hesper_proto::control::{
    BindRequest, BindResponse, UnbindRequest, UnbindResponse, UpdateTerminatorRequest,
    UpdateTerminatorResponse,
};
use hesper_trace::TraceContext;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

const BIND: Rpc = Rpc::node("Bind").begins();
const UPDATE: Rpc = Rpc::node("UpdateTerminator").begins();
const UNBIND: Rpc = Rpc::node("Unbind").begins();
/// Dials that may wait for the program; more are told that it is busy.
const BACKLOG: usize = 128;
/// How long the first bind may take, the controller's return included.
const BIND_DEADLINE: Duration = Duration::from_secs(10);
/// How long an unbind may take. If it fails, the controller finds out by itself when the session ends.
const UNBIND_DEADLINE: Duration = Duration::from_secs(2);

/// A service bound by this node. Stays bound, through any outage, until dropped or closed.
#[derive(Debug)]
pub struct Listener {
    ctx: Context,
    spec: Arc<Spec>,
    arrivals: mpsc::Receiver<Arrival>,
    done: Option<oneshot::Receiver<()>>,
    _unbind: DropGuard,
}

/// What is bound, and as what.
#[derive(Debug)]
struct Spec {
    service: String,
    options: Mutex<BindOptions>,
    bound: Mutex<Option<(Session, BindResponse)>>,
    closing: CancellationToken,
}

/// A dial that was checked (grant, key, policy) and waits for the program's word. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    arrival: Arrival,
    service: String,
    came: Instant,
    observer: Option<Arc<dyn Observer>>,
}

impl Spec {
    fn options(&self) -> BindOptions {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn bound(&self) -> Option<(Session, BindResponse)> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_bound(&self, bound: Option<(Session, BindResponse)>) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = bound;
    }
}

pub(crate) async fn bind(ctx: &Context, service: &str, options: BindOptions) -> Result<Listener, BindError> {
    if ctx.inner.closing.is_cancelled() {
        return Err(BindError::Shutdown);
    }
    let (to, arrivals) = mpsc::channel(BACKLOG);
    let (bound, first) = oneshot::channel();
    let (over, done) = oneshot::channel();
    let spec = Arc::new(Spec {
        service: service.into(),
        options: Mutex::new(options),
        bound: Mutex::default(),
        closing: ctx.inner.unbinding.child_token(),
    });
    let unbind = spec.closing.clone().drop_guard();
    ctx.inner.listeners.spawn(keep_bound(ctx.inner.clone(), spec.clone(), to, bound, over));
    let first = tokio::select! {
        first = timeout(BIND_DEADLINE, first) => first,
        // This identity is disabled, its certificate revoked: no waiting will help.
        refusal = ctx.inner.refused() => return Err(Failure::from(refusal).into_bind()),
    };
    match first {
        Ok(Ok(Ok(()))) => {
            Ok(Listener { ctx: ctx.clone(), spec, arrivals, done: Some(done), _unbind: unbind })
        }
        Ok(Ok(Err(error))) => Err(error),
        Ok(Err(_)) => Err(BindError::Shutdown),
        Err(_) => Err(BindError::Unavailable { message: ctx.inner.problem() }),
    }
}

impl Listener {
    /// Name of the service.
    pub fn service(&self) -> &str {
        &self.spec.service
    }

    /// The next dial. Cancel-safe.
    ///
    /// # Errors
    /// The context was shut down.
    pub async fn accept(&mut self) -> Result<Incoming, ListenerClosed> {
        tokio::select! {
            arrival = self.arrivals.recv() => {
                let arrival = arrival.ok_or(ListenerClosed)?;
                let observer = self.ctx.inner.options.observer.clone();
                Ok(Incoming::new(arrival, &self.spec.service, observer))
            }
            () = self.spec.closing.cancelled() => Err(ListenerClosed),
        }
    }

    /// Cost and precedence that the controller had for it when it was bound the last time; none while it is not bound.
    pub fn terms(&self) -> Option<Terms> {
        let (_, bound) = self.spec.bound()?;
        let precedence =
            [Precedence::Required, Precedence::Failed].into_iter().find(|p| p.as_str() == bound.precedence);
        Some(Terms {
            cost: bound.cost.try_into().unwrap_or(u16::MAX),
            precedence: precedence.unwrap_or(Precedence::Default),
        })
    }

    /// A handle that changes it while somebody else waits for dials. Does not keep it bound.
    pub fn updater(&self) -> Updater {
        Updater { inner: Arc::downgrade(&self.ctx.inner), spec: self.spec.clone() }
    }

    /// Changes cost, precedence or address while bound. Kept for later rebinds also when the controller is not reached now.
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn update(&self, change: BindUpdate) -> Result<(), BindError> {
        self.updater().update(change).await
    }

    /// Unbinds and waits until the controller knows. Streams that are open go on.
    pub async fn close(mut self) {
        self.spec.closing.cancel();
        if let Some(done) = self.done.take() {
            let _ = timeout(UNBIND_DEADLINE, done).await;
        }
    }
}

/// What a terminator has in the choice among those of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Cost.
    pub cost: u16,
    /// Precedence.
    pub precedence: Precedence,
}

/// Changes what is bound. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Updater {
    inner: Weak<Inner>,
    spec: Arc<Spec>,
}

impl Updater {
    /// As [`Listener::update`].
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn update(&self, change: BindUpdate) -> Result<(), BindError> {
        let inner =
            self.inner.upgrade().filter(|_| !self.spec.closing.is_cancelled()).ok_or(BindError::Shutdown)?;
        let BindUpdate { cost, precedence, address } = change;
        {
            let mut options = self.spec.options.lock().unwrap_or_else(PoisonError::into_inner);
            options.cost = cost.or(options.cost);
            options.precedence = precedence.or(options.precedence);
            if let Some(address) = &address {
                options.address.clone_from(address);
            }
        }
        let Some((session, bound)) = self.spec.bound() else {
            return Err(BindError::Unavailable { message: inner.problem() });
        };
        let request = UpdateTerminatorRequest {
            terminator_id: bound.terminator_id,
            cost: cost.map(u32::from),
            precedence: precedence.map(|p| p.as_str().to_owned()).unwrap_or_default(),
            address,
        };
        let mut client = inner.client();
        let updated =
            call(UPDATE, &session, request, |r| async move { client.update_terminator(r).await }).await;
        updated.map(|UpdateTerminatorResponse {}| ()).map_err(Failure::into_bind)
    }
}

impl Incoming {
    fn new(arrival: Arrival, service: &str, observer: Option<Arc<dyn Observer>>) -> Self {
        if !arrival.span.is_disabled() {
            arrival.span.record("otel.name", format!("accept {service}"));
            hesper_trace::set(&arrival.span, "mesh.service.name", service.to_owned());
        }
        Self { arrival, service: service.to_owned(), came: Instant::now(), observer }
    }

    /// The trace of the dial: what this program does for it belongs there. It is the span here, which ends with the word that
    /// [`Self::into_stream`] or [`Self::refuse`] gives, or the dialer's where nothing is recorded here. None: the dialer traces nothing.
    pub fn trace_context(&self) -> Option<TraceContext> {
        self.arrival.trace_context()
    }

    /// Id of the dialing identity, as its certificate proved it.
    pub fn dialer_id(&self) -> &str {
        self.arrival.dialer.as_str()
    }

    /// Name of the dialing identity when its dial was granted, signed by the controller. Its next grant has the name of then.
    pub fn dialer_name(&self) -> &str {
        &self.arrival.dialer_name
    }

    /// What the dialer may send over this stream. None: the service has no `otlp.v1` config.
    ///
    /// Stays true as long as the stream lives. When the config, the dialer's role attributes or its name change so that it would be
    /// something else, the controller revokes the grant: the stream ends, and the dialer comes back with the new terms.
    pub fn sender_terms(&self) -> Option<Arc<SenderTerms>> {
        self.arrival.sender_terms.clone()
    }

    /// Name of the dialed service.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What the dialer told, see [`crate::DialOptions::app_data`]. Empty = nothing.
    pub fn app_data(&self) -> &str {
        &self.arrival.app_data
    }

    /// What the dialer wants: a stream (TCP), or a flow of datagrams (UDP).
    pub fn protocol(&self) -> Protocol {
        if self.arrival.is_datagrams() { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Accepts a stream: the dialer's `dial` returns.
    ///
    /// # Errors
    /// The dialer is gone, or its grant has just ended; or it wants datagrams, and is told that there are none here.
    pub async fn into_stream(self) -> io::Result<Stream> {
        if self.protocol() == Protocol::Udp {
            self.refuse("this program takes streams of this service, not datagrams").await;
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the dialer wants datagrams"));
        }
        self.accept().await
    }

    async fn accept(self) -> io::Result<Stream> {
        let accepted = self.arrival.accept().await;
        if let Some(observer) = self.observer {
            observer.accepted(accepted.is_ok(), self.came.elapsed());
        }
        accepted
    }

    /// Accepts a flow of datagrams: the dialer's `dial_datagrams` returns.
    ///
    /// # Errors
    /// The dialer is gone, or its grant has just ended; or it wants a stream, and is told that there is none here.
    pub async fn into_datagrams(self) -> io::Result<DatagramFlow> {
        if self.protocol() == Protocol::Tcp {
            self.refuse("this program takes datagrams of this service, not streams").await;
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the dialer wants a stream"));
        }
        let stream = self.accept().await?;
        stream.into_datagrams().map_err(|_| io::Error::other("the dial was for datagrams and is a stream"))
    }

    /// Refuses: the dialer's `dial` fails with [`crate::DialError::Refused`] and this reason.
    pub async fn refuse(self, reason: &str) {
        self.arrival.refuse(reason).await;
    }
}

/// Binds, and binds again whenever the controller may have forgotten: after each new watch, and when a policy took the right away and
/// gave it back.
async fn keep_bound(
    inner: Arc<Inner>,
    spec: Arc<Spec>,
    arrivals: mpsc::Sender<Arrival>,
    first: oneshot::Sender<Result<(), BindError>>,
    over: oneshot::Sender<()>,
) {
    let closing = spec.closing.clone();
    tokio::select! {
        () = closing.cancelled() => {}
        () = bind_for_ever(&inner, &spec, &arrivals, first) => {}
    }
    unbind(&inner, &spec).await;
    let _ = over.send(());
}

async fn bind_for_ever(
    inner: &Arc<Inner>,
    spec: &Spec,
    arrivals: &mpsc::Sender<Arrival>,
    first: oneshot::Sender<Result<(), BindError>>,
) {
    let mut first = Some(first);
    let mut backoff = Backoff::default();
    loop {
        let session = inner.connected_session().await;
        match bind_once(inner, &session, spec).await {
            Ok(bound) => {
                backoff.reset();
                install(spec, &session, bound.clone(), arrivals);
                if let Some(first) = first.take() {
                    let _ = first.send(Ok(()));
                }
                lost(inner, &session, &bound, spec.options().instance.is_none()).await;
            }
            Err(failure) if failure.unreachable || failure.no_session() => sleep(backoff.next_wait()).await,
            Err(failure) => {
                let reason = failure.message().to_owned();
                let error = failure.into_bind();
                if let Some(first) = first.take() {
                    let _ = first.send(Err(error));
                    return;
                }
                tracing::warn!(service = spec.service, reason, "service is not bound any more; trying on");
                take_down(spec);
                // A change of policy comes with a new view.
                let mut view = inner.view.subscribe();
                let _ = timeout(Duration::from_secs(30), view.changed()).await;
                sleep(backoff.next_wait()).await;
            }
        }
    }
}

async fn bind_once(inner: &Inner, session: &Session, spec: &Spec) -> Result<BindResponse, Failure> {
    let options = spec.options();
    let request = BindRequest {
        service: spec.service.clone(),
        instance: options.instance.unwrap_or_default(),
        cost: options.cost.map(u32::from),
        precedence: options.precedence.map(|p| p.as_str().to_owned()).unwrap_or_default(),
        address: options.address,
    };
    let mut client = inner.client();
    call(BIND, session, request, |r| async move { client.bind(r).await }).await
}

fn install(spec: &Spec, session: &Session, bound: BindResponse, arrivals: &mpsc::Sender<Arrival>) {
    if spec.bound().is_some_and(|(_, old)| old.terminator_id != bound.terminator_id) {
        take_down(spec);
    }
    let (terminator, service) = (TerminatorId::new(&bound.terminator_id), ServiceId::new(&bound.service_id));
    session.node.bind(terminator, service, arrivals.clone());
    tracing::info!(service = spec.service, terminator = bound.terminator_id, "service bound");
    spec.set_bound(Some((session.clone(), bound)));
}

fn take_down(spec: &Spec) {
    if let Some((session, bound)) = spec.bound() {
        session.node.unbind(&TerminatorId::new(bound.terminator_id));
    }
    spec.set_bound(None);
}

/// Waits until the binding must be made again.
async fn lost(inner: &Inner, session: &Session, bound: &BindResponse, by_name: bool) {
    let (mut sessions, mut views) = (inner.session.subscribe(), inner.view.subscribe());
    let name = views.borrow().identity_name.clone();
    // The view may be older than the binding: its no counts only after its yes.
    let mut seen = false;
    loop {
        let current = sessions.borrow_and_update().as_ref().map(|s| (s.watch, s.node.tag()));
        if current.is_some_and(|c| c != (session.watch, session.node.tag())) {
            return;
        }
        let view = views.borrow_and_update().clone();
        // The identity's name is the instance of a bind that has none of its own.
        if by_name && view.identity_name != name {
            return;
        }
        let may_bind = view.services.iter().any(|s| s.id == bound.service_id && s.may_bind);
        if seen && !may_bind {
            return;
        }
        seen |= may_bind;
        let gone = tokio::select! {
            changed = sessions.changed() => changed.is_err(),
            changed = views.changed() => changed.is_err(),
        };
        if gone {
            return;
        }
    }
}

async fn unbind(inner: &Inner, spec: &Spec) {
    let bound = spec.bound();
    take_down(spec);
    let Some((session, bound)) = bound.filter(|(s, _)| s.connected) else { return };
    let mut client = inner.client();
    let request = UnbindRequest { terminator_id: bound.terminator_id };
    let unbound = call(UNBIND, &session, request, |r| async move { client.unbind(r).await });
    match timeout(UNBIND_DEADLINE, unbound).await {
        Ok(Ok(UnbindResponse {})) => {}
        Ok(Err(failure)) => {
            tracing::debug!(service = spec.service, reason = failure.message(), "not unbound")
        }
        Err(_) => tracing::debug!(service = spec.service, "not unbound in time"),
    }
}
