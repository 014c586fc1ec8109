//! The grant of a dial: cached, drawn from what was chosen for all dials, or asked for.

use super::Dial;
use crate::{
    grants::{Choice, Lease, Use},
    inner::{Session, call, unix_now},
    renew::publish,
    status::Failure,
    trace,
};
use hesper_client::rpc::Rpc;
use hesper_proto::control::{DialRequest, DialResponse};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tracing::Instrument;

/// How long a dial waits for a controller that is not connected, before it says so.
const CONTROLLER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a dial that has a usable grant waits for a better one.
const REFRESH_PATIENCE: Duration = Duration::from_secs(1);

impl Dial<'_> {
    /// The lease for this dial: of the terminator that was chosen for all of them, or that is drawn for this one.
    pub(super) async fn lease(&self) -> Result<Arc<Lease>, Failure> {
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
}
