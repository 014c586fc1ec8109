//! The service `NodeControl`.

use super::{
    auth,
    bind::{self, Bound, Host, Plan},
    dial::{self, Dialer, own_session},
    issue::{self, Recipient},
    push::{self, Ended, Outbox},
    refusal::Refused,
    renew,
    sessions::{ATTACHED_MAX, Opened, Opener},
    tell_node, token_keys, unix_now,
    view::{Told, same},
};
use crate::state::{Expect, State, WRITE_ATTEMPTS, WriteError};
use hesper_model::{
    entity::Terminator,
    id::{EdgeRouterId, MAX_NAME_LEN, Tag},
};
use hesper_observe::audit::{Event, Kind, Outcome};
use hesper_pki::token::SessionClaims;
use hesper_policy::{Model, Rule};
use hesper_proto::{
    SESSION_METADATA,
    control::{
        BindRequest, BindResponse, DialRequest, DialResponse, NodeHello, NodeReport, NodeState, NodeUpdate,
        RenewRequest, RenewResponse, UnbindRequest, UnbindResponse, UpdateTerminatorRequest,
        UpdateTerminatorResponse, node_control_server::NodeControl, node_report, node_update,
    },
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

/// How long the first report of a watch may take.
pub(super) const HELLO: Duration = Duration::from_secs(5);
/// How long a dial or bind waits for somebody who is about to attach or to come back.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) use renew::internal;

/// The service.
pub(super) struct NodeService(pub(super) Arc<State>);

#[tonic::async_trait]
impl NodeControl for NodeService {
    type WatchStream = ReceiverStream<Result<NodeUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        let mut reports = request.into_inner();
        let hello = hello(&mut reports).await?;
        let (watch, from) = Watch::open(self.0.clone(), caller, &hello)?;
        self.0.control.watches.spawn(watch.run(reports));
        Ok(Response::new(ReceiverStream::new(from)))
    }

    async fn dial(&self, request: Request<DialRequest>) -> Result<Response<DialResponse>, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        let named = named_session(&request)?;
        let request = request.into_inner();
        let dialed = self.dial_when_possible(&caller, named, &request).await;
        self.record_dial(&caller, &request, &dialed);
        Ok(Response::new(dialed.map(|(answer, _)| answer)?))
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        let named = named_session(&request)?;
        let request = request.into_inner();
        let bound = self.bind_now(&caller, named, &request).await;
        self.record_bind(&caller, &request, &bound);
        Ok(Response::new(bound.map(|(answer, _)| answer)?))
    }

    async fn unbind(&self, request: Request<UnbindRequest>) -> Result<Response<UnbindResponse>, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        let tag = self.session_of(&caller, named_session(&request)?).await?;
        let id = request.into_inner().terminator_id;
        bind::own_terminator(&self.0.model(), tag, &id)?;
        self.0.delete::<Terminator>(&id).await.map_err(|error| internal(&error))?;
        tracing::info!(terminator = id, host = %caller.identity.name, "unbound");
        Ok(Response::new(UnbindResponse {}))
    }

    async fn update_terminator(
        &self,
        request: Request<UpdateTerminatorRequest>,
    ) -> Result<Response<UpdateTerminatorResponse>, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        let tag = self.session_of(&caller, named_session(&request)?).await?;
        let request = request.into_inner();
        for _ in 0..WRITE_ATTEMPTS {
            let now = OffsetDateTime::now_utc();
            let done = match bind::update(&self.0.model(), tag, &request, now)? {
                None => true,
                Some(changed) => self.replace(&changed).await?,
            };
            if done {
                return Ok(Response::new(UpdateTerminatorResponse {}));
            }
        }
        Err(contended().into())
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        Ok(Response::new(renew::renew(&self.0, &caller.peer, request.get_ref()).await?))
    }
}

impl NodeService {
    /// Decides again while what is missing may come within [`PATIENCE`].
    async fn dial_when_possible(
        &self,
        caller: &auth::Node,
        named: Option<Tag>,
        request: &DialRequest,
    ) -> Result<(DialResponse, Rule), Refused> {
        let state = &self.0;
        self.patiently(|| {
            let model = state.model();
            let shared = state.control.lock();
            let tag = own_session(&shared.sessions, &caller.identity.id, named)?;
            let dialer = Dialer { identity: &caller.identity, tag };
            let route = dial::route(&model, &shared.sessions, &dialer, request, &mut rand::rng())?;
            drop(shared);
            let to = Recipient { tag, spki_sha256: &caller.peer.spki_sha256, name: &caller.identity.name };
            Ok((issue::issue(state, &model, &route, to)?, route.rule))
        })
        .await
    }

