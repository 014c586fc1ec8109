//! `list`: entities of a kind, what belongs to one entity, and the summary.

use super::flags::{ApiArgs, Semantic};
use crate::{
    api_client::Session,
    edge::{kinds, requests},
    output,
};
use anyhow::Result;
use clap::{Args, Subcommand};
use hesper_model::entity::Kind;
use serde_json::Value;

/// How a list is shown.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// Print comma-separated values
    #[arg(long, conflicts_with = "output_json")]
    csv: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// A list of one kind.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Which ones, in OpenZiti's filter language: 'name contains "x" sort by name limit none'
    filter: Option<String>,
    #[command(flatten)]
    show: ShowArgs,
}

/// A list of a kind that has role attributes.
#[derive(Args, Debug)]
pub(crate) struct ListByRoleArgs {
    /// Which ones, in OpenZiti's filter language: 'name contains "x" sort by name limit none'
    filter: Option<String>,
    /// Only those that these roles (#attribute, @name, #all) match
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    role_filters: Vec<String>,
    /// How several roles combine
    #[arg(long, value_enum, value_name = "SEMANTIC", default_value = "AnyOf")]
    role_semantic: Semantic,
    #[command(flatten)]
    show: ShowArgs,
}

/// The list of services.
#[derive(Args, Debug)]
pub(crate) struct ListServicesArgs {
    #[command(flatten)]
    list: ListByRoleArgs,
    /// Only what this identity may dial or bind
    #[arg(long, value_name = "ID|NAME", conflicts_with = "role_filters")]
    as_identity: Option<String>,
}

/// Defines the arguments of `list <one> [<relation> <id|name>]`.
macro_rules! related {
    ($name:ident, $kind:ident, $($relation:literal),+) => {
        /// What belongs to one entity.
        #[derive(Args, Debug)]
        pub(crate) struct $name {
            /// What of it to list; without it, all entities of its kind are listed
            #[arg(value_parser = [$($relation),+], requires = "target")]
            relation: Option<String>,
            /// Id or name of the entity
            #[arg(value_name = "ID|NAME")]
            target: Option<String>,
            /// Which ones, in OpenZiti's filter language
            filter: Option<String>,
            #[command(flatten)]
            show: ShowArgs,
        }

        impl $name {
            async fn run(self) -> Result<()> {
                match (self.relation, self.target) {
                    (Some(relation), Some(target)) => {
                        related(Kind::$kind, &relation, &target, self.filter.as_deref(), &self.show).await
                    }
                    _ => plain(Kind::$kind, ListArgs { filter: None, show: self.show }).await,
                }
            }
        }
    };
}

related!(
    OfService,
    Service,
    "configs",
    "service-policies",
    "service-edge-router-policies",
    "terminators",
    "identities",
    "edge-routers"
);
related!(
    OfIdentity,
    Identity,
    "services",
    "service-policies",
    "edge-router-policies",
    "edge-routers",
    "terminators",
    "enrollments"
);
related!(
    OfEdgeRouter,
    EdgeRouter,
    "identities",
    "services",
    "edge-router-policies",
    "service-edge-router-policies",
    "terminators",
    "enrollments"
);
related!(OfServicePolicy, ServicePolicy, "services", "identities");
related!(OfEdgeRouterPolicy, EdgeRouterPolicy, "edge-routers", "identities");
related!(OfServiceEdgeRouterPolicy, ServiceEdgeRouterPolicy, "services", "edge-routers");
related!(OfConfig, Config, "services");
related!(OfConfigType, ConfigType, "configs");

/// What can be listed.
#[derive(Subcommand, Debug)]
pub(crate) enum ListCommand {
    /// All identities
    Identities(ListByRoleArgs),
    /// All services
    Services(ListServicesArgs),
    /// All configs
    Configs(ListArgs),
    /// All config types
    ConfigTypes(ListArgs),
    /// All service policies
    #[command(visible_alias = "sps")]
    ServicePolicies(ListArgs),
    /// All edge routers
    #[command(visible_alias = "ers", alias = "gateways")]
    EdgeRouters(ListByRoleArgs),
    /// All edge router policies
    #[command(visible_alias = "erps")]
    EdgeRouterPolicies(ListArgs),
    /// All service edge router policies
    #[command(visible_alias = "serps")]
    ServiceEdgeRouterPolicies(ListArgs),
    /// All terminators
    #[command(alias = "terminator")]
    Terminators(ListArgs),
    /// All enrollments
    #[command(alias = "enrollment")]
    Enrollments(ListArgs),
    /// Role attributes of identities
    IdentityRoleAttributes(ListArgs),
    /// Role attributes of services
    ServiceRoleAttributes(ListArgs),
    /// Role attributes of edge routers
    EdgeRouterRoleAttributes(ListArgs),
    /// Certificates of identities and routers: until when, by which authority, in which state
    #[command(visible_alias = "certificates")]
    Certs(ListArgs),
    /// How many there are of each
    Summary(ShowArgs),
    /// What belongs to an identity, or all identities
    Identity(OfIdentity),
    /// What belongs to a service, or all services
    Service(OfService),
    /// What uses a config, or all configs
    Config(OfConfig),
    /// The configs of a type, or all config types
    ConfigType(OfConfigType),
    /// What a service policy matches, or all service policies
    #[command(visible_alias = "sp")]
    ServicePolicy(OfServicePolicy),
    /// What belongs to an edge router, or all edge routers
    #[command(visible_alias = "er", alias = "gateway")]
    EdgeRouter(OfEdgeRouter),
    /// What an edge router policy matches, or all edge router policies
    #[command(visible_alias = "erp")]
    EdgeRouterPolicy(OfEdgeRouterPolicy),
    /// What a service edge router policy matches, or all of them
    #[command(visible_alias = "serp")]
    ServiceEdgeRouterPolicy(OfServiceEdgeRouterPolicy),
}

