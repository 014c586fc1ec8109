//! What is swept up now and then, and what is put right at the start.

use crate::{
    api::chain,
    auth::session,
    home,
    state::{CERTIFICATE, Changes, State, WriteError},
};
use hesper_model::entity::{ConfigType, Enrollment};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How often.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Enrollments are kept so long after their end, so that an administrator sees what became of them.
const KEEP_ENROLLMENTS: time::Duration = time::Duration::days(7);
/// Certificates are forgotten so long after their end: nobody accepts them any more.
const KEEP_CERTIFICATES: time::Duration = time::Duration::days(1);
/// Records removed in one transaction.
const BATCH: usize = 500;

/// Sweeps until `stop`.
pub(super) async fn run(state: Arc<State>, stop: CancellationToken) {
    loop {
        let now = OffsetDateTime::now_utc();
        if let Err(error) = session::prune(&state, now).await {
            tracing::warn!(error = %chain(&error), "ended sessions could not be swept up");
        }
        match sweep(&state, now).await {
            Ok(()) | Err(WriteError::Conflict(_)) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "old records could not be swept up"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

async fn sweep(state: &State, now: OffsetDateTime) -> Result<(), WriteError> {
    let (model, records) = (state.model(), state.records());
    let mut changes = Changes::default();
    let ended = records.certificates().filter(|(_, c)| c.entity.not_after + KEEP_CERTIFICATES < now);
    ended.take(BATCH).for_each(|(serial, _)| changes.delete_record(format!("{CERTIFICATE}{serial}")));
    let old = model.enrollments().filter(|e| e.expires_at + KEEP_ENROLLMENTS < now);
    old.take(BATCH).filter_map(|e| state.get::<Enrollment>(e.id.as_str())).for_each(|e| changes.remove(&e));
    if changes.is_empty() {
        return Ok(());
    }
    state.commit(changes).await.map(drop)
}

/// A newer version may bring new built-in config types, or a newer schema of one.
pub(super) async fn builtin_types(state: &State) -> Result<(), WriteError> {
    let mut changes = Changes::default();
    for builtin in home::builtin_types(OffsetDateTime::now_utc()) {
        match state.get::<ConfigType>(builtin.id.as_str()) {
            None => changes.create(&builtin),
            Some(old) if old.entity.schema != builtin.schema => {
                let schema = builtin.schema;
                changes.update(
                    &old,
                    &ConfigType { schema, updated_at: builtin.updated_at, ..old.entity.clone() },
                );
            }
            Some(_) => {}
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    state.commit(changes).await.map(drop)
}