    /// Tries at once, and after each change of model or presence while the refusal may pass.
    async fn patiently<T>(&self, mut attempt: impl FnMut() -> Result<T, Refused>) -> Result<T, Refused> {
        let (mut model, mut presence) = (self.0.subscribe(), self.0.control.presence.subscribe());
        let deadline = Instant::now() + PATIENCE;
        let first = attempt();
        if !matches!(&first, Err(refused) if refused.passing) {
            return first;
        }
        let Ok(_place) = self.0.control.waiting.try_acquire() else { return first };
        loop {
            let over = tokio::select! {
                _ = model.changed() => false,
                _ = presence.changed() => false,
                () = sleep_until(deadline) => true,
                () = self.0.control.stop.cancelled() => true,
            };
            let result = attempt();
            if over || !matches!(&result, Err(refused) if refused.passing) {
                return result;
            }
        }
    }

    async fn session_of(&self, caller: &auth::Node, named: Option<Tag>) -> Result<Tag, Refused> {
        self.patiently(|| own_session(&self.0.control.lock().sessions, &caller.identity.id, named)).await
    }

    async fn bind_now(
        &self,
        caller: &auth::Node,
        named: Option<Tag>,
        request: &BindRequest,
    ) -> Result<(BindResponse, Rule), Refused> {
        let tag = self.session_of(caller, named).await?;
        let host = Host { identity: &caller.identity, tag };
        for _ in 0..WRITE_ATTEMPTS {
            let model = self.0.model();
            let Bound { plan, rule } = bind::bind(&model, &host, request, OffsetDateTime::now_utc())?;
            self.0.control.change(|shared| shared.sessions.set_hosting(tag));
            let (terminator_id, done) = match &plan {
                Plan::Keep(id) => (id.to_string(), true),
                Plan::Create(terminator) => (terminator.id.to_string(), self.create(terminator).await?),
                Plan::Update(terminator) => (terminator.id.to_string(), self.replace(terminator).await?),
            };
            if done {
                let service = service_id(&model, &request.service);
                return Ok((BindResponse { terminator_id, service_id: service }, rule));
            }
        }
        Err(contended())
    }

    /// False when somebody else was faster.
    async fn create(&self, terminator: &Terminator) -> Result<bool, Refused> {
        written(self.0.put(terminator, Expect::New).await)
    }

    /// False when somebody else was faster.
    async fn replace(&self, terminator: &Terminator) -> Result<bool, Refused> {
        let Some(old) = self.0.get::<Terminator>(terminator.id.as_str()) else { return Ok(false) };
        written(self.0.put(terminator, Expect::Unchanged(old.mod_revision)).await)
    }

    fn record_dial(
        &self,
        caller: &auth::Node,
        request: &DialRequest,
        dialed: &Result<(DialResponse, Rule), Refused>,
    ) {
        let control = &self.0.control;
        let (outcome, result, code) = outcome(dialed.as_ref().err());
        control.metrics.dials.get_or_create(&vec![("outcome", result), ("code", code)]).inc();
        let renewal = !request.terminator_id.is_empty();
        let mut event = Event::now(Kind::Dial, outcome)
            .actor(caller.identity.id.as_str())
            .field("service", shown(&request.service))
            .field("renewal", renewal);
        match dialed {
            Ok((answer, rule)) => {
                tracing::debug!(dialer = %caller.identity.name, service = request.service, renewal, %rule, "dial granted");
                event = event
                    .field("serviceId", &*answer.service_id)
                    .field("terminator", &*answer.terminator_id)
                    .field("binder", &*answer.binder_id)
                    .field("grant", &*answer.grant_id)
                    .field("rule", rule.to_string());
            }
            Err(refused) => {
                let rule = refused.operator_rule();
                tracing::info!(dialer = %caller.identity.name, service = request.service, code, rule, "dial refused");
                event = event.field("code", code).field("rule", rule);
            }
        }
        self.0.audit.record(&event);
    }

    fn record_bind(
        &self,
        caller: &auth::Node,
        request: &BindRequest,
        bound: &Result<(BindResponse, Rule), Refused>,
    ) {
        let (outcome, result, code) = outcome(bound.as_ref().err());
        self.0.control.metrics.binds.get_or_create(&vec![("outcome", result), ("code", code)]).inc();
        let mut event = Event::now(Kind::Bind, outcome)
            .actor(caller.identity.id.as_str())
            .field("service", shown(&request.service))
            .field("instance", shown(&request.instance));
        match bound {
            Ok((answer, rule)) => {
                tracing::info!(host = %caller.identity.name, service = request.service, %rule, "bound");
                event = event.field("terminator", &*answer.terminator_id).field("rule", rule.to_string());
            }
            Err(refused) => {
                let rule = refused.operator_rule();
                tracing::info!(host = %caller.identity.name, service = request.service, code, rule, "bind refused");
                event = event.field("code", code).field("rule", rule);
            }
        }
        self.0.audit.record(&event);
    }
}

/// One open watch.
struct Watch {
    state: Arc<State>,
    caller: auth::Node,
    opened: Opened,
    outbox: Arc<Outbox<NodeUpdate>>,
    to: mpsc::Sender<Result<NodeUpdate, Status>>,
}

