//! The router and its controller: one `Watch` call that is always open or about to be.
//!
//! The controller says who the router is, which keys count and what is revoked; the router says which sessions are
//! attached and which links are up. When
//! the controller is away the router goes on with what it was told last, for the outage grace (see [`crate::outage`]).

use crate::{
    links::Reported,
    sessions::{Sessions, now_unix},
    standing::{InvalidState, Standing},
};
use hesper_client::{
    backoff::Backoff,
    channel::{ControlChannel, rest},
    clock,
    diagnosis::Diagnosis,
    keeper::{Keeper, TrustError},
};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_proto::control::{
    Link, RouterHello, RouterReport, RouterRevoked, RouterStatus, RouterUpdate,
    router_control_client::RouterControlClient, router_report, router_update,
};
use rand::Rng;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// The controller must answer a new call within this time.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// A status goes at least this often.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Round-trip times of links are looked at this often.
const ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(1);
/// After a change others usually follow: a thousand nodes that attach make one status, not a thousand.
const STATUS_GATHERING: Duration = Duration::from_millis(50);
/// First and last ceiling of the waits between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The time of the last contact is written down this often.
const CONTACT_INTERVAL: Duration = Duration::from_secs(60);
/// Reports that wait for a slow controller.
const REPORTS: usize = 4;

/// What the control task needs.
pub(crate) struct Control {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) channel: ControlChannel,
    /// The router's certificate, and the CAs that the controller tells it to trust.
    pub(crate) keeper: Keeper,
    /// UDP addresses that nodes are given.
    pub(crate) addresses: Vec<String>,
    /// Where the controller's word is kept.
    pub(crate) state_file: PathBuf,
    /// What was kept there.
    pub(crate) standing: Option<Standing>,
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum WatchEnd {
    #[error("the controller did not answer within {} s", CALL_DEADLINE.as_secs())]
    Timeout,
    #[error("the controller refused or cannot be reached")]
    Status(#[source] Box<Status>),
    #[error("the controller ended the watch")]
    Ended,
    #[error("{0}")]
    Certificates(Diagnosis),
    #[error(transparent)]
    State(#[from] InvalidState),
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Control {
    /// Watches for ever, reconnecting with jitter.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1, rand::rng().random());
        loop {
            let (mut heard, begun) = (false, Instant::now());
            let end = self.watch(&mut heard).await;
            let end = match end.err().unwrap_or(WatchEnd::Ended) {
                // A broken connection does not say what certificates have to do with it.
                WatchEnd::Status(status) if !heard => {
                    let certificates = self.channel.diagnose(&status).await.map(WatchEnd::Certificates);
                    certificates.unwrap_or(WatchEnd::Status(status))
                }
                end => end,
            };
            tracing::warn!(error = &end as &dyn std::error::Error, "no connection to the controller");
            if heard {
                backoff.reset();
                self.remember_contact().await;
            }
            if let Some(standing) = &self.standing {
                self.sessions.controller_lost(standing.last_contact);
            }
            let wait = backoff.next_wait();
            sleep(match &end {
                WatchEnd::Status(status) => rest(status, wait, begun.elapsed()),
                _ => wait,
            })
            .await;
        }
    }

    async fn watch(&mut self, heard: &mut bool) -> Result<(), WatchEnd> {
        let (reports, queue) = mpsc::channel(REPORTS);
        let hello = RouterHello {
            addresses: self.addresses.clone(),
            client: concat!("hesper-router ", env!("CARGO_PKG_VERSION")).into(),
        };
        // The queue is empty and its other end is held here.
        let _ = reports.try_send(report(router_report::Report::Hello(hello)));
        let mut client = RouterControlClient::new(self.channel.channel());
        let answer = timeout(CALL_DEADLINE, client.watch(ReceiverStream::new(queue))).await;
        let answer = answer.map_err(|_| WatchEnd::Timeout)??;
        clock::warn_of_difference(answer.metadata());
        let updates = answer.into_inner();
        let (sessions, keeper) = (self.sessions.clone(), self.keeper.clone());
        tokio::select! {
            end = self.follow(updates, heard) => end,
            () = send_status(&sessions, &reports) => Err(WatchEnd::Ended),
            () = send_trusting(&keeper, &reports) => Err(WatchEnd::Ended),
        }
    }

    async fn follow(
        &mut self,
        mut updates: Streaming<RouterUpdate>,
        heard: &mut bool,
    ) -> Result<(), WatchEnd> {
        let mut contact = interval(CONTACT_INTERVAL);
        contact.set_missed_tick_behavior(MissedTickBehavior::Delay);
        contact.reset();
        loop {
            tokio::select! {
                update = updates.message() => {
                    let Some(update) = update? else { return Err(WatchEnd::Ended) };
                    if !std::mem::replace(heard, true) {
                        tracing::info!("connected to the controller");
                        self.sessions.controller_back(now_unix());
                    }
                    self.apply(update).await?;
                }
                _ = contact.tick() => self.remember_contact().await,
            }
        }
    }

    async fn apply(&mut self, update: RouterUpdate) -> Result<(), WatchEnd> {
        match update.update {
            Some(router_update::Update::State(state)) => {
                if let Some(trust) = &state.trust {
                    self.keeper.take(trust)?;
                }
                let standing = Standing::from_state(&state, now_unix())?;
                self.sessions.tell(&standing);
                self.standing = Some(standing);
                self.save().await;
            }
            Some(router_update::Update::Revoked(revoked)) => self.revoke(&revoked),
            // A controller of a later version may say more than we know.
            None => {}
        }
        Ok(())
    }

    fn revoke(&self, revoked: &RouterRevoked) {
        let tags: Vec<_> = revoked.session_tags.iter().filter_map(|t| Tag::from_slice(t)).collect();
        let (passes, sessions) = (revoked.pass_ids.len(), tags.len());
        tracing::info!(passes, sessions, reason = %revoked.reason, "revoked by the controller");
        self.sessions.revoke(&revoked.pass_ids, &tags, now_unix());
    }

    async fn remember_contact(&mut self) {
        if let Some(standing) = &mut self.standing {
            standing.last_contact = now_unix();
            self.save().await;
        }
    }

    async fn save(&self) {
        let Some(standing) = self.standing.clone() else { return };
        let path = self.state_file.clone();
        // The write waits for the disk.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || standing.save(&path)).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a start without a controller will not work"
            );
        }
    }
}

