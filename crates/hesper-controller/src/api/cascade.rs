//! What goes with an entity that is deleted, so that nothing refers to what does not exist. Pure up to [`changes`].

use super::kinds::{is_builtin, with_kind};
use crate::state::{CERTIFICATE, Changes, ROUTER_SECRET, Records, State};
use hesper_model::{
    entity::{EdgeRouterPolicy, Kind, ServiceEdgeRouterPolicy, ServicePolicy},
    role::Roles,
};
use hesper_policy::{Change, Model, Stored};
use time::OffsetDateTime;

/// Why something cannot be deleted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InUse {
    /// Others need it.
    #[error("{kind} '{name}' is in use by {users_kind}: {users}; take it out of there first")]
    By {
        /// What was to be deleted.
        kind: Kind,
        /// Its name.
        name: String,
        /// Plural of those who need it.
        users_kind: &'static str,
        /// Their names.
        users: String,
    },
    /// It is part of Hesper.
    #[error("config-type '{0}' is built in and cannot be deleted")]
    Builtin(String),
}

/// One write of a deletion.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A new version of an entity that referred to what is deleted.
    Update(Change),
    /// The end of an entity.
    Remove(Kind, String),
    /// The end of a record.
    Forget(String),
}

/// Everything that a deletion writes, the entity itself included.
///
/// # Errors
/// [`InUse`].
pub(crate) fn delete(model: &Model, records: &Records, kind: Kind, id: &str) -> Result<Vec<Effect>, InUse> {
    let mut effects = vec![Effect::Remove(kind, id.to_owned())];
    match kind {
        Kind::Identity => {
            strip_policies(model, kind, id, &mut effects);
            let terminators = model.terminators().filter(|t| t.host_id.as_str() == id);
            effects.extend(terminators.map(|t| Effect::Remove(Kind::Terminator, t.id.to_string())));
            let enrollments =
                model.enrollments().filter(|e| e.identity_id.as_ref().is_some_and(|i| i.as_str() == id));
            effects.extend(enrollments.map(|e| Effect::Remove(Kind::Enrollment, e.id.to_string())));
            effects.extend(certificates(records, "identity", id));
            effects.push(Effect::Forget(crate::auth::authenticator_key(id)));
        }
        Kind::EdgeRouter => {
            strip_policies(model, kind, id, &mut effects);
            let terminators =
                model.terminators().filter(|t| t.router_id.as_ref().is_some_and(|r| r.as_str() == id));
            effects.extend(terminators.map(|t| Effect::Remove(Kind::Terminator, t.id.to_string())));
            let enrollments =
                model.enrollments().filter(|e| e.edge_router_id.as_ref().is_some_and(|r| r.as_str() == id));
            effects.extend(enrollments.map(|e| Effect::Remove(Kind::Enrollment, e.id.to_string())));
            effects.extend(certificates(records, "router", id));
            effects.push(Effect::Forget(format!("{ROUTER_SECRET}{id}")));
        }
        Kind::Service => {
            strip_policies(model, kind, id, &mut effects);
            let terminators = model.terminators().filter(|t| t.service_id.as_str() == id);
            effects.extend(terminators.map(|t| Effect::Remove(Kind::Terminator, t.id.to_string())));
        }
        Kind::Config => refuse_users(model, kind, id)?,
        Kind::ConfigType => {
            if is_builtin(id) {
                return Err(InUse::Builtin(id.to_owned()));
            }
            refuse_users(model, kind, id)?;
        }
        Kind::ServicePolicy
        | Kind::EdgeRouterPolicy
        | Kind::ServiceEdgeRouterPolicy
        | Kind::Terminator
        | Kind::Enrollment => {}
    }
    Ok(effects)
}

fn certificates(records: &Records, role: &str, id: &str) -> Vec<Effect> {
    let path = format!("/{role}/{id}");
    let of_subject = records.certificates().filter(|(_, c)| c.entity.subject.ends_with(&path));
    of_subject.map(|(serial, _)| Effect::Forget(format!("{CERTIFICATE}{serial}"))).collect()
}

