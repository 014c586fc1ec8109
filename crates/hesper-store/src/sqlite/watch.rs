//! A watch over the `change` table: memory for one batch, however slow the reader.

use super::worker::Request;
use crate::{
    error::{StoreError, WatchError},
    object::{Change, Revision},
    store::BoxFuture,
    watch::ChangeSource,
};
use tokio::sync::{mpsc, oneshot};

/// A place in the history.
pub(super) struct Cursor {
    /// Weak, so that a forgotten watch does not keep a closed store open.
    pub(super) requests: Option<mpsc::WeakSender<Request>>,
    /// Everything up to here was given.
    pub(super) after: Revision,
    pub(super) revision: tokio::sync::watch::Receiver<Revision>,
}

impl Cursor {
    async fn read(&self) -> Result<Vec<Change>, WatchError> {
        let requests =
            self.requests.as_ref().and_then(mpsc::WeakSender::upgrade).ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        requests.send(Request::History(self.after, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl ChangeSource for Cursor {
    fn next_batch(&mut self) -> BoxFuture<'_, Result<Vec<Change>, WatchError>> {
        Box::pin(async move {
            loop {
                // Marked as seen before the read, so that a commit in between wakes us again.
                self.revision.borrow_and_update();
                let batch = self.read().await?;
                if let Some(last) = batch.last() {
                    self.after = last.revision;
                    return Ok(batch);
                }
                self.revision.changed().await.map_err(|_| StoreError::Closed)?;
            }
        })
    }
}
