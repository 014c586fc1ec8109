//! `create`: the request of each kind, and what is printed when it is done.

use super::{
    config::{CreateConfig, CreateConfigType},
    edge_router::CreateEdgeRouter,
    enrollment::CreateEnrollment,
    flags::ApiArgs,
    identity::CreateIdentity,
    policy::{CreateEdgeRouterPolicy, CreateServiceEdgeRouterPolicy, CreateServicePolicy},
    service::CreateService,
    terminator::CreateTerminator,
};
use crate::{
    api_client::Session,
    edge::{
        draft::Draft,
        enrollment::{enrollment, take_token},
        kinds, requests,
    },
    new_file::NewFile,
    output,
};
use anyhow::{Context, Result};
use clap::Subcommand;
use hesper_model::entity::Kind;
use serde_json::Value;
use std::path::PathBuf;
use time::{
    OffsetDateTime, UtcOffset,
    format_description::{StaticFormatDescription, well_known::Rfc3339},
    macros::format_description,
};

const MILLISECONDS: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What can be created.
#[derive(Subcommand, Debug)]
pub(crate) enum CreateCommand {
    /// Somebody who may enroll, then dial or bind
    Identity(Box<CreateIdentity>),
    /// Something that can be dialed by name
    Service(Box<CreateService>),
    /// Configuration for services
    Config(Box<CreateConfig>),
    /// A type of config
    ConfigType(Box<CreateConfigType>),
    /// Who may dial or bind which services
    #[command(visible_alias = "sp")]
    ServicePolicy(Box<CreateServicePolicy>),
    /// A router that nodes attach to
    #[command(visible_alias = "er", alias = "gateway")]
    EdgeRouter(Box<CreateEdgeRouter>),
    /// Which identities may use which edge routers
    #[command(visible_alias = "erp")]
    EdgeRouterPolicy(Box<CreateEdgeRouterPolicy>),
    /// Which services may be carried by which edge routers
    #[command(visible_alias = "serp")]
    ServiceEdgeRouterPolicy(Box<CreateServiceEdgeRouterPolicy>),
    /// A place where a service is hosted
    Terminator(Box<CreateTerminator>),
    /// A new one-time token for somebody who exists
    #[command(subcommand)]
    Enrollment(CreateEnrollment),
}

/// A create request as it was typed.
#[derive(Debug)]
pub(crate) struct NewEntity {
    kind: Kind,
    name: Option<String>,
    draft: Draft,
    api: ApiArgs,
    token_file: Option<PathBuf>,
    hint: bool,
}

impl NewEntity {
    /// A request without token and hint.
    pub(crate) fn new(kind: Kind, name: Option<String>, draft: Draft, api: ApiArgs) -> Self {
        Self { kind, name, draft, api, token_file: None, hint: false }
    }

    /// Writes the one-time token of the answer to this file.
    #[must_use]
    pub(crate) fn with_token(mut self, file: Option<PathBuf>) -> Self {
        self.token_file = file;
        self
    }

    /// Says afterwards what is still missing before the service can be dialed.
    #[must_use]
    pub(crate) fn with_hint(mut self) -> Self {
        self.hint = true;
        self
    }
}

impl CreateCommand {
    fn request(self) -> Result<NewEntity> {
        Ok(match self {
            Self::Identity(c) => c.request()?,
            Self::Service(c) => c.request(),
            Self::Config(c) => c.request()?,
            Self::ConfigType(c) => c.request()?,
            Self::ServicePolicy(c) => c.request(),
            Self::EdgeRouter(c) => c.request(),
            Self::EdgeRouterPolicy(c) => c.request(),
            Self::ServiceEdgeRouterPolicy(c) => c.request(),
            Self::Terminator(c) => c.request(),
            Self::Enrollment(c) => c.request(),
        })
    }

    /// Creates it.
    ///
    /// # Errors
    /// The request was refused or could not be sent; then nothing was created and no file is left.
    pub(crate) async fn run(self) -> Result<()> {
        let new = self.request()?;
        let session = Session::open(&new.api)?;
        // The file comes first: with a path that cannot be written, nothing is created.
        let token_file = new.token_file.as_deref().map(NewFile::reserve).transpose()?;
        let mut created = requests::create(&session, new.kind, new.draft).await?;
        let id = output::cell(created.pointer("/data/id"));
        if let Some(file) = token_file {
            let path = file.path().display().to_string();
            let token = take_token(&mut created);
            token.and_then(|jwt| file.write(jwt.as_bytes())).with_context(|| {
                format!(
                    "{} {id} was created, but its enrollment token was not written to {path}; 'hesper edge create enrollment' makes another",
                    kinds::noun(new.kind)
                )
            })?;
        }
        if new.api.output_json {
            output::json(&created)?;
        } else {
            output::line(success(new.kind, new.name.as_deref(), &id))?;
            if new.token_file.is_some() {
                output::line(format_args!("Enrollment expires at {}", expiry(&created)))?;
            }
        }
        if new.hint
            && let Some(hint) = requests::hint(&session, new.kind, &id).await
        {
            eprintln!("hint: {hint}");
        }
        Ok(())
    }
}

