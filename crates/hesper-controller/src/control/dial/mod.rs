//! Where a dial goes: which terminator, over which ways, or why not. Pure.

mod refused;

use super::{
    grants::{Given, Pair, judge},
    paths::{Between, Path, Paths},
    refusal::{Refused, no_such_service},
    sessions::{Attached, Session, Sessions},
};
use crate::trace::decide;
use hesper_model::{
    config::otlp::SenderTerms,
    entity::{Identity, Service, Terminator},
    id::{IdentityId, Tag, TerminatorId},
};
use hesper_policy::{
    Model, Request, Rule,
    terminators::{Candidate, choose, reaches, shares},
};
use hesper_proto::control::DialRequest;
use rand::{Rng, seq::SliceRandom};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tonic::Code;

/// Microseconds of a way that count as one point of a terminator's cost: as OpenZiti's milliseconds of latency do.
const MICROS_PER_POINT: u64 = 1_000;

/// Terminators named with their shares in one answer.
const SHARES_MAX: usize = 256;

/// Failures taken from one request.
const FAILURES_MAX: usize = 32;

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
    /// What the dialer may send.
    pub(crate) terms: Option<Arc<SenderTerms>>,
    /// Ways that the pass is good for, best first.
    pub(crate) paths: Vec<Path>,
    /// How many of them, the first ones, the dialer is told: those that work now.
    pub(crate) told: usize,
    /// What part of the dials each terminator gets, when the dialer is to draw by itself.
    pub(crate) shares: Vec<(TerminatorId, u32)>,
    /// Were some that are online not among those to choose from?
    pub(crate) narrowed: bool,
}

/// Is it about a terminator at which streams of the dialer live already?
pub(crate) fn is_renewal(request: &DialRequest) -> bool {
    !request.terminator_id.is_empty() && !request.drawn
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
    dynamic_cost: &dyn Fn(&TerminatorId) -> u32,
    rng: &mut impl Rng,
) -> Result<Route, Refused> {
    let service = service(model, dialer.identity, &request.service)?;
    let ask = Ask { model, sessions, dialer, service, request, dynamic_cost };
    if is_renewal(request) { ask.renewed() } else { ask.fresh(rng) }
}

/// Terminators that just failed for this dialer, as far as it may dial them at all.
pub(crate) fn failures(model: &Model, dialer: &Identity, request: &DialRequest) -> Vec<TerminatorId> {
    let Ok(service) = service(model, dialer, &request.service) else { return Vec::new() };
    let avoided = request.avoid_terminator_ids.iter().take(FAILURES_MAX).map(TerminatorId::new);
    avoided.filter(|id| model.terminator(id).is_some_and(|t| t.service_id == service.id)).collect()
}

/// The service, if the dialer may dial it.
fn service<'a>(model: &'a Model, dialer: &Identity, asked: &str) -> Result<&'a Service, Refused> {
    let refused = |rule: &Rule| no_such_service(asked, &dialer.name, "Dial").inner_rule(rule.to_string());
    let Some(service) = model.service_by_id_or_name(asked) else {
        return Err(refused(&Rule::UnknownService(asked.to_owned())));
    };
    let request = Request::Dial { identity: &dialer.id, service: &service.id };
    let decision = decide(model, &request, dialer, service);
    if decision.is_allowed() { Ok(service) } else { Err(refused(&decision.rule)) }
}

struct Ask<'a> {
    model: &'a Model,
    sessions: &'a Sessions,
    dialer: &'a Dialer<'a>,
    service: &'a Service,
    request: &'a DialRequest,
    dynamic_cost: &'a dyn Fn(&TerminatorId) -> u32,
}

