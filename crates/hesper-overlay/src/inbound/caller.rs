//! One connected dialing node: its streams, what each says it is, and the grants that let dials in.

use super::{
    Arrival, MAX_PEERS_OF_IDENTITY,
    arrival::{refuse, say_no},
    gate::StreamGuard,
};
use crate::{
    admission::{Admission, Dialer, PeerId, Rejection, StreamId, code},
    control::{self, Line},
    datagram::Datagrams,
    frame,
    node::{Inner, lock, unix_now},
    path_keeper,
    stream::{Stream, code as stream_code},
    transport::{FIRST_STREAMS, MAX_STREAMS},
};
use hesper_model::id::{ServiceId, TerminatorId};
use hesper_pki::token::{GrantClaims, TokenError, Verifier};
use hesper_proto::overlay::{DialHeader, RenewGrant, StreamHeader, control_frame::Frame, stream_header};
use hesper_trace::TraceContext;
use quinn::{Connection, RecvStream, SendStream};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tracing::Span;

/// Open streams of one identity, over all its connections; each is a file descriptor of a hosting tunneler.
const MAX_STREAMS_OF_IDENTITY: usize = MAX_STREAMS as usize;
/// Streams of one connection that have not yet said what they are, with up to [`MAX_HEADER`] each; the next ones wait.
const MAX_OPENING: usize = 64;
/// How long a new stream may take to say what it is.
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
/// Grants of one connection whose signatures are remembered: one for each terminator that is dialed much at a time.
const MAX_VERIFIED: usize = 16;
/// Longest first message of a stream: a grant and what the dialer tells the program.
const MAX_HEADER: usize = frame::MAX_MESSAGE_LEN;

/// A connected dialing node.
pub(super) struct Caller {
    node: Weak<Inner>,
    connection: Connection,
    datagrams: Datagrams,
    line: Arc<Line>,
    /// For the control stream, of which there is one.
    queue: Mutex<Option<mpsc::Receiver<Frame>>>,
    id: PeerId,
    dialer: Dialer,
    verified: Mutex<Verified>,
    /// Held by each open stream.
    live: Arc<()>,
    /// Held by each open stream of all its connections.
    of_identity: Arc<()>,
    /// Dials and renewals that were rejected.
    rejected: AtomicU64,
    /// Streams that the dialer may have open now.
    allowed: Mutex<u32>,
}

/// The grants that were verified last. A dialer shows the same one for every stream to a terminator until it is renewed, and a signature costs
/// more than the rest of opening a stream.
#[derive(Default)]
struct Verified {
    /// The keys by which they are good.
    by: Option<Arc<Verifier>>,
    grants: VecDeque<(String, Arc<GrantClaims>)>,
}

impl Verified {
    fn get(&self, by: &Arc<Verifier>, grant: &str) -> Option<Arc<GrantClaims>> {
        self.by.as_ref().filter(|known| Arc::ptr_eq(known, by))?;
        self.grants.iter().find(|(text, _)| text == grant).map(|(_, claims)| claims.clone())
    }

    fn add(&mut self, by: Arc<Verifier>, grant: &str, claims: Arc<GrantClaims>) {
        if !self.by.as_ref().is_some_and(|known| Arc::ptr_eq(known, &by)) {
            self.grants.clear();
        }
        self.by = Some(by);
        self.grants.truncate(MAX_VERIFIED - 1);
        self.grants.push_front((grant.to_owned(), claims));
    }
}

impl Caller {
    /// `others`: connections that its identity has here besides; `of_identity` counts its streams.
    pub(super) fn new(
        node: &Arc<Inner>,
        connection: Connection,
        dialer: Dialer,
        others: usize,
        of_identity: Arc<()>,
    ) -> Arc<Self> {
        let id = PeerId(node.gate.next_id());
        let datagrams = Datagrams::new(connection.clone(), node);
        let (line, queue) = Line::new(connection.clone(), node.memory.share(others));
        tokio::spawn(path_keeper::keep(Arc::downgrade(node), line.clone(), false, Vec::new()));
        datagrams.listen(line.clone());
        Arc::new(Self {
            node: Arc::downgrade(node),
            connection,
            datagrams,
            line,
            queue: Mutex::new(Some(queue)),
            id,
            dialer,
            verified: Mutex::default(),
            live: Arc::default(),
            of_identity,
            rejected: AtomicU64::new(0),
            allowed: Mutex::new(FIRST_STREAMS),
        })
    }

