//! One grant: who may dial what at which host, and by which routers.

use super::{
    super::paths::{Path, ends_of},
    judge::Pair,
};
use hesper_model::{
    config::otlp::SenderTerms,
    id::{EdgeRouterId, Tag, TerminatorId},
};
use hesper_policy::routers::Ends;
use std::{collections::BTreeSet, sync::Arc};

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Id of the grant and of its pass.
    pub(crate) id: String,
    /// Who dials, what, and who hosts it.
    pub(crate) pair: Pair,
    /// The terminator dialed.
    pub(crate) terminator: TerminatorId,
    /// Session of the dialer.
    pub(crate) dialer_tag: Tag,
    /// Session of the binder.
    pub(crate) binder_tag: Tag,
    /// What its pass is good for.
    pub(crate) reach: Reach,
    /// What the dialer may send, as the grant says it.
    pub(crate) terms: Option<Arc<SenderTerms>>,
    /// When it ends, seconds since the epoch.
    pub(crate) expires_at: u64,
}

/// What a dialer renews: its grant for one terminator.
pub(super) type Lease = (Tag, TerminatorId);

impl Grant {
    pub(super) fn lease(&self) -> Lease {
        (self.dialer_tag, self.terminator.clone())
    }
}

/// What a pass is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// These ways; the first `told` were named to the dialer as those that work.
    Paths {
        /// Best first.
        paths: Vec<Path>,
        /// How many the dialer was told.
        told: usize,
    },
    /// Unknown, because the controller that issued it is gone: any of these routers may carry it.
    Anywhere(Arc<BTreeSet<EdgeRouterId>>),
}

impl Reach {
    /// Every router that the pass may be known to.
    pub(super) fn routers(&self) -> BTreeSet<EdgeRouterId> {
        match self {
            Self::Paths { paths, .. } => paths.iter().flatten().cloned().collect(),
            Self::Anywhere(routers) => routers.as_ref().clone(),
        }
    }

    /// Routers that the pass uses for an end that policy does not give them to any more.
    pub(super) fn lost(&self, allowed: &Ends) -> BTreeSet<EdgeRouterId> {
        let of_dialer = |id: &EdgeRouterId| allowed.dialer.contains(id);
        let of_host = |id: &EdgeRouterId| allowed.host.contains(id);
        match self {
            Self::Paths { paths, .. } => {
                let ends = || paths.iter().filter_map(ends_of);
                let firsts = ends().map(|(first, _)| first).filter(|id| !of_dialer(id));
                let lasts = ends().map(|(_, last)| last).filter(|id| !of_host(id));
                firsts.chain(lasts).cloned().collect()
            }
            Self::Anywhere(routers) => {
                routers.iter().filter(|id| !of_dialer(id) && !of_host(id)).cloned().collect()
            }
        }
    }
}
