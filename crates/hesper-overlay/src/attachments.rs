//! The attachments of a node: to which routers, how that goes, and the passes shown to them.

use crate::{
    attach::{Answer, AttachTarget, Attachment, PassAnswer, PeerAttached, Present, Status},
    node::{Inner, Node, PassError, lock, unix_now},
    passes::Pass,
    paths::Slot,
    roster::{Health, Roster},
};
use hesper_model::id::Tag;
use hesper_trace::TraceContext;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep_until, timeout_at},
};

/// How long a router may take to answer a pass.
const PASS_DEADLINE: Duration = Duration::from_secs(3);
/// The roster is looked at at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A router that the node attaches to, and how that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachState {
    /// The router's id.
    pub router_id: String,
    /// Its name.
    pub name: String,
    /// Attached, and not about to stop.
    pub attached: bool,
    /// The last failure, when not attached.
    pub reason: String,
    /// Round trip to the router and back; zero = unknown. Follows greater changes only.
    pub rtt: Duration,
}

/// The controller's routers, and those in use.
#[derive(Default)]
pub(crate) struct Attachments {
    targets: Vec<AttachTarget>,
    roster: Roster,
    running: BTreeMap<String, Attachment>,
    /// Numbers of routers. Never given anew: orders of routers outlive attachments. As many as the controller ever named.
    slots: HashMap<String, Slot>,
}

impl Attachments {
    fn slot(&mut self, router_id: &str) -> Slot {
        let next = Slot(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        *self.slots.entry(router_id.to_owned()).or_insert(next)
    }

    pub(crate) fn stop(&mut self) {
        self.running.clear();
    }

    fn states(&self) -> Vec<AttachState> {
        let mut states: Vec<_> = self.running.iter().map(|(id, a)| (a.rank, state(id, a))).collect();
        states.sort_by_key(|(rank, _)| *rank);
        states.into_iter().map(|(_, s)| s).collect()
    }
}

fn state(id: &str, a: &Attachment) -> AttachState {
    let (attached, reason, rtt) = match &*a.status.borrow() {
        Status::Attached(rtt) => (true, String::new(), *rtt),
        Status::Draining => (false, "the router is about to stop".into(), Duration::ZERO),
        Status::Trying(reason) => (false, reason.clone(), Duration::ZERO),
    };
    AttachState { router_id: id.to_owned(), name: a.name.clone(), attached, reason, rtt }
}

fn health(status: &Status) -> Health {
    match status {
        Status::Attached(_) => Health::Up,
        Status::Draining => Health::Draining,
        Status::Trying(_) => Health::Away,
    }
}

impl Inner {
    pub(crate) fn attachments_changed(&self) {
        let states = lock(&self.attachments).states();
        self.attached.send_if_modified(|old| {
            let changed = *old != states;
            *old = states;
            changed
        });
    }

    /// The numbers of those of these routers that the node knows.
    pub(crate) fn slots<'a>(&self, router_ids: impl IntoIterator<Item = &'a str>) -> Vec<Slot> {
        let attachments = lock(&self.attachments);
        router_ids.into_iter().filter_map(|id| attachments.slots.get(id).copied()).collect()
    }

    fn router_id(&self, slot: Slot) -> String {
        let attachments = lock(&self.attachments);
        let mut slots = attachments.slots.iter();
        slots.find(|(_, s)| **s == slot).map(|(id, _)| id.clone()).unwrap_or_default()
    }

    /// Begins and ends attachments as the roster says; returns when to look again.
    fn attend(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let mut guard = lock(&self.attachments);
        let all = &mut *guard;
        for (id, a) in &all.running {
            all.roster.report(now, id, health(&a.status.borrow()));
        }
        let (wanted, again) = all.roster.wanted(now);
        let mut left = Vec::new();
        all.running.retain(|id, a| {
            let keep = wanted.contains(id);
            if !keep {
                left.push(a.slot);
            }
            keep
        });
        for slot in left {
            self.socket.update(|t| t.remove_router(slot));
            self.socket.remove_leg(slot);
        }
        for (rank, id) in wanted.into_iter().enumerate() {
            let Some(target) = all.targets.iter().find(|t| t.router_id == id).cloned() else { continue };
            if let Some(a) = all.running.get_mut(&id) {
                a.rank = rank;
            } else {
                let slot = all.slot(&id);
                all.running.insert(id, Attachment::start(self, slot, rank, target));
            }
        }
        drop(guard);
        self.attachments_changed();
        again
    }