    /// Its streams, until the connection ends.
    pub(super) async fn serve(self: Arc<Self>) {
        let opening = Arc::new(Semaphore::new(MAX_OPENING));
        let reason = loop {
            let place = tokio::select! {
                biased;
                place = opening.clone().acquire_owned() => place,
                reason = self.connection.closed() => break reason,
            };
            match self.connection.accept_bi().await {
                Ok((send, recv)) => {
                    let mut stream = Box::pin(self.clone().stream(send, recv, place.ok()));
                    // Mostly its header has come with it: then all is done at once, and needs no task.
                    if poll_fn(|cx| Poll::Ready(stream.as_mut().poll(cx))).await.is_pending() {
                        tokio::spawn(stream);
                    }
                }
                Err(reason) => break reason,
            }
        };
        tracing::debug!(peer = %self.dialer.id, %reason, "peer disconnected");
        if let Some(node) = self.node.upgrade() {
            node.gate.leave(self.id, &self.dialer.id);
        }
    }

    /// The claims of a grant whose signature is good. Time, revocation and target are checked on every use, by [`Admission`].
    fn claims(&self, node: &Inner, grant: &str, now: u64) -> Result<Arc<GrantClaims>, TokenError> {
        let by = node.verifier();
        if let Some(claims) = lock(&self.verified).get(&by, grant) {
            return Ok(claims);
        }
        let claims = Arc::new(Admission::verify(&by, grant, now, node.gate.frozen_clock(now))?);
        lock(&self.verified).add(by, grant, claims.clone());
        Ok(claims)
    }

    /// Something of this peer was rejected. The log is told of the first, the second, the fourth, …: a peer must not fill the disk. Returns
    /// how many there have been.
    fn worth_a_line(&self) -> Option<u64> {
        let so_far = self.rejected.fetch_add(1, Relaxed) + 1;
        so_far.is_power_of_two().then_some(so_far)
    }

    /// Lets the dialer open twice as many streams once it uses half of those it may, up to [`MAX_STREAMS`].
    fn make_room(&self) {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        if *allowed < MAX_STREAMS && Arc::strong_count(&self.live) > *allowed as usize / 2 {
            *allowed = (*allowed * 2).min(MAX_STREAMS);
            self.connection.set_max_concurrent_bi_streams((*allowed).into());
        }
    }

