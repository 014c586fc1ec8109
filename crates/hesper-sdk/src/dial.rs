//! Dialing: a grant (cached or asked for), its pass to a router, the connection to the hosting node, the stream. What fails is tried another
//! way while there is time, and the failure that says most is what the program gets.
//!
//! Here: the attempts of one dial. `lease`: its grant. `way`: what is done with it.

mod lease;
mod way;

use crate::{DialError, DialOptions, DialStep, grants::Key, inner::Inner, trace};
use hesper_overlay::{early::EarlyTcp, stream::Stream};
use rand::Rng;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{Instrument, Span};

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
}

async fn pause() {
    let pause = rand::rng().random_range(PAUSE.0..=PAUSE.1);
    sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

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
