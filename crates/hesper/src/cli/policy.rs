//! The three kinds of policy: `service-policy`, `edge-router-policy`, `service-edge-router-policy`.

use super::{
    create::NewEntity,
    flags::{ApiArgs, Semantic, TagArgs},
    update::Change,
};
use crate::edge::draft::Draft;
use clap::Args;
use hesper_model::entity::Kind;

/// What every policy takes besides its roles.
#[derive(Args, Debug)]
struct PolicyFlags {
    /// How several #attributes combine [default for a new policy: AnyOf]
    #[arg(long, value_enum)]
    semantic: Option<Semantic>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl PolicyFlags {
    fn apply(&self, draft: &mut Draft) {
        draft.set_some("semantic", self.semantic);
        self.tags.apply(draft);
    }
}

/// `--service-roles`.
#[derive(Args, Debug)]
struct ServiceRoles {
    /// Services: @name, #attribute or #all, comma separated
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    service_roles: Option<Vec<String>>,
}

/// `--identity-roles`.
#[derive(Args, Debug)]
struct IdentityRoles {
    /// Identities: @name, #attribute or #all, comma separated
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    identity_roles: Option<Vec<String>>,
}

/// `--edge-router-roles`.
#[derive(Args, Debug)]
struct EdgeRouterRoles {
    /// Edge routers: @name, #attribute or #all, comma separated
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    edge_router_roles: Option<Vec<String>>,
}

impl ServiceRoles {
    fn apply(&self, draft: &mut Draft) {
        draft.roles("serviceRoles", Kind::Service, self.service_roles.as_deref());
    }
}

impl IdentityRoles {
    fn apply(&self, draft: &mut Draft) {
        draft.roles("identityRoles", Kind::Identity, self.identity_roles.as_deref());
    }
}

impl EdgeRouterRoles {
    fn apply(&self, draft: &mut Draft) {
        draft.roles("edgeRouterRoles", Kind::EdgeRouter, self.edge_router_roles.as_deref());
    }
}

fn policy_type(text: &str) -> Result<String, String> {
    match text {
        "Bind" | "Dial" => Ok(text.to_owned()),
        _ => Err(format!("Invalid policy type '{text}'. Valid values: [Bind, Dial]")),
    }
}

/// Defines the pair of commands of one kind of policy.
macro_rules! policy {
    ($kind:ident, $create:ident, $update:ident, $first:ident, $second:ident) => {
        /// Creates a policy.
        #[derive(Args, Debug)]
        pub(crate) struct $create {
            /// Its name
            name: String,
            #[command(flatten)]
            first: $first,
            #[command(flatten)]
            second: $second,
            #[command(flatten)]
            flags: PolicyFlags,
        }

        impl $create {
            /// The request.
            pub(crate) fn request(self) -> NewEntity {
                let mut draft = Draft::default();
                draft.set("name", self.name.as_str()).set("semantic", "AnyOf");
                self.first.apply(&mut draft);
                self.second.apply(&mut draft);
                self.flags.apply(&mut draft);
                NewEntity::new(Kind::$kind, Some(self.name), draft, self.flags.api)
            }
        }

        policy!(@update $kind, $update, $first, $second);
    };
    (@update $kind:ident, $update:ident, $first:ident, $second:ident) => {
        /// Changes a policy; only the flags given are changed.
        #[derive(Args, Debug)]
        pub(crate) struct $update {
            /// Its id or name
            #[arg(value_name = "ID|NAME")]
            target: String,
            /// Its new name
            #[arg(short = 'n', long)]
            name: Option<String>,
            #[command(flatten)]
            first: $first,
            #[command(flatten)]
            second: $second,
            #[command(flatten)]
            flags: PolicyFlags,
        }

        impl $update {
            /// The request.
            pub(crate) fn request(self) -> Change {
                let mut draft = Draft::default();
                draft.set_some("name", self.name);
                self.first.apply(&mut draft);
                self.second.apply(&mut draft);
                self.flags.apply(&mut draft);
                Change { kind: Kind::$kind, target: self.target, draft, api: self.flags.api }
            }
        }
    };
}

policy!(EdgeRouterPolicy, CreateEdgeRouterPolicy, UpdateEdgeRouterPolicy, EdgeRouterRoles, IdentityRoles);
policy!(
    ServiceEdgeRouterPolicy,
    CreateServiceEdgeRouterPolicy,
    UpdateServiceEdgeRouterPolicy,
    EdgeRouterRoles,
    ServiceRoles
);
policy!(@update ServicePolicy, UpdateServicePolicy, ServiceRoles, IdentityRoles);

/// Creates a service policy.
#[derive(Args, Debug)]
pub(crate) struct CreateServicePolicy {
    /// Its name
    name: String,
    /// What it permits: Bind or Dial
    #[arg(value_name = "Bind|Dial", value_parser = policy_type)]
    policy_type: String,
    #[command(flatten)]
    services: ServiceRoles,
    #[command(flatten)]
    identities: IdentityRoles,
    #[command(flatten)]
    flags: PolicyFlags,
}

impl CreateServicePolicy {
    /// The request.
    pub(crate) fn request(self) -> NewEntity {
        let mut draft = Draft::default();
        draft.set("name", self.name.as_str()).set("type", self.policy_type).set("semantic", "AnyOf");
        self.services.apply(&mut draft);
        self.identities.apply(&mut draft);
        self.flags.apply(&mut draft);
        NewEntity::new(Kind::ServicePolicy, Some(self.name), draft, self.flags.api).with_hint()
    }
}
