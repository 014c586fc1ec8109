//! The CA and its rotation, and the certificates that are out.

use super::{
    call::{Answer, Call, Reply},
    entities::page,
};
use crate::{
    ca::{
        certificates, revoke,
        rotate::{self, Asked},
    },
    events,
    state::State,
};
use hesper_observe::events::{Event, Kind as EventKind};
use hesper_pki::spiffe::SpiffeId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Fields of a certificate that a filter may name.
const FIELDS: [&str; 10] =
    ["id", "serial", "role", "subjectId", "name", "issuer", "notBefore", "notAfter", "daysLeft", "state"];
const SECONDS_OF_A_DAY: f64 = 86_400.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    step: Asked,
    #[serde(default)]
    force: bool,
}

/// `GET /ca`: where the rotation stands.
pub(crate) fn status(state: Arc<State>, _call: Call) -> Reply {
    Box::pin(async move { Ok(Answer::data(rotate::status(&state))) })
}

/// `POST /ca/rotate`: one step.
pub(crate) fn step(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let Request { step, force } = call.json()?;
        let rotation = rotate::step(&state, step, force).await?;
        let actor = call.admin.as_ref().map(|admin| (admin.name.clone(), events::admin(admin)));
        let (name, identity) = actor.unwrap_or_default();
        let event =
            Event::success(EventKind::CaRotation).actor(name).identity(identity).field("step", step.name());
        state.record(
            event.field("phase", rotation.phase().to_string()).field("issuing", rotation.issuing().as_str()),
        );
        Ok(Answer::data(rotate::status(&state)).about(rotation.issuing(), None))
    })
}

/// `POST /certificates/{serial}/revoke`.
pub(crate) fn withdraw(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let serial = call.param("serial").to_owned();
        let (certificate, revoked) = revoke::revoke(&state, &serial).await?;
        let name = certificates::owner(&state.model(), &certificate.subject).map(|(_, name)| name);
        let data = json!({ "subject": certificate.subject, "name": name, "revoked": revoked });
        Ok(Answer::data(data).about(&serial, name.as_deref()))
    })
}

/// `GET /certificates`: what was issued, to whom, until when.
pub(crate) fn list(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let (model, records, now) = (state.model(), state.records(), OffsetDateTime::now_utc());
        let rfc3339 = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
        let items = certificates::all(&records, now).into_iter().map(|listed| {
            let c = listed.certificate;
            let id: Option<SpiffeId> = c.subject.parse().ok();
            let name = certificates::owner(&model, &c.subject).map(|(_, name)| name);
            let days = (c.not_after - now).as_seconds_f64() / SECONDS_OF_A_DAY;
            json!({
                "id": listed.serial,
                "serial": listed.serial,
                "role": id.as_ref().map(|id| id.role.as_str()),
                "subjectId": id.as_ref().map(|id| id.id.as_str()),
                "name": name,
                "issuer": c.issuer,
                "notBefore": c.not_before.map(rfc3339),
                "notAfter": rfc3339(c.not_after),
                "daysLeft": (days * 10.0).round() / 10.0,
                "state": listed.state.as_str(),
            })
        });
        let items: Vec<Value> = items.collect();
        page(&call, items, &FIELDS)
    })
}