    async fn stream(
        self: Arc<Self>,
        mut send: SendStream,
        mut recv: RecvStream,
        opening: Option<OwnedSemaphorePermit>,
    ) {
        let header =
            timeout(HEADER_DEADLINE, frame::read_message::<StreamHeader>(&mut recv, MAX_HEADER)).await;
        drop(opening);
        match header {
            Ok(Ok(StreamHeader { header: Some(stream_header::Header::Dial(dial)) })) => {
                self.dial(dial, send, recv).await;
            }
            Ok(Ok(StreamHeader { header: Some(stream_header::Header::Control(_)) })) => {
                self.control(send, recv).await
            }
            Ok(Ok(StreamHeader { header: None })) => {
                refuse(send, recv, code::PROTOCOL, "the stream's first message is not understood").await;
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.dialer.id, %error, "a stream began badly");
                let _ = send.reset(stream_code::ABORTED);
            }
            Err(_) => {
                let _ = send.reset(stream_code::ABORTED);
            }
        }
    }

    async fn dial(&self, dial: DialHeader, send: SendStream, recv: RecvStream) {
        let Some(node) = self.node.upgrade() else { return };
        // One is the gate's, one is of each connection.
        if Arc::strong_count(&self.of_identity) > MAX_STREAMS_OF_IDENTITY + MAX_PEERS_OF_IDENTITY {
            node.counters.refused_streams.fetch_add(1, Relaxed);
            return refuse(send, recv, code::BUSY, "this identity has too many streams open here").await;
        }
        let id = StreamId(node.gate.next_id());
        let (service, terminator) = (ServiceId::new(dial.service_id), TerminatorId::new(dial.terminator_id));
        let guard =
            StreamGuard { _live: [self.live.clone(), self.of_identity.clone()], gate: self.node.clone(), id };
        self.make_room();
        let flow = dial.datagrams.then(|| self.datagrams.flow(send.id()));
        let mut stream = Stream::new(send, recv, self.dialer.id.clone(), Box::new(guard)).with_flow(flow);
        let trace = (dial.traceparent, dial.tracestate);
        let span = self.begun(&trace, (&service, &terminator));
        match self.admit(&node, id, (&service, &terminator), &dial.grant, &stream) {
            Ok((listener, claims)) => {
                if !span.is_disabled() {
                    hesper_trace::set(&span, "mesh.dialer.name", claims.dialer_name.clone());
                }
                let arrival = Arrival {
                    dialer: self.dialer.id.clone(),
                    dialer_name: claims.dialer_name.clone(),
                    sender_terms: claims.otlp.clone().map(Arc::new),
                    service,
                    terminator,
                    app_data: dial.app_data,
                    span,
                    trace,
                    stream,
                };
                if let Err(full) = listener.try_send(arrival) {
                    let (code, why) = match full {
                        mpsc::error::TrySendError::Full(_) => (code::BUSY, "the hosting program is busy"),
                        mpsc::error::TrySendError::Closed(_) => {
                            (code::INVALID_TERMINATOR, "the hosting program has just left")
                        }
                    };
                    let mut arrival = full.into_inner();
                    denied(&arrival.span, code);
                    say_no(&mut arrival.stream, code, why).await;
                }
            }
            Err(rejection) => {
                node.counters.rejected_streams.fetch_add(1, Relaxed);
                denied(&span, rejection.code());
                let reason = crate::attach::chain(&rejection);
                if let Some(so_far) = self.worth_a_line() {
                    tracing::warn!(dialer = %self.dialer.id, %service, %terminator, %reason, so_far, "dial rejected");
                }
                say_no(&mut stream, rejection.code(), &reason).await;
            }
        }
    }

    /// The span of a dial that has come in, until the hosting program's word.
    fn begun(&self, trace: &(String, String), target: (&ServiceId, &TerminatorId)) -> Span {
        hesper_trace::entry(TraceContext::parse(&trace.0, &trace.1).as_ref(), || {
            tracing::info_span!(
                "accept",
                otel.kind = "server",
                otel.name = tracing::field::Empty,
                "mesh.service.id" = %target.0,
                "mesh.terminator.id" = %target.1,
                "mesh.dialer.id" = %self.dialer.id,
            )
        })
    }

    /// Verifies outside the gate's lock. Who listens, and what the grant says.
    fn admit(
        &self,
        node: &Inner,
        id: StreamId,
        target: (&ServiceId, &TerminatorId),
        grant: &str,
        stream: &Stream,
    ) -> Result<(mpsc::Sender<Arrival>, Arc<GrantClaims>), Rejection> {
        let now = unix_now();
        let claims = self.claims(node, grant, now)?;
        let dialer = (self.id, &self.dialer);
        let listener = node.gate.admit(now, (id, stream.handle()), dialer, target, (&claims, grant))?;
        self.line.set_tag(claims.tag);
        Ok((listener, claims))
    }

    /// The connection's control stream: renewals, the dialer's path, and probes both ways.
    async fn control(&self, send: SendStream, recv: RecvStream) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(queue) = queue else {
            return refuse(send, recv, code::PROTOCOL, "a connection has one control stream").await;
        };
        tokio::spawn(control::write(self.line.clone(), send, queue));
        control::read(&self.line, recv, |renewal| {
            if let Some(node) = self.node.upgrade()
                && let Err(rejection) = self.renew(&node, &renewal)
            {
                node.counters.rejected_renewals.fetch_add(1, Relaxed);
                if let Some(so_far) = self.worth_a_line() {
                    let reason = crate::attach::chain(&rejection);
                    tracing::warn!(dialer = %self.dialer.id, service = renewal.service_id, %reason, so_far, "renewal rejected");
                }
            }
        })
        .await;
    }

    fn renew(&self, node: &Inner, renewal: &RenewGrant) -> Result<(), Rejection> {
        let now = unix_now();
        let claims = Admission::verify(&node.verifier(), &renewal.grant, now, node.gate.frozen_clock(now))?;
        let target = (&ServiceId::new(&renewal.service_id), &TerminatorId::new(&renewal.terminator_id));
        node.gate.renew(now, (self.id, &self.dialer), target, (claims, renewal.grant.clone()))
    }
}

/// It is not let through to the program.
fn denied(span: &Span, code: &'static str) {
    hesper_trace::set(span, "mesh.outcome", "denied");
    hesper_trace::set(span, "error.type", code);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_model::id::{IdentityId, Tag};

    #[test]
    fn verified_grants_are_few_and_forgotten_with_the_keys() {
        let keys = || Arc::new(Verifier::new([]));
        let claims = Arc::new(GrantClaims {
            jti: "g".into(),
            sub: IdentityId::new("a"),
            aud: IdentityId::new("b"),
            service: ServiceId::new("s"),
            terminator: TerminatorId::new("t"),
            tag: Tag([1; 8]),
            cnf: String::new(),
            dialer_name: String::new(),
            otlp: None,
            iat: 0,
            exp: 1,
        });
        let (old, new) = (keys(), keys());
        let mut verified = Verified::default();
        assert!(verified.get(&old, "g0").is_none());
        for n in 0..=MAX_VERIFIED {
            verified.add(old.clone(), &format!("g{n}"), claims.clone());
        }
        assert!(verified.get(&old, "g0").is_none(), "the oldest made room");
        assert!((1..=MAX_VERIFIED).all(|n| verified.get(&old, &format!("g{n}")).is_some()));
        assert!(verified.get(&new, "g1").is_none(), "verified by other keys");
        verified.add(new.clone(), "g1", claims);
        assert!(verified.get(&new, "g1").is_some() && verified.get(&old, "g2").is_none());
        assert_eq!(verified.grants.len(), 1);
    }
}
