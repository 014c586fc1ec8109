//! What the controller has now.

use crate::{api_client::Session, edge::requests};
use anyhow::Result;
use hesper_manifest::{KINDS, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;

/// Lists every kind. The lists are not of one moment; each change says what it expects to find.
///
/// # Errors
/// The controller cannot be reached or refused.
pub(crate) async fn snapshot(session: &Session) -> Result<Snapshot> {
    let mut lists = BTreeMap::new();
    for kind in KINDS {
        let mut answer = requests::list(session, kind.plural(), Some("limit none")).await?;
        let items = match answer.get_mut("data").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        lists.insert(kind, items);
    }
    Ok(Snapshot::read(&lists)?)
}
