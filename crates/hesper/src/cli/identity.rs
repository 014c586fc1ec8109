//! `create identity`, `update identity`.

use super::{
    create::NewEntity,
    flags::{ApiArgs, JwtOutput, Precedence, TagArgs, UsageError},
    update::Change,
};
use crate::edge::draft::Draft;
use anyhow::Result;
use clap::Args;
use hesper_model::entity::Kind;
use serde_json::json;

const TYPES: [&str; 3] = ["user", "device", "service"];

/// Creates an identity.
#[derive(Args, Debug)]
pub(crate) struct CreateIdentity {
    /// Its name; OpenZiti's older form `user|device|service NAME` is accepted too
    #[arg(required = true, num_args = 1..=2, value_name = "NAME")]
    name: Vec<String>,
    #[command(flatten)]
    output: JwtOutput,
    /// Role attributes, comma separated
    #[arg(short = 'a', long, value_name = "ATTR", value_delimiter = ',')]
    role_attributes: Option<Vec<String>>,
    /// It may use the management API
    #[arg(short = 'A', long)]
    admin: bool,
    /// What else it may ask of the controller, comma separated: telemetry.forward
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    permissions: Option<Vec<String>>,
    /// An id in somebody else's system
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Precedence of the terminators it creates
    #[arg(short = 'p', long, value_enum, value_name = "PRECEDENCE")]
    default_hosting_precedence: Option<Precedence>,
    /// Cost of the terminators it creates
    #[arg(short = 'c', long, value_name = "COST")]
    default_hosting_cost: Option<u16>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl CreateIdentity {
    /// The request.
    ///
    /// # Errors
    /// Two words were given and the first is no type of identity.
    pub(crate) fn request(self) -> Result<NewEntity> {
        let name = match self.name.as_slice() {
            [name] => name.clone(),
            [kind, name] if TYPES.contains(&kind.as_str()) => name.clone(),
            words => {
                let first = words.first().map_or("", String::as_str);
                return Err(UsageError(format!(
                    "'{first}' is no type of identity; write 'create identity NAME' or 'create identity user|device|service NAME'"
                ))
                .into());
            }
        };
        let mut draft = Draft::default();
        draft
            .set("name", name.as_str())
            .set("type", "Default")
            .set("isAdmin", self.admin)
            .set_list("permissions", self.permissions.as_deref())
            .set_list("roleAttributes", Some(self.role_attributes.as_deref().unwrap_or_default()))
            .set_some("externalId", self.external_id)
            .set_some("defaultHostingPrecedence", self.default_hosting_precedence)
            .set_some("defaultHostingCost", self.default_hosting_cost);
        self.tags.apply(&mut draft);
        // A token is shown once; without a place to show it, it would be one that nobody can redeem.
        let wants_token = self.output.jwt_output_file.is_some() || self.api.output_json;
        draft.set("enrollment", json!({"ott": wants_token}));
        Ok(NewEntity::new(Kind::Identity, Some(name), draft, self.api)
            .with_token(self.output.jwt_output_file))
    }
}

/// Changes an identity; only the flags given are changed.
#[derive(Args, Debug)]
pub(crate) struct UpdateIdentity {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    target: String,
    /// Its new name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Role attributes, comma separated; '' removes all
    #[arg(short = 'a', long, value_name = "ATTR", value_delimiter = ',')]
    role_attributes: Option<Vec<String>>,
    /// It may use the management API
    #[arg(short = 'A', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    admin: Option<bool>,
    /// What else it may ask of the controller, comma separated: telemetry.forward; '' removes all
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    permissions: Option<Vec<String>>,
    /// Refuse it everywhere and end its streams
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disabled: Option<bool>,
    /// An id in somebody else's system
    #[arg(long, value_name = "ID")]
    external_id: Option<String>,
    /// Precedence of the terminators it creates
    #[arg(short = 'p', long, value_enum, value_name = "PRECEDENCE")]
    default_hosting_precedence: Option<Precedence>,
    /// Cost of the terminators it creates
    #[arg(short = 'c', long, value_name = "COST")]
    default_hosting_cost: Option<u16>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl UpdateIdentity {
    /// The request.
    pub(crate) fn request(self) -> Change {
        let mut draft = Draft::default();
        draft
            .set_some("name", self.name)
            .set_list("roleAttributes", self.role_attributes.as_deref())
            .set_some("isAdmin", self.admin)
            .set_list("permissions", self.permissions.as_deref())
            .set_some("disabled", self.disabled)
            .set_some("externalId", self.external_id)
            .set_some("defaultHostingPrecedence", self.default_hosting_precedence)
            .set_some("defaultHostingCost", self.default_hosting_cost);
        self.tags.apply(&mut draft);
        Change { kind: Kind::Identity, target: self.target, draft, api: self.api }
    }
}
