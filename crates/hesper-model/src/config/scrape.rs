//! `scrape.v1`: how Prometheus scrapes a service. Hesper's own type.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt};

/// The data of a config of type `scrape.v1`. Everything has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeV1 {
    /// The path of the metrics; `/metrics` unless given.
    pub path: String,
    /// `http` (the default: the overlay encrypts) or `https`, when the target itself speaks TLS.
    pub scheme: Scheme,
    /// Labels added to each target.
    pub labels: BTreeMap<String, String>,
}

impl ScrapeV1 {
    /// The name of the config type.
    pub const NAME: &str = "scrape.v1";
}

impl Default for ScrapeV1 {
    fn default() -> Self {
        Self { path: "/metrics".into(), scheme: Scheme::Http, labels: BTreeMap::new() }
    }
}

/// The scheme of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP inside the overlay.
    #[default]
    Http,
    /// TLS that ends in the target.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

pub(super) fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "path": {"type": "string", "pattern": "^/[^\\s]*$"},
            "scheme": {"type": "string", "enum": ["http", "https"]},
            "labels": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
                "additionalProperties": {"type": "string"}
            }
        },
        "additionalProperties": false
    })
}