impl From<Status> for WatchEnd {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

fn report(report: router_report::Report) -> RouterReport {
    RouterReport { report: Some(report) }
}

/// Reports what is trusted, at once and after each change; ends with the call.
async fn send_trusting(keeper: &Keeper, reports: &mpsc::Sender<RouterReport>) {
    let mut trusting = keeper.trusting();
    trusting.mark_changed();
    while trusting.changed().await.is_ok() {
        let now = trusting.borrow_and_update().clone();
        if reports.send(report(router_report::Report::Trusting(now))).await.is_err() {
            return;
        }
    }
}

/// Reports sessions and links on every change and every [`STATUS_INTERVAL`]; ends with the call.
async fn send_status(sessions: &Sessions, reports: &mpsc::Sender<RouterReport>) {
    let mut changes = sessions.changes();
    let mut reported = Reported::default();
    let mut look = interval(ROUND_TRIP_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        changes.mark_unchanged();
        let links = reported.report(sessions.links().round_trips()).into_iter().map(link).collect();
        let attached = sessions.tags().iter().map(|tag| tag.0.to_vec()).collect();
        let status = RouterStatus { attached, draining: sessions.is_draining(), links };
        if reports.send(report(router_report::Report::Status(status))).await.is_err() {
            return;
        }
        let due = sleep(STATUS_INTERVAL);
        tokio::pin!(due);
        look.reset();
        loop {
            tokio::select! {
                // An error means that the sessions are gone; the next status tells.
                _ = changes.changed() => {
                    sleep(STATUS_GATHERING).await;
                    break;
                }
                () = &mut due => break,
                _ = look.tick() => if reported.is_news(&sessions.links().round_trips()) { break },
            }
        }
    }
}

fn link((id, rtt): (EdgeRouterId, Duration)) -> Link {
    let rtt_micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
    Link { router_id: id.to_string(), rtt_micros }
}
