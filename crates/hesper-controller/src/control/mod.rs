//! What nodes and routers ask over gRPC: who is here, what they are told, who may dial whom, and when that ends.
//!
//! Pure: `sessions` (who is here), `paths` (the ways between two nodes), `grants` (what was granted and must be revoked), `view`
//! (what nodes and routers are told), `reroute` (when a dialer needs other ways), `costs` (what terminators cost just now), `rate`
//! (how often one identity may call), `tokens` (whose session tokens are out), `dial` and `bind` (the decisions and their reasons), `refusal` (how a no is said).
//! Shells: `node` and `router` (the gRPC services), `calls` (how long they take), `auth` (who calls), `issue` (tokens), `push` (the outgoing side of every watch),
//! `renew`, `events` (what is told of all this), `journal` (records of session tokens and revoked grants), `revoke` (what must end at once after a change) and `reconcile` (what else follows: terminators of
//! sessions that are gone, better ways).
//!
//! A revocation never waits for a slow node: it goes into the watch's outbox, and a watch that does not read is cut off; what
//! it missed is told again when it is back.

pub(crate) mod auth;
mod bind;
mod calls;
mod costs;
mod dial;
mod events;
mod grants;
mod issue;
mod journal;
mod metrics;
mod node;
mod paths;
mod push;
mod rate;
mod reconcile;
mod refusal;
mod renew;
mod reroute;
mod revoke;
mod router;
mod sessions;
mod tokens;
mod view;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use crate::{
    ca::Watchers,
    state::State,
    validity::{Span, Validities},
};
use costs::Costs;
use grants::{Ledger, Pair, Revocation};
use hesper_model::id::{EdgeRouterId, IdentityId, MAX_NAME_LEN, Tag, TerminatorId};
use hesper_proto::control::{
    NodeUpdate, Revoked, RouterRevoked, RouterUpdate, TokenKey, node_control_server::NodeControlServer,
    node_update, router_control_server::RouterControlServer, router_update,
};
use journal::Journal;
use metrics::ControlMetrics;
use push::{Changes, Outbox};
use rate::{Limit, Rates};
use sessions::{Epoch, SESSIONS_PER_IDENTITY_MAX, Sessions};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Status;
use view::{Picture, Presence, RouterKeys};

pub(crate) use grants::{REVOKED, Remembered};
pub(crate) use tokens::{SESSION, Tokens};

/// Largest request of a node or router: certification requests and lists of routers are far smaller.
const REQUEST_MAX: usize = 64 * 1024;
/// Largest report of a router: ten bytes for each of the 16,384 sessions that it carries, and its links.
const ROUTER_REQUEST_MAX: usize = 512 * 1024;
/// How long the first report of a watch may take.
const HELLO: Duration = Duration::from_secs(5);
/// Dials and binds that may wait for somebody at a time; each holds its request only. The others are answered at once.
const WAITING_MAX: usize = 4_096;

/// Dials, binds and other calls of one identity: a dialer of 2,000 targets renews some fifteen a second.
const CALLS: Limit = Limit { per_second: 200, burst: 1_000 };
/// Watches that one identity opens: as many as it may have sessions, twice over, and then at the rate of a node that retries.
const WATCHES: Limit = Limit { per_second: 10, burst: 2 * SESSIONS_PER_IDENTITY_MAX as u32 };
/// Reasons told to one node one by one; beyond it they are not worth their messages.
const REASONS_MAX: usize = 16;

/// What may be set differently, by tests above all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a certificate is valid.
    pub(crate) leaf_validity: Duration,
    /// How long a grant and its pass are valid.
    pub(crate) grant_validity: Duration,
    /// How long a session token is valid.
    pub(crate) session_validity: Duration,
    /// How long a session outlives its watch, so that it can be resumed.
    pub(crate) linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            leaf_validity: crate::enroll::CERTIFICATE_LIFETIME,
            grant_validity: Duration::from_secs(5 * 60),
            session_validity: Duration::from_secs(24 * 3600),
            linger: Duration::from_secs(30),
        }
    }
}

