//! The rotation of the CA, in phases that can each be gone back from. Pure: a state and a step in, the next state or a reason out.
//!
//! ```text
//!            start              issue               finish
//! Standby ──────────▶ Started ─────────▶ Issuing ───────────▶ Standby (with the new CA)
//!    ▲                   │rollback          │rollback ▲issue
//!    ├───────────────────┘                  ▼         │
//!    └───────────────────────────────── RollingBack ──┘
//!                    finish
//! ```
//! While a second CA exists, both are trusted by everybody, so that a leaf of either is good. Nobody is given a leaf of a CA before
//! everybody who may meet it trusts that CA (`issue` waits for it), and no CA is given up while somebody holds its leaf (`finish`
//! waits for it). So at every phase every valid leaf is accepted by everybody.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A CA: SHA-256 of its certificate (DER), lower-case hexadecimal.
pub type CaId = String;

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// There is one CA.
    Standby,
    /// The next CA is trusted; the current one issues.
    Started,
    /// The next CA issues; both are trusted.
    Issuing,
    /// The current CA issues again; leaves of the next one are still out, so both are trusted.
    RollingBack,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standby => "standby",
            Self::Started => "started",
            Self::Issuing => "issuing",
            Self::RollingBack => "rolling-back",
        })
    }
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Trust this new CA too.
    Start(CaId),
    /// Let the next CA issue.
    Issue,
    /// Give up the CA that does not issue any more.
    Finish,
    /// Go back to the CA before.
    Rollback,
}

/// Who keeps a step from being safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// Names of those who may meet leaves of the next CA and do not trust it yet.
    pub untold: Vec<String>,
    /// Names of those whose newest leaf is of the CA that would be given up.
    pub holders: Vec<String>,
}

/// The CAs of a network and their parts in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rotation {
    phase: Phase,
    current: CaId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<CaId>,
}

/// Names shown in a refusal; the count says how many there are.
const SHOWN: usize = 10;

/// Why a step is not taken. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefusal {
    /// One at a time.
    #[error("a rotation is under way already (phase {0}): finish it or roll it back first")]
    UnderWay(Phase),
    /// Nothing to do it to.
    #[error("no rotation is under way: start one first")]
    NoneUnderWay,
    /// Not in this phase.
    #[error("the new CA issues already: finish the rotation or roll it back")]
    IssuesAlready,
    /// The new CA has issued nothing yet.
    #[error("the new CA does not issue yet: let it issue first, or roll back")]
    NotIssuing,
    /// Already on the way back.
    #[error("the rotation is being rolled back already: finish it, or let the new CA issue again")]
    RollsBackAlready,
    /// Somebody would refuse leaves of the new CA.
    #[error("{} of those who are online do not trust the new CA yet: {}; wait, or force it", .0.len(), names(.0))]
    Untold(Vec<String>),
    /// Somebody would be left without a valid certificate.
    #[error(
        "{} certificates of the CA that would no longer be trusted are out: {}; wait until they are renewed (an owner that is \
         offline renews when it is back), or force it: those must enroll again",
        .0.len(), names(.0)
    )]
    Holders(Vec<String>),
}

fn names(all: &[String]) -> String {
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > SHOWN { format!("{shown}, …") } else { shown }
}

impl Rotation {
    /// One CA, nothing under way.
    pub fn standby(current: impl Into<CaId>) -> Self {
        Self { phase: Phase::Standby, current: current.into(), next: None }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The CA that counted before the rotation: trusted by everybody until it is finished.
    pub fn current(&self) -> &CaId {
        &self.current
    }

    /// The CA that takes over, while a rotation is under way.
    pub fn next(&self) -> Option<&CaId> {
        self.next.as_ref()
    }

    /// Every CA whose leaves are good.
    pub fn trusted(&self) -> impl Iterator<Item = &CaId> {
        std::iter::once(&self.current).chain(&self.next)
    }

    /// Is a leaf of this CA good?
    pub fn trusts(&self, ca: &str) -> bool {
        self.trusted().any(|trusted| trusted == ca)
    }

    /// The CA that issues.
    pub fn issuing(&self) -> &CaId {
        match (self.phase, &self.next) {
            (Phase::Issuing, Some(next)) => next,
            _ => &self.current,
        }
    }

    /// The CA that [`Step::Finish`] would give up.
    pub fn leaving(&self) -> Option<&CaId> {
        match self.phase {
            Phase::Issuing => Some(&self.current),
            Phase::RollingBack => self.next.as_ref(),
            Phase::Standby | Phase::Started => None,
        }
    }

    /// The state after a step. `out` says who is in its way; with `force` that is not looked at.
    ///
    /// # Errors
    /// [`RotationRefusal`]: the step does not belong to this phase, or somebody is in its way.
    pub fn step(&self, step: Step, out: &Out, force: bool) -> Result<Self, RotationRefusal> {
        let to = |phase| Ok(Self { phase, ..self.clone() });
        match (step, self.phase, &self.next) {
            (Step::Start(next), Phase::Standby, _) => {
                Ok(Self { phase: Phase::Started, current: self.current.clone(), next: Some(next) })
            }
            (Step::Start(_), phase, _) => Err(RotationRefusal::UnderWay(phase)),
            (Step::Issue, Phase::Started | Phase::RollingBack, _) => match out.untold.as_slice() {
                [_, ..] if !force => Err(RotationRefusal::Untold(out.untold.clone())),
                _ => to(Phase::Issuing),
            },
            (Step::Issue, Phase::Issuing, _) => Err(RotationRefusal::IssuesAlready),
            (Step::Finish, Phase::Started, _) => Err(RotationRefusal::NotIssuing),
            (Step::Finish, Phase::Issuing | Phase::RollingBack, Some(next)) => {
                match (out.holders.as_slice(), self.phase) {
                    ([_, ..], _) if !force => Err(RotationRefusal::Holders(out.holders.clone())),
                    (_, Phase::Issuing) => Ok(Self::standby(next.clone())),
                    _ => Ok(Self::standby(self.current.clone())),
                }
            }
            (Step::Rollback, Phase::Started, _) => Ok(Self::standby(self.current.clone())),
            (Step::Rollback, Phase::Issuing, _) => to(Phase::RollingBack),
            (Step::Rollback, Phase::RollingBack, _) => Err(RotationRefusal::RollsBackAlready),
            (Step::Issue | Step::Finish | Step::Rollback, ..) => Err(RotationRefusal::NoneUnderWay),
        }
    }
}

#[cfg(test)]
mod tests;
