//! `create config`, `create config-type`, and their updates.

use super::{
    create::NewEntity,
    flags::{ApiArgs, TagArgs, UsageError, object_from},
    update::Change,
};
use crate::edge::draft::Draft;
use anyhow::Result;
use clap::{Args, ValueEnum};
use hesper_model::entity::Kind;
use serde_json::Value;
use std::path::PathBuf;

/// Creates a config.
#[derive(Args, Debug)]
pub(crate) struct CreateConfig {
    /// Its name
    name: String,
    /// Id or name of its type, such as intercept.v1 or host.v1
    #[arg(value_name = "TYPE")]
    config_type: String,
    /// The config itself, a JSON object that the type's schema accepts
    #[arg(value_name = "JSON")]
    data: Option<String>,
    /// Read its JSON from this file
    #[arg(short = 'f', long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl CreateConfig {
    /// The request.
    ///
    /// # Errors
    /// There is no JSON, twice JSON, or something that is no JSON object.
    pub(crate) fn request(self) -> Result<NewEntity> {
        let data = object_from(self.data.as_deref(), self.json_file.as_deref(), "--json-file")?.ok_or_else(
            || UsageError("no configuration: give its JSON in the command or with --json-file".into()),
        )?;
        let mut draft = Draft::default();
        draft
            .set("name", self.name.as_str())
            .refer("configTypeId", Kind::ConfigType, Some(&self.config_type))
            .set("data", data);
        self.tags.apply(&mut draft);
        Ok(NewEntity::new(Kind::Config, Some(self.name), draft, self.api))
    }
}

/// Changes a config; only the flags given are changed.
#[derive(Args, Debug)]
pub(crate) struct UpdateConfig {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    target: String,
    /// Its new name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Its new JSON
    #[arg(short = 'd', long, value_name = "JSON")]
    data: Option<String>,
    /// Read its new JSON from this file
    #[arg(short = 'f', long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl UpdateConfig {
    /// The request.
    ///
    /// # Errors
    /// Twice JSON, or something that is no JSON object.
    pub(crate) fn request(self) -> Result<Change> {
        let mut draft = Draft::default();
        draft
            .set_some("name", self.name)
            .set_some("data", object_from(self.data.as_deref(), self.json_file.as_deref(), "--json-file")?);
        self.tags.apply(&mut draft);
        Ok(Change { kind: Kind::Config, target: self.target, draft, api: self.api })
    }
}

/// What a config type configures.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Services
    Service,
    /// Routers
    Router,
    /// Something else
    Other,
}

impl From<Target> for Value {
    fn from(target: Target) -> Self {
        match target {
            Target::Service => "service",
            Target::Router => "router",
            Target::Other => "other",
        }
        .into()
    }
}

/// Creates a config type.
#[derive(Args, Debug)]
pub(crate) struct CreateConfigType {
    /// Its name
    name: String,
    /// The JSON schema of its configs; none accepts every object
    #[arg(value_name = "SCHEMA")]
    schema: Option<String>,
    /// Read the schema from this file
    #[arg(short = 'f', long, value_name = "FILE")]
    schema_file: Option<PathBuf>,
    /// What it configures
    #[arg(long, value_enum)]
    target: Option<Target>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl CreateConfigType {
    /// The request.
    ///
    /// # Errors
    /// Twice a schema, or something that is no JSON object.
    pub(crate) fn request(self) -> Result<NewEntity> {
        let mut draft = Draft::default();
        draft
            .set("name", self.name.as_str())
            .set_some(
                "schema",
                object_from(self.schema.as_deref(), self.schema_file.as_deref(), "--schema-file")?,
            )
            .set_some("target", self.target);
        self.tags.apply(&mut draft);
        Ok(NewEntity::new(Kind::ConfigType, Some(self.name), draft, self.api))
    }
}

/// Changes a config type; only the flags given are changed.
#[derive(Args, Debug)]
pub(crate) struct UpdateConfigType {
    /// Its id or name
    #[arg(value_name = "ID|NAME")]
    target: String,
    /// Its new name
    #[arg(short = 'n', long)]
    name: Option<String>,
    /// Its new JSON schema
    #[arg(short = 's', long, value_name = "JSON")]
    schema: Option<String>,
    /// Read its new JSON schema from this file
    #[arg(short = 'f', long, value_name = "FILE")]
    schema_file: Option<PathBuf>,
    #[command(flatten)]
    tags: TagArgs,
    #[command(flatten)]
    api: ApiArgs,
}

impl UpdateConfigType {
    /// The request.
    ///
    /// # Errors
    /// Twice a schema, or something that is no JSON object.
    pub(crate) fn request(self) -> Result<Change> {
        let mut draft = Draft::default();
        draft.set_some("name", self.name).set_some(
            "schema",
            object_from(self.schema.as_deref(), self.schema_file.as_deref(), "--schema-file")?,
        );
        self.tags.apply(&mut draft);
        Ok(Change { kind: Kind::ConfigType, target: self.target, draft, api: self.api })
    }
}
