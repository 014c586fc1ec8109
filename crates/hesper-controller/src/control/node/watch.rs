//! One open watch of a node: its session, its reports, and what it is told.

use super::super::{
    HELLO, auth, events as control_events,
    push::{self, Ended, Outbox},
    renew::internal,
    sessions::{ATTACHED_MAX, Opened, Opener, TooMany},
    shown, tell_node, token_keys,
    tokens::Holder,
    unix_now,
    view::{Key, Told, same},
};
use super::hosted;
use crate::{ca::Watcher, events, state::State};
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_observe::events::{Denial, Event, Kind, Named};
use hesper_pki::token::SessionClaims;
use hesper_proto::control::{NodeHello, NodeReport, NodeState, NodeUpdate, node_report, node_update};
use std::{sync::Arc, time::Instant};
use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};

/// One open watch.
pub(super) struct Watch {
    state: Arc<State>,
    caller: auth::Node,
    opened: Opened,
    outbox: Arc<Outbox<NodeUpdate>>,
    to: mpsc::Sender<Result<NodeUpdate, Status>>,
    watcher: Watcher,
}

impl Watch {
    /// Opens or resumes the session.
    pub(super) fn open(
        state: Arc<State>,
        caller: auth::Node,
        hello: &NodeHello,
    ) -> Result<(Self, mpsc::Receiver<Result<NodeUpdate, Status>>), Status> {
        let client = shown(&hello.client);
        let opener = Opener {
            identity: &caller.identity.id,
            spki_sha256: &caller.peer.spki_sha256,
            serial: &caller.peer.serial,
        };
        let resume = resumed_tag(&state, &caller, &hello.session_token);
        let outbox = Arc::new(Outbox::default());
        let opened = state.control.change(|shared| {
            let opened = shared.sessions.open(&opener, resume, Tag::random(&mut rand::rng()))?;
            if let Some((_, old)) = shared.nodes.insert(opened.tag, (opened.epoch, outbox.clone())) {
                old.end(Status::aborted("the session was resumed by a newer watch"));
            }
            tell_node(&outbox, shared.ledger.revoked_for_session(opened.tag));
            Ok(opened)
        });
        let opened = opened.map_err(|full: TooMany| {
            let name = &caller.identity.name;
            tracing::info!(identity = %name, reason = %full, "a node gets no session");
            let denial = Denial {
                identity: events::identity(&caller.identity),
                service: Named::name(events::CONTROL_API),
                rule: full.to_string(),
            };
            state.record(Event::denied(Kind::Attach, denial).actor(caller.identity.id.as_str()));
            Status::resource_exhausted(format!("identity '{name}' gets no further session: {full}"))
        })?;
        tracing::info!(identity = %caller.identity.name, session = %opened.tag, resumed = opened.resumed, client, "node online");
        let event = Event::success(Kind::Attach)
            .identity(events::identity(&caller.identity))
            .actor(caller.identity.id.as_str())
            .field("session", opened.tag.to_string())
            .field("resumed", opened.resumed)
            .field("client", &*client);
        state.record(event);
        // One: what waits here cannot be overtaken by something more urgent.
        let (to, from) = mpsc::channel(1);
        let watcher = state.control.watchers.open(&caller.peer.id, &caller.identity.name);
        Ok((Self { state, caller, opened, outbox, to, watcher }, from))
    }

    pub(super) async fn run(self, mut reports: Streaming<NodeReport>) {
        let control = &self.state.control;
        // On record before any token is given out, so that it can be ended whatever happens to this controller.
        if let Some(holder) = self.cover(unix_now())
            && let Err(refused) = control.journal.write(self.opened.tag, holder).await
        {
            self.outbox.end(refused.into());
        }
        let mut last = Last::default();
        let feed =
            push::feed(&self.to, &self.outbox, control.changes(), || control.pace(), || self.news(&mut last));
        let ended = push::until_over(&self.to, feed, self.listen(&mut reports), &control.stop).await;
        if ended == Some(Ended::Slow) {
            control.metrics.slow.inc();
            tracing::warn!(identity = %self.caller.identity.name, session = %self.opened.tag, "node cut off: it does not read");
        }
        let Opened { tag, epoch, .. } = self.opened;
        control.change(|shared| {
            shared.sessions.close(tag, epoch, Instant::now() + control.settings.linger);
            if shared.nodes.get(&tag).is_some_and(|(of, _)| *of == epoch) {
                shared.nodes.remove(&tag);
            }
        });
        tracing::info!(identity = %self.caller.identity.name, session = %tag, "node offline");
        let reason = match ended {
            Some(Ended::Slow) => "it does not read",
            Some(Ended::Told(_)) => "the controller ended it",
            Some(Ended::Gone) | None => "the connection was closed",
        };
        control_events::detached(&self.state, events::identity(&self.caller.identity), tag, reason);
    }

    /// What to record so that the session tokens of now are covered.
    fn cover(&self, now: u64) -> Option<Holder> {
        let life = self.state.control.settings.session_validity.as_secs();
        let holder = Holder {
            identity: self.caller.identity.id.clone(),
            spki_sha256: self.caller.peer.spki_sha256.clone(),
            serial: self.caller.peer.serial.clone(),
            // Longer than this token, so that not every reconnect is written.
            expires_at: now + 2 * life,
            ended: false,
        };
        self.state.control.lock().tokens.cover(self.opened.tag, holder, now + life)
    }

