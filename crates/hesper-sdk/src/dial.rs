//! Dialing: a grant (cached or asked for), its pass to a router, the connection to the hosting node, the stream. What fails is tried another
//! way while there is time, and the failure that says most is what the program gets.

use crate::{
    DialError, DialOptions, DialStep,
    grants::{Choice, Key, Lease, Use},
    inner::{Inner, Session, call, unix_now},
    renew::{pass, publish, renewal},
    status::Failure,
    trace,
};
use hesper_client::rpc::Rpc;
use hesper_overlay::{
    admission::code,
    early::EarlyTcp,
    node::PassError,
    peer::{OpenError, Peer},
    stream::Stream,
};
use hesper_proto::{
    control::{DialRequest, DialResponse},
    overlay::DialHeader,
};
use rand::Rng;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{Instrument, Span};

/// How long a dial waits for a controller that is not connected, before it says so.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a dial waits for an attachment that is about to come back.
const ATTACH_PATIENCE: Duration = Duration::from_secs(5);
/// Shortest and longest time for connecting to a hosting node that nobody has yet called gone.
const CONNECT_PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// How long a dial that has a usable grant waits for a better one.
const REFRESH_PATIENCE: Duration = Duration::from_secs(1);
/// Most ways tried by one dial.
const MAX_ATTEMPTS: usize = 16;
/// Terminators to be avoided, at most, in one request.
const MAX_AVOID: usize = 32;
/// Pause before the same way is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// One dial of one program.
pub(crate) struct Dial<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) key: Key,
    pub(crate) options: &'a DialOptions,
    datagrams: bool,
    until: Instant,
    avoid: Vec<String>,
    /// What is being waited for, should the deadline pass.
    stage: Mutex<String>,
    span: Span,
    /// The controller was asked for a grant.
    asked: AtomicBool,
}

/// How one way failed.
struct Failed {
    error: DialError,
    next: Next,
}

impl Failed {
    /// The hosting side may have used what the client sent: it is sent to no other.
    fn for_good(mut self) -> Self {
        if let DialError::NoRoute { message } = &mut self.error {
            message.push_str("; what the client sent may have arrived, so no other host is tried");
        }
        Self { next: Next::GiveUp, ..self }
    }
}

/// What to try next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another grant.
    Ask,
    /// Another terminator.
    Avoid,
    /// Nothing.
    GiveUp,
}

pub(crate) fn key(service: &str, options: &DialOptions) -> Key {
    let (instance, service) = match (&options.instance, service.split_once('@')) {
        (Some(instance), _) => (instance.as_str(), service),
        (None, Some((instance, service))) => (instance, service),
        (None, None) => ("", service),
    };
    Key { service: service.into(), instance: instance.into(), terminator: String::new() }
}

impl<'a> Dial<'a> {
    pub(crate) fn new(inner: &'a Arc<Inner>, key: Key, options: &'a DialOptions) -> Self {
        let stage = Mutex::new("the controller".into());
        let until = Instant::now() + options.timeout;
        let (avoid, span, asked) = (Vec::new(), Span::none(), AtomicBool::new(false));
        Self { inner, key, options, datagrams: false, until, avoid, stage, span, asked }
    }

    /// For a flow of datagrams.
    pub(crate) fn datagrams(self) -> Self {
        Self { datagrams: true, ..self }
    }

    pub(crate) async fn run(self) -> Result<Stream, DialError> {
        self.run_early(None).await
    }

    /// For a TCP client whose first bytes may go along.
    pub(crate) async fn run_early(mut self, client: Option<&mut EarlyTcp>) -> Result<Stream, DialError> {
        self.span = trace::dial(&self.key, self.datagrams);
        let span = self.span.clone();
        let result = self.in_time(client).instrument(span).await;
        trace::dialed(&self.span, &result, !self.asked.load(Relaxed));
        result
    }