    fn show(&self, pass: &Pass) -> mpsc::Receiver<(Slot, PassAnswer)> {
        self.passes().insert(unix_now(), pass.clone());
        let trace = TraceContext::current();
        let attachments = lock(&self.attachments);
        let routers = pass.routers();
        let (answer, answers) = mpsc::channel(routers.len().max(1));
        let running = routers.into_iter().filter_map(|id| attachments.running.get(id));
        for a in running.filter(|a| matches!(*a.status.borrow(), Status::Attached(_))) {
            // No room: as if it had not answered.
            let answer = Answer::To(answer.clone());
            let _ = a.orders.try_send(Present { pass: pass.clone(), answer, trace: trace.clone() });
        }
        answers
    }

    /// Shows the passes for a peer again, to learn whether it is attached there by now.
    pub(crate) fn ask_again(&self, peer: Tag, slot: Slot) {
        let attachments = lock(&self.attachments);
        let Some((id, a)) = attachments.running.iter().find(|(_, a)| a.slot == slot) else { return };
        let passes = self.passes().of_router(id);
        if let Some(pass) = passes.into_iter().find(|p| p.peer == peer) {
            let _ = a.orders.try_send(Present { pass, answer: Answer::Note, trace: None });
        }
    }
}

/// Looks after the roster for as long as the node lives.
pub(crate) async fn keep(node: Arc<Inner>) {
    let mut attached = node.attached.subscribe();
    loop {
        let again = node.attend().unwrap_or_else(|| Instant::now() + LOOK_EVERY);
        tokio::select! {
            () = sleep_until(again.into()) => {}
            // Its sender is in `node`.
            _ = attached.changed() => {}
        }
    }
}

impl Node {
    /// The routers that this node may attach to, best first: it attaches to two, and to another one when one of them stays away. Attachments
    /// that stay are not disturbed.
    pub fn set_routers(&self, targets: Vec<AttachTarget>) {
        {
            let mut all = lock(&self.inner.attachments);
            all.roster.set_routers(targets.iter().map(|t| t.router_id.as_str()));
            for target in &targets {
                all.slot(&target.router_id);
                if let Some(a) = all.running.get_mut(&target.router_id) {
                    target.name.clone_into(&mut a.name);
                    a.target.send_if_modified(|old| {
                        let changed = old != target;
                        old.clone_from(target);
                        changed
                    });
                }
            }
            all.targets = targets;
        }
        self.inner.attend();
    }

    /// Asks every router for a sign of life, and tries those again that are away: something has changed that may concern them, too.
    pub fn doubt_routers(&self) {
        for attachment in lock(&self.inner.attachments).running.values() {
            attachment.doubt.notify_one();
        }
    }

    /// The routers in use and how attaching to them goes, in order of preference.
    pub fn attached(&self) -> watch::Receiver<Vec<AttachState>> {
        self.inner.attached.subscribe()
    }

    /// Shows a pass to all routers that it names and waits until the first of them has opened the pair with the peer there; the best of those
    /// that have by then is used, and its id returned. It is shown again at every later attachment, until [`Self::forget_pass`].
    ///
    /// # Errors
    /// See [`PassError`]; the most hopeful one of all routers'.
    pub async fn present(&self, pass: Pass) -> Result<String, PassError> {
        let mut answers = self.inner.show(&pass);
        let until = tokio::time::Instant::now() + PASS_DEADLINE;
        let mut worst = PassError::NotAttached;
        let mut open = Vec::new();
        while let Ok(Some(answer)) = timeout_at(until, answers.recv()).await {
            let mut next = Some(answer);
            while let Some((slot, answer)) = next {
                match answer {
                    Ok(PeerAttached(true)) => open.push(slot),
                    Ok(PeerAttached(false)) => worst = PassError::PeerNotAttached,
                    Err(e) if worst == PassError::NotAttached => worst = PassError::Refused(e),
                    Err(_) => {}
                }
                next = answers.try_recv().ok();
            }
            if !open.is_empty() {
                let mut order = self.inner.slots(pass.routers());
                // Stable: within both kinds the pass's order.
                order.sort_by_key(|slot| !open.contains(slot));
                let best = order.first().map(|slot| self.inner.router_id(*slot)).unwrap_or_default();
                self.inner.socket.update(|t| t.suggest(pass.peer, order));
                return Ok(best);
            }
        }
        Err(worst)
    }

    /// Shows a renewed pass, without waiting.
    pub fn renew_pass(&self, pass: Pass) {
        self.inner.show(&pass);
        self.inner.paths_changed();
    }

    /// The pass is no longer shown at new attachments.
    pub fn forget_pass(&self, peer: Tag, purpose: &str) {
        self.inner.passes().remove(peer, purpose);
    }

    /// The peers with a connection from here for which no way works now: their passes should be renewed, for other ways.
    pub fn without_path(&self) -> watch::Receiver<Vec<Tag>> {
        self.inner.without_path.subscribe()
    }
}