    /// Takes reports until there are no more.
    async fn listen(&self, reports: &mut Streaming<NodeReport>) {
        loop {
            match reports.message().await {
                Ok(Some(NodeReport { report: Some(node_report::Report::Attached(attached)) })) => {
                    let model = self.state.model();
                    let routers = attached
                        .routers
                        .into_iter()
                        .take(ATTACHED_MAX)
                        .map(|r| (EdgeRouterId::new(r.router_id), r.rtt_micros));
                    let known: Vec<_> = routers.filter(|(id, _)| model.edge_router(id).is_some()).collect();
                    let Opened { tag, epoch, .. } = self.opened;
                    self.state.control.change(|shared| shared.sessions.set_attached(tag, epoch, known));
                }
                Ok(Some(NodeReport { report: Some(node_report::Report::Hosted(hosted)) })) => {
                    hosted::adopt(&self.state, &self.caller, self.opened.tag, &hosted);
                }
                Ok(Some(NodeReport { report: Some(node_report::Report::Trusting(trusting)) })) => {
                    self.watcher.report(&trusting);
                }
                // A second hello, or a report of a later version.
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(session = %self.opened.tag, %status, "the node's reports ended");
                    return;
                }
            }
        }
    }

    /// The node's state, if it differs from the last one.
    fn news(&self, last: &mut Last) -> Result<Option<NodeUpdate>, Status> {
        auth::known_identity(&self.state.model(), &self.caller.identity.id)?;
        let (token, is_new) = last.token(&self.state, &self.caller, self.opened.tag)?;
        if is_new && let Some(holder) = self.cover(unix_now()) {
            self.state.control.journal.note(self.opened.tag, Some(holder));
        }
        let told = Told { identity: &self.caller.identity.id, tag: self.opened.tag, token: &token };
        let picture = self.state.control.picture(&self.state);
        let (keys, trust) = (token_keys(&self.state), Some(self.state.trust()));
        let seen = last.seen.replace(picture.key());
        if !is_new
            && last.state.as_ref().is_some_and(|before| before.token_keys == keys && before.trust == trust)
            && seen.is_some_and(|seen| picture.is_same_for(told.identity, seen))
        {
            return Ok(None);
        }
        let Some(mut now) = picture.node_state(&told, &keys) else {
            return Err(Status::unauthenticated(format!(
                "there is no identity '{}' any more",
                self.caller.identity.id
            )));
        };
        now.trust = trust;
        if last.state.as_ref().is_some_and(|before| same(before, &now)) {
            return Ok(None);
        }
        last.state = Some(now.clone());
        Ok(Some(NodeUpdate { update: Some(node_update::Update::State(now)) }))
    }
}

/// What was sent last.
#[derive(Default)]
struct Last {
    state: Option<NodeState>,
    /// The picture that it was made of, or a later one that says the same.
    seen: Option<Key>,
    token: Option<(String, u64)>,
}

impl Last {
    /// The session token, a new one when half of its life is over, and whether it is new.
    fn token(&mut self, state: &State, caller: &auth::Node, tag: Tag) -> Result<(String, bool), Status> {
        let iat = unix_now();
        if let Some((token, _)) = self.token.as_ref().filter(|(_, renew_at)| iat < *renew_at) {
            return Ok((token.clone(), false));
        }
        let life = state.control.settings.session_validity.as_secs();
        let claims = SessionClaims {
            sub: caller.identity.id.clone(),
            tag,
            cnf: caller.peer.spki_sha256.clone(),
            iat,
            exp: iat + life,
        };
        let token = state.authority.signer.sign(&claims).map_err(|error| internal(&error))?;
        self.token = Some((token.clone(), iat + life / 2));
        Ok((token, true))
    }
}

/// The report that opens a watch.
///
/// # Errors
/// Another report, or none in time.
pub(super) async fn hello(reports: &mut Streaming<NodeReport>) -> Result<NodeHello, Status> {
    let first = timeout(HELLO, reports.message()).await;
    match first.map_err(|_| Status::deadline_exceeded("the first report did not come"))?? {
        Some(NodeReport { report: Some(node_report::Report::Hello(hello)) }) => Ok(hello),
        _ => Err(Status::invalid_argument("the first report must be hello")),
    }
}

/// The session that a token proves to be this caller's. A bad token means a new session, never a refusal.
fn resumed_tag(state: &State, caller: &auth::Node, token: &str) -> Option<Tag> {
    if token.is_empty() {
        return None;
    }
    match state.verifier().verify::<SessionClaims>(token, unix_now()) {
        Ok(claims) if claims.sub == caller.identity.id && claims.cnf == caller.peer.spki_sha256 => {
            Some(claims.tag)
        }
        Ok(_) => {
            tracing::warn!(identity = %caller.identity.name, "a session token of somebody else was presented");
            None
        }
        Err(error) => {
            tracing::info!(identity = %caller.identity.name, %error, "a session is not resumed");
            None
        }
    }
}