impl Watch {
    /// Opens or resumes the session.
    #[expect(clippy::type_complexity, reason = "the receiver is what tonic streams")]
    fn open(
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
        let opened =
            opened.map_err(|full: super::sessions::TooMany| Status::resource_exhausted(full.to_string()))?;
        tracing::info!(identity = %caller.identity.name, session = %opened.tag, resumed = opened.resumed, client, "node online");
        let event = Event::now(Kind::Attach, Outcome::Success)
            .actor(caller.identity.id.as_str())
            .field("session", opened.tag.to_string())
            .field("resumed", opened.resumed)
            .field("client", &*client);
        state.audit.record(&event);
        // One: what waits here cannot be overtaken by something more urgent.
        let (to, from) = mpsc::channel(1);
        Ok((Self { state, caller, opened, outbox, to }, from))
    }

    async fn run(self, mut reports: Streaming<NodeReport>) {
        let control = &self.state.control;
        let mut last = Last::default();
        let feed = push::feed(
            &self.to,
            &self.outbox,
            control.changes(&self.state),
            || control.pace(),
            || self.news(&mut last),
        );
        let ended = tokio::select! {
            ended = feed => Some(ended),
            () = self.listen(&mut reports) => None,
            () = control.stop.cancelled() => {
                let bye = Status::unavailable("the controller is stopping");
                // There is room unless the node does not read, and then it does not matter.
                let _ = self.to.try_send(Err(bye));
                None
            }
        };
        if ended == Some(Ended::Slow) {
            control.metrics.slow.inc();
            tracing::warn!(identity = %self.caller.identity.name, session = %self.opened.tag, "node cut off: it does not read");
        }
        let Opened { tag, epoch, .. } = self.opened;
        control.change(|shared| {
            shared.sessions.close(tag, epoch, std::time::Instant::now());
            if shared.nodes.get(&tag).is_some_and(|(of, _)| *of == epoch) {
                shared.nodes.remove(&tag);
            }
        });
        tracing::info!(identity = %self.caller.identity.name, session = %tag, "node offline");
    }

    /// Takes reports until there are no more.
    async fn listen(&self, reports: &mut Streaming<NodeReport>) {
        loop {
            match reports.message().await {
                Ok(Some(NodeReport { report: Some(node_report::Report::Attached(attached)) })) => {
                    let model = self.state.model();
                    let ids = attached.router_ids.into_iter().take(ATTACHED_MAX).map(EdgeRouterId::new);
                    let known: Vec<_> = ids.filter(|id| model.edge_router(id).is_some()).collect();
                    let Opened { tag, epoch, .. } = self.opened;
                    self.state.control.change(|shared| shared.sessions.set_attached(tag, epoch, known));
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
        let token = last.token(&self.state, &self.caller, self.opened.tag)?;
        let told = Told { identity: &self.caller.identity.id, tag: self.opened.tag, token: &token };
        let picture = self.state.control.picture(&self.state);
        let Some(now) = picture.node_state(&told, &token_keys(&self.state)) else {
            return Err(Status::unauthenticated(format!(
                "there is no identity '{}' any more",
                self.caller.identity.id
            )));
        };
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
    token: Option<(String, u64)>,
}

impl Last {
    /// The session token, a new one when half of its life is over.
    fn token(&mut self, state: &State, caller: &auth::Node, tag: Tag) -> Result<String, Status> {
        let iat = unix_now();
        if let Some((token, _)) = self.token.as_ref().filter(|(_, renew_at)| iat < *renew_at) {
            return Ok(token.clone());
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
        Ok(token)
    }
}

async fn hello(reports: &mut Streaming<NodeReport>) -> Result<NodeHello, Status> {
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

/// The session that the call is made for, from its metadata.
fn named_session<T>(request: &Request<T>) -> Result<Option<Tag>, Status> {
    let Some(value) = request.metadata().get(SESSION_METADATA) else { return Ok(None) };
    let tag = value.to_str().ok().and_then(|text| text.parse().ok());
    tag.map(Some).ok_or_else(|| Status::invalid_argument(format!("{SESSION_METADATA} is not a session tag")))
}

fn service_id(model: &Model, asked: &str) -> String {
    model.service_by_id_or_name(asked).map(|s| s.id.to_string()).unwrap_or_default()
}

fn written(result: Result<u64, WriteError>) -> Result<bool, Refused> {
    match result {
        Ok(_) => Ok(true),
        Err(WriteError::Conflict(_)) => Ok(false),
        Err(error) => Err(internal(&error)),
    }
}

fn contended() -> Refused {
    Refused::new(Code::Aborted, "CONFLICT", "the terminator is being changed by others: try again")
}

fn outcome(refused: Option<&Refused>) -> (Outcome, &'static str, &'static str) {
    match refused {
        None => (Outcome::Success, "success", ""),
        Some(refused) if refused.status == Code::Internal => (Outcome::Failure, "failure", refused.code),
        Some(refused) => (Outcome::Denied, "denied", refused.code),
    }
}

/// Text of a peer as it may stand in logs: short, and one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_NAME_LEN).collect()
}
