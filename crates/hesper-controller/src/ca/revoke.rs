//! Certificates withdrawn before their end.

use crate::{
    api::ApiError,
    state::{CERTIFICATE, Certificate, Changes, State},
};
use http::StatusCode;
use time::OffsetDateTime;

/// Withdraws the certificate with this serial and every other one of the same subject and key: whoever has the key of one has that of its
/// renewals too. What its owner has open ends; it must enroll again. Returns their serials; none when all were withdrawn before.
///
/// # Errors
/// 404 when no such certificate was issued here.
pub(crate) async fn revoke(state: &State, serial: &str) -> Result<(Certificate, Vec<String>), ApiError> {
    let _planning = state.planning.lock().await;
    let (records, now) = (state.records(), OffsetDateTime::now_utc());
    let Some((_, named)) = records.certificates().find(|(known, _)| *known == serial) else {
        let message = format!("no certificate with the serial {serial} was issued here");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message));
    };
    let Certificate { subject, spki_sha256, .. } = &named.entity;
    let mut changes = Changes::default();
    let mut revoked = Vec::new();
    for (serial, record) in records.certificates_of(subject) {
        let c = &record.entity;
        if c.spki_sha256 == *spki_sha256 && !c.revoked && c.not_after > now {
            changes.update_record(
                format!("{CERTIFICATE}{serial}"),
                record.mod_revision,
                &Certificate { revoked: true, ..c.clone() },
            );
            revoked.push(serial.to_owned());
        }
    }
    if !revoked.is_empty() {
        state.commit(changes).await?;
        tracing::info!(%subject, serials = ?revoked, "certificates revoked");
    }
    Ok((named.entity.clone(), revoked))
}
