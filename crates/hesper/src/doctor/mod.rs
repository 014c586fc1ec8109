//! `doctor`: what is wrong, and what to do about it.
//!
//! [`machine`]: this computer. [`identity`]: a node's file and certificate. [`controller`]: each step on the way to it, and its clock.
//! [`node`]: the session, routers and services of an identity. [`network`]: what an administrator sees. Each check becomes one line of the
//! [`report`]; where one fails, those that need it are left out.

mod controller;
mod identity;
mod machine;
mod network;
mod node;
mod report;

use crate::config_store::ConfigStore;
use anyhow::Result;
use report::Report;
use std::{path::PathBuf, time::Duration};

/// What to look at.
#[derive(Debug)]
pub(crate) struct Asked {
    /// An identity file.
    pub(crate) identity: Option<PathBuf>,
    /// The stored login; none = the default one, if there is one.
    pub(crate) login: Option<String>,
    /// For each answer.
    pub(crate) patience: Duration,
    /// Print JSON.
    pub(crate) as_json: bool,
}

/// Checks all that can be checked, and tells it.
///
/// # Errors
/// A check failed, or nothing can be told.
pub(crate) async fn run(asked: Asked) -> Result<()> {
    let mut report = Report::new(asked.as_json);
    machine::check(&mut report)?;
    let mut reached = Vec::new();
    if let Some(path) = &asked.identity
        && let Some(known) = identity::check(path, &mut report)?
    {
        reached = controller::of_identity(&known, &mut report).await?;
        if !reached.is_empty() && known.is_node() {
            node::check(path, asked.patience, &mut report).await?;
        }
    }
    let store = ConfigStore::from_environment()?;
    let has_login = store.load().is_ok_and(|logins| !logins.edge_identities.is_empty());
    if has_login || asked.login.is_some() {
        network::check(&store, asked.login.as_deref(), asked.patience, &reached, &mut report).await?;
    } else if asked.identity.is_none() {
        report.warn(
            "network",
            "nobody is logged in here and no identity was named, so that only this machine was looked at",
            "name a node's identity file with -i, or log in with 'hesper edge login'",
        )?;
    }
    report.end()
}
