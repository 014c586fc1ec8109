//! A client that somebody is logged in with.

use super::{Action, Caller, Client, Stored};
use crate::{
    cli::flags::ApiArgs,
    config_store::{ConfigStore, Login},
    traces::way,
};
use anyhow::{Context, Result};
use hesper_pki::tls;
use reqwest::{Method, Url};
use serde_json::Value;
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// A client with a session.
#[derive(Clone)]
pub(crate) struct Session {
    pub(super) client: Client,
    pub(super) token: String,
}

impl Session {
    /// The stored login that the flags name.
    ///
    /// # Errors
    /// Nobody is logged in under that name.
    pub(crate) fn open(args: &ApiArgs) -> Result<Self> {
        let store = ConfigStore::from_environment()?;
        let (name, login) = store.login(args.cli_identity.as_deref())?;
        let mut session = Self::resume(&login, args)?;
        session.client.stored = Some(Arc::new(Stored { store, name, asked: AtomicBool::new(false) }));
        Ok(session)
    }

    /// A session whose token was stored.
    ///
    /// # Errors
    /// The stored URL or CA is damaged.
    pub(crate) fn resume(login: &Login, args: &ApiArgs) -> Result<Self> {
        let base = Url::parse(&login.url)
            .with_context(|| format!("the stored URL '{}' is damaged; log in again", login.url))?;
        let tls = tls::ca_client(&login.ca_cert).context("the stored CA is damaged; log in again")?;
        let mut client = Client::new(&base, tls, Duration::from_secs(args.timeout))?.trusting(&login.ca_cert);
        client.show_requests = args.output_request_json;
        client.read_only = login.read_only;
        let token = login.token.clone().unwrap_or_default();
        way::logged_in(&login.url, &login.ca_cert, &token);
        Ok(client.with_token(token))
    }

    /// The same; what it changes demands that nobody else has changed anything since it first read.
    pub(crate) fn pinned(mut self) -> Self {
        self.client.revision = Some(Arc::default());
        self
    }

    /// Its changes demand nothing of what others have changed.
    pub(crate) fn unpinned(mut self) -> Self {
        self.client.revision = None;
        self
    }

    /// GET.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn get(&self, action: Action, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        self.client.send(action, Method::GET, path, query, None, Some(self.caller(None))).await
    }

    /// POST.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn post(&self, action: Action, path: &str, body: &Value) -> Result<Value> {
        self.client.send(action, Method::POST, path, &[], Some(body), Some(self.caller(None))).await
    }

    /// PATCH.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused.
    pub(crate) async fn patch(&self, action: Action, path: &str, body: &Value) -> Result<Value> {
        self.client.send(action, Method::PATCH, path, &[], Some(body), Some(self.caller(None))).await
    }

    /// PATCH of what was read with this `updatedAt`.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused; [`NotFound`](super::NotFound), [`Changed`](super::Changed).
    pub(crate) async fn patch_if(
        &self,
        action: Action,
        path: &str,
        body: &Value,
        version: &str,
    ) -> Result<Value> {
        let caller = Some(self.caller(Some(version)));
        self.client.send(action, Method::PATCH, path, &[], Some(body), caller).await
    }

    /// DELETE of what was read with this `updatedAt`.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused; [`NotFound`](super::NotFound), [`Changed`](super::Changed).
    pub(crate) async fn delete_if(&self, action: Action, path: &str, version: &str) -> Result<Value> {
        let caller = Some(self.caller(Some(version)));
        self.client.send(action, Method::DELETE, path, &[], None, caller).await
    }

    fn caller<'a>(&'a self, version: Option<&'a str>) -> Caller<'a> {
        Caller { token: &self.token, version }
    }

    /// DELETE.
    ///
    /// # Errors
    /// The controller cannot be reached, or refused; [`NotFound`](super::NotFound) when there is no such entity.
    pub(crate) async fn delete(&self, action: Action, path: &str) -> Result<Value> {
        self.client.send(action, Method::DELETE, path, &[], None, Some(self.caller(None))).await
    }
}