fn refuse_users(model: &Model, kind: Kind, id: &str) -> Result<(), InUse> {
    let (name, users_kind, users): (_, _, Vec<&str>) = match kind {
        Kind::Config => (
            model.configs().find(|c| c.id.as_str() == id).map(|c| c.name.clone()),
            "services",
            model
                .services()
                .filter(|s| s.configs.iter().any(|c| c.as_str() == id))
                .map(|s| s.name.as_str())
                .collect(),
        ),
        _ => (
            model.config_types().find(|t| t.id.as_str() == id).map(|t| t.name.clone()),
            "configs",
            model.configs().filter(|c| c.config_type_id.as_str() == id).map(|c| c.name.as_str()).collect(),
        ),
    };
    if users.is_empty() {
        return Ok(());
    }
    Err(InUse::By { kind, name: name.unwrap_or_default(), users_kind, users: users.join(", ") })
}

/// Policies keep their other roles.
fn strip_policies(model: &Model, kind: Kind, id: &str, effects: &mut Vec<Effect>) {
    let names = |roles: &Roles, of: Kind| of == kind && roles.entities().any(|e| e == id);
    let strip = |roles: &Roles, of: Kind| if of == kind { roles.without_entity(id) } else { roles.clone() };
    for p in model.service_policies() {
        if names(&p.identity_roles, Kind::Identity) || names(&p.service_roles, Kind::Service) {
            let identity_roles = strip(&p.identity_roles, Kind::Identity);
            let service_roles = strip(&p.service_roles, Kind::Service);
            let new = ServicePolicy { identity_roles, service_roles, ..p.as_ref().clone() };
            effects.push(Effect::Update(new.into()));
        }
    }
    for p in model.edge_router_policies() {
        if names(&p.identity_roles, Kind::Identity) || names(&p.edge_router_roles, Kind::EdgeRouter) {
            let identity_roles = strip(&p.identity_roles, Kind::Identity);
            let edge_router_roles = strip(&p.edge_router_roles, Kind::EdgeRouter);
            let new = EdgeRouterPolicy { identity_roles, edge_router_roles, ..p.as_ref().clone() };
            effects.push(Effect::Update(new.into()));
        }
    }
    for p in model.service_edge_router_policies() {
        if names(&p.service_roles, Kind::Service) || names(&p.edge_router_roles, Kind::EdgeRouter) {
            let service_roles = strip(&p.service_roles, Kind::Service);
            let edge_router_roles = strip(&p.edge_router_roles, Kind::EdgeRouter);
            let new = ServiceEdgeRouterPolicy { service_roles, edge_router_roles, ..p.as_ref().clone() };
            effects.push(Effect::Update(new.into()));
        }
    }
}

/// The transaction of these effects; none when something changed since they were planned.
pub(crate) fn changes(state: &State, effects: Vec<Effect>, now: OffsetDateTime) -> Option<Changes> {
    let mut changes = Changes::default();
    for effect in effects {
        match effect {
            Effect::Forget(key) => changes.delete_record(key),
            Effect::Remove(kind, id) => with_kind!(kind, E => changes.remove(&state.get::<E>(&id)?)),
            Effect::Update(Change::ServicePolicy(new)) => {
                update(state, &mut changes, ServicePolicy { updated_at: now, ..*new.clone() }, new.as_ref())?;
            }
            Effect::Update(Change::EdgeRouterPolicy(new)) => {
                update(
                    state,
                    &mut changes,
                    EdgeRouterPolicy { updated_at: now, ..*new.clone() },
                    new.as_ref(),
                )?;
            }
            Effect::Update(Change::ServiceEdgeRouterPolicy(new)) => {
                update(
                    state,
                    &mut changes,
                    ServiceEdgeRouterPolicy { updated_at: now, ..*new.clone() },
                    new.as_ref(),
                )?;
            }
            // Only policies refer to what can be deleted.
            Effect::Update(_) => return None,
        }
    }
    Some(changes)
}

/// `planned` still has the time of the version that it was planned from.
fn update<E: Stored>(state: &State, changes: &mut Changes, new: E, planned: &E) -> Option<()> {
    let old = state.get::<E>(new.id()).filter(|old| old.entity.updated_at() == planned.updated_at())?;
    changes.update(&old, &new);
    Some(())
}
