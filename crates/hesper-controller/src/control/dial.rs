//! Where a dial goes: which terminator, through which routers, or why not. Pure.

use super::{
    grants::{Pair, judge},
    refusal::{Refused, no_such_service},
    sessions::{Session, Sessions},
};
use hesper_model::{
    entity::{Identity, Service, Terminator},
    id::{EdgeRouterId, IdentityId, Tag, TerminatorId},
};
use hesper_policy::{
    Model, Request, Rule, decide,
    terminators::{Candidate, choose, reaches},
};
use hesper_proto::control::DialRequest;
use rand::Rng;
use std::{collections::BTreeSet, sync::Arc};
use tonic::Code;

/// Routers that one pass may name: enough for every fail-over, and a pass stays far below the token limit.
pub(crate) const PASS_ROUTERS_MAX: usize = 16;

/// Who dials.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialer<'a> {
    /// The identity.
    pub(crate) identity: &'a Identity,
    /// Its session.
    pub(crate) tag: Tag,
}

/// A dial that is allowed and possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Dialer, service, binder.
    pub(crate) pair: Pair,
    /// The service's name.
    pub(crate) service: String,
    /// The chosen terminator.
    pub(crate) terminator: TerminatorId,
    /// The session that hosts it.
    pub(crate) binder_tag: Tag,
    /// The Dial policy that allowed it.
    pub(crate) rule: Rule,
    /// Routers that the pass is good for: every one that policy gives to both.
    pub(crate) pass_routers: Vec<EdgeRouterId>,
    /// Routers to use now, best first: those that both are attached to, then those that only the binder is attached to.
    pub(crate) routers: Vec<EdgeRouterId>,
}

/// Decides a dial.
///
/// # Errors
/// Why not; `passing` when it may be otherwise in a moment.
pub(crate) fn route(
    model: &Model,
    sessions: &Sessions,
    dialer: &Dialer<'_>,
    request: &DialRequest,
    rng: &mut impl Rng,
) -> Result<Route, Refused> {
    let service = service(model, dialer.identity, &request.service)?;
    let ask = Ask { model, sessions, dialer, service, request };
    if request.terminator_id.is_empty() { ask.fresh(rng) } else { ask.renewed() }
}

/// The service, if the dialer may dial it.
fn service<'a>(model: &'a Model, dialer: &Identity, asked: &str) -> Result<&'a Service, Refused> {
    let refused = |rule: &Rule| no_such_service(asked, &dialer.name, "Dial").inner_rule(rule.to_string());
    let Some(service) = model.service_by_id_or_name(asked) else {
        return Err(refused(&Rule::UnknownService(asked.to_owned())));
    };
    let decision = decide(model, &Request::Dial { identity: &dialer.id, service: &service.id });
    if decision.is_allowed() { Ok(service) } else { Err(refused(&decision.rule)) }
}

struct Ask<'a> {
    model: &'a Model,
    sessions: &'a Sessions,
    dialer: &'a Dialer<'a>,
    service: &'a Service,
    request: &'a DialRequest,
}