impl Settings {
    /// Takes over what is said.
    pub(crate) fn apply(&mut self, said: Validities) {
        let or = |said: Option<Span>, default| said.map_or(default, |span| span.0);
        self.leaf_validity = or(said.leaf_validity, self.leaf_validity);
        self.grant_validity = or(said.grant_validity, self.grant_validity);
        self.session_validity = or(said.session_validity, self.session_validity);
    }
}

/// Sessions of nodes and routers, and the grants given to them.
pub(crate) struct Control {
    pub(crate) settings: Settings,
    /// Who trusts which CA.
    pub(crate) watchers: Arc<Watchers>,
    shared: Mutex<Shared>,
    /// Revision of the model by which everything that is out was decided last, for what nodes are told: what ends comes first.
    judged: watch::Sender<u64>,
    /// [`Sessions::version`], for dials that wait.
    presence: watch::Sender<u64>,
    /// [`Sessions::view_version`], for what nodes are told.
    view: watch::Sender<u64>,
    /// [`Sessions::paths_version`], for reroutes.
    paths: watch::Sender<u64>,
    picture: Mutex<Option<Arc<Picture>>>,
    waiting: Semaphore,
    /// Grants that ended since this was last told as events: how many of a pair, and why.
    revoked: Mutex<BTreeMap<(Arc<Pair>, String), usize>>,
    journal: Journal,
    metrics: ControlMetrics,
    watches: TaskTracker,
    stop: CancellationToken,
}

struct Shared {
    sessions: Sessions,
    ledger: Ledger,
    tokens: Tokens,
    costs: Costs,
    calls: Rates,
    opens: Rates,
    nodes: HashMap<Tag, (Epoch, Arc<Outbox<NodeUpdate>>)>,
    routers: HashMap<EdgeRouterId, (Epoch, Arc<Outbox<RouterUpdate>>)>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            sessions: Sessions::default(),
            ledger: Ledger::default(),
            tokens: Tokens::default(),
            costs: Costs::default(),
            calls: Rates::new(CALLS),
            opens: Rates::new(WATCHES),
            nodes: HashMap::new(),
            routers: HashMap::new(),
        }
    }
}

impl Shared {
    /// What the terminator costs beyond its static cost.
    fn dynamic_cost(&self, id: &TerminatorId) -> u32 {
        self.costs.of(id, self.ledger.users(id), Instant::now())
    }

    /// Dials of this dialer failed at these terminators.
    fn failed(&mut self, terminators: &[TerminatorId], dialer: &IdentityId) {
        let now = Instant::now();
        let alarms = terminators.iter().filter(|t| self.costs.failed(t, dialer, now)).count();
        if alarms > 0 {
            self.sessions.choices_changed();
        }
    }
}

/// A session that is over for good.
struct Gone {
    tag: Tag,
    identity: IdentityId,
    reason: String,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            watchers: Arc::default(),
            shared: Mutex::default(),
            judged: watch::Sender::new(0),
            presence: watch::Sender::new(0),
            view: watch::Sender::new(0),
            paths: watch::Sender::new(0),
            picture: Mutex::new(None),
            waiting: Semaphore::new(WAITING_MAX),
            revoked: Mutex::default(),
            journal: Journal::default(),
            metrics: ControlMetrics::default(),
            watches: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }
}

impl Control {
    /// Of a controller that starts, and has given out these tokens and revoked these grants before.
    pub(crate) fn with(tokens: Tokens, revoked: Vec<(String, Remembered)>) -> Self {
        let mut shared = Shared { tokens, ..Shared::default() };
        revoked.into_iter().for_each(|(id, grant)| shared.ledger.restore(id, grant));
        Self { shared: Mutex::new(shared), ..Self::default() }
    }

    /// What a terminator costs beyond its static cost.
    pub(crate) fn dynamic_cost(&self, id: &TerminatorId) -> u32 {
        self.lock().dynamic_cost(id)
    }

    /// Is the router's watch open?
    pub(crate) fn router_is_online(&self, id: &EdgeRouterId) -> bool {
        self.lock().sessions.routers().is_online(id)
    }

    /// Has the identity an open watch?
    pub(crate) fn identity_is_online(&self, id: &IdentityId) -> bool {
        self.lock().sessions.of_identity(id).any(|(_, s)| s.is_connected())
    }

    /// Is one of the identity's sessions attached to a router?
    pub(crate) fn identity_is_attached(&self, id: &IdentityId) -> bool {
        self.lock().sessions.of_identity(id).any(|(_, s)| s.is_connected() && !s.attached.is_empty())
    }

