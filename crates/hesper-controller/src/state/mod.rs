//! What the controller knows: the store's objects, and the model made of them.
//!
//! One task follows the store's watch, so that every change, our own included, arrives in order and once. A write returns when
//! the model that contains it is in place: whoever sees the answer sees the effect.

mod certificates;
mod changes;
mod follow;
mod measured;
mod records;

pub(crate) use certificates::{Certificate, CertificateRefusal};
pub(crate) use changes::{Changes, Expect};
pub(crate) use follow::FollowError;
pub(crate) use records::{CA_ROTATION, CERTIFICATE, ROUTER_SECRET, Records, RouterSecret, Versioned};

use crate::{api::FOLLOWERS_MAX, auth::Auth, ca::Cas, control::Control, metrics::Metrics, trace};
use arc_swap::ArcSwap;
use changes::key;
use hesper_observe::events::{Event, Events};
use hesper_pki::token::{Signer, Verifier};
use hesper_policy::{Model, Stored};
use hesper_store::{Commit, Store, StoreError};
use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::watch;

/// How long a write may take until it is in the model.
const APPLY_DEADLINE: Duration = Duration::from_secs(10);
/// How often a write is planned again after another writer was faster.
pub(crate) const WRITE_ATTEMPTS: usize = 16;

/// Added to a revision of which it is not known whether it is the last: far from every other.
const UNKNOWN: u64 = 1 << 40;

/// The parts that do not change while the controller runs.
pub(crate) struct Authority {
    /// Issue certificates.
    pub(crate) cas: Cas,
    /// Signs tokens.
    pub(crate) signer: Signer,
    /// The trust domain of every SPIFFE id.
    pub(crate) trust_domain: String,
    /// `https://host:port` as written into tokens.
    pub(crate) ctrl_url: String,
}

/// The controller's state, shared by every request.
pub(crate) struct State {
    /// CA, token signer, names.
    pub(crate) authority: Authority,
    /// Where objects are kept. Write through [`State::commit`], so that the model follows.
    pub(crate) store: Arc<dyn Store>,
    /// Where events go.
    pub(crate) events: Events,
    /// Metrics of this controller.
    pub(crate) metrics: Metrics,
    /// Sessions of nodes and routers, and the grants given to them.
    pub(crate) control: Control,
    /// Logins: throttle and hashing slots.
    pub(crate) auth: Auth,
    /// Places for those who follow the events.
    pub(crate) followers: Arc<tokio::sync::Semaphore>,
    /// Held by the management API from reading the model to committing what it planned on it.
    pub(crate) planning: tokio::sync::Mutex<()>,
    /// Revision of what the management API wrote last. Nodes that come and go do not move it.
    managed: AtomicU64,
    verifier: Verifier,
    view: ArcSwap<View>,
    /// Revision of each entity's last write, by key.
    revisions: RwLock<HashMap<String, u64>>,
    applied: watch::Sender<u64>,
    revision: watch::Sender<u64>,
}

/// The model and the records of one revision.
struct View {
    model: Arc<Model>,
    records: Records,
}

/// Why a write was not made. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Somebody else wrote the key since it was read, or it exists already.
    #[error("{0} was changed by somebody else")]
    Conflict(String),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// Written, but the model did not follow in time.
    #[error("written, but not yet visible after {} s", APPLY_DEADLINE.as_secs())]
    NotApplied,
}

impl State {
    /// Reads the store. Nothing follows it until [`State::follow`] runs.
    ///
    /// # Errors
    /// [`FollowError`].
    pub(crate) async fn load(
        store: Arc<dyn Store>,
        authority: Authority,
        events: Events,
        metrics: Metrics,
    ) -> Result<Self, FollowError> {
        let store: Arc<dyn Store> = Arc::new(measured::Measured::new(store, &metrics));
        let loaded = follow::load(store.as_ref()).await?;
        let verifier = Verifier::new([(authority.signer.kid().to_owned(), authority.signer.public_key())]);
        Ok(Self {
            authority,
            store,
            events,
            metrics,
            control: Control::with(loaded.tokens, loaded.revoked),
            auth: Auth::new(),
            followers: Arc::new(tokio::sync::Semaphore::new(FOLLOWERS_MAX)),
            planning: tokio::sync::Mutex::new(()),
            managed: AtomicU64::new(loaded.revision),
            verifier,
            view: ArcSwap::from_pointee(loaded.view),
            revisions: RwLock::new(loaded.revisions),
            applied: watch::Sender::new(loaded.revision),
            revision: watch::Sender::new(loaded.revision),
        })
    }