/// OpenZiti's success line.
fn success(kind: Kind, name: Option<&str>, id: &str) -> String {
    let noun = kinds::noun(kind);
    match name {
        Some(name) => format!("New {noun} {name} created with id: {id}"),
        None => format!("New {noun} created with id: {id}"),
    }
}

/// The end of the token, to the millisecond as OpenZiti writes it.
fn expiry(created: &Value) -> String {
    let text = output::cell(enrollment(created).and_then(|e| e.get("expiresAt")));
    let at = OffsetDateTime::parse(&text, &Rfc3339).ok();
    at.and_then(|at| at.to_offset(UtcOffset::UTC).format(MILLISECONDS).ok()).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, EdgeVerb};
    use clap::Parser;
    use serde_json::json;

    fn new_entity(words: &[&str]) -> NewEntity {
        let cli = Cli::try_parse_from(["hesper", "create"].iter().chain(words)).expect("parsed");
        match cli.command {
            Command::Edge(EdgeVerb::Create { kind }) => kind.request().expect("a request"),
            other => panic!("not create: {other:?}"),
        }
    }

    #[test]
    fn both_forms_of_create_identity_mean_the_same() {
        for words in [
            &["identity", "kube.id", "-o", "x.jwt", "-a", "a,b"][..],
            &["identity", "device", "kube.id", "-o", "x.jwt", "-a", "a", "-a", "b"],
            &["identity", "-a", "a", "user", "-o", "x.jwt", "kube.id", "--role-attributes=b"],
        ] {
            let new = new_entity(words);
            assert_eq!(new.name.as_deref(), Some("kube.id"));
            assert_eq!(
                Value::Object(new.draft.body),
                json!({"name": "kube.id", "type": "Default", "isAdmin": false, "roleAttributes": ["a", "b"],
                    "enrollment": {"ott": true}}),
                "{words:?}"
            );
        }
        assert_eq!(new_entity(&["identity", "device"]).name.as_deref(), Some("device"));
    }

    #[test]
    fn roles_and_configs_stay_names_until_they_are_resolved() {
        let policy = new_entity(&["sp", "p", "Bind", "--service-roles", "@a,#b", "--identity-roles", "#all"]);
        assert_eq!(
            Value::Object(policy.draft.body),
            json!({"name": "p", "type": "Bind", "semantic": "AnyOf"})
        );
        assert_eq!(policy.draft.references.len(), 2);
        assert!(policy.hint);
        let service = new_entity(&["service", "s", "--configs", "x,y"]);
        assert_eq!(service.draft.references.len(), 1);
    }

    #[test]
    fn the_token_leaves_the_answer() {
        let mut answer = json!({"data": {"id": "i", "enrollment": {"id": "e", "jwt": "secret", "expiresAt": "2026-11-22T12:01:29.10330655Z"}}});
        assert_eq!(take_token(&mut answer).expect("a token"), "secret");
        assert!(!answer.to_string().contains("secret"));
        assert_eq!(expiry(&answer), "2026-11-22T12:01:29.103Z");
        let mut answer =
            json!({"data": {"id": "e", "jwt": "secret", "expiresAt": "2026-11-22T12:01:29.10330655Z"}});
        assert_eq!(take_token(&mut answer).expect("a token"), "secret");
        assert_eq!(expiry(&answer), "2026-11-22T12:01:29.103Z");
        assert!(take_token(&mut json!({"data": {}})).is_err());
    }

    #[test]
    fn success_lines_are_openzitis() {
        assert_eq!(success(Kind::Identity, Some("a"), "1"), "New identity a created with id: 1");
        assert_eq!(
            success(Kind::ServiceEdgeRouterPolicy, Some("a"), "1"),
            "New service edge router policy a created with id: 1"
        );
        assert_eq!(success(Kind::Terminator, None, "1"), "New terminator created with id: 1");
    }
}