    /// Waits until the controller stops.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    fn revoked(&self) -> MutexGuard<'_, BTreeMap<(Arc<Pair>, String), usize>> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is shared, then wakes whoever waits for such a change.
    fn change<R>(&self, act: impl FnOnce(&mut Shared) -> R) -> R {
        let mut shared = self.lock();
        let result = act(&mut shared);
        let (version, view) = (shared.sessions.version(), shared.sessions.view_version());
        let paths = shared.sessions.paths_version();
        self.metrics.show(&shared.sessions, &shared.ledger);
        if shared.ledger.is_unwritten() {
            self.journal.revoked.notify_one();
        }
        drop(shared);
        raise(&self.presence, version);
        raise(&self.view, view);
        raise(&self.paths, paths);
        result
    }

    /// What nodes are told now; made once for all of them.
    fn picture(&self, state: &State) -> Arc<Picture> {
        let mut made = self.picture.lock().unwrap_or_else(PoisonError::into_inner);
        let model = state.model();
        // What changes meanwhile wakes everybody again.
        let key = (model.revision(), *self.view.borrow());
        if let Some(picture) = made.as_ref().filter(|picture| picture.key() == key) {
            return picture.clone();
        }
        let records = state.records();
        let presence = {
            let shared = self.lock();
            Presence::of(&shared.sessions).with(&shared.costs)
        };
        let keys = |id: &EdgeRouterId| {
            records.router_secret(id.as_str()).map(|r| RouterKeys { tag: r.tag, secret: r.knock_secret })
        };
        let picture = Arc::new(Picture::new(model, &presence, keys, made.as_deref()));
        *made = Some(picture.clone());
        picture
    }

    /// Tells binders, dialers and routers of grants that ended, each in as few messages as can be.
    fn tell(&self, shared: &Shared, revocations: Vec<Revocation>) {
        let mut of_nodes: BTreeMap<Tag, Vec<(String, String)>> = BTreeMap::new();
        let mut of_routers: BTreeMap<EdgeRouterId, Vec<String>> = BTreeMap::new();
        for revoked in revocations {
            if revoked.sessions.is_empty() {
                tracing::info!(pass = revoked.id, reason = revoked.reason, "a pass ends at some routers");
            } else {
                self.metrics.revocations.inc();
                let of_pair = (revoked.pair.clone(), revoked.reason.clone());
                *self.revoked().entry(of_pair).or_default() += 1;
                tracing::info!(grant = revoked.id, reason = revoked.reason, "a grant is revoked");
            }
            for tag in revoked.sessions {
                of_nodes.entry(tag).or_default().push((revoked.id.clone(), revoked.reason.clone()));
            }
            for router in revoked.routers {
                of_routers.entry(router).or_default().push(revoked.id.clone());
            }
        }
        for (tag, revoked) in of_nodes {
            if let Some((_, outbox)) = shared.nodes.get(&tag) {
                tell_node(outbox, revoked);
            }
        }
        for (router, pass_ids) in of_routers {
            if let Some((_, outbox)) = shared.routers.get(&router) {
                tell_router(outbox, pass_ids, Vec::new());
            }
        }
    }

    /// Ends sessions for good: their watches with `status`, their grants, and their attachments at every router. Whose they were, and why
    /// they ended.
    fn end_sessions(&self, ended: Vec<(Tag, Status)>) -> Vec<Gone> {
        if ended.is_empty() {
            return Vec::new();
        }
        let mut gone = Vec::with_capacity(ended.len());
        let (now, tags) = (Instant::now(), ended.iter().map(|(tag, _)| *tag).collect::<Vec<_>>());
        self.change(|shared| {
            for (_, outbox) in shared.routers.values() {
                tell_router(outbox, Vec::new(), tags.clone());
            }
            let mut revoked = Vec::new();
            for (tag, status) in ended {
                tracing::info!(session = %tag, reason = status.message(), "a session is ended");
                let identity = shared.sessions.get(tag).map(|session| session.identity.clone());
                let held = shared.tokens.holder(tag).map(|holder| holder.identity.clone());
                gone.extend(identity.or(held).map(|identity| Gone {
                    tag,
                    identity,
                    reason: status.message().to_owned(),
                }));
                shared.sessions.end(tag, now);
                if let Some(holder) = shared.tokens.end(tag) {
                    self.journal.note(tag, Some(holder));
                }
                revoked.extend(shared.ledger.revoke_session(tag, status.message()));
                if let Some((_, outbox)) = shared.nodes.remove(&tag) {
                    outbox.end(status);
                }
            }
            self.tell(shared, revoked);
        });
        gone
    }