    /// Records an event of the span around.
    pub(crate) fn record(&self, event: Event) {
        self.events.record(event.trace_context(trace::place()));
    }

    /// The revision of what administrators changed last; after a restart, of everything.
    pub(crate) fn managed(&self) -> u64 {
        self.managed.load(SeqCst)
    }

    /// Commits what an administrator changes, while [`State::planning`] is held.
    ///
    /// # Errors
    /// As of [`State::commit`].
    pub(crate) async fn commit_managed(&self, changes: Changes) -> Result<u64, WriteError> {
        let committed = self.commit(changes).await;
        match &committed {
            Ok(revision) => self.managed.store(*revision, SeqCst),
            Err(WriteError::Conflict(_)) => {}
            // Perhaps it was written: whoever has read anything before reads again.
            Err(_) => drop(self.managed.fetch_add(UNKNOWN, SeqCst)),
        }
        committed
    }

    /// Verifies the tokens that this controller signed.
    pub(crate) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The model of now.
    pub(crate) fn model(&self) -> Arc<Model> {
        self.view.load().model.clone()
    }

    /// Issued certificates and router secrets of now.
    pub(crate) fn records(&self) -> Records {
        self.view.load().records.clone()
    }

    /// One entity of now, with the revision that an update must expect.
    pub(crate) fn get<E: Stored>(&self, id: &str) -> Option<Versioned<E>> {
        // The revision first: when a write comes in between, the pair is a newer entity under an older revision, which an
        // update finds out. The other way round it would overwrite that write.
        let revision =
            self.revisions.read().unwrap_or_else(PoisonError::into_inner).get(&key(E::KIND, id)).copied()?;
        let entity = self.model().table::<E>().get(id)?.as_ref().clone();
        Some(Versioned { entity, mod_revision: revision })
    }

    /// Wakes whenever the model changed; the value is its revision.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Writes one entity and its name.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when `expect` does not hold or the name is taken; the store's failure.
    pub(crate) async fn put<E: Stored>(&self, entity: &E, expect: Expect) -> Result<u64, WriteError> {
        let mut changes = Changes::default();
        match expect {
            Expect::New => changes.create(entity),
            Expect::Unchanged(revision) => {
                let old = self.get::<E>(entity.id()).filter(|old| old.mod_revision == revision);
                let old = old.ok_or_else(|| WriteError::Conflict(changes::key_of(entity)))?;
                changes.update(&old, entity);
            }
        }
        self.commit(changes).await
    }

    /// Deletes one entity and its name, and nothing that refers to it (see `api::cascade`). False when there is none.
    ///
    /// # Errors
    /// The store's failure; [`WriteError::Conflict`] after repeated races.
    pub(crate) async fn delete<E: Stored>(&self, id: &str) -> Result<bool, WriteError> {
        let mut last = WriteError::NotApplied;
        for _ in 0..WRITE_ATTEMPTS {
            let Some(old) = self.get::<E>(id) else { return Ok(false) };
            let mut changes = Changes::default();
            changes.remove(&old);
            match self.commit(changes).await {
                Ok(_) => return Ok(true),
                Err(error @ WriteError::Conflict(_)) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Commits changes as one transaction and waits until the model contains them.
    ///
    /// # Errors
    /// [`WriteError`]; on [`WriteError::Conflict`] read again and decide again.
    pub(crate) async fn commit(&self, changes: Changes) -> Result<u64, WriteError> {
        match self.store.commit(changes.into_txn()).await? {
            Commit::Done(revision) => {
                self.wait_for(revision).await?;
                Ok(revision)
            }
            Commit::Conflict(key) => {
                self.catch_up().await?;
                Err(WriteError::Conflict(key))
            }
        }
    }

    /// Waits until the model contains everything stored so far, the winner of a conflict for one.
    async fn catch_up(&self) -> Result<(), WriteError> {
        match self.store.commit(hesper_store::Txn::new()).await? {
            Commit::Done(revision) => self.wait_for(revision).await,
            Commit::Conflict(key) => Err(WriteError::Conflict(key)),
        }
    }

    /// Waits until everything up to this revision is in the model.
    async fn wait_for(&self, revision: u64) -> Result<(), WriteError> {
        let mut applied = self.applied.subscribe();
        match tokio::time::timeout(APPLY_DEADLINE, applied.wait_for(|now| *now >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(WriteError::NotApplied),
        }
    }
}