impl Ask<'_> {
    /// A new dial: the best terminator that is online and reachable.
    fn fresh(&self, rng: &mut impl Rng) -> Result<Route, Refused> {
        let all = self.reached();
        if all.is_empty() {
            return Err(self.no_terminators());
        }
        let avoided: BTreeSet<&str> = self.request.avoid_terminator_ids.iter().map(String::as_str).collect();
        let left: Vec<_> = all.iter().filter(|t| !avoided.contains(t.id.as_str())).copied().collect();
        if left.is_empty() {
            return Err(self.none_online(&format!("all {} of them just failed for this dial", all.len())));
        }
        let (mut routes, candidates) = self.reachable(&left)?;
        let sticky =
            Some(TerminatorId::new(&*self.request.sticky_terminator_id)).filter(|s| !s.as_str().is_empty());
        let chosen = choose(&candidates, self.service.terminator_strategy, sticky.as_ref(), rng);
        let shares = if self.request.drawn { Vec::new() } else { self.shares(&candidates, rng) };
        let online = all.iter().filter(|t| self.connected(t).is_some()).count();
        let narrowed = candidates.len() < online;
        let route = chosen.map(|index| Route { shares, narrowed, ..routes.swap_remove(index) });
        route.ok_or_else(|| self.no_terminators())
    }

    /// What part of the dials each of several gets by itself; of very many, some at random.
    fn shares(&self, candidates: &[Candidate], rng: &mut impl Rng) -> Vec<(TerminatorId, u32)> {
        let mut shares = shares(candidates, self.service.terminator_strategy);
        if shares.len() < 2 {
            return Vec::new();
        }
        if shares.len() > SHARES_MAX {
            shares.shuffle(rng);
            shares.truncate(SHARES_MAX);
        }
        shares.into_iter().map(|(index, weight)| (candidates[index].id.clone(), weight)).collect()
    }

    /// Those of them that are online and that a way leads to now; at least one.
    ///
    /// # Errors
    /// There is none. What may pass in a moment is the better news.
    fn reachable(&self, left: &[&Arc<Terminator>]) -> Result<(Vec<Route>, Vec<Candidate>), Refused> {
        let (mut routes, mut candidates, mut why_not) = (Vec::new(), Vec::new(), None);
        let mut ways: HashMap<(&IdentityId, Tag), Result<Ways, Refused>> = HashMap::new();
        for terminator in left {
            let Some((tag, host)) = self.connected(terminator) else { continue };
            let to_host = ways
                .entry((&terminator.host_id, tag))
                .or_insert_with(|| self.ways(terminator, host).and_then(|ways| self.open(ways, host)));
            match to_host {
                Ok(ways) => {
                    let mut candidate = Candidate::from(terminator.as_ref());
                    let beside = (self.dynamic_cost)(&terminator.id).saturating_add(ways.points());
                    candidate.cost = candidate.cost.saturating_add(beside);
                    candidates.push(candidate);
                    routes.push(self.route(terminator, ways));
                }
                Err(refused) => {
                    why_not = why_not.filter(|first: &Refused| first.passing).or(Some(refused.clone()));
                }
            }
        }
        if !routes.is_empty() {
            return Ok((routes, candidates));
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
        let route = self.route(terminator, &self.ways(terminator, host)?);
        // When nothing works that anybody knows of, the nodes may know better.
        Ok(if route.told == 0 { Route { told: route.paths.len(), ..route } } else { route })
    }

    fn route(&self, terminator: &Terminator, ways: &Ways) -> Route {
        Route {
            pair: self.pair(terminator),
            service: self.service.name.clone(),
            terminator: terminator.id.clone(),
            binder_tag: terminator.session.unwrap_or(Tag([0; 8])),
            rule: ways.given.dial.clone(),
            terms: ways.given.terms.clone(),
            paths: ways.paths.pass().iter().map(|r| r.path.clone()).collect(),
            told: ways.paths.working().len(),
            shares: Vec::new(),
            narrowed: false,
        }
    }

    /// The ways to the terminator as far as policy goes.
    fn ways(&self, terminator: &Terminator, host: &Session) -> Result<Ways, Refused> {
        let given = judge(self.model, &self.pair(terminator)).map_err(|rule| self.denied(&rule))?;
        let nowhere = Attached::new();
        let between = Between {
            allowed: &given.ends,
            dialer: self.sessions.get(self.dialer.tag).map_or(&nowhere, |s| &s.attached),
            binder: &host.attached,
            routers: self.sessions.routers(),
            model: self.model,
        };
        let paths = between.paths();
        Ok(Ways { given, paths })
    }

    /// The ways, if one of them works.
    fn open(&self, ways: Ways, host: &Session) -> Result<Ways, Refused> {
        if ways.paths.working().is_empty() { Err(self.no_way(&ways.given.ends, host)) } else { Ok(ways) }
    }

    fn pair(&self, terminator: &Terminator) -> Pair {
        Pair {
            dialer: self.dialer.identity.id.clone(),
            service: self.service.id.clone(),
            binder: terminator.host_id.clone(),
        }
    }

    fn reached(&self) -> Vec<&Arc<Terminator>> {
        let of_service = self.model.terminators_of(&self.service.id);
        let wanted = self.request.instance.as_str();
        // An identity that got this name after somebody else had bound the instance: nobody may pose as it.
        let owner = self.model.identity_by_name(wanted).map(|i| &i.id);
        of_service
            .filter(|t| reaches(wanted, &t.instance) && owner.is_none_or(|owner| *owner == t.host_id))
            .filter(|t| !self.request.drawn || t.id.as_str() == self.request.terminator_id)
            .collect()
    }

    fn connected(&self, terminator: &Terminator) -> Option<(Tag, &Session)> {
        let tag = terminator.session?;
        let session = self.sessions.get(tag)?;
        (session.is_connected() && session.identity == terminator.host_id).then_some((tag, session))
    }
}

/// How one host is reached.
struct Ways {
    given: Given,
    paths: Paths,
}

impl Ways {
    /// What the best of them adds to the cost of a terminator.
    fn points(&self) -> u32 {
        let micros = self.paths.working().first().map_or(0, |best| best.micros);
        u32::try_from(micros / MICROS_PER_POINT).unwrap_or(u32::MAX)
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
mod tests;
