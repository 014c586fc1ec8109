//! Which of several terminators a dial goes to.

use crate::Model;
use hesper_model::{
    entity::{Identity, Precedence, Terminator, TerminatorStrategy},
    id::{IdentityId, TerminatorId},
};
use rand::{Rng, seq::IndexedRandom};

/// What the choice needs to know of a terminator that is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: TerminatorId,
    /// The identity that hosts it.
    pub host: IdentityId,
    /// Its instance id; empty = none.
    pub instance: String,
    /// Its cost: static and dynamic together.
    pub cost: u32,
    /// Its precedence.
    pub precedence: Precedence,
}

impl From<&Terminator> for Candidate {
    fn from(t: &Terminator) -> Self {
        Self {
            id: t.id.clone(),
            host: t.host_id.clone(),
            instance: t.instance.clone(),
            cost: t.cost.into(),
            precedence: t.precedence,
        }
    }
}

/// May this identity answer dials to this instance? An identity's name is its own instance id; nobody else may pose as it.
///
/// Regardless of case, because host names are; only the name itself is sure to be one's own.
pub fn may_answer_to(model: &Model, host: &Identity, instance: &str) -> bool {
    instance == host.name
        || !model.identities().any(|i| i.id != host.id && i.name.eq_ignore_ascii_case(instance))
}

/// May a dial that asks for `wanted` (empty = any) reach a terminator with this instance id?
///
/// A dial without an instance may reach every terminator (in OpenZiti it sees only those without an instance); a dial with
/// one reaches only that instance, so a terminator without an instance is never reached by a dial that names one.
pub fn reaches(wanted: &str, instance: &str) -> bool {
    wanted.is_empty() || wanted == instance
}

/// The index of the chosen candidate; none when there are none.
///
/// Only the best precedence present counts. Among it: smartrouting takes the lowest cost (one at random when several have
/// it), weighted takes at random in inverse proportion to cost + 1, random takes any. Sticky stays with `sticky` while that
/// terminator is a candidate that has not failed, else chooses as smartrouting does.
pub fn choose(
    candidates: &[Candidate],
    strategy: TerminatorStrategy,
    sticky: Option<&TerminatorId>,
    rng: &mut impl Rng,
) -> Option<usize> {
    if strategy == TerminatorStrategy::Sticky
        && let Some(kept) =
            candidates.iter().position(|c| Some(&c.id) == sticky && c.precedence != Precedence::Failed)
    {
        return Some(kept);
    }
    let best = candidates.iter().map(|c| c.precedence).min()?;
    let mut among: Vec<usize> = (0..candidates.len()).filter(|&i| candidates[i].precedence == best).collect();
    match strategy {
        TerminatorStrategy::Random => among.choose(rng).copied(),
        TerminatorStrategy::Weighted => {
            among.choose_weighted(rng, |&i| 1.0 / (f64::from(candidates[i].cost) + 1.0)).ok().copied()
        }
        TerminatorStrategy::Smartrouting | TerminatorStrategy::Sticky => {
            let lowest = among.iter().map(|&i| candidates[i].cost).min()?;
            among.retain(|&i| candidates[i].cost == lowest);
            among.choose(rng).copied()
        }
    }
}