    async fn in_time(&mut self, client: Option<&mut EarlyTcp>) -> Result<Stream, DialError> {
        let mut last = None;
        let closing = self.inner.closing.clone();
        let until = self.until;
        let begun = Instant::now();
        let result = tokio::select! {
            () = closing.cancelled() => return Err(DialError::Shutdown),
            result = timeout_at(until, self.attempts(&mut last, client)) => result,
        };
        let result = match (result, last) {
            (Ok(result), _) => result,
            // What failed says more than that time is up.
            (Err(_), Some(error)) => Err(error),
            (Err(_), None) => Err(DialError::Timeout {
                service: self.key.service.clone(),
                after: self.options.timeout,
                last: self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            }),
        };
        if let Some(observer) = &self.inner.options.observer {
            observer.dialed(result.as_ref().err().map(DialError::kind), begun.elapsed());
        }
        result
    }

    /// One step has ended.
    fn stepped<T, E>(&self, step: DialStep, begun: Instant, ended: &Result<T, E>) {
        if let Some(observer) = &self.inner.options.observer {
            observer.step(step, ended.is_ok(), begun.elapsed());
        }
    }

    fn stage(&self, text: impl Into<String>) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    async fn attempts(
        &mut self,
        last: &mut Option<DialError>,
        mut client: Option<&mut EarlyTcp>,
    ) -> Result<Stream, DialError> {
        for attempt in 0..MAX_ATTEMPTS {
            // The first retry is at once: mostly it was only the grant that was old.
            if attempt > 1 {
                pause().await;
            }
            let begun = Instant::now();
            let leased = self.lease().await;
            self.stepped(DialStep::Grant, begun, &leased);
            let lease = match leased {
                Ok(lease) => lease,
                Err(failure) if failure.no_terminators() && !self.avoid.is_empty() => {
                    // Every way has failed: why the last one did says more than that none is left.
                    match last.take() {
                        Some(error @ DialError::Refused { .. }) => return Err(error),
                        error => *last = error,
                    }
                    self.avoid.clear();
                    continue;
                }
                Err(failure) if failure.no_session() => {
                    *last = Some(failure.into_dial());
                    continue;
                }
                Err(failure) => return Err(failure.into_dial()),
            };
            trace::way(&self.span, &lease, attempt);
            let failed = match self.open(&lease, client.as_deref_mut()).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => failed,
            };
            tracing::debug!(service = self.key.service, error = %failed.error, "one way of a dial failed");
            match failed.next {
                Next::GiveUp => return Err(failed.error),
                // No other grant can be had now: this one must do, and may in a moment.
                Next::Ask | Next::Avoid if !self.inner.connected() => {}
                Next::Ask => lease.spend(),
                Next::Avoid => {
                    lease.spend();
                    if self.avoid.len() < MAX_AVOID && !self.avoid.contains(&lease.terminator_id) {
                        self.avoid.push(lease.terminator_id.clone());
                    }
                }
            }
            *last = Some(failed.error);
        }
        Err(last.take().unwrap_or(DialError::NoRoute {
            message: format!("no way to service {} works", self.key.service),
        }))
    }

    /// The lease for this dial: of the terminator that was chosen for all of them, or that is drawn for this one.
    async fn lease(&self) -> Result<Arc<Lease>, Failure> {
        let (chosen, drawn) = self.chosen().await?;
        let Some(drawn) = drawn else { return Ok(chosen) };
        match self.drawn(&drawn).await {
            Ok(lease) => Ok(lease),
            Err(failure) if failure.unreachable => Ok(chosen),
            Err(failure) => {
                tracing::debug!(service = self.key.service, reason = failure.message(), "drawn in vain");
                chosen.choose_again();
                Ok(self.chosen().await?.0)
            }
        }
    }

    /// The cached choice and what is drawn from it, or a new one; one request at a time per service and instance.
    async fn chosen(&self) -> Result<(Arc<Lease>, Option<String>), Failure> {
        let slot = self.inner.leases.slot(&self.key);
        let mut slot = slot.lock().await;
        let digest = self.inner.view.borrow().service(&self.key.service).map_or(0, |s| s.choice);
        // The controller learns what failed by being asked.
        let usable = |l: &&Arc<Lease>| {
            !self.avoid.contains(&l.terminator_id) && (self.avoid.is_empty() || !l.has_shares())
        };
        let cached = slot.as_ref().filter(usable).cloned();
        let decide = |l: &Arc<Lease>| l.decide(unix_now(), self.inner.open_watch(), Some(digest));
        match (cached.as_ref().map_or(Use::Ask, decide), cached) {
            (Use::Cached, Some(lease)) => {
                let drawn = lease.draw();
                Ok((lease, drawn))
            }
            (Use::Refresh, Some(lease)) => {
                match timeout(REFRESH_PATIENCE, self.choose(Some(&lease), digest)).await {
                    Ok(Ok(fresh)) => Ok((slot.insert(fresh).clone(), None)),
                    Ok(Err(failure)) if !failure.unreachable => Err(failure),
                    _ => Ok((lease, None)),
                }
            }
            (_, old) => Ok((slot.insert(self.choose(old.as_ref(), digest).await?).clone(), None)),
        }
    }

    /// The lease of the terminator that was drawn.
    async fn drawn(&self, terminator: &str) -> Result<Arc<Lease>, Failure> {
        let slot = self.inner.leases.slot(&self.key.of(terminator));
        let mut slot = slot.lock().await;
        let cached = slot.clone();
        if cached.is_none() && !self.inner.connected() {
            return Err(tonic::Status::unavailable(self.inner.problem()).into());
        }
        let decide = |l: &Arc<Lease>| l.decide(unix_now(), self.inner.open_watch(), None);
        let ask = async |old: Option<&Arc<Lease>>| {
            let (session, response) = Box::pin(self.ask(terminator)).await?;
            self.take(&session, response, old, Choice { at: unix_now(), ..Choice::default() })
        };
        match (cached.as_ref().map_or(Use::Ask, decide), cached) {
            (Use::Cached, Some(lease)) => Ok(lease),
            (Use::Refresh, Some(lease)) => match timeout(REFRESH_PATIENCE, ask(Some(&lease))).await {
                Ok(Ok(fresh)) => Ok(slot.insert(fresh).clone()),
                Ok(Err(failure)) if !failure.unreachable => Err(failure),
                _ => Ok(lease),
            },
            (_, old) => Ok(slot.insert(ask(old.as_ref()).await?).clone()),
        }
    }

    /// Lets the controller choose.
    async fn choose(&self, old: Option<&Arc<Lease>>, digest: u64) -> Result<Arc<Lease>, Failure> {
        let (session, mut response) = Box::pin(self.ask("")).await?;
        let shares = std::mem::take(&mut response.shares);
        let choice = Choice { at: unix_now(), digest, narrowed: response.narrowed, shares };
        if choice.shares.is_empty() {
            return self.take(&session, response, old, choice);
        }
        // It may have been drawn before, and will be again.
        let slot = self.inner.leases.slot(&self.key.of(&response.terminator_id));
        let mut slot = slot.lock().await;
        let old = slot.clone();
        Ok(slot.insert(self.take(&session, response, old.as_ref(), choice)?).clone())
    }

    /// Rare, and much larger than the rest of a dial: kept apart, so that not every connection of a tunneler has the room for it.
    async fn ask(&self, drawn: &str) -> Result<(Session, DialResponse), Failure> {
        self.asked.store(true, Relaxed);
        let span = trace::stage(&self.span, || tracing::info_span!("grant"));
        let asked = self.granted(drawn).instrument(span.clone()).await;
        asked.inspect_err(|failure| hesper_trace::fail(&span, failure.message()))
    }

    async fn granted(&self, drawn: &str) -> Result<(Session, DialResponse), Failure> {
        let session = self.session().await?;
        self.stage("the controller's grant");
        let request = DialRequest {
            service: self.key.service.clone(),
            instance: self.key.instance.clone(),
            terminator_id: drawn.to_owned(),
            drawn: !drawn.is_empty(),
            avoid_terminator_ids: self.avoid.clone(),
            sticky_terminator_id: self.inner.leases.last_terminator(&self.key),
        };
        let mut client = self.inner.client();
        let dial = |request| async move { client.dial(request).await };
        let response: DialResponse = call(Rpc::node("Dial"), &session, request, dial).await?;
        self.inner.leases.chose(&self.key, &response.terminator_id);
        Ok((session, response))
    }

    /// A lease by this answer: the old one, if it is for the same.
    fn take(
        &self,
        session: &Session,
        response: DialResponse,
        old: Option<&Arc<Lease>>,
        choice: Choice,
    ) -> Result<Arc<Lease>, Failure> {
        if let Some(old) = old.filter(|l| {
            !l.is_spent()
                && Arc::ptr_eq(&l.node, &session.node)
                && l.terminator_id == response.terminator_id
                && l.binder_tag.0[..] == response.binder_tag[..]
        }) {
            old.chosen_again(response, choice, session.watch);
            publish(old);
            return Ok(old.clone());
        }
        let lease = Lease::new(self.key.clone(), session.node.clone(), response, choice, session.watch)
            .map_err(|e| {
                tracing::warn!(error = %e, "a grant is not usable");
                tonic::Status::internal(e.to_string())
            })?;
        let lease = Arc::new(lease);
        self.inner.leases.remember(&lease);
        Ok(lease)
    }

    /// The session, once the watch is open; the controller's own no is worth no patience.
    async fn session(&self) -> Result<Session, Failure> {
        tokio::select! {
            biased;
            session = self.inner.connected_session() => Ok(session),
            refusal = self.inner.refused() => Err(refusal.into()),
            () = sleep(CONTROLLER_PATIENCE) => {
                Err(tonic::Status::unavailable(self.inner.problem()).into())
            }
        }
    }

    async fn open(&self, lease: &Arc<Lease>, mut client: Option<&mut EarlyTcp>) -> Result<Stream, Failed> {
        let peer = self.connect(lease).await?;
        self.stage("the answer of the hosting program");
        let tokens = lease.tokens();
        let span = trace::stage(&self.span, || tracing::info_span!("accept"));
        let (traceparent, tracestate) = trace::values(&span);
        let header = DialHeader {
            datagrams: self.datagrams,
            service_id: lease.service_id.clone(),
            terminator_id: lease.terminator_id.clone(),
            grant: tokens.response.grant.clone(),
            app_data: self.options.app_data.clone(),
            traceparent,
            tracestate,
        };
        let stands_for = Box::new(lease.clone());
        let begun = Instant::now();
        let opened = match &mut client {
            Some(client) => peer.open_early(header, stands_for, self.left(), client).await,
            None => peer.open(header, stands_for, self.left()).await,
        };
        self.stepped(DialStep::Accept, begun, &opened);
        let stream = opened.map_err(|error| {
            hesper_trace::fail(&span, &error);
            let failed = self.failed(lease, error);
            if client.is_some_and(|c| c.sent() > 0) { failed.for_good() } else { failed }
        })?;
        lease.add(stream.handle());
        // Renewed between the header and now: the renewal did not find this stream.
        if lease.tokens().response.grant_id != tokens.response.grant_id {
            peer.renew(renewal(lease));
        }
        Ok(stream)
    }

    async fn connect(&self, lease: &Arc<Lease>) -> Result<Peer, Failed> {
        if !lease.presented.load(Relaxed) {
            self.stage("a router to take the pass");
            let span = trace::stage(&self.span, || tracing::info_span!("pass"));
            let begun = Instant::now();
            let presented = self.present(lease).instrument(span.clone()).await;
            self.stepped(DialStep::Pass, begun, &presented);
            trace::presented(&span, lease, presented.as_ref().map_err(|failed| &failed.error));
            presented?;
            lease.presented.store(true, Relaxed);
        }
        self.stage(format!("the connection to hosting identity {}", lease.binder_id));
        let span =
            trace::stage(&self.span, || tracing::info_span!("connect", "mesh.binder.id" = %lease.binder_id));
        let connecting = lease.node.connect_peer(&lease.binder_id, lease.binder_tag);
        let begun = Instant::now();
        let connected = timeout(connect_patience(self.left()), connecting).instrument(span.clone()).await;
        let connected = connected.unwrap_or(Err(OpenError::Timeout("the connection")));
        self.stepped(DialStep::Connect, begun, &connected);
        connected.map_err(|error| {
            hesper_trace::fail(&span, &error);
            self.failed(lease, error)
        })
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Returns the id of the router that is used.
    async fn present(&self, lease: &Arc<Lease>) -> Result<String, Failed> {
        let begun = Instant::now();
        loop {
            let error = match lease.node.present(pass(lease)).await {
                Ok(router) => return Ok(router),
                Err(error) => error,
            };
            let waited = begun.elapsed() >= ATTACH_PATIENCE;
            let route = |message| DialError::NoRoute { message };
            return Err(match error {
                PassError::NotAttached if !waited => {
                    let mut attached = lease.node.attached();
                    let _ = timeout(PAUSE.1, attached.changed()).await;
                    continue;
                }
                PassError::NotAttached => {
                    Failed { error: route(self.why_not_attached(lease)), next: Next::Ask }
                }
                PassError::Refused(_) if lease.binder_tag == lease.node.tag() => Failed {
                    error: DialError::Refused {
                        message: format!("service {} is hosted by this very node", self.key.service),
                    },
                    next: Next::Avoid,
                },
                PassError::Refused(_) => Failed { error: route(error.to_string()), next: Next::Ask },
                PassError::PeerNotAttached => Failed {
                    error: route(format!("no path to service {}: {error}", self.key.service)),
                    next: Next::Avoid,
                },
            });
        }
    }

    fn why_not_attached(&self, lease: &Lease) -> String {
        let tokens = lease.tokens();
        let named: Vec<_> = tokens.response.paths.iter().filter_map(|p| p.router_ids.first()).collect();
        let states = lease.node.attached().borrow().clone();
        let reasons: Vec<_> = states
            .iter()
            .filter(|s| named.contains(&&s.router_id))
            .map(|s| format!("router '{}': {}", s.name, s.reason))
            .collect();
        if reasons.is_empty() {
            return format!(
                "no path to service {}: none of this node's routers may carry it",
                self.key.service
            );
        }
        format!("no path to service {}: not attached ({})", self.key.service, reasons.join("; "))
    }

    fn failed(&self, lease: &Lease, error: OpenError) -> Failed {
        let OpenError::Refused { code, message } = error else {
            // The next attempt shows the pass again: the router may have lost it.
            lease.presented.store(false, Relaxed);
            if Instant::now() >= self.until {
                let (service, after) = (self.key.service.clone(), self.options.timeout);
                let error = DialError::Timeout { service, after, last: chain(&error) };
                return Failed { error, next: Next::GiveUp };
            }
            let message = format!("hosting identity {} is not reached: {}", lease.binder_id, chain(&error));
            return Failed { error: DialError::NoRoute { message }, next: Next::Avoid };
        };
        match code.as_str() {
            code::GRANT_EXPIRED if !self.inner.connected() => {
                let message = format!("{}, and {message}", self.inner.problem());
                Failed { error: DialError::Unavailable { message }, next: Next::GiveUp }
            }
            code::GRANT_EXPIRED | code::GRANT_REVOKED | code::INVALID_GRANT | code::INVALID_TERMINATOR => {
                Failed { error: DialError::Refused { message }, next: Next::Ask }
            }
            _ => Failed { error: DialError::Refused { message }, next: Next::Avoid },
        }
    }
}

