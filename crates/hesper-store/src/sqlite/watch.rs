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
    pub(super) requests: mpsc::WeakSender<Request>,
    /// Everything up to here was given.
    pub(super) after: Revision,
    pub(super) revision: tokio::sync::watch::Receiver<Revision>,
    /// The read under way. Kept when the caller's future is dropped, so that a caller with little patience still
    /// gets on.
    pub(super) reading: Option<oneshot::Receiver<Result<Vec<Change>, WatchError>>>,
}

impl Cursor {
    async fn read(&mut self) -> Result<Vec<Change>, WatchError> {
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => {
                // Marked as seen before the read, so that a commit in between wakes us again.
                self.revision.borrow_and_update();
                let requests = self.requests.upgrade().ok_or(StoreError::Closed)?;
                let room = requests.reserve().await.map_err(|_| StoreError::Closed)?;
                let (reply, answer) = oneshot::channel();
                room.send(Request::History(self.after, reply));
                self.reading.insert(answer)
            }
        };
        let answer = reading.await;
        self.reading = None;
        answer.map_err(|_| StoreError::Closed)?
    }
}

impl ChangeSource for Cursor {
    fn next_batch(&mut self) -> BoxFuture<'_, Result<Vec<Change>, WatchError>> {
        Box::pin(async move {
            loop {
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
