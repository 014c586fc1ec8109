//! The decision that every grant rests on: one for all grants of a pair.

use hesper_model::{
    config::otlp::SenderTerms,
    id::{IdentityId, ServiceId},
};
use hesper_policy::{
    Model, Request, Rule, decide,
    routers::{self, Ends},
    sender_terms,
};
use std::sync::Arc;

/// What the decision about a grant depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Pair {
    /// Who dials.
    pub(crate) dialer: IdentityId,
    /// What.
    pub(crate) service: ServiceId,
    /// Who hosts it.
    pub(crate) binder: IdentityId,
}

/// What policy gives to the grants of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The Dial policy.
    pub(crate) dial: Rule,
    /// The routers of each end.
    pub(crate) ends: Ends,
    /// What the dialer may send, if the service has an `otlp.v1` config.
    pub(crate) terms: Option<Arc<SenderTerms>>,
}

/// May this dialer dial this service at this host now, and on which terms?
///
/// # Errors
/// The decision that denies: Dial, Bind, the terms, or the routers.
pub(crate) fn judge(model: &Model, pair: &Pair) -> Result<Given, Rule> {
    let dial = decide(model, &Request::Dial { identity: &pair.dialer, service: &pair.service });
    if !dial.is_allowed() {
        return Err(dial.rule);
    }
    let bind = decide(model, &Request::Bind { identity: &pair.binder, service: &pair.service });
    if !bind.is_allowed() {
        return Err(bind.rule);
    }
    let terms = sender_terms(model, &pair.dialer, &pair.service)?;
    let ends = routers::ends(model, &pair.dialer, &pair.binder, &pair.service)?;
    Ok(Given { dial: dial.rule, ends, terms })
}

/// What grants of a pair may still use, or why they end.
pub(crate) type Judged = Result<Given, String>;

/// Decides a pair once for all of its grants.
pub(crate) fn verdict(model: &Model, pair: &Pair) -> Judged {
    judge(model, pair).map_err(|rule| rule.to_string())
}
