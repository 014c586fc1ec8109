//! What reading gathers: faults, remarks, and references to other components.

use crate::{
    id::{Class, Id},
    remark::{Remark, Topic},
};
use hesper_yaml::{Fault, Place};
use std::cell::{Cell, RefCell};

/// What a component refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// An extension that tells who sends.
    ServerAuth,
    /// An extension that says who we are.
    ClientAuth,
    /// An extension that keeps queues.
    Storage,
}

/// A reference from a component to an extension.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) wanted: Wanted,
    pub(crate) to: Id,
    pub(crate) place: Place,
    /// Whose it is.
    pub(crate) owner: Option<(Class, Id)>,
}

/// Where faults, remarks and references go, and who knows the environment.
pub(crate) struct Reader<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
    remarks: RefCell<Vec<Remark>>,
    references: RefCell<Vec<Reference>>,
    /// A part of the files could not be read at all.
    torn: Cell<bool>,
}

impl<'e> Reader<'e> {
    pub(crate) fn new(env: &'e dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            env,
            faults: RefCell::default(),
            remarks: RefCell::default(),
            references: RefCell::default(),
            torn: Cell::default(),
        }
    }

    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// Could everything be read as YAML?
    pub(crate) fn is_whole(&self) -> bool {
        !self.torn.get()
    }

    pub(crate) fn has_faults(&self) -> bool {
        !self.faults.borrow().is_empty()
    }

    /// A part of the files could not be read.
    pub(crate) fn tear(&self) {
        self.torn.set(true);
    }

    pub(crate) fn fault(&self, place: &Place, reason: impl Into<String>, next: impl Into<String>) {
        self.faults.borrow_mut().push(Fault::new(place.clone(), reason, next));
    }

    pub(crate) fn remark(
        &self,
        topic: Topic,
        place: &Place,
        reason: impl Into<String>,
        next: impl Into<String>,
    ) {
        let (place, reason, next) = (place.clone(), reason.into(), next.into());
        self.remarks.borrow_mut().push(Remark { place, topic, reason, next });
    }

    pub(crate) fn refer(&self, wanted: Wanted, to: Id, place: &Place) {
        self.references.borrow_mut().push(Reference { wanted, to, place: place.clone(), owner: None });
    }

    /// Says whose the references are that nobody owns yet.
    pub(crate) fn own(&self, class: Class, id: &Id) {
        for reference in self.references.borrow_mut().iter_mut().filter(|r| r.owner.is_none()) {
            reference.owner = Some((class, id.clone()));
        }
    }

    pub(crate) fn references(&self) -> Vec<Reference> {
        self.references.borrow().clone()
    }

    /// All that was gathered, each in the order of the files and places, none twice.
    pub(crate) fn into_findings(self, files: &[(&str, &str)]) -> (Vec<Fault>, Vec<Remark>) {
        let rank = |place: &Place| files.iter().position(|(name, _)| *name == &*place.file);
        let (mut faults, mut remarks) = (self.faults.into_inner(), self.remarks.into_inner());
        faults.sort_by_cached_key(|fault| (rank(&fault.place), fault.clone()));
        faults.dedup();
        remarks.sort_by_cached_key(|remark| (rank(&remark.place), remark.clone()));
        remarks.dedup();
        (faults, remarks)
    }
}
