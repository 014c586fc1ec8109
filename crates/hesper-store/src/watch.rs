//! A watch: a place in the history that moves forward.

use crate::{
    error::WatchError,
    object::{Change, Revision},
    store::BoxFuture,
};
use std::collections::VecDeque;

/// Where a [`Watch`] gets its changes: one per engine.
pub trait ChangeSource: Send {
    /// Waits for later changes and returns some of them: whole commits, in order, never empty.
    /// Dropping the future loses nothing.
    fn next_batch(&mut self) -> BoxFuture<'_, Result<Vec<Change>, WatchError>>;
}

/// Yields each change after a revision exactly once, in order. After an error, only a new watch helps.
pub struct Watch {
    source: Box<dyn ChangeSource>,
    /// At most one batch of the source.
    ready: VecDeque<Change>,
}

impl Watch {
    /// A watch over an engine's history.
    pub fn new(source: Box<dyn ChangeSource>) -> Self {
        Self { source, ready: VecDeque::new() }
    }

    /// The next change; waits for one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`WatchError::Compacted`]: take a snapshot and watch after it. [`WatchError::Store`]: the store failed or closed.
    pub async fn next(&mut self) -> Result<Change, WatchError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            self.ready = self.source.next_batch().await?.into();
        }
    }

    /// The next changes that belong together: all (that [`next`](Self::next) has not yet given) of one commit.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_commit(&mut self) -> Result<(Revision, Vec<Change>), WatchError> {
        let first = self.next().await?;
        let revision = first.revision;
        let mut changes = vec![first];
        while self.ready.front().is_some_and(|change| change.revision == revision) {
            changes.extend(self.ready.pop_front());
        }
        Ok((revision, changes))
    }
}
