//! Passes: what their dialers present, and what other routers hand over.

use super::{AdmitError, Sessions};
use crate::{
    admission::{self, Refusal},
    link::Handed,
    table::{Pass, RouterIx, Ways},
};
use hesper_model::id::EdgeRouterId;
use hesper_pki::token::SessionClaims;
use std::sync::Arc;

/// What a pass that was presented has opened.
pub(crate) struct Opened {
    /// The binder is attached here now.
    pub(crate) here: bool,
    /// Links that it leads over.
    pub(crate) over: Vec<RouterIx>,
    /// What is to be handed over them.
    pub(crate) handed: Option<Handed>,
}

impl Sessions {
    /// Opens the pair of a pass that its dialer presents.
    pub(crate) fn open(
        &self,
        token: &str,
        presenter: &SessionClaims,
        now: u64,
    ) -> Result<Opened, AdmitError> {
        let told = self.plane.told().ok_or(AdmitError::NotReady)?;
        let outage = self.plane.table().outage();
        let claims = admission::pass(token, presenter, &told.id, &told.verifier, &outage, now)?;
        let attached = self.attached();
        if attached.revoked_passes.contains(&claims.jti, claims.iat) {
            return Err(Refusal::Revoked("pass").into());
        }
        let mut table = self.plane.table_mut();
        let (direct, over) = admission::ways(&claims, &told.id);
        let over: Vec<_> = over.into_iter().filter_map(|id| table.router(id)).collect();
        let token: Option<Arc<str>> = (!over.is_empty()).then(|| token.into());
        let ways = Ways::Dialer { direct, over: over.clone() };
        let (id, a, b, exp) = (claims.jti.into(), claims.a, claims.b, claims.exp);
        table.open(Pass { id, a, b, exp, ways, token: token.clone() })?;
        self.metrics().pairs.set(table.open_pairs() as i64);
        let here = direct && table.is_attached(b);
        Ok(Opened { here, over, handed: token.map(|token| Handed { token, binder: b, trace: None }) })
    }

    /// Opens the pair of a pass that the router `from` hands over. True: the binder is attached here now.
    pub(crate) fn open_handed(
        &self,
        token: &str,
        from: &EdgeRouterId,
        ix: RouterIx,
        now: u64,
    ) -> Result<bool, AdmitError> {
        let told = self.plane.told().ok_or(AdmitError::NotReady)?;
        let outage = self.plane.table().outage();
        let claims = admission::handed_pass(token, from, &told.id, &told.verifier, &outage, now)?;
        let attached = self.attached();
        if attached.revoked_passes.contains(&claims.jti, claims.iat) {
            return Err(Refusal::Revoked("pass").into());
        }
        let mut table = self.plane.table_mut();
        let (id, a, b, exp) = (claims.jti.into(), claims.a, claims.b, claims.exp);
        table.open(Pass { id, a, b, exp, ways: Ways::Link(ix), token: None })?;
        self.metrics().pairs.set(table.open_pairs() as i64);
        Ok(table.is_attached(b))
    }
}