/// How long one hosting node may take to answer at all, when a dial has so much time left: a part of it, so that another can be tried.
fn connect_patience(left: Duration) -> Duration {
    (left / 3).clamp(CONNECT_PATIENCE.0, CONNECT_PATIENCE.1)
}

async fn pause() {
    let pause = rand::rng().random_range(PAUSE.0..=PAUSE.1);
    sleep(pause).await;
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_leaves_time_for_another_host() {
        for (left, patience) in [(30, 5000), (10, 3333), (5, 1666), (1, 1000), (0, 1000)] {
            assert_eq!(connect_patience(Duration::from_secs(left)).as_millis(), patience, "{left}");
        }
    }

    #[test]
    fn an_instance_may_stand_in_the_name_or_in_the_options() {
        let of = |name: &str, instance: Option<&str>| {
            let options = DialOptions { instance: instance.map(Into::into), ..DialOptions::default() };
            let key = key(name, &options);
            (key.service, key.instance)
        };
        assert_eq!(of("svc", None), ("svc".into(), "".into()));
        assert_eq!(of("node-1@svc", None), ("svc".into(), "node-1".into()));
        assert_eq!(of("node-1@svc", Some("node-2")), ("node-1@svc".into(), "node-2".into()));
        assert_eq!(of("team@svc", Some("")), ("team@svc".into(), "".into()));
        assert_eq!(of("svc", Some("node-2")), ("svc".into(), "node-2".into()));
    }
}
