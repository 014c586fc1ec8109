//! The tests, put to a model.

use crate::{Manifest, Place, Test, Verb, World, expect::Selector, fields::Key};
use hesper_model::{
    entity::{Kind, PolicyType},
    id::{EdgeRouterId, IdentityId, ServiceId},
    role::Role,
};
use hesper_policy::{Decision, Model, PolicyRef, Request, Rule, decide};
use std::{collections::BTreeSet, fmt};

/// One test that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The test.
    pub place: Place,
    /// Who.
    pub identity: String,
    /// What the test says: `can-dial`.
    pub verb: String,
    /// About what: `service 'metrics'`.
    pub object: String,
    /// `allow` or `deny`.
    pub expected: &'static str,
    /// `allow` or `deny`; `nothing` when nobody and nothing was meant.
    pub got: &'static str,
    /// What decided.
    pub rule: String,
    /// Why it must hold.
    pub why: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, identity, verb, object, expected, got, rule, .. } = self;
        if self.got == "nothing" {
            write!(f, "{place}: {verb}: {rule}")?;
        } else {
            write!(
                f,
                "{place}: identity '{identity}' {verb} {object}: expected {expected}, got {got}: {rule}"
            )?;
        }
        self.why.as_ref().map_or(Ok(()), |why| write!(f, " (must hold: {why})"))
    }
}

/// One thing that a test says, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Who.
    pub identity: String,
    /// `dial`, `bind`, or `use` for routers.
    pub verb: &'static str,
    /// About what: a service, or a router for `use`.
    pub object: Key,
    /// For a service: the router that must carry it.
    pub via: Option<String>,
    /// Must it be allowed, or denied?
    pub allowed: bool,
}

/// What the tests gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many tests there are.
    pub tests: usize,
    /// Everything that they say, holding or not.
    pub assertions: Vec<Assertion>,
    /// The tests that do not hold.
    pub failures: Vec<Failure>,
}

/// Puts every test of the manifest to what there would be.
///
/// # Errors
/// The world is not one that a controller could have.
pub fn run(manifest: &Manifest, world: &World) -> Result<Report, String> {
    let model = world.model()?;
    let mut report = Report { tests: manifest.tests.len(), ..Report::default() };
    for test in &manifest.tests {
        Judge { manifest, world, model: &model, test, report: &mut report }.judge();
    }
    Ok(report)
}

struct Judge<'a> {
    manifest: &'a Manifest,
    world: &'a World,
    model: &'a Model,
    test: &'a Test,
    report: &'a mut Report,
}