    /// What a watch has to follow.
    fn changes(&self) -> Changes {
        Changes::new(self.judged.subscribe(), self.view.subscribe())
    }

    /// How far apart the updates of a watch are at least: the more watches, the rarer, so that a thousand of them following one
    /// change after the other leave room for the changes themselves.
    fn pace(&self) -> Duration {
        let watches = u32::try_from(self.watches.len()).unwrap_or(u32::MAX);
        Duration::from_millis(20) + Duration::from_micros(40).saturating_mul(watches)
    }
}

/// The keys that verify grants, passes and session tokens.
fn token_keys(state: &State) -> Vec<TokenKey> {
    let signer = &state.authority.signer;
    vec![TokenKey { kid: signer.kid().to_owned(), ed25519: signer.public_key().to_vec() }]
}

/// Grants that ended, by their reasons.
fn tell_node(outbox: &Outbox<NodeUpdate>, revoked: Vec<(String, String)>) {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, reason) in revoked {
        by_reason.entry(reason).or_default().push(id);
    }
    if by_reason.len() > REASONS_MAX {
        let all = by_reason.into_values().flatten().collect();
        by_reason = BTreeMap::from([("policies were changed".to_owned(), all)]);
    }
    for (reason, grant_ids) in by_reason {
        outbox.push(NodeUpdate { update: Some(node_update::Update::Revoked(Revoked { grant_ids, reason })) });
    }
}

/// Passes and sessions that ended. A router is not told why: the reasons name people and services.
fn tell_router(outbox: &Outbox<RouterUpdate>, pass_ids: Vec<String>, sessions: Vec<Tag>) {
    if pass_ids.is_empty() && sessions.is_empty() {
        return;
    }
    let session_tags = sessions.into_iter().map(|tag| tag.0.to_vec()).collect();
    let revoked = RouterRevoked { pass_ids, session_tags, reason: "revoked by the controller".to_owned() };
    outbox.push(RouterUpdate { update: Some(router_update::Update::Revoked(revoked)) });
}

fn raise(version: &watch::Sender<u64>, to: u64) {
    version.send_if_modified(|now| {
        let newer = to > *now;
        *now = to.max(*now);
        newer
    });
}

/// Text of a peer as it may stand in logs: short, and one line.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME_LEN).collect()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The gRPC services, to be merged with the REST routes.
pub(crate) fn routes(state: Arc<State>) -> axum::Router {
    let nodes =
        NodeControlServer::new(node::NodeService(state.clone())).max_decoding_message_size(REQUEST_MAX);
    let routers = RouterControlServer::new(router::RouterService(state.clone()))
        .max_decoding_message_size(ROUTER_REQUEST_MAX);
    let routes = tonic::service::Routes::new(nodes).add_service(routers).into_axum_router();
    routes.layer(axum::middleware::from_fn_with_state(state, calls::measured))
}

/// Starts the background tasks; they, and every watch, end when `stop` is cancelled.
pub(crate) fn spawn(state: &Arc<State>, tasks: &TaskTracker, stop: &CancellationToken) {
    reconcile::restore(state);
    state.control.metrics.register(&state.metrics.registry);
    tasks.spawn(revoke::revoke(state.clone(), stop.clone()));
    tasks.spawn(reconcile::sweep(state.clone(), stop.clone()));
    tasks.spawn(journal::keep(state.clone(), stop.clone()));
    tasks.spawn(journal::remember(state.clone(), stop.clone()));
    tasks.spawn(reconcile::reroute(state.clone(), stop.clone()));
    let (state, stop) = (state.clone(), stop.clone());
    tasks.spawn(async move {
        stop.cancelled().await;
        state.control.stop.cancel();
        state.control.watches.close();
        state.control.watches.wait().await;
    });
}
