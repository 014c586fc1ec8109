//! The certificate authorities of the network, and how one takes over from another.
//!
//! Which CAs count and which one issues is in the store (`ca-rotation`, a [`Rotation`]): it is decided there, in one transaction, so
//! that a crash leaves a state before a step or after it. Their keys are files ([`keys`]), on disk before the store names them and
//! removed after it does not. [`rotate`] takes the steps; [`revoke`] withdraws certificates; [`watchers`] knows who trusts what, as they report it; [`certificates`] says
//! what has become of each certificate.

pub(crate) mod certificates;
mod keys;
pub(crate) mod revoke;
pub(crate) mod rotate;
mod watchers;

pub(crate) use keys::{CaKeyError, Cas};
pub(crate) use watchers::{Watcher, Watchers};

use crate::state::State;
use hesper_pki::{ca::CertificateAuthority, rotation::Rotation};
use hesper_proto::control::Trust;
use std::sync::Arc;

impl State {
    /// Which CAs count and which one issues.
    pub(crate) fn rotation(&self) -> Rotation {
        let stored = self.records().rotation().map(|stored| stored.entity.clone());
        stored.unwrap_or_else(|| Rotation::standby(self.authority.cas.first()))
    }

    /// The CA that issues.
    ///
    /// # Errors
    /// Its key is not held here.
    pub(crate) fn issuing_ca(&self) -> Result<Arc<CertificateAuthority>, CaKeyError> {
        self.authority.cas.get(self.rotation().issuing())
    }

    /// Every CA that is trusted: the one that takes over first, the one that everybody knows last.
    ///
    /// # Errors
    /// A key is not held here.
    pub(crate) fn trusted_cas(&self) -> Result<Vec<Arc<CertificateAuthority>>, CaKeyError> {
        let rotation = self.rotation();
        let all = rotation.next().into_iter().chain([rotation.current()]);
        all.map(|id| self.authority.cas.get(id)).collect()
    }

    /// The certificates of every CA that is trusted, PEM, the one that everybody knows first.
    pub(crate) fn ca_pem(&self) -> String {
        let rotation = self.rotation();
        let all = rotation.trusted().filter_map(|id| self.authority.cas.get(id).ok());
        all.map(|ca| ca.ca_pem()).collect()
    }

    /// What nodes and routers are told.
    pub(crate) fn trust(&self) -> Trust {
        let issuing = self.rotation().issuing().clone();
        Trust { ca_pem: self.ca_pem(), issuer_sha256: watchers::unhex(&issuing) }
    }
}
