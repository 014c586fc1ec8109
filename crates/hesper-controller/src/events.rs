//! Whom and what events name: entities by id and name, and the controller's own APIs where no service of the mesh is concerned.

use crate::auth::Admin;
use hesper_model::{
    entity::Identity,
    id::{EdgeRouterId, IdentityId, ServiceId},
};
use hesper_observe::events::Named;
use hesper_policy::Model;

/// The management API: logins and changes.
pub(crate) const MANAGEMENT_API: &str = "edge-management";
/// Where nodes and routers enroll.
pub(crate) const CLIENT_API: &str = "edge-client";
/// Where telemetry is forwarded.
pub(crate) const TELEMETRY_API: &str = "telemetry";
/// What nodes and routers ask over gRPC.
pub(crate) const CONTROL_API: &str = "control";

/// An identity.
pub(crate) fn identity(identity: &Identity) -> Named {
    Named::new(identity.id.as_str(), identity.name.as_str())
}

/// An administrator.
pub(crate) fn admin(admin: &Admin) -> Named {
    Named::new(admin.id.as_str(), admin.name.as_str())
}

/// An identity by its id, with its name as far as the model has it.
pub(crate) fn identity_of(model: &Model, id: &IdentityId) -> Named {
    model.identity(id).map_or_else(|| Named::id(id.as_str()), |known| identity(known))
}

/// A router by its id.
pub(crate) fn router_of(model: &Model, id: &EdgeRouterId) -> Named {
    model.edge_router(id).map_or_else(|| Named::id(id.as_str()), |r| Named::new(id.as_str(), r.name.as_str()))
}

/// A service by its id.
pub(crate) fn service_of(model: &Model, id: &ServiceId) -> Named {
    model.service(id).map_or_else(|| Named::id(id.as_str()), |s| Named::new(id.as_str(), s.name.as_str()))
}

/// What somebody asked for by id or name; what there is not keeps the name that was asked for.
pub(crate) fn service_asked(model: &Model, asked: &str) -> Named {
    let known = model.service_by_id_or_name(asked);
    known.map_or_else(|| Named::name(asked), |s| Named::new(s.id.as_str(), s.name.as_str()))
}
