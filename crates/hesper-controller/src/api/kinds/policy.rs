//! The three kinds of policy.

use super::{Managed, Shown, roles_display};
use crate::api::fields::{Field, Shape};
use hesper_model::entity::{
    EdgeRouter, EdgeRouterPolicy, Identity, Kind, Service, ServiceEdgeRouterPolicy, ServicePolicy,
};
use serde_json::{Map, Value};

const NAME: Field = Field::required("name", Shape::Name, "Unique among the policies of its kind.");
const SEMANTIC: Field = Field::optional(
    "semantic",
    Shape::OneOf(&["AnyOf", "AllOf"]),
    "How #attribute entries combine. @id entries match whatever it says. Default AnyOf.",
);
const IDENTITY_ROLES: Field =
    Field::optional("identityRoles", Shape::Roles(Kind::Identity), "Identities: #attribute, @id or #all.");
const SERVICE_ROLES: Field =
    Field::optional("serviceRoles", Shape::Roles(Kind::Service), "Services: #attribute, @id or #all.");
const EDGE_ROUTER_ROLES: Field = Field::optional(
    "edgeRouterRoles",
    Shape::Roles(Kind::EdgeRouter),
    "Edge routers: #attribute, @id or #all.",
);
const TAGS: Field = Field::optional("tags", Shape::Object, "Free-form tags.");

const IDENTITIES_SHOWN: Field =
    Field::shown("identityRolesDisplay", Shape::Object, "The roles with names: [{role, name}].");
const SERVICES_SHOWN: Field =
    Field::shown("serviceRolesDisplay", Shape::Object, "The roles with names: [{role, name}].");
const ROUTERS_SHOWN: Field =
    Field::shown("edgeRouterRolesDisplay", Shape::Object, "The roles with names: [{role, name}].");

impl Managed for ServicePolicy {
    const FIELDS: &'static [Field] = &[
        NAME,
        Field::required(
            "type",
            Shape::OneOf(&["Dial", "Bind"]),
            "What the identities may do with the services.",
        ),
        SEMANTIC,
        IDENTITY_ROLES,
        SERVICE_ROLES,
        TAGS,
        IDENTITIES_SHOWN,
        SERVICES_SHOWN,
    ];

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert(
            "identityRolesDisplay".into(),
            roles_display::<Identity>(context.model, &self.identity_roles),
        );
        fields.insert(
            "serviceRolesDisplay".into(),
            roles_display::<Service>(context.model, &self.service_roles),
        );
    }
}

impl Managed for EdgeRouterPolicy {
    const FIELDS: &'static [Field] =
        &[NAME, SEMANTIC, IDENTITY_ROLES, EDGE_ROUTER_ROLES, TAGS, IDENTITIES_SHOWN, ROUTERS_SHOWN];

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert(
            "identityRolesDisplay".into(),
            roles_display::<Identity>(context.model, &self.identity_roles),
        );
        fields.insert(
            "edgeRouterRolesDisplay".into(),
            roles_display::<EdgeRouter>(context.model, &self.edge_router_roles),
        );
    }
}

impl Managed for ServiceEdgeRouterPolicy {
    const FIELDS: &'static [Field] =
        &[NAME, SEMANTIC, SERVICE_ROLES, EDGE_ROUTER_ROLES, TAGS, SERVICES_SHOWN, ROUTERS_SHOWN];

    fn show(&self, context: &Shown<'_>, fields: &mut Map<String, Value>) {
        fields.insert(
            "serviceRolesDisplay".into(),
            roles_display::<Service>(context.model, &self.service_roles),
        );
        fields.insert(
            "edgeRouterRolesDisplay".into(),
            roles_display::<EdgeRouter>(context.model, &self.edge_router_roles),
        );
    }
}
