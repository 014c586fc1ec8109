//! What is swept up now and then, and what is put right at the start.

use crate::{
    api::chain,
    auth::session,
    ca::certificates::{self, CertState},
    home,
    state::{CERTIFICATE, Changes, State, WriteError},
};
use hesper_model::entity::{ConfigType, Enrollment};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How often.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Enrollments are kept so long after their end, so that an administrator sees what became of them.
const KEEP_ENROLLMENTS: time::Duration = time::Duration::days(7);
/// Certificates are forgotten so long after their end: nobody accepts them any more.
const KEEP_CERTIFICATES: time::Duration = time::Duration::days(1);
/// But for at least so long.
const LEAST_KEEP: time::Duration = time::Duration::minutes(10);
/// Not more often, however short certificates live.
const LEAST: Duration = Duration::from_secs(5);
/// Records removed in one transaction.
const BATCH: usize = 500;

/// Sweeps until `stop`.
pub(super) async fn run(state: Arc<State>, stop: CancellationToken) {
    let mut late = Late::default();
    loop {
        let now = OffsetDateTime::now_utc();
        if let Err(error) = session::prune(&state, now).await {
            tracing::warn!(error = %chain(&error), "ended sessions could not be swept up");
        }
        match sweep(&state, now).await {
            // Short-lived certificates leave more than one transaction takes.
            Ok(true) if !stop.is_cancelled() => continue,
            Ok(_) | Err(WriteError::Conflict(_)) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "old records could not be swept up"),
        }
        late.warn(&state, now);
        let every = EVERY.min(state.control.settings.leaf_validity / 4).max(LEAST);
        if stop.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
            return;
        }
    }
}

/// One transaction's worth; true when there may be more.
async fn sweep(state: &State, now: OffsetDateTime) -> Result<bool, WriteError> {
    let (model, records) = (state.model(), state.records());
    let mut changes = Changes::default();
    let keep = keep_certificates(state.control.settings.leaf_validity);
    let ended = records.certificates().filter(|(_, c)| c.entity.not_after + keep < now);
    let mut swept = 0;
    for (serial, _) in ended.take(BATCH) {
        changes.delete_record(format!("{CERTIFICATE}{serial}"));
        swept += 1;
    }
    let old = model.enrollments().filter(|e| e.expires_at + KEEP_ENROLLMENTS < now);
    old.take(BATCH).filter_map(|e| state.get::<Enrollment>(e.id.as_str())).for_each(|e| changes.remove(&e));
    if changes.is_empty() {
        return Ok(false);
    }
    state.commit(changes).await.map(|_| swept == BATCH)
}

/// The shorter certificates live, the more of them there are: those that have ended are kept for a shorter time too.
fn keep_certificates(leaf_validity: Duration) -> time::Duration {
    let by_life = time::Duration::try_from(leaf_validity.saturating_mul(10)).unwrap_or(KEEP_CERTIFICATES);
    by_life.clamp(LEAST_KEEP, KEEP_CERTIFICATES)
}

/// Serials that were warned of.
#[derive(Default)]
struct Late(BTreeSet<String>);

impl Late {
    /// Once for each certificate that its owner has not renewed in good time.
    fn warn(&mut self, state: &State, now: OffsetDateTime) {
        let (model, records) = (state.model(), state.records());
        let all = certificates::all(&records, now);
        let late: BTreeSet<String> =
            all.iter().filter(|l| l.state == CertState::Late).map(|l| l.serial.to_owned()).collect();
        for listed in all.iter().filter(|l| late.contains(l.serial) && !self.0.contains(l.serial)) {
            let Some((role, name)) = certificates::owner(&model, &listed.certificate.subject) else {
                continue;
            };
            let (serial, until) = (listed.serial, listed.certificate.not_after);
            tracing::warn!(role = role.as_str(), name, serial, %until, "a certificate is past three quarters of its life and not renewed");
        }
        self.0 = late;
    }
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
