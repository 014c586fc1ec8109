//! Flags that many commands share, and how values are read from the command line.

use crate::edge::draft::Draft;
use anyhow::{Context, Result};
use clap::Args;
use hesper_controller::home::Kept;
use hesper_observe::events::Size;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Something typed wrongly that clap cannot see; `main` exits with 2 for it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// How to talk to the controller and how to answer.
#[derive(Args, Debug, Clone)]
pub(crate) struct ApiArgs {
    /// The name of the login, when several are stored
    #[arg(short = 'i', long, value_name = "NAME")]
    pub(crate) cli_identity: Option<String>,
    /// Print the controller's answer as JSON
    #[arg(short = 'j', long)]
    pub(crate) output_json: bool,
    /// Print the JSON of the request on standard error
    #[arg(long)]
    pub(crate) output_request_json: bool,
    /// Give up on the controller after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// How much of the audit file is kept.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct KeptArgs {
    /// Begin a new audit file when this one is so large, 64KiB or more [default: 100MiB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) audit_file_size: Option<Size>,
    /// Keep so many audit files, 2 to 1000; the oldest goes [default: 5]
    #[arg(long, value_name = "N")]
    pub(crate) audit_files: Option<usize>,
}

impl From<KeptArgs> for Kept {
    fn from(args: KeptArgs) -> Self {
        Self { file_size: args.audit_file_size, files: args.audit_files }
    }
}

/// Free-form tags.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct TagArgs {
    /// Tags as key=value, comma separated
    #[arg(short = 't', long, value_name = "K=V", value_delimiter = ',', value_parser = key_value)]
    tags: Option<Vec<(String, String)>>,
    /// Tags as a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    tags_json: Option<Map<String, Value>>,
}

/// [`TagArgs`] without `-t`, for commands that have another use for it.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct LongTagArgs {
    /// Tags as key=value, comma separated
    #[arg(long, value_name = "K=V", value_delimiter = ',', value_parser = key_value)]
    tags: Option<Vec<(String, String)>>,
    /// Tags as a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    tags_json: Option<Map<String, Value>>,
}

impl TagArgs {
    /// Puts the tags into a request.
    pub(crate) fn apply(&self, draft: &mut Draft) {
        if self.tags.is_none() && self.tags_json.is_none() {
            return;
        }
        let mut tags = self.tags_json.clone().unwrap_or_default();
        tags.extend(self.tags.iter().flatten().map(|(k, v)| (k.clone(), Value::from(v.clone()))));
        draft.set("tags", tags);
    }
}

impl LongTagArgs {
    /// Puts the tags into a request.
    pub(crate) fn apply(&self, draft: &mut Draft) {
        TagArgs { tags: self.tags.clone(), tags_json: self.tags_json.clone() }.apply(draft);
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not of the form key=value")),
    }
}

/// Reads a JSON object; the error repeats what was read, as OpenZiti's does.
///
/// # Errors
/// It is no JSON, or JSON but no object.
pub(crate) fn json_object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(format!("a JSON object is needed. Attempted to parse: {text}")),
        Err(e) => Err(format!("invalid JSON ({e}). Attempted to parse: {text}")),
    }
}

/// The JSON object given in the command or in a file, never both.
///
/// # Errors
/// Both were given, the file cannot be read, or it holds no JSON object.
pub(crate) fn object_from(
    inline: Option<&str>,
    file: Option<&Path>,
    flag: &str,
) -> Result<Option<Map<String, Value>>> {
    match (inline, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(UsageError(format!("give the JSON either in the command or with {flag}, not both")).into())
        }
        (Some(text), None) => {
            json_object(text).map(Some).map_err(|e| UsageError(format!("the JSON given: {e}")).into())
        }
        // The content of a file is not repeated: it may be the wrong file, and secret.
        (None, Some(path)) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let wrong = |why: String| UsageError(format!("{}: {why}", path.display()));
            match serde_json::from_str(&text) {
                Ok(Value::Object(object)) => Ok(Some(object)),
                Ok(_) => Err(wrong("a JSON object is needed".into()).into()),
                Err(e) => Err(wrong(format!("invalid JSON ({e})")).into()),
            }
        }
    }
}

/// The file that a new enrollment token goes to.
#[derive(Args, Debug, Clone)]
pub(crate) struct JwtOutput {
    /// Write the one-time enrollment token here; the file must not exist
    #[arg(short = 'o', long, value_name = "FILE")]
    pub(crate) jwt_output_file: Option<PathBuf>,
}

/// `AnyOf` or `AllOf`.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Semantic {
    /// One of the attributes is enough
    #[value(name = "AnyOf")]
    AnyOf,
    /// Every attribute is needed
    #[value(name = "AllOf")]
    AllOf,
}

impl Semantic {
    /// As the API writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AnyOf => "AnyOf",
            Self::AllOf => "AllOf",
        }
    }
}

impl From<Semantic> for Value {
    fn from(semantic: Semantic) -> Self {
        semantic.as_str().into()
    }
}

/// The precedence of a terminator.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
pub(crate) enum Precedence {
    /// The usual one
    Default,
    /// Preferred over every other
    Required,
    /// Used only when nothing else is left
    Failed,
}

impl From<Precedence> for Value {
    fn from(precedence: Precedence) -> Self {
        match precedence {
            Precedence::Default => "default",
            Precedence::Required => "required",
            Precedence::Failed => "failed",
        }
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tags_come_from_both_flags() {
        let tags = TagArgs {
            tags: Some(vec![("a".into(), "1".into())]),
            tags_json: Some(json_object(r#"{"b":2,"a":0}"#).expect("an object")),
        };
        let mut draft = Draft::default();
        tags.apply(&mut draft);
        assert_eq!(Value::Object(draft.body), json!({"tags": {"a": "1", "b": 2}}));
    }

    #[test]
    fn what_is_no_json_object_is_repeated() {
        for bad in ["{", "[1]", "x"] {
            let error = json_object(bad).expect_err(bad);
            assert!(error.contains(&format!("Attempted to parse: {bad}")), "{error}");
        }
        assert!(object_from(Some("{}"), Some(Path::new("/x")), "-f").is_err());
        assert_eq!(object_from(None, None, "-f").expect("nothing"), None);
    }

    #[test]
    fn the_content_of_a_file_is_not_repeated() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "secret").expect("written");
        let error = object_from(None, Some(file.path()), "-f").expect_err("no JSON").to_string();
        assert!(error.contains("invalid JSON") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_tag_needs_a_key() {
        assert!(key_value("=x").is_err() && key_value("x").is_err());
        assert_eq!(key_value("k=v=w"), Ok(("k".into(), "v=w".into())));
    }
}