impl Ask<'_> {
    /// A new dial: the best terminator that is online and reachable.
    fn fresh(&self, rng: &mut impl Rng) -> Result<Route, Refused> {
        let all = self.reached();
        if all.is_empty() {
            return Err(self.no_terminators());
        }
        let avoided: BTreeSet<&str> = self.request.avoid_terminator_ids.iter().map(String::as_str).collect();
        let left: Vec<_> = all.iter().filter(|t| !avoided.contains(t.id.as_str())).collect();
        if left.is_empty() {
            return Err(self.none_online(&format!("all {} of them just failed for this dial", all.len())));
        }
        let mut online: Vec<_> = left.iter().filter_map(|t| Some((**t, self.connected(t)?))).collect();
        let mut why_not = None;
        let sticky =
            Some(TerminatorId::new(&*self.request.sticky_terminator_id)).filter(|s| !s.as_str().is_empty());
        let mut candidates: Vec<Candidate> =
            online.iter().map(|(t, _)| Candidate::from(t.as_ref())).collect();
        while let Some(index) = choose(&candidates, self.service.terminator_strategy, sticky.as_ref(), rng) {
            candidates.swap_remove(index);
            let (terminator, host) = online.swap_remove(index);
            match self.through(terminator, host) {
                Ok(route) => return Ok(route),
                // What may pass in a moment is the better news.
                Err(refused) => why_not = why_not.filter(|first: &Refused| first.passing).or(Some(refused)),
            }
        }
        Err(why_not.unwrap_or_else(|| {
            let lingering =
                left.iter().any(|t| t.session.is_some_and(|tag| self.sessions.get(tag).is_some()));
            let refused = self.none_online("the nodes that host it are not connected");
            if lingering { refused.passing() } else { refused }
        }))
    }

    /// A renewal: streams live at this terminator, so it need not be attached, only still be there and allowed.
    fn renewed(&self) -> Result<Route, Refused> {
        let id = TerminatorId::new(&*self.request.terminator_id);
        let terminator = self.model.terminator(&id).filter(|t| t.service_id == self.service.id);
        let hosted = terminator.and_then(|t| Some((t, self.sessions.get(t.session?)?)));
        let Some((terminator, host)) = hosted else {
            let message = format!("terminator '{id}' of service '{}' is gone", self.service.name);
            return Err(Refused::new(Code::Unavailable, "NO_TERMINATORS", message));
        };
        let (route, allowed) = self.judged(terminator)?;
        let mut routers = self.usable(&allowed, host);
        if routers.is_empty() {
            routers = allowed;
        }
        Ok(Route { routers, ..route })
    }

    /// The dial at this terminator, through routers that its host is attached to.
    fn through(&self, terminator: &Terminator, host: &Session) -> Result<Route, Refused> {
        let (route, allowed) = self.judged(terminator)?;
        let routers = self.usable(&allowed, host);
        if routers.is_empty() {
            return Err(self.not_attached(terminator, &allowed, host));
        }
        Ok(Route { routers, ..route })
    }

    /// The dial at this terminator as far as policy goes, and the routers that policy allows.
    fn judged(&self, terminator: &Terminator) -> Result<(Route, Vec<EdgeRouterId>), Refused> {
        let pair = Pair {
            dialer: self.dialer.identity.id.clone(),
            service: self.service.id.clone(),
            binder: terminator.host_id.clone(),
        };
        let (dial, mut allowed) = judge(self.model, &pair).map_err(|rule| self.denied(&rule))?;
        allowed.sort_by_cached_key(|id| (!self.sessions.router_is_usable(id), self.cost(id)));
        let route = Route {
            pair,
            service: self.service.name.clone(),
            terminator: terminator.id.clone(),
            binder_tag: terminator.session.unwrap_or(Tag([0; 8])),
            rule: dial.rule,
            pass_routers: allowed.iter().take(PASS_ROUTERS_MAX).cloned().collect(),
            routers: Vec::new(),
        };
        Ok((route, allowed))
    }

    /// Those of the allowed routers that work now and that the host is attached to; the dialer's own come first.
    fn usable(&self, allowed: &[EdgeRouterId], host: &Session) -> Vec<EdgeRouterId> {
        let works = |id: &&EdgeRouterId| self.sessions.router_is_usable(id) && host.attached.contains(*id);
        let mut usable: Vec<_> = allowed.iter().filter(works).take(PASS_ROUTERS_MAX).cloned().collect();
        let own = self.sessions.get(self.dialer.tag).map(|s| &s.attached);
        usable.sort_by_key(|id| !own.is_some_and(|own| own.contains(id)));
        usable
    }

    fn reached(&self) -> Vec<&Arc<Terminator>> {
        let of_service = self.model.terminators_of(&self.service.id);
        let wanted = self.request.instance.as_str();
        // An identity that got this name after somebody else had bound the instance: nobody may pose as it.
        let owner = self.model.identity_by_name(wanted).map(|i| &i.id);
        of_service
            .filter(|t| reaches(wanted, &t.instance) && owner.is_none_or(|owner| *owner == t.host_id))
            .collect()
    }

    fn connected(&self, terminator: &Terminator) -> Option<&Session> {
        self.sessions
            .get(terminator.session?)
            .filter(|s| s.is_connected() && s.identity == terminator.host_id)
    }

    fn cost(&self, id: &EdgeRouterId) -> (u16, String) {
        self.model.edge_router(id).map(|r| (r.cost, r.name.clone())).unwrap_or_default()
    }

    fn no_terminators(&self) -> Refused {
        let (service, instance) = (&self.service.name, &self.request.instance);
        let message = if instance.is_empty() {
            format!("service '{service}' has no terminators: no node hosts it")
        } else {
            format!("service '{service}' has no terminators for instanceId '{instance}'")
        };
        Refused::new(Code::Unavailable, "NO_TERMINATORS", message)
    }

    fn none_online(&self, why: &str) -> Refused {
        let message = format!("service '{}' has no online terminators: {why}", self.service.name);
        Refused::new(Code::Unavailable, "NO_ONLINE_TERMINATORS", message)
    }

    /// Policy is against this terminator: a router policy is missing, or its host may not bind any more and is about to go.
    fn denied(&self, rule: &Rule) -> Refused {
        let routers = matches!(
            rule,
            Rule::NoEdgeRouterPolicy { .. }
                | Rule::NoServiceEdgeRouterPolicy { .. }
                | Rule::NoCommonEdgeRouter { .. }
        );
        if !routers {
            return self.none_online("its host may not bind it any more").rule(rule.to_string());
        }
        let message = format!("no path to service '{}': {rule}", self.service.name);
        Refused::new(Code::FailedPrecondition, "NO_PATH", message).rule(rule.to_string())
    }

    fn not_attached(&self, terminator: &Terminator, allowed: &[EdgeRouterId], host: &Session) -> Refused {
        let states: Vec<_> = allowed.iter().map(|id| self.router_now(id, host)).collect();
        let host = self.model.identity(&terminator.host_id).map_or("", |i| i.name.as_str());
        let message = format!(
            "no path to service '{}': its host '{host}' is attached to no router that works now and that policy gives \
             to both sides ({})",
            self.service.name,
            states.join(", ")
        );
        Refused::new(Code::Unavailable, "NO_PATH", message).passing()
    }

    fn router_now(&self, id: &EdgeRouterId, host: &Session) -> String {
        let name = self.model.edge_router(id).map_or(id.as_str(), |r| r.name.as_str());
        let state = match (self.sessions.router_is_online(id), self.sessions.router_is_usable(id)) {
            (false, _) => "is offline",
            (true, false) => "is draining",
            (true, true) if host.attached.contains(id) => "is attached",
            (true, true) => "is online, not attached",
        };
        format!("'{name}' {state}")
    }
}

