//! The task that turns the store's changes into the next model.

use super::{Objects, State, View, objects::Unreadable};
use futures::FutureExt as _;
use hesper_policy::{Entities, Model};
use hesper_store::{Change, Revision, Snapshot, Store, StoreError, Watch, WatchError};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Commits taken into one rebuild of the model when many are waiting.
const COMMITS_PER_MODEL: usize = 256;

/// Why the state could not be loaded, or cannot be followed any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// An object is not what its key says.
    #[error("the store holds an object that this version does not understand")]
    Unreadable(#[from] Unreadable),
}

/// Reads everything.
pub(super) async fn load(store: &dyn Store) -> Result<Objects, FollowError> {
    Ok(objects_of(store.snapshot().await?)?)
}

fn objects_of(snapshot: Snapshot) -> Result<Objects, Unreadable> {
    let mut objects = Objects::default();
    for object in &snapshot.objects {
        objects.apply(&object.key, object.mod_revision, Some(&object.value))?;
    }
    objects.revision = snapshot.revision;
    Ok(objects)
}

/// The view of these objects.
pub(super) fn view_of(objects: Objects) -> View {
    let entities = Entities {
        identities: objects.all().cloned().collect(),
        services: objects.all().cloned().collect(),
        configs: objects.all().cloned().collect(),
        config_types: objects.all().cloned().collect(),
        service_policies: objects.all().cloned().collect(),
        edge_routers: objects.all().cloned().collect(),
        edge_router_policies: objects.all().cloned().collect(),
        service_edge_router_policies: objects.all().cloned().collect(),
        terminators: objects.all().cloned().collect(),
    };
    let model = Model::build(objects.revision, entities);
    View { objects: Arc::new(objects), model: Arc::new(model) }
}

impl State {
    /// Follows the store until `stop`, or until it fails: then nothing may be decided any more.
    ///
    /// # Errors
    /// [`FollowError`]; the controller must end.
    pub(crate) async fn follow(&self, stop: &CancellationToken) -> Result<(), FollowError> {
        let mut watch = self.store.watch(self.objects().revision);
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                next = watch.next_commit() => next,
            };
            match next {
                Ok(first) => self.take(first, &mut watch)?,
                Err(WatchError::Compacted { oldest }) => {
                    tracing::info!(oldest, "the store's history moved on; reading everything again");
                    let objects = load(self.store.as_ref()).await?;
                    watch = self.store.watch(objects.revision);
                    self.publish(objects, true);
                }
                Err(WatchError::Store(StoreError::Closed)) if stop.is_cancelled() => return Ok(()),
                Err(WatchError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Applies one commit and those that wait behind it.
    fn take(&self, first: (Revision, Vec<Change>), watch: &mut Watch) -> Result<(), FollowError> {
        let mut objects = Objects::clone(&self.objects());
        let mut rebuild = false;
        let mut next = Some(Ok(first));
        let mut taken = 0;
        // An error here is met again by the next wait.
        while let Some(Ok((revision, changes))) = next {
            for change in &changes {
                rebuild |= objects.apply(&change.key, change.revision, change.value.as_deref())?;
            }
            objects.revision = revision;
            taken += 1;
            next = if taken < COMMITS_PER_MODEL { watch.next_commit().now_or_never() } else { None };
        }
        self.publish(objects, rebuild);
        Ok(())
    }

    /// Puts the objects, and the model when they changed it, in place; then wakes those who wait.
    fn publish(&self, objects: Objects, rebuild: bool) {
        let revision = objects.revision;
        if rebuild {
            self.view.store(Arc::new(view_of(objects)));
            self.metrics.model_revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
            self.revision.send_replace(revision);
        } else {
            let model = self.view.load().model.clone();
            self.view.store(Arc::new(View { objects: Arc::new(objects), model }));
        }
        self.applied.send_replace(revision);
    }
}
