//! The way of a dial by a grant: the pass to a router, the connection to the hosting node, the stream; and how each may fail.

use super::{Dial, Failed, Next, PAUSE};
use crate::{
    DialError, DialStep,
    grants::Lease,
    renew::{pass, renewal},
    trace,
};
use hesper_overlay::{
    admission::code,
    early::EarlyTcp,
    node::PassError,
    peer::{OpenError, Peer},
    stream::Stream,
};
use hesper_proto::overlay::DialHeader;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tracing::Instrument;

/// How long a dial waits for an attachment that is about to come back.
const ATTACH_PATIENCE: Duration = Duration::from_secs(5);
/// Shortest and longest time for connecting to a hosting node that nobody has yet called gone.
const CONNECT_PATIENCE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

impl Dial<'_> {
    pub(super) async fn open(
        &self,
        lease: &Arc<Lease>,
        mut client: Option<&mut EarlyTcp>,
    ) -> Result<Stream, Failed> {
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
}