/// The identity's own session among them: the one it names, or the newest.
///
/// # Errors
/// There is none connected; `passing`, because its watch may be about to open.
pub(crate) fn own_session(
    sessions: &Sessions,
    identity: &IdentityId,
    named: Option<Tag>,
) -> Result<Tag, Refused> {
    let own = match named {
        Some(tag) => Some(tag)
            .filter(|tag| sessions.get(*tag).is_some_and(|s| s.identity == *identity && s.is_connected())),
        None => sessions.newest_of(identity),
    };
    own.ok_or_else(|| {
        let message = "this node has no session: its watch is not open";
        Refused::new(Code::FailedPrecondition, "NO_SESSION", message).passing()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        sessions::{Epoch, Opener},
        testing::{Mesh, mesh},
    };
    use hesper_model::entity::{Precedence, TerminatorStrategy};
    use rand::{SeedableRng, rngs::StdRng};

    const DIALER: Tag = Tag([1; 8]);
    const BINDER: Tag = Tag([2; 8]);

    struct World {
        mesh: Mesh,
        sessions: Sessions,
        routers: Vec<(EdgeRouterId, Epoch)>,
        binder: Epoch,
    }

    fn r(id: &str) -> EdgeRouterId {
        EdgeRouterId::new(id)
    }

    fn open(sessions: &mut Sessions, who: &str, tag: Tag) -> Epoch {
        let id = IdentityId::new(who);
        let opener = Opener { identity: &id, spki_sha256: who, serial: "" };
        sessions.open(&opener, None, tag).expect("room").epoch
    }

    /// Everything works: two routers, the binder attached to both, the dialer to `r2`.
    fn world() -> World {
        let mut sessions = Sessions::default();
        let dialer = open(&mut sessions, "dialer", DIALER);
        let binder = open(&mut sessions, "binder", BINDER);
        let routers: Vec<_> = ["r1", "r2"].map(|id| (r(id), sessions.open_router(r(id)))).into();
        sessions.set_attached(BINDER, binder, [r("r1"), r("r2")]);
        sessions.set_attached(DIALER, dialer, [r("r2")]);
        World { mesh: mesh().hosted("t", "", Some(BINDER)), sessions, routers, binder }
    }

    impl World {
        fn dial(self, request: DialRequest) -> Result<Route, Refused> {
            self.dial_as("dialer", request)
        }
        fn dial_as(self, who: &str, request: DialRequest) -> Result<Route, Refused> {
            let model = self.mesh.model(1);
            let identity = model.identity(&IdentityId::new(who)).expect("known").clone();
            let dialer = Dialer { identity: &identity, tag: DIALER };
            route(&model, &self.sessions, &dialer, &request, &mut StdRng::seed_from_u64(1))
        }
    }

    fn ask(service: &str) -> DialRequest {
        DialRequest { service: service.into(), ..DialRequest::default() }
    }

    #[test]
    fn a_dial_names_the_binder_and_the_routers_own_ones_first() {
        for name in ["s", "s-name"] {
            let route = world().dial(ask(name)).expect("a route");
            assert_eq!((route.terminator.as_str(), route.binder_tag), ("t", BINDER));
            assert_eq!(route.routers, [r("r2"), r("r1")]);
            assert_eq!(route.pass_routers.len(), 2);
            assert!(route.rule.to_string().contains("dialer-Dial"));
        }
    }

    #[test]
    fn refusals_name_what_is_missing() {
        let mut offline = world();
        offline.sessions.close(BINDER, offline.binder, std::time::Instant::now());
        let mut detached = world();
        detached.sessions.set_attached(BINDER, detached.binder, []);
        let mut draining = world();
        for (id, epoch) in draining.routers.clone() {
            draining.sessions.set_router_status(&id, epoch, 0, true);
        }
        let mut dark = world();
        for (id, epoch) in dark.routers.clone() {
            dark.sessions.close_router(&id, epoch);
        }
        let change = |f: fn(Mesh) -> Mesh| {
            let w = world();
            World { mesh: f(w.mesh), ..w }
        };
        let avoid = DialRequest { avoid_terminator_ids: vec!["t".into()], ..ask("s") };
        let table = [
            (
                change(Mesh::without_dial),
                ask("s"),
                Code::NotFound,
                "INVALID_SERVICE",
                "ask for a Dial",
                false,
            ),
            (
                change(Mesh::without_bind),
                ask("s"),
                Code::Unavailable,
                "NO_ONLINE_TERMINATORS",
                "may not bind",
                false,
            ),
            (
                change(Mesh::without_erp),
                ask("s"),
                Code::FailedPrecondition,
                "NO_PATH",
                "no edge-router-policy",
                false,
            ),
            (
                change(Mesh::without_serp),
                ask("s"),
                Code::FailedPrecondition,
                "NO_PATH",
                "service-edge-router",
                false,
            ),
            (
                World { mesh: mesh(), ..world() },
                ask("s"),
                Code::Unavailable,
                "NO_TERMINATORS",
                "no node hosts",
                false,
            ),
            (
                world(),
                DialRequest { instance: "x".into(), ..ask("s") },
                Code::Unavailable,
                "NO_TERMINATORS",
                "instanceId 'x'",
                false,
            ),
            (
                World { sessions: Sessions::default(), ..world() },
                ask("s"),
                Code::Unavailable,
                "NO_ONLINE_TERMINATORS",
                "not connected",
                false,
            ),
            (offline, ask("s"), Code::Unavailable, "NO_ONLINE_TERMINATORS", "not connected", true),
            (detached, ask("s"), Code::Unavailable, "NO_PATH", "is online, not attached", true),
            (draining, ask("s"), Code::Unavailable, "NO_PATH", "is draining", true),
            (dark, ask("s"), Code::Unavailable, "NO_PATH", "is offline", true),
            (world(), avoid, Code::Unavailable, "NO_ONLINE_TERMINATORS", "just failed", false),
            (
                world(),
                DialRequest { terminator_id: "gone".into(), ..ask("s") },
                Code::Unavailable,
                "NO_TERMINATORS",
                "is gone",
                false,
            ),
        ];
        for (world, request, status, code, text, passing) in table {
            let refused = world.dial(request).expect_err(text);
            assert_eq!(
                (refused.status, refused.code, refused.passing),
                (status, code, passing),
                "{refused:?}"
            );
            assert!(refused.message.contains(text), "{text}: {}", refused.message);
        }
    }

    #[test]
    fn unknown_and_forbidden_look_alike() {
        let (known, unknown) = ("s-name", "x-name");
        let forbidden = world().dial_as("stranger", ask(known)).expect_err("no policy");
        let missing = world().dial_as("stranger", ask(unknown)).expect_err("no service");
        assert_ne!(forbidden.operator_rule(), missing.operator_rule());
        let bytes = |refused: Refused, asked: &str| {
            let status = tonic::Status::from(refused);
            let text = status.message().replace(asked, "?");
            let detail = String::from_utf8_lossy(status.details()).replace(asked, "?");
            (status.code(), text, detail)
        };
        assert_eq!(bytes(forbidden, known), bytes(missing, unknown));
        let renewal = DialRequest { terminator_id: "t".into(), ..ask("s") };
        assert_eq!(world().dial_as("stranger", renewal).expect_err("no policy").code, "INVALID_SERVICE");
    }

    #[test]
    fn a_renewal_outlives_the_binders_watch_but_not_its_policy() {
        let renewal = || DialRequest { terminator_id: "t".into(), ..ask("s") };
        let mut lingering = world();
        lingering.sessions.close(BINDER, lingering.binder, std::time::Instant::now());
        assert_eq!(lingering.dial(renewal()).expect("renewed").routers.len(), 2);
        let mut detached = world();
        detached.sessions.set_attached(BINDER, detached.binder, []);
        assert_eq!(detached.dial(renewal()).expect("renewed").routers.len(), 2, "those that policy allows");
        let w = world();
        assert!(World { mesh: w.mesh.without_bind(), ..w }.dial(renewal()).is_err());
        let other = DialRequest { service: "other".into(), ..renewal() };
        assert_eq!(world().dial(other).expect_err("not its service").code, "INVALID_SERVICE");
    }

    #[test]
    fn the_best_reachable_terminator_is_taken() {
        let two = |f: fn(&mut Mesh)| {
            let mut w = world();
            w.mesh = w.mesh.hosted("u", "i", Some(BINDER));
            f(&mut w.mesh);
            w
        };
        let by_cost = two(|m| m.0.terminators[0].cost = 9).dial(ask("s")).expect("a route");
        assert_eq!(by_cost.terminator.as_str(), "u", "a dial without an instance reaches named ones too");
        let by_precedence =
            two(|m| m.0.terminators[1].precedence = Precedence::Failed).dial(ask("s")).expect("a route");
        assert_eq!(by_precedence.terminator.as_str(), "t");
        let by_instance =
            two(|_| ()).dial(DialRequest { instance: "i".into(), ..ask("s") }).expect("a route");
        assert_eq!(by_instance.terminator.as_str(), "u");
        let mut named_later = two(|m| m.0.terminators[1].instance = "stranger-name".into());
        let posing = DialRequest { instance: "stranger-name".into(), ..ask("s") };
        named_later.mesh.0.identities.retain(|i| i.id.as_str() != "stranger");
        assert_eq!(named_later.dial(posing.clone()).expect("nobody's name").terminator.as_str(), "u");
        let taken = two(|m| m.0.terminators[1].instance = "stranger-name".into());
        assert_eq!(taken.dial(posing).expect_err("another's name").code, "NO_TERMINATORS");
        let avoided = DialRequest { avoid_terminator_ids: vec!["u".into()], ..ask("s") };
        assert_eq!(
            two(|m| m.0.terminators[0].cost = 9).dial(avoided).expect("a route").terminator.as_str(),
            "t"
        );
        let sticky = DialRequest { sticky_terminator_id: "t".into(), ..ask("s") };
        let kept = two(|m| {
            m.0.terminators[0].cost = 9;
            m.0.services[0].terminator_strategy = TerminatorStrategy::Sticky;
        });
        assert_eq!(kept.dial(sticky).expect("a route").terminator.as_str(), "t");
        let unreachable_first = two(|m| {
            m.0.terminators[1].session = Some(Tag([8; 8]));
            m.0.terminators[0].cost = 9;
        });
        assert_eq!(unreachable_first.dial(ask("s")).expect("a route").terminator.as_str(), "t");
    }

    #[test]
    fn a_session_is_the_callers_own() {
        let mut w = world();
        let (dialer, binder) = (IdentityId::new("dialer"), IdentityId::new("binder"));
        assert_eq!(own_session(&w.sessions, &dialer, Some(DIALER)), Ok(DIALER));
        assert_eq!(
            own_session(&w.sessions, &dialer, Some(BINDER)).expect_err("not its own").code,
            "NO_SESSION"
        );
        open(&mut w.sessions, "binder", Tag([4; 8]));
        assert_eq!(own_session(&w.sessions, &binder, None), Ok(Tag([4; 8])), "the newest");
        assert!(own_session(&w.sessions, &IdentityId::new("stranger"), None).is_err_and(|r| r.passing));
    }
}
