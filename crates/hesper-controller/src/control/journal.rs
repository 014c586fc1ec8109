//! Writes the records of session tokens and of revoked grants: many at a time, because a thousand nodes come back together, or lose their
//! grants together, and each write waits for the disk.

use super::{
    grants::REVOKED,
    refusal::Refused,
    renew::internal,
    tokens::{Holder, SESSION},
};
use crate::state::{Changes, State};
use hesper_model::id::Tag;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// Records written in one transaction.
const BATCH: usize = 256;
/// Records that wait. A thousand nodes that come back together wait for some milliseconds each.
const WAITING_MAX: usize = 4_096;
/// Wait after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

/// One record to write, or to delete.
struct Entry {
    tag: Tag,
    holder: Option<Holder>,
    written: Option<oneshot::Sender<()>>,
}

/// Records on their way to the store.
pub(super) struct Journal {
    to: mpsc::Sender<Entry>,
    from: Mutex<Option<mpsc::Receiver<Entry>>>,
    /// The ledger has something to write.
    pub(super) revoked: Notify,
}

impl Default for Journal {
    fn default() -> Self {
        let (to, from) = mpsc::channel(WAITING_MAX);
        Self { to, from: Mutex::new(Some(from)), revoked: Notify::new() }
    }
}

impl Journal {
    /// Returns when the record is on disk.
    ///
    /// # Errors
    /// It could not be written.
    pub(super) async fn write(&self, tag: Tag, holder: Holder) -> Result<(), Refused> {
        let (written, done) = oneshot::channel();
        let entry = Entry { tag, holder: Some(holder), written: Some(written) };
        let failed =
            || Refused::new(Code::Unavailable, "UNAVAILABLE", "the session could not be recorded: try again");
        self.to.send(entry).await.map_err(|_| failed())?;
        done.await.map_err(|_| failed())
    }

    /// Writes the record soon, or deletes it. One for which there is no room is made again when it is next needed.
    pub(super) fn note(&self, tag: Tag, holder: Option<Holder>) {
        if self.to.try_send(Entry { tag, holder, written: None }).is_err() {
            tracing::debug!(session = %tag, "the record of a session waits for another time");
        }
    }
}

/// Writes what comes, until `stop`.
pub(super) async fn keep(state: Arc<State>, stop: CancellationToken) {
    let from = state.control.journal.from.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut from) = from else { return };
    let mut entries = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            n = from.recv_many(&mut entries, BATCH) => if n == 0 { return },
            () = stop.cancelled() => return,
        }
        let mut changes = Changes::default();
        for Entry { tag, holder, .. } in &entries {
            match holder {
                Some(holder) => changes.put_record(format!("{SESSION}{tag}"), holder),
                None => changes.delete_record(format!("{SESSION}{tag}")),
            }
        }
        // Not part of the model: nobody has to wait until it follows.
        match state.store.commit(changes.into_txn()).await {
            Ok(_) => {
                for written in entries.drain(..).filter_map(|e| e.written) {
                    // Whoever waited may be gone.
                    let _ = written.send(());
                }
            }
            Err(error) => {
                let _ = internal(&error);
                entries.clear();
            }
        }
    }
}

/// Writes down which grants were revoked, soon after everybody was told, until `stop` and with what is left then.
pub(super) async fn remember(state: Arc<State>, stop: CancellationToken) {
    loop {
        let stopped = tokio::select! {
            biased;
            () = state.control.journal.revoked.notified() => false,
            () = stop.cancelled() => true,
        };
        while let Some(written) = write_revoked(&state).await {
            match written {
                Ok(()) => {}
                Err(()) if stopped => return,
                Err(()) => sleep(RETRY).await,
            }
        }
        if stopped {
            return;
        }
    }
}

/// Writes some of them; none when there are none. What could not be written stays.
async fn write_revoked(state: &State) -> Option<Result<(), ()>> {
    let some = state.control.lock().ledger.take_unwritten(BATCH);
    if some.is_empty() {
        return None;
    }
    let mut changes = Changes::default();
    for (id, record) in &some {
        match record {
            Some(record) => changes.put_record(format!("{REVOKED}{id}"), record),
            None => changes.delete_record(format!("{REVOKED}{id}")),
        }
    }
    Some(state.store.commit(changes.into_txn()).await.map(drop).map_err(|error| {
        let _ = internal(&error);
        state.control.lock().ledger.put_back(some.into_iter().map(|(id, _)| id));
    }))
}
