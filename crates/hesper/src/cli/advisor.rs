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
            Self::Identities(of) => (of.identity, of.service, Kind::Identity, of.show),
            Self::Services(of) => (of.identity, of.service, Kind::Service, of.show),
        };
        let session = Session::open(&show.api)?;
        let identities = targets(&session, Kind::Identity, identity.as_deref(), side).await?;
        let services = targets(&session, Kind::Service, service.as_deref(), side).await?;
        let mut advice = Vec::new();
        for identity in &identities {
            for service in &services {
                let query: Vec<(&str, &str)> = [("identity", identity), ("service", service)]
                    .into_iter()
                    .filter_map(|(name, id)| id.as_deref().map(|id| (name, id)))
                    .collect();
                let answer = session.get(Action::Listing, "policy-advice", &query).await?;
                advice.extend(answer.get("data").and_then(Value::as_array).cloned().unwrap_or_default());
            }
        }
        if show.api.output_json {
            return Ok(output::json(&Value::Array(advice))?);
        }
        if !show.quiet {
            output::line(LEGEND)?;
        }
        for one in advice {
            let one: Advice =
                serde_json::from_value(one).context("the controller's advice is not understood")?;
            output::line(format_args!("{one}\n"))?;
        }
        Ok(())
    }
}

/// The ids to ask about: the one named; of the side looked from all there are; of the other side none in particular.
async fn targets(
    session: &Session,
    kind: Kind,
    named: Option<&str>,
    side: Kind,
) -> Result<Vec<Option<String>>> {
    if let Some(name) = named {
        return Ok(vec![Some(requests::id_of(session, kind, name).await?)]);
    }
    if kind != side {
        return Ok(vec![None]);
    }
    let answer = requests::list(session, kind.plural(), Some("true sort by name limit none")).await?;
    let all = answer.get("data").and_then(Value::as_array).into_iter().flatten();
    Ok(all.filter_map(|e| e.get("id").and_then(Value::as_str)).map(|id| Some(id.to_owned())).collect())
}
