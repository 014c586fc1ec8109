//! `policy-advisor`: what stands between identities and services.

use super::flags::ApiArgs;
use crate::{
    api_client::{Action, Session},
    edge::requests,
    output,
};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use hesper_model::entity::Kind;
use hesper_policy::advise::Advice;
use serde::Deserialize;
use serde_json::Value;

/// How the advice is read. Not shown with `-q`.
const LEGEND: &str = "\
Each line below is one identity and one service:

STATUS: IDENTITY (ROUTERS) -> SERVICE (ROUTERS) Common Routers: (ONLINE/COMMON) Dial: Y|N Bind: Y|N

  STATUS    OKAY when the identity can use the service now, ERROR when something is missing
  ROUTERS   how many edge routers the identity (by edge-router-policies) or the service
            (by service-edge-router-policies) may use
  COMMON    how many edge routers both may use, and how many of these are online
  Dial      may the identity dial the service? (by service-policies of type Dial)
  Bind      may the identity host the service? (by service-policies of type Bind)
";

/// From which side to look.
#[derive(Subcommand, Debug)]
pub(crate) enum AdvisorCommand {
    /// What each identity can do
    Identities(OfIdentities),
    /// Who can use each service
    Services(OfServices),
}

/// Advice for identities.
#[derive(Args, Debug)]
pub(crate) struct OfIdentities {
    /// Only this identity
    #[arg(value_name = "IDENTITY")]
    identity: Option<String>,
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    #[command(flatten)]
    show: Show,
}

/// Advice for services.
#[derive(Args, Debug)]
pub(crate) struct OfServices {
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Only this identity
    #[arg(value_name = "IDENTITY")]
    identity: Option<String>,
    #[command(flatten)]
    show: Show,
}

/// How it is shown.
#[derive(Args, Debug)]
struct Show {
    /// Leave the legend out
    #[arg(short = 'q', long)]
    quiet: bool,
    #[command(flatten)]
    api: ApiArgs,
}

impl AdvisorCommand {
    /// Prints the advice.
    ///
    /// # Errors
    /// The identity or the service is unknown, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        let (identity, service, side, show) = match self {
            Self::Identities(of) => (of.identity, of.service, "identity", of.show),
            Self::Services(of) => (of.identity, of.service, "service", of.show),
        };
        let session = Session::open(&show.api)?;
        let mut query = vec![("by", side.to_owned()), ("limit", "none".to_owned())];
        for (name, kind, typed) in
            [("identity", Kind::Identity, identity), ("service", Kind::Service, service)]
        {
            if let Some(typed) = typed {
                query.push((name, requests::id_of(&session, kind, &typed).await?));
            }
        }
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = session.get(Action::Listing, "policy-advice", &query).await?;
        if show.api.output_json {
            return Ok(output::json(&answer)?);
        }
        if !show.quiet {
            output::line(LEGEND)?;
        }
        for one in answer.get("data").and_then(Value::as_array).into_iter().flatten() {
            let one = Advice::deserialize(one).context("the controller's advice is not understood")?;
            output::line(format_args!("{one}\n"))?;
        }
        Ok(())
    }
}
