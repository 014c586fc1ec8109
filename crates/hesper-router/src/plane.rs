//! What forwarding reads: the table and the controller's word. The socket shares it with everybody else and holds nothing more,
//! so that a socket never keeps alive the connections that run over it.

use crate::{
    metrics::Metrics,
    quota::{Quotas, SessionRate},
    standing::Standing,
    table::Table,
};
use arc_swap::ArcSwapOption;
use hesper_model::id::{EdgeRouterId, Tag};
use hesper_pki::token::Verifier;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The controller's word, ready for use.
pub(crate) struct Told {
    pub(crate) id: EdgeRouterId,
    pub(crate) tag: Tag,
    pub(crate) knock_secret: [u8; 32],
    pub(crate) verifier: Verifier,
}

/// See the module.
pub(crate) struct Plane {
    table: RwLock<Table>,
    told: ArcSwapOption<Told>,
    /// `None`: nobody's rate is limited.
    quotas: Option<Mutex<Quotas>>,
    pub(crate) metrics: Metrics,
}

impl Plane {
    /// Nobody is attached and nothing was told.
    pub(crate) fn new(table: Table, metrics: Metrics, rate: SessionRate) -> Self {
        let quotas = (!rate.is_unlimited()).then(|| Mutex::new(Quotas::new(rate)));
        Self { table: RwLock::new(table), told: ArcSwapOption::empty(), quotas, metrics }
    }

    /// What each session has left of its rate, if that is limited.
    pub(crate) fn quotas(&self) -> Option<MutexGuard<'_, Quotas>> {
        self.quotas.as_ref().map(|quotas| quotas.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets what sessions that are gone had left.
    pub(crate) fn forget_quotas(&self, is_attached: impl Fn(Tag) -> bool) {
        if let Some(mut quotas) = self.quotas() {
            quotas.retain(is_attached);
        }
    }

    /// The controller's word, whole; it replaces what was told before.
    pub(crate) fn tell(&self, standing: &Standing) {
        self.told.store(Some(Arc::new(Told {
            id: standing.router_id.clone(),
            tag: standing.tag,
            knock_secret: standing.knock_secret.0,
            verifier: standing.verifier(),
        })));
        self.table_mut().set_own(standing.tag);
    }

    /// The controller's word; `None` before the first one.
    pub(crate) fn told(&self) -> Option<Arc<Told>> {
        self.told.load_full()
    }

    /// The table, for forwarding one batch or for a look.
    pub(crate) fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, for a change; never across an await.
    pub(crate) fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
