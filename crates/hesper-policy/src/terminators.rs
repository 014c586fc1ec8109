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
    /// Its cost: static, dynamic, and that of the way to it.
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

/// Weight of a cost of 1; of others in inverse proportion.
const WEIGHT: u32 = 1 << 24;

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
/// Only the best precedence present counts, whatever the costs: `required`, else `default`, else `failed`. Among it:
/// - smartrouting takes the lowest cost, one at random when several have it;
/// - weighted takes at random in inverse proportion to the cost: twice the cost, half as often (a cost of 0 counts as 1);
/// - random takes any, whatever it costs;
/// - sticky stays with `sticky` while that is among them, else chooses as smartrouting does.
///
/// As OpenZiti's strategies of these names do, but that its `weighted` draws apart from the proportion with more than two.
pub fn choose(
    candidates: &[Candidate],
    strategy: TerminatorStrategy,
    sticky: Option<&TerminatorId>,
    rng: &mut impl Rng,
) -> Option<usize> {
    let mut among = best(candidates);
    match strategy {
        TerminatorStrategy::Random | TerminatorStrategy::Weighted => {
            let weighed: Vec<_> = among.iter().map(|&i| (i, weight(&candidates[i], strategy))).collect();
            return weighed.choose_weighted(rng, |(_, weight)| f64::from(*weight)).ok().map(|(i, _)| *i);
        }
        TerminatorStrategy::Sticky => {
            let kept = among.iter().find(|&&i| Some(&candidates[i].id) == sticky);
            if let Some(kept) = kept {
                return Some(*kept);
            }
        }
        TerminatorStrategy::Smartrouting => {}
    }
    let lowest = among.iter().map(|&i| candidates[i].cost).min()?;
    among.retain(|&i| candidates[i].cost == lowest);
    among.choose(rng).copied()
}

/// What part of the dials each candidate gets by a strategy of shares (random, weighted): indices and weights. None for the others,
/// which choose by what changes with each dial.
pub fn shares(candidates: &[Candidate], strategy: TerminatorStrategy) -> Vec<(usize, u32)> {
    match strategy {
        TerminatorStrategy::Random | TerminatorStrategy::Weighted => {
            best(candidates).into_iter().map(|i| (i, weight(&candidates[i], strategy))).collect()
        }
        TerminatorStrategy::Sticky | TerminatorStrategy::Smartrouting => Vec::new(),
    }
}

/// Those of the best precedence present.
fn best(candidates: &[Candidate]) -> Vec<usize> {
    let best = candidates.iter().map(|c| c.precedence).min();
    (0..candidates.len()).filter(|&i| Some(candidates[i].precedence) == best).collect()
}

fn weight(candidate: &Candidate, strategy: TerminatorStrategy) -> u32 {
    match strategy {
        TerminatorStrategy::Weighted => (WEIGHT / candidate.cost.max(1)).max(1),
        _ => 1,
    }
}
