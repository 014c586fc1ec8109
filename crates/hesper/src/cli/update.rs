//! `update`: only the flags given are changed.

use super::{
    config::{UpdateConfig, UpdateConfigType},
    edge_router::UpdateEdgeRouter,
    flags::ApiArgs,
    identity::UpdateIdentity,
    policy::{UpdateEdgeRouterPolicy, UpdateServiceEdgeRouterPolicy, UpdateServicePolicy},
    service::UpdateService,
    terminator::UpdateTerminator,
};
use crate::{
    api_client::Session,
    cli::flags::UsageError,
    edge::{draft::Draft, requests},
    output,
};
use anyhow::Result;
use clap::Subcommand;
use hesper_model::entity::Kind;

/// What can be updated.
#[derive(Subcommand, Debug)]
pub(crate) enum UpdateCommand {
    /// Change an identity
    Identity(Box<UpdateIdentity>),
    /// Change a service
    Service(Box<UpdateService>),
    /// Change a config
    Config(Box<UpdateConfig>),
    /// Change a config type
    ConfigType(Box<UpdateConfigType>),
    /// Change a service policy
    #[command(visible_alias = "sp")]
    ServicePolicy(Box<UpdateServicePolicy>),
    /// Change an edge router
    #[command(visible_alias = "er", alias = "gateway")]
    EdgeRouter(Box<UpdateEdgeRouter>),
    /// Change an edge router policy
    #[command(visible_alias = "erp")]
    EdgeRouterPolicy(Box<UpdateEdgeRouterPolicy>),
    /// Change a service edge router policy
    #[command(visible_alias = "serp")]
    ServiceEdgeRouterPolicy(Box<UpdateServiceEdgeRouterPolicy>),
    /// Change a terminator
    Terminator(Box<UpdateTerminator>),
}

/// An update as it was typed.
#[derive(Debug)]
pub(crate) struct Change {
    /// The kind of what is changed.
    pub(crate) kind: Kind,
    /// Its id or name.
    pub(crate) target: String,
    /// The new values.
    pub(crate) draft: Draft,
    /// How to talk to the controller.
    pub(crate) api: ApiArgs,
}

impl UpdateCommand {
    fn request(self) -> Result<Change> {
        Ok(match self {
            Self::Identity(c) => c.request(),
            Self::Service(c) => c.request(),
            Self::Config(c) => c.request()?,
            Self::ConfigType(c) => c.request()?,
            Self::ServicePolicy(c) => c.request(),
            Self::EdgeRouter(c) => c.request(),
            Self::EdgeRouterPolicy(c) => c.request(),
            Self::ServiceEdgeRouterPolicy(c) => c.request(),
            Self::Terminator(c) => c.request(),
        })
    }

    /// Changes it; silent when it worked, as OpenZiti is.
    ///
    /// # Errors
    /// No flag was given, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        let change = self.request()?;
        if change.draft.is_empty() {
            let message = "no change specified. must specify at least one attribute to change";
            return Err(UsageError(message.to_owned()).into());
        }
        let session = Session::open(&change.api)?;
        let answer = requests::update(&session, change.kind, &change.target, change.draft).await?;
        if change.api.output_json {
            output::json(&answer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, EdgeVerb};
    use clap::Parser;
    use serde_json::{Value, json};

    fn change(words: &[&str]) -> Change {
        let cli = Cli::try_parse_from(["hesper", "edge", "update"].iter().chain(words)).expect("parsed");
        match cli.command {
            Command::EdgeGroup { command: crate::cli::EdgeCommand::Verb(EdgeVerb::Update { kind }) } => {
                kind.request().expect("a request")
            }
            other => panic!("not update: {other:?}"),
        }
    }

    #[test]
    fn only_what_was_given_is_sent() {
        assert!(change(&["identity", "x"]).draft.is_empty());
        let body = |words: &[&str]| Value::Object(change(words).draft.body);
        assert_eq!(body(&["identity", "x", "-a", ""]), json!({"roleAttributes": []}));
        assert_eq!(
            body(&["identity", "x", "--admin=false", "-n", "y"]),
            json!({"isAdmin": false, "name": "y"})
        );
        assert_eq!(body(&["er", "x", "--disabled", "--cost", "7"]), json!({"disabled": true, "cost": 7}));
        assert_eq!(body(&["config", "x", "-d", r#"{"a":1}"#]), json!({"data": {"a": 1}}));
        assert_eq!(body(&["serp", "x", "--semantic", "AllOf"]), json!({"semantic": "AllOf"}));
    }
}
