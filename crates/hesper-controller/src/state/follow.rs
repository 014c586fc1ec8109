//! The task that turns the store's changes into the next model.

use super::{
    State, View,
    records::{self, Meaning, Records, Unreadable},
};
use crate::control::{REVOKED, Remembered, SESSION, Tokens};
use futures::FutureExt as _;
use hesper_policy::Model;
use hesper_store::{Change, Revision, Snapshot, Store, StoreError, Watch, WatchError};
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// Commits taken into one new model when many are waiting.
const COMMITS_PER_MODEL: usize = 256;

/// Why the state could not be loaded, or cannot be followed any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// The store failed.
    #[error("the controller's state cannot be read")]
    Store(#[from] StoreError),
    /// An object is not what its key says.
    #[error("the store holds an object that this version does not understand")]
    Unreadable(#[from] Unreadable),
}

/// Everything of a snapshot.
pub(super) struct Loaded {
    pub(super) view: View,
    /// Whose session tokens may be out.
    pub(super) tokens: Tokens,
    /// Grants that were revoked, for those who do not know yet.
    pub(super) revoked: Vec<(String, Remembered)>,
    pub(super) revisions: HashMap<String, u64>,
    pub(super) revision: u64,
}

/// Reads everything.
pub(super) async fn load(store: &dyn Store) -> Result<Loaded, FollowError> {
    Ok(read_all(store.snapshot().await?)?)
}

fn read_all(snapshot: Snapshot) -> Result<Loaded, Unreadable> {
    let (mut records, mut changes, mut revisions) = (Records::default(), Vec::new(), HashMap::new());
    let (mut tokens, mut revoked) = (Tokens::default(), Vec::new());
    for object in snapshot.objects {
        if let Some(tag) = object.key.strip_prefix(SESSION).and_then(|tag| tag.parse().ok()) {
            tokens.restore(tag, records::decode(&object.key, &object.value)?);
            continue;
        }
        if let Some(id) = object.key.strip_prefix(REVOKED) {
            revoked.push((id.to_owned(), records::decode(&object.key, &object.value)?));
            continue;
        }
        let value = Some(object.value.as_slice());
        if let Meaning::Model(change) = records::read(&mut records, &object.key, object.mod_revision, value)?
        {
            changes.push(change);
            revisions.insert(object.key, object.mod_revision);
        }
    }
    let model = Arc::new(Model::default().with(snapshot.revision, changes));
    Ok(Loaded { view: View { model, records }, tokens, revoked, revisions, revision: snapshot.revision })
}

impl State {
    /// Follows the store until `stop`, or until it fails: then nothing may be decided any more.
    ///
    /// # Errors
    /// [`FollowError`]; the controller must end.
    pub(crate) async fn follow(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        let mut watch = self.store.watch(*self.applied.borrow());
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                next = watch.next_commit() => next,
            };
            match next {
                Ok(first) => self.take(first, &mut watch)?,
                Err(WatchError::Compacted { oldest }) => {
                    tracing::info!(oldest, "the store's history moved on; reading everything again");
                    watch = self.reload().await?;
                }
                Err(WatchError::Store(StoreError::Closed)) if stop.is_cancelled() => return Ok(()),
                Err(WatchError::Store(error)) => return Err(error.into()),
            }
        }
    }

    async fn reload(&self) -> Result<Watch, FollowError> {
        let loaded = load(self.store.as_ref()).await?;
        self.view.store(Arc::new(loaded.view));
        *self.revisions.write().unwrap_or_else(std::sync::PoisonError::into_inner) = loaded.revisions;
        self.announce(loaded.revision, true);
        Ok(self.store.watch(loaded.revision))
    }

    /// Applies one commit and those that wait behind it.
    fn take(&self, first: (Revision, Vec<Change>), watch: &mut Watch) -> Result<(), FollowError> {
        let mut records = self.records();
        let (mut of_model, mut revisions, mut any, mut last) = (Vec::new(), Vec::new(), false, first.0);
        let (mut next, mut taken) = (Some(Ok(first)), 0);
        // An error here is met again by the next wait.
        while let Some(Ok((revision, changes))) = next {
            last = revision;
            for change in changes {
                match records::read(&mut records, &change.key, revision, change.value.as_deref())? {
                    Meaning::Model(of) => {
                        of_model.push(of);
                        revisions.push((change.key, change.value.is_some().then_some(revision)));
                    }
                    Meaning::Records => any = true,
                    Meaning::Other => {}
                }
            }
            taken += 1;
            next = if taken < COMMITS_PER_MODEL { watch.next_commit().now_or_never() } else { None };
        }
        any |= !of_model.is_empty();
        if any {
            let model = Arc::new(self.model().with(last, of_model));
            self.view.store(Arc::new(View { model, records }));
        }
        // After the model: see `State::get`.
        self.note_revisions(revisions);
        self.announce(last, any);
        Ok(())
    }

    fn note_revisions(&self, changed: Vec<(String, Option<u64>)>) {
        let mut revisions = self.revisions.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (key, revision) in changed {
            match revision {
                Some(revision) => revisions.insert(key, revision),
                None => revisions.remove(&key),
            };
        }
    }

    /// Wakes those who wait for the revision, and those who follow the model.
    fn announce(&self, revision: u64, changed: bool) {
        self.applied.send_replace(revision);
        if changed {
            self.metrics.model_revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
            self.revision.send_replace(revision);
        }
    }
}