impl Judge<'_> {
    fn judge(&mut self) {
        let identities = self.select(&self.test.identities, "identity");
        let via = self.test.via.as_ref().map(|routers| self.select(routers, "via")).unwrap_or_default();
        for (verb, selector) in &self.test.checks {
            let objects = self.select(selector, &verb.to_string());
            for identity in &identities {
                self.check(*verb, identity, &objects, &via);
            }
        }
    }

    fn check(&mut self, verb: Verb, identity: &str, objects: &BTreeSet<String>, via: &BTreeSet<String>) {
        let (type_, allowed) = match verb {
            Verb::CanDial | Verb::CanDialOnly => (Some(PolicyType::Dial), true),
            Verb::CanBind | Verb::CanBindOnly => (Some(PolicyType::Bind), true),
            Verb::CannotDial => (Some(PolicyType::Dial), false),
            Verb::CannotBind => (Some(PolicyType::Bind), false),
            Verb::CanUse => (None, true),
            Verb::CannotUse => (None, false),
        };
        for object in objects {
            let Some(type_) = type_ else {
                self.router(verb, identity, None, object, allowed);
                continue;
            };
            self.service(verb, type_, identity, object, allowed);
            for router in via.iter().filter(|_| allowed) {
                self.router(verb, identity, Some(object), router, true);
            }
        }
        if let (Verb::CanDialOnly | Verb::CanBindOnly, Some(type_)) = (verb, type_) {
            let others: Vec<String> = self.all(Kind::Service).filter(|s| !objects.contains(s)).collect();
            for other in &others {
                self.service(verb, type_, identity, other, false);
            }
        }
    }

    fn service(&mut self, verb: Verb, type_: PolicyType, identity: &str, service: &str, allowed: bool) {
        let (id, service_id) = (IdentityId::new(identity), ServiceId::new(service));
        let request = match type_ {
            PolicyType::Dial => Request::Dial { identity: &id, service: &service_id },
            PolicyType::Bind => Request::Bind { identity: &id, service: &service_id },
        };
        let decision = decide(self.model, &request);
        let word = if type_ == PolicyType::Dial { "dial" } else { "bind" };
        let object = Key::new(Kind::Service, service);
        let assertion = Assertion { identity: identity.to_owned(), verb: word, object, via: None, allowed };
        self.expect(verb, assertion, &decision);
    }

    fn router(&mut self, verb: Verb, identity: &str, service: Option<&str>, router: &str, allowed: bool) {
        let (id, service_id, router_id) =
            (IdentityId::new(identity), service.map(ServiceId::new), EdgeRouterId::new(router));
        let request = Request::UseRouter { identity: &id, service: service_id.as_ref(), router: &router_id };
        let (object, via) = match service {
            Some(service) => (Key::new(Kind::Service, service), Some(router.to_owned())),
            None => (Key::new(Kind::EdgeRouter, router), None),
        };
        let assertion = Assertion { identity: identity.to_owned(), verb: "use", object, via, allowed };
        self.expect(verb, assertion, &decide(self.model, &request));
    }

    fn expect(&mut self, verb: Verb, assertion: Assertion, decision: &Decision) {
        let Assertion { identity, object, via, allowed, .. } = &assertion;
        let word = |yes: bool| if yes { "allow" } else { "deny" };
        if decision.is_allowed() != *allowed {
            let via = via.as_ref().map(|router| format!(" via edge-router '{router}'"));
            self.report.failures.push(Failure {
                place: self.test.place.clone(),
                identity: identity.clone(),
                verb: verb.to_string(),
                object: format!("{object}{}", via.unwrap_or_default()),
                expected: word(*allowed),
                got: word(decision.is_allowed()),
                rule: self.rule(&decision.rule),
                why: self.test.why.clone(),
            });
        }
        self.report.assertions.push(assertion);
    }

    /// The rule with the places of the policies that allow; what is missing needs none.
    fn rule(&self, rule: &Rule) -> String {
        let named = |kind: Kind, policy: &PolicyRef| {
            let key = Key::new(kind, policy.name.clone());
            match self.manifest.place(&key) {
                Some(place) => format!("{key} ({place})"),
                None => format!("{key} (at the controller)"),
            }
        };
        match rule {
            Rule::ServicePolicy(type_, policy) => {
                format!("allowed by {type_} {}", named(Kind::ServicePolicy, policy))
            }
            Rule::Routers(erp, serp) => {
                let serp = serp.as_ref().map(|p| named(Kind::ServiceEdgeRouterPolicy, p));
                let serp = serp.map(|text| format!(" and {text}")).unwrap_or_default();
                format!("allowed by {}{serp}", named(Kind::EdgeRouterPolicy, erp))
            }
            missing => missing.to_string(),
        }
    }

    fn all(&self, kind: Kind) -> impl Iterator<Item = String> {
        self.world.entities.keys().filter(move |k| k.kind == kind).map(|k| k.name.clone())
    }

    /// The names of what is meant. An attribute that nobody has is a failure: the test would prove nothing.
    fn select(&mut self, selector: &Selector, word: &str) -> BTreeSet<String> {
        let mut selected = BTreeSet::new();
        for (role, place) in &selector.terms {
            match role {
                Role::All => selected.extend(self.all(selector.kind)),
                Role::Entity(name) => drop(selected.insert(name.clone())),
                Role::Attribute(attribute) => {
                    let with = self.world.entities.iter().filter(|(key, fields)| {
                        let list = fields.get("roleAttributes").and_then(|a| a.as_array());
                        key.kind == selector.kind && list.is_some_and(|l| l.iter().any(|a| a == attribute))
                    });
                    let mut with = with.map(|(key, _)| key.name.clone()).peekable();
                    let found = with.peek().is_some();
                    selected.extend(with);
                    if !found {
                        self.report.failures.push(Failure {
                            place: place.clone(),
                            identity: String::new(),
                            verb: word.to_owned(),
                            object: role.to_string(),
                            expected: "something",
                            got: "nothing",
                            rule: format!(
                                "'{role}' matches no {}, so the test proves nothing",
                                selector.kind
                            ),
                            why: None,
                        });
                    }
                }
            }
        }
        selected
    }
}