impl ListCommand {
    /// Prints the list.
    ///
    /// # Errors
    /// The filter is wrong, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Identities(args) => by_role(Kind::Identity, args, None).await,
            Self::Services(args) => by_role(Kind::Service, args.list, args.as_identity).await,
            Self::EdgeRouters(args) => by_role(Kind::EdgeRouter, args, None).await,
            Self::Configs(args) => plain(Kind::Config, args).await,
            Self::ConfigTypes(args) => plain(Kind::ConfigType, args).await,
            Self::ServicePolicies(args) => plain(Kind::ServicePolicy, args).await,
            Self::EdgeRouterPolicies(args) => plain(Kind::EdgeRouterPolicy, args).await,
            Self::ServiceEdgeRouterPolicies(args) => plain(Kind::ServiceEdgeRouterPolicy, args).await,
            Self::Terminators(args) => plain(Kind::Terminator, args).await,
            Self::Enrollments(args) => plain(Kind::Enrollment, args).await,
            Self::IdentityRoleAttributes(args) => role_attributes("identity-role-attributes", args).await,
            Self::ServiceRoleAttributes(args) => role_attributes("service-role-attributes", args).await,
            Self::EdgeRouterRoleAttributes(args) => {
                role_attributes("edge-router-role-attributes", args).await
            }
            Self::Certs(args) => certificates(args).await,
            Self::Summary(show) => summary(&show).await,
            Self::Identity(args) => args.run().await,
            Self::Service(args) => args.run().await,
            Self::Config(args) => args.run().await,
            Self::ConfigType(args) => args.run().await,
            Self::ServicePolicy(args) => args.run().await,
            Self::EdgeRouter(args) => args.run().await,
            Self::EdgeRouterPolicy(args) => args.run().await,
            Self::ServiceEdgeRouterPolicy(args) => args.run().await,
        }
    }
}

async fn plain(kind: Kind, args: ListArgs) -> Result<()> {
    let session = Session::open(&args.show.api)?;
    let answer = requests::list(&session, kind.plural(), args.filter.as_deref()).await?;
    show(kind, &answer, &args.show)
}

async fn by_role(kind: Kind, args: ListByRoleArgs, as_identity: Option<String>) -> Result<()> {
    let session = Session::open(&args.show.api)?;
    let answer = match as_identity {
        None => {
            let semantic = args.role_semantic.as_str();
            requests::list_by_roles(&session, kind, args.filter.as_deref(), &args.role_filters, semantic)
                .await?
        }
        Some(identity) => {
            let id = requests::id_of(&session, Kind::Identity, &identity).await?;
            let path = format!("identities/{id}/{}", kind.plural());
            requests::list(&session, &path, args.filter.as_deref()).await?
        }
    };
    show(kind, &answer, &args.show)
}

async fn related(
    kind: Kind,
    relation: &str,
    target: &str,
    filter: Option<&str>,
    args: &ShowArgs,
) -> Result<()> {
    let session = Session::open(&args.api)?;
    let id = requests::id_of(&session, kind, target).await?;
    let answer = requests::list(&session, &format!("{}/{id}/{relation}", kind.plural()), filter).await?;
    let Some(shown) = Kind::ALL.into_iter().find(|k| k.plural() == relation) else {
        unreachable!("clap admits plurals of kinds only");
    };
    show(shown, &answer, args)
}

async fn summary(args: &ShowArgs) -> Result<()> {
    let session = Session::open(&args.api)?;
    let answer = requests::get(&session, "summary").await?;
    if args.api.output_json {
        return Ok(output::json(&answer)?);
    }
    let grid = kinds::summary(answer.get("data").unwrap_or(&Value::Null));
    Ok(output::line(if args.csv { grid.csv() } else { grid.boxed() })?)
}

async fn certificates(args: ListArgs) -> Result<()> {
    let session = Session::open(&args.show.api)?;
    let answer = requests::list(&session, "certificates", args.filter.as_deref()).await?;
    print(&answer, &args.show, kinds::certificates)?;
    let items = answer.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for late in items.iter().filter(|c| c.get("state").and_then(Value::as_str) == Some("late")) {
        let (name, until) = (output::cell(late.get("name")), output::cell(late.get("notAfter")));
        eprintln!(
            "WARN    the certificate of {name} is past three quarters of its life and not renewed; it ends at {until}"
        );
    }
    Ok(())
}

async fn role_attributes(path: &str, args: ListArgs) -> Result<()> {
    let session = Session::open(&args.show.api)?;
    let answer = requests::list(&session, path, args.filter.as_deref()).await?;
    print(&answer, &args.show, kinds::role_attributes)
}

fn show(kind: Kind, answer: &Value, args: &ShowArgs) -> Result<()> {
    print(answer, args, |entities| kinds::grid(kind, entities))
}

fn print(answer: &Value, args: &ShowArgs, grid: impl Fn(&[Value]) -> output::Grid) -> Result<()> {
    if args.api.output_json {
        return Ok(output::json(answer)?);
    }
    let items = answer.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let grid = grid(items);
    if args.csv {
        return Ok(output::line(grid.csv())?);
    }
    output::line(grid.boxed())?;
    Ok(output::line(output::paging(items.len(), answer.get("meta").unwrap_or(&Value::Null)))?)
}
