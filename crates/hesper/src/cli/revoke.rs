//! `revoke`: what was given out is taken back before its end.

use super::flags::ApiArgs;
use crate::{
    api_client::{Action, Session},
    output,
};
use anyhow::{Result, bail};
use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde_json::{Value, json};

/// What can be revoked.
#[derive(Subcommand, Debug)]
pub(crate) enum RevokeCommand {
    /// Revoke certificates, with all renewals of each: streams of their owners end, and they must enroll again
    #[command(visible_alias = "certificate", aliases = ["certs", "certificates"])]
    Cert(Serials),
}

/// Which.
#[derive(Args, Debug)]
pub(crate) struct Serials {
    /// Serials, as 'list certs' shows them
    #[arg(required = true, value_name = "SERIAL", value_parser = NonEmptyStringValueParser::new())]
    serials: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

impl RevokeCommand {
    /// Revokes them, a line for each; one that is unknown does not keep the rest.
    ///
    /// # Errors
    /// A serial is unknown, or the controller refused.
    pub(crate) async fn run(self) -> Result<()> {
        let Self::Cert(Serials { serials, api }) = self;
        let session = Session::open(&api)?;
        let mut failures = Vec::new();
        for serial in &serials {
            if !serial.chars().all(|c| c.is_ascii_alphanumeric()) {
                failures.push(format!("'{serial}' is no serial: see 'hesper edge list certs'"));
                continue;
            }
            let answer =
                session.post(Action::Revoking, &format!("certificates/{serial}/revoke"), &json!({})).await;
            match answer {
                Ok(answer) if api.output_json => output::json(&answer)?,
                Ok(answer) => show(serial, answer.get("data").unwrap_or(&Value::Null))?,
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        match failures.as_slice() {
            [] => Ok(()),
            failures => bail!("{}", failures.join("; ")),
        }
    }
}

fn show(serial: &str, data: &Value) -> Result<()> {
    let owner = match output::cell(data.get("name")) {
        none if none.is_empty() => output::cell(data.get("subject")),
        name => name,
    };
    let revoked = data.get("revoked").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if revoked.is_empty() {
        return Ok(output::line(format_args!(
            "the certificate {serial} of {owner} is not in use any more: nothing to revoke"
        ))?);
    }
    for serial in revoked {
        output::line(format_args!("revoked the certificate {} of {owner}", output::cell(Some(serial))))?;
    }
    Ok(())
}
