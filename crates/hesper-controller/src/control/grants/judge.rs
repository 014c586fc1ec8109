//! The decision that every grant rests on: one for all grants of a pair.

use hesper_model::id::{IdentityId, ServiceId};
use hesper_policy::{
    Decision, Model, Request, Rule, decide,
    routers::{self, Ends},
};

/// What the decision about a grant depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    /// Who dials.
    pub(crate) dialer: IdentityId,
    /// What.
    pub(crate) service: ServiceId,
    /// Who hosts it.
    pub(crate) binder: IdentityId,
}

/// May this dialer dial this service at this host now? The Dial decision, and the routers that policy gives to each end.
///
/// # Errors
/// The decision that denies: Dial, Bind, or the routers.
pub(crate) fn judge(model: &Model, pair: &Pair) -> Result<(Decision, Ends), Rule> {
    let dial = decide(model, &Request::Dial { identity: &pair.dialer, service: &pair.service });
    if !dial.is_allowed() {
        return Err(dial.rule);
    }
    let bind = decide(model, &Request::Bind { identity: &pair.binder, service: &pair.service });
    if !bind.is_allowed() {
        return Err(bind.rule);
    }
    let ends = routers::ends(model, &pair.dialer, &pair.binder, &pair.service)?;
    Ok((dial, ends))
}

/// What grants of a pair may still use, or why they end.
pub(crate) type Judged = Result<Ends, String>;

/// Decides a pair once for all of its grants.
pub(crate) fn verdict(model: &Model, pair: &Pair) -> Judged {
    judge(model, pair).map(|(_, ends)| ends).map_err(|rule| rule.to_string())
}
