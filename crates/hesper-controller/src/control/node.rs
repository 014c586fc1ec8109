//! The service `NodeControl`.

mod hosted;
mod watch;

use super::{
    auth,
    bind::{self, Bound, Host, Plan},
    dial::{self, Dialer, own_session},
    events as control_events,
    issue::{self, Recipient},
    rate::TooOften,
    refusal::Refused,
    renew::{self, internal},
    shown,
};
use crate::{
    events,
    metrics::observe,
    state::{Expect, State, WRITE_ATTEMPTS, WriteError},
    trace,
};
use hesper_model::{
    entity::Terminator,
    id::{Tag, TerminatorId},
};
use hesper_observe::events::{Denial, Event, Kind};
use hesper_policy::{Model, Rule};
use hesper_proto::{
    SESSION_METADATA,
    control::{
        BindRequest, BindResponse, DialRequest, DialResponse, NodeReport, NodeUpdate, RenewRequest,
        RenewResponse, UnbindRequest, UnbindResponse, UpdateTerminatorRequest, UpdateTerminatorResponse,
        node_control_server::NodeControl,
    },
};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};
use watch::{Watch, hello};

/// How long a dial or bind waits for somebody who is about to attach or to come back.
const PATIENCE: Duration = Duration::from_secs(2);

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
        let taken = self.0.control.lock().opens.take(&caller.identity.id, std::time::Instant::now());
        taken.map_err(|often| self.too_often("watches", &caller, often))?;
        let mut reports = request.into_inner();
        let hello = hello(&mut reports).await?;
        let (watch, from) = Watch::open(self.0.clone(), caller, &hello)?;
        self.0.control.watches.spawn(watch.run(reports));
        Ok(Response::new(ReceiverStream::new(from)))
    }

    async fn dial(&self, request: Request<DialRequest>) -> Result<Response<DialResponse>, Status> {
        let caller = self.caller(&request)?;
        let named = named_session(&request)?;
        let request = request.into_inner();
        let begun = Instant::now();
        let dialed = self.dial_when_possible(&caller, named, &request).await;
        observe(&self.0.metrics.grants, outcome(dialed.as_ref().err()), begun.elapsed());
        self.record_dial(&caller, &request, &dialed);
        Ok(Response::new(dialed.map(|(answer, _)| answer)?))
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let caller = self.caller(&request)?;
        let named = named_session(&request)?;
        let request = request.into_inner();
        let begun = Instant::now();
        let bound = self.bind_now(&caller, named, &request).await;
        observe(&self.0.metrics.binds, outcome(bound.as_ref().err()), begun.elapsed());
        self.record_bind(&caller, &request, &bound);
        Ok(Response::new(bound.map(|(answer, _)| answer)?))
    }

    async fn unbind(&self, request: Request<UnbindRequest>) -> Result<Response<UnbindResponse>, Status> {
        let caller = self.caller(&request)?;
        let tag = self.session_of(&caller, named_session(&request)?).await?;
        let id = request.into_inner().terminator_id;
        let terminator = bind::own_terminator(&self.0.model(), tag, &id)?.clone();
        self.0.delete::<Terminator>(&id).await.map_err(|error| internal(&error))?;
        control_events::terminator(&self.0, Kind::TerminatorRemoved, &terminator, "its host unbound it");
        tracing::info!(terminator = id, host = %caller.identity.name, "unbound");
        Ok(Response::new(UnbindResponse {}))
    }

    async fn update_terminator(
        &self,
        request: Request<UpdateTerminatorRequest>,
    ) -> Result<Response<UpdateTerminatorResponse>, Status> {
        let caller = self.caller(&request)?;
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
    /// Who calls, if it does not call too often.
    fn caller<T>(&self, request: &Request<T>) -> Result<auth::Node, Status> {
        let caller = auth::node(&self.0, request.extensions())?;
        let taken = self.0.control.lock().calls.take(&caller.identity.id, std::time::Instant::now());
        taken.map_err(|often| self.too_often("calls", &caller, often))?;
        Ok(caller)
    }

    fn too_often(&self, what: &'static str, caller: &auth::Node, often: TooOften) -> Status {
        self.0.control.metrics.limited.get_or_create(&vec![("what", what)]).inc();
        let name = &caller.identity.name;
        tracing::debug!(identity = %name, what, "too many calls");
        let message = format!("identity '{name}' makes too many {what}: {often}");
        Refused::new(Code::ResourceExhausted, "RATE_LIMITED", message).into()
    }

    /// Decides again while what is missing may come within [`PATIENCE`].
    async fn dial_when_possible(
        &self,
        caller: &auth::Node,
        named: Option<Tag>,
        request: &DialRequest,
    ) -> Result<(DialResponse, Rule), Refused> {
        let state = &self.0;
        let failures = dial::failures(&state.model(), &caller.identity, request);
        if !failures.is_empty() {
            state.control.change(|shared| shared.failed(&failures, &caller.identity.id));
        }
        self.patiently(|| {
            let model = state.model();
            let mut shared = state.control.lock();
            let tag = own_session(&shared.sessions, &caller.identity.id, named)?;
            let dialer = Dialer { identity: &caller.identity, tag };
            let cost = |id: &TerminatorId| shared.dynamic_cost(id);
            let begun = Instant::now();
            let route = dial::route(&model, &shared.sessions, &dialer, request, &cost, &mut rand::rng());
            state.metrics.decided("dial", route.is_ok(), begun.elapsed());
            let route = route?;
            if dial::is_renewal(request) {
                shared.costs.succeeded(&route.terminator, &caller.identity.id);
            }
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
            let begun = Instant::now();
            let bound = bind::bind(&model, &host, request, OffsetDateTime::now_utc());
            self.0.metrics.decided("bind", bound.is_ok(), begun.elapsed());
            let Bound { plan, rule } = bound?;
            self.0.control.change(|shared| shared.sessions.set_hosting(tag));
            let (terminator, done) = match &plan {
                Plan::Keep(terminator) => (terminator, true),
                Plan::Create(terminator) => (terminator, self.create(terminator).await?),
                Plan::Update(terminator) => (terminator, self.replace(terminator).await?),
            };
            if done {
                if let Plan::Create(terminator) = &plan {
                    control_events::terminator(&self.0, Kind::TerminatorCreated, terminator, "");
                }
                let bound = BindResponse {
                    terminator_id: terminator.id.to_string(),
                    service_id: service_id(&model, &request.service),
                    cost: terminator.cost.into(),
                    precedence: terminator.precedence.to_string(),
                };
                return Ok((bound, rule));
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
        let (renewal, refused) = (dial::is_renewal(request), dialed.as_ref().err());
        let code = refused.map_or("", |refused| refused.code);
        let mut event = self.event(Kind::Dial, caller, &request.service, refused).field("renewal", renewal);
        let labels = vec![("outcome", event.outcome().name()), ("code", code)];
        self.0.control.metrics.dials.get_or_create(&labels).inc();
        match dialed {
            Ok((answer, rule)) => {
                tracing::debug!(dialer = %caller.identity.name, service = request.service, renewal, %rule, "dial granted");
                event = event
                    .field("terminator", &*answer.terminator_id)
                    .field("binder", &*answer.binder_id)
                    .field("grant", &*answer.grant_id)
                    .rule(rule.to_string());
            }
            Err(refused) => {
                let rule = refused.operator_rule();
                tracing::info!(dialer = %caller.identity.name, service = request.service, code, rule, "dial refused");
                event = event.field("code", code);
            }
        }
        self.0.record(event);
    }

    fn record_bind(
        &self,
        caller: &auth::Node,
        request: &BindRequest,
        bound: &Result<(BindResponse, Rule), Refused>,
    ) {
        let refused = bound.as_ref().err();
        let code = refused.map_or("", |refused| refused.code);
        let event = self.event(Kind::Bind, caller, &request.service, refused);
        let mut event = event.field("instance", shown(&request.instance));
        let labels = vec![("outcome", event.outcome().name()), ("code", code)];
        self.0.control.metrics.binds.get_or_create(&labels).inc();
        match bound {
            Ok((answer, rule)) => {
                tracing::info!(host = %caller.identity.name, service = request.service, %rule, "bound");
                event = event.field("terminator", &*answer.terminator_id).rule(rule.to_string());
            }
            Err(refused) => {
                let rule = refused.operator_rule();
                tracing::info!(host = %caller.identity.name, service = request.service, code, rule, "bind refused");
                event = event.field("code", code);
            }
        }
        self.0.record(event);
    }

    /// What a node asked of a service, and whether it got it.
    fn event(&self, kind: Kind, caller: &auth::Node, asked: &str, refused: Option<&Refused>) -> Event {
        let identity = events::identity(&caller.identity);
        let service = events::service_asked(&self.0.model(), &shown(asked));
        let event = match refused {
            None => Event::success(kind).identity(identity).service(service),
            Some(refused) if refused.status == Code::Internal => {
                Event::failure(kind).identity(identity).service(service).rule(refused.operator_rule())
            }
            Some(refused) => {
                let rule = refused.operator_rule();
                trace::denied(rule);
                Event::denied(kind, Denial { identity, service, rule: rule.to_owned() })
            }
        };
        event.actor(caller.identity.id.as_str())
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

/// How a call ended, as its event says it.
fn outcome(refused: Option<&Refused>) -> &'static str {
    match refused {
        None => "success",
        Some(refused) if refused.status == Code::Internal => "failure",
        Some(_) => "denied",
    }
}
