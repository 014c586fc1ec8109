//! Who may forward, and by which rule. Decided for each call on the model as it is now.

use crate::{
    auth::{self, session},
    control::auth as certificates,
    events,
    state::State,
};
use hesper_model::{
    entity::{EdgeRouter, Identity, Permission},
    id::{EdgeRouterId, IdentityId},
};
use hesper_observe::events::Named;
use hesper_pki::{credentials::PeerIdentity, spiffe::SpiffeRole};
use hesper_policy::Model;
use hesper_telemetry::origin::Sender;
use http::HeaderMap;
use std::sync::Arc;
use time::OffsetDateTime;

/// Somebody who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// Who.
    pub(super) sender: Sender,
    /// Why it may.
    pub(super) rule: String,
}

/// Somebody who may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody knows who it is.
    Unknown(String),
    /// It may not.
    Denied {
        /// Who.
        identity: Named,
        /// What decided.
        rule: String,
        /// What it is told.
        message: String,
    },
    /// It could not be found out.
    Fault(String),
}

/// Who calls, if it may forward. A token counts more than the certificate of the connection.
///
/// # Errors
/// [`Refused`].
pub(super) async fn judge(
    state: &State,
    headers: &HeaderMap,
    peer: Option<&PeerIdentity>,
) -> Result<Judged, Refused> {
    if let Some(token) = auth::bearer(headers) {
        let session = session::find(state, token, OffsetDateTime::now_utc()).await;
        let session = session.map_err(|error| {
            tracing::error!(%error, "a session could not be looked up");
            Refused::Fault("the controller failed; its log says why".to_owned())
        })?;
        let gone = || Refused::Unknown("your session is invalid or has expired: log in again".to_owned());
        return of_identity(&state.model(), &session.ok_or_else(gone)?.identity_id);
    }
    let peer = peer.ok_or_else(|| {
        Refused::Unknown(
            "telemetry is taken from whoever is logged in or has a certificate of this mesh: log in, or use an identity"
                .to_owned(),
        )
    })?;
    certificates::valid(state, peer).map_err(|status| Refused::Unknown(status.message().to_owned()))?;
    match peer.id.role {
        SpiffeRole::Identity => of_identity(&state.model(), &IdentityId::new(&*peer.id.id)),
        SpiffeRole::Router => of_router(&state.model(), &EdgeRouterId::new(&*peer.id.id)),
        _ => Err(Refused::Unknown(format!("{} is neither an identity nor an edge router", peer.id))),
    }
}

fn of_identity(model: &Model, id: &IdentityId) -> Result<Judged, Refused> {
    let identity: &Arc<Identity> = model
        .identity(id)
        .ok_or_else(|| Refused::Unknown(format!("there is no identity '{id}' any more")))?;
    let name = &identity.name;
    let denied = |rule: String, message: String| {
        Err(Refused::Denied { identity: events::identity(identity), rule, message })
    };
    if identity.disabled {
        let rule = format!("identity '{name}' is disabled");
        return denied(rule.clone(), rule);
    }
    let word = Permission::TelemetryForward;
    if !identity.has(word) {
        let rule = format!("identity '{name}' has not the permission {word}");
        let message = format!(
            "{rule}: an administrator gives it with 'hesper update identity {name} --permissions {word}'"
        );
        return denied(rule, message);
    }
    let rule = match identity.is_admin {
        true => format!("identity '{name}' is an administrator"),
        false => format!("identity '{name}' has the permission {word}"),
    };
    Ok(Judged { sender: Sender { id: id.to_string(), name: name.clone() }, rule })
}

/// Routers are parts of the mesh: they forward what they tell of themselves.
fn of_router(model: &Model, id: &EdgeRouterId) -> Result<Judged, Refused> {
    let router: &Arc<EdgeRouter> = model
        .edge_router(id)
        .ok_or_else(|| Refused::Unknown(format!("there is no edge router '{id}' any more")))?;
    let name = &router.name;
    if router.disabled {
        let rule = format!("edge router '{name}' is disabled");
        let identity = Named::new(id.as_str(), name.as_str());
        return Err(Refused::Denied { identity, rule: rule.clone(), message: rule });
    }
    let rule = format!("edge router '{name}' is a part of the mesh");
    Ok(Judged { sender: Sender { id: id.to_string(), name: name.clone() }, rule })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;
    use hesper_policy::Entities;
    use std::collections::BTreeSet;

    fn judged(change: impl Fn(&mut Identity)) -> Result<Judged, Refused> {
        let mut identity = testing::identity("shop");
        change(&mut identity);
        let entities = Entities { identities: vec![identity], ..Entities::default() };
        of_identity(&Model::build(1, entities), &IdentityId::new("shop"))
    }

    #[test]
    fn each_verdict_names_its_rule() {
        let forward = |i: &mut Identity| i.permissions = BTreeSet::from([Permission::TelemetryForward]);
        let may = judged(forward).expect("allowed");
        assert_eq!(may.rule, "identity 'shop-name' has the permission telemetry.forward");
        assert_eq!(may.sender, Sender { id: "shop".into(), name: "shop-name".into() });
        let admin = judged(|i| i.is_admin = true).expect("allowed");
        assert_eq!(admin.rule, "identity 'shop-name' is an administrator");
        let Err(Refused::Denied { identity, rule, message }) = judged(|_| {}) else { panic!("allowed") };
        assert_eq!(identity, Named::new("shop", "shop-name"));
        assert_eq!(rule, "identity 'shop-name' has not the permission telemetry.forward");
        assert!(
            message.contains("hesper update identity shop-name --permissions telemetry.forward"),
            "{message}"
        );
        let disabled = judged(|i| {
            forward(i);
            i.disabled = true;
        });
        assert!(matches!(disabled, Err(Refused::Denied { rule, .. }) if rule.contains("disabled")));
    }

    #[test]
    fn who_was_deleted_is_nobody() {
        let model = Model::build(1, Entities::default());
        assert!(matches!(of_identity(&model, &IdentityId::new("x")), Err(Refused::Unknown(_))));
        assert!(matches!(of_router(&model, &EdgeRouterId::new("x")), Err(Refused::Unknown(_))));
    }
}
