//! `show`: the JSON inside of a config or a config type.

use super::flags::ApiArgs;
use crate::{api_client::Session, edge::requests, output};
use anyhow::Result;
use clap::{Args, Subcommand};
use hesper_model::entity::Kind;
use serde_json::Value;

/// What can be shown.
#[derive(Subcommand, Debug)]
pub(crate) enum ShowCommand {
    /// The JSON of a config
    Config(One),
    /// The JSON schema of a config type
    ConfigType(One),
}

/// The one to show.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    target: String,
    #[command(flatten)]
    api: ApiArgs,
}

impl ShowCommand {
    /// Prints it.
    ///
    /// # Errors
    /// There is no such entity, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        let (kind, field, one) = match self {
            Self::Config(one) => (Kind::Config, "data", one),
            Self::ConfigType(one) => (Kind::ConfigType, "schema", one),
        };
        let session = Session::open(&one.api)?;
        let id = requests::id_of(&session, kind, &one.target).await?;
        let answer = requests::get(&session, &format!("{}/{id}", kind.plural())).await?;
        if one.api.output_json {
            return Ok(output::json(&answer)?);
        }
        Ok(output::json(answer.pointer(&format!("/data/{field}")).unwrap_or(&Value::Null))?)
    }
}
