//! The steps of a rotation: what is in the way is asked, the next state is decided (purely, in `hesper-pki`) and written.

use super::{CaKeyError, certificates};
use crate::{
    api::ApiError,
    state::{CA_ROTATION, Changes, State},
};
use hesper_pki::rotation::{Out, Rotation, RotationRefusal, Step};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What an administrator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Asked {
    Start,
    Issue,
    Finish,
    Rollback,
}

impl Asked {
    /// As it is asked for.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Issue => "issue",
            Self::Finish => "finish",
            Self::Rollback => "rollback",
        }
    }
}

impl From<RotationRefusal> for ApiError {
    fn from(refusal: RotationRefusal) -> Self {
        Self::conflict(refusal.to_string())
    }
}

impl From<CaKeyError> for ApiError {
    fn from(error: CaKeyError) -> Self {
        Self::internal(&error)
    }
}

/// Takes a step.
///
/// # Errors
/// 409 with what is in the way.
pub(crate) async fn step(state: &State, asked: Asked, force: bool) -> Result<Rotation, ApiError> {
    let _planning = state.planning.lock().await;
    let (rotation, out) = (state.rotation(), out(state));
    let step = match asked {
        Asked::Start => {
            // Before a key is made for nothing.
            rotation.step(Step::Start(String::new()), &out, force)?;
            let now = OffsetDateTime::now_utc();
            Step::Start(state.authority.cas.make(&state.authority.trust_domain, now)?.ca_sha256())
        }
        Asked::Issue => Step::Issue,
        Asked::Finish => Step::Finish,
        Asked::Rollback => Step::Rollback,
    };
    let next = rotation.step(step, &out, force)?;
    let mut changes = Changes::default();
    match state.records().rotation() {
        Some(stored) => changes.update_record(CA_ROTATION, stored.mod_revision, &next),
        None => changes.create_record(CA_ROTATION, &next),
    }
    state.commit(changes).await?;
    tracing::info!(phase = %next.phase(), issuing = next.issuing(), "the CA rotation took a step");
    // Written and in force; should the files not follow, they do at the next start.
    if let Err(error) = state.authority.cas.settle(&next) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the files of the CAs are not up to date");
    }
    Ok(next)
}

/// Who is in the way of the next steps.
fn out(state: &State) -> Out {
    let (rotation, now) = (state.rotation(), OffsetDateTime::now_utc());
    let watchers = &state.control.watchers;
    let untold = rotation.next().map(|next| watchers.without(next)).unwrap_or_default();
    let holders = rotation
        .leaving()
        .map(|ca| certificates::holders(&state.model(), &state.records(), ca, &watchers.have_left(ca), now));
    Out { untold, holders: holders.unwrap_or_default() }
}

/// Where the rotation stands, for people and programs.
pub(crate) fn status(state: &State) -> Value {
    let (rotation, out, now) = (state.rotation(), out(state), OffsetDateTime::now_utc());
    let records = state.records();
    let listed = certificates::all(&records, now);
    let in_use = |ca: &str| {
        let of_ca = listed.iter().filter(|l| l.certificate.issuer == ca);
        of_ca
            .filter(|l| matches!(l.state, certificates::CertState::Valid | certificates::CertState::Late))
            .count()
    };
    let cas = rotation.trusted().map(|id| {
        let not_after = state.authority.cas.get(id).ok().and_then(|ca| ca.not_after().format(&Rfc3339).ok());
        json!({
            "sha256": id,
            "role": if id == rotation.current() { "current" } else { "next" },
            "issues": id == rotation.issuing(),
            "leaving": Some(id) == rotation.leaving(),
            "notAfter": not_after,
            "certificates": in_use(id),
        })
    });
    json!({
        "phase": rotation.phase(),
        "cas": cas.collect::<Vec<_>>(),
        "untold": out.untold,
        "holders": out.holders,
    })
}
