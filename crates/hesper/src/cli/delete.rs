//! `delete`: by ids and names, or by filter.

use super::flags::{ApiArgs, UsageError};
use crate::{
    api_client::{Action, NotFound, Session},
    edge::requests,
    output,
};
use anyhow::{Result, bail};
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use hesper_model::entity::Kind;
use serde_json::Value;
use std::collections::BTreeSet;

/// What is deleted.
#[derive(Args, Debug)]
pub(crate) struct Targets {
    /// Ids or names; or the word 'where' and a filter: where 'name contains "test" limit none'
    #[arg(required = true, value_name = "ID|NAME", value_parser = NonEmptyStringValueParser::new())]
    targets: Vec<String>,
    /// Succeed although something named does not exist
    #[arg(long)]
    ignore_missing: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be deleted.
#[derive(Subcommand, Debug)]
pub(crate) enum DeleteCommand {
    /// Delete identities
    #[command(alias = "identities")]
    Identity(Targets),
    /// Delete services
    #[command(alias = "services")]
    Service(Targets),
    /// Delete configs
    #[command(alias = "configs")]
    Config(Targets),
    /// Delete config types
    #[command(alias = "config-types")]
    ConfigType(Targets),
    /// Delete service policies
    #[command(visible_alias = "sp", aliases = ["service-policies", "sps"])]
    ServicePolicy(Targets),
    /// Delete edge routers
    #[command(visible_alias = "er", aliases = ["edge-routers", "ers", "gateway", "gateways"])]
    EdgeRouter(Targets),
    /// Delete edge router policies
    #[command(visible_alias = "erp", aliases = ["edge-router-policies", "erps"])]
    EdgeRouterPolicy(Targets),
    /// Delete service edge router policies
    #[command(visible_alias = "serp", aliases = ["service-edge-router-policies", "serps"])]
    ServiceEdgeRouterPolicy(Targets),
    /// Delete terminators
    #[command(alias = "terminators")]
    Terminator(Targets),
    /// Delete enrollments
    #[command(alias = "enrollments")]
    Enrollment(Targets),
}

/// What happened to what was named; the failures are told together at the end.
#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
}

impl DeleteCommand {
    /// Deletes it, one line each; what cannot be deleted does not keep the rest.
    ///
    /// # Errors
    /// Something named does not exist or could not be deleted.
    pub(crate) async fn run(self) -> Result<()> {
        let (kind, targets) = match self {
            Self::Identity(t) => (Kind::Identity, t),
            Self::Service(t) => (Kind::Service, t),
            Self::Config(t) => (Kind::Config, t),
            Self::ConfigType(t) => (Kind::ConfigType, t),
            Self::ServicePolicy(t) => (Kind::ServicePolicy, t),
            Self::EdgeRouter(t) => (Kind::EdgeRouter, t),
            Self::EdgeRouterPolicy(t) => (Kind::EdgeRouterPolicy, t),
            Self::ServiceEdgeRouterPolicy(t) => (Kind::ServiceEdgeRouterPolicy, t),
            Self::Terminator(t) => (Kind::Terminator, t),
            Self::Enrollment(t) => (Kind::Enrollment, t),
        };
        if targets.targets == ["where"] {
            let message = "'where' needs a filter behind it; what is itself called so is 'name:where'";
            return Err(UsageError(message.to_owned()).into());
        }
        let session = Session::open(&targets.api)?;
        let mut outcome = Outcome::default();
        match targets.targets.split_first() {
            Some((word, filter)) if word == "where" && !filter.is_empty() => {
                delete_where(&session, kind, &filter.join(" "), &mut outcome).await?;
            }
            _ => delete_named(&session, kind, &targets, &mut outcome).await?,
        }
        match outcome.failures.as_slice() {
            [] => Ok(()),
            failures => bail!("{}", failures.join("; ")),
        }
    }
}

async fn delete_named(session: &Session, kind: Kind, targets: &Targets, outcome: &mut Outcome) -> Result<()> {
    let mut done = BTreeSet::new();
    for typed in targets.targets.iter().filter(|typed| done.insert(typed.as_str())) {
        let ids = requests::matching(session, kind, typed).await?;
        match ids.as_slice() {
            [] => {
                let missing = format!("Found 0 {} with id or name matching {typed}", kind.plural());
                if targets.ignore_missing {
                    output::line(missing)?;
                } else {
                    outcome.failures.push(missing);
                }
            }
            [id] => delete(session, kind, id, outcome).await?,
            _ => outcome
                .failures
                .push(format!("multiple {} found for name {typed}, please use id instead", kind.plural())),
        }
    }
    Ok(())
}

async fn delete_where(session: &Session, kind: Kind, filter: &str, outcome: &mut Outcome) -> Result<()> {
    let answer = requests::list(session, kind.plural(), Some(filter)).await?;
    let found = answer.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let paging = output::paging(found.len(), answer.get("meta").unwrap_or(&Value::Null));
    output::line(format_args!("filter returned {paging}"))?;
    for id in found.iter().filter_map(|e| e.get("id").and_then(Value::as_str)) {
        delete(session, kind, id, outcome).await?;
    }
    Ok(())
}

async fn delete(session: &Session, kind: Kind, id: &str, outcome: &mut Outcome) -> Result<()> {
    let result = session.delete(Action::Deleting, &format!("{}/{id}", kind.plural())).await;
    let word = match result {
        Ok(_) => "OK",
        Err(e) if e.is::<NotFound>() => "NOT FOUND",
        Err(e) => {
            outcome.failures.push(format!("{e:#}"));
            "FAIL"
        }
    };
    Ok(output::line(format_args!("delete of {kind} with id {id}: {word}"))?)
}
