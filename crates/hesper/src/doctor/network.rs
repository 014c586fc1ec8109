//! The network as an administrator who is logged in sees it: routers, identities, enrollments, and what policies miss.

use super::{controller, report::Report};
use crate::{
    api_client::Session, cli::flags::ApiArgs, config_store::ConfigStore, edge::requests, output::cell,
};
use anyhow::Result;
use hesper_client::connect::ControllerUrl;
use hesper_model::entity::Kind;
use serde_json::Value;
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Names in one line.
const MAX_NAMES: usize = 10;
/// Services that hints are asked for.
const MAX_SERVICES: usize = 50;

/// Looks at the network of the stored login; the way to these controllers was tried before.
///
/// # Errors
/// Nothing can be told.
pub(super) async fn check(
    store: &ConfigStore,
    login: Option<&str>,
    patience: Duration,
    reached: &[ControllerUrl],
    report: &mut Report,
) -> Result<()> {
    let again = "hesper edge login";
    let stored = match store.login(login) {
        Ok((_, stored)) => stored,
        Err(error) => return report.fail("login", format!("{error:#}"), again),
    };
    if !controller::of_login(&stored.url, &stored.ca_cert, reached, report).await? {
        return Ok(());
    }
    let args = ApiArgs {
        cli_identity: login.map(str::to_owned),
        output_json: false,
        output_request_json: false,
        timeout: patience.as_secs().max(1),
    };
    let session = match Session::open(&args) {
        Ok(session) => session,
        Err(error) => return report.fail("login", format!("{error:#}"), again),
    };
    if let Err(error) = requests::get(&session, "current-api-session").await {
        return report.fail("login", format!("{error:#}"), again);
    }
    report.ok("login", format!("the session at {} is good", stored.url))?;
    let network = Network { session };
    network.routers(report).await?;
    network.identities(report).await?;
    network.enrollments(report).await?;
    network.services(report).await
}

struct Network {
    session: Session,
}

impl Network {
    /// All of a kind; none when the controller refuses, which is told.
    async fn all(&self, kind: Kind, report: &mut Report) -> Result<Option<Vec<Value>>> {
        match requests::list(&self.session, kind.plural(), Some("limit none")).await {
            Ok(answer) => Ok(answer.get("data").and_then(Value::as_array).cloned()),
            Err(error) => {
                report.fail(kind.plural(), format!("{error:#}"), "log in as an administrator")?;
                Ok(None)
            }
        }
    }

    async fn routers(&self, report: &mut Report) -> Result<()> {
        let Some(routers) = self.all(Kind::EdgeRouter, report).await? else { return Ok(()) };
        if routers.is_empty() {
            let next =
                "hesper create edge-router NAME -o FILE.jwt, then hesper router enroll FILE.jwt --home DIR";
            return report.fail("edge routers", "there is none, so that nobody reaches anybody", next);
        }
        for router in &routers {
            let name = format!("edge router '{}'", cell(router.get("name")));
            let is = |key: &str| router.get(key).and_then(Value::as_bool);
            if is("isOnline") == Some(true) {
                report.ok(name, "online")?;
            } else if is("disabled") == Some(true) {
                report.warn(
                    name,
                    "disabled",
                    "hesper update edge-router NAME --disabled=false, or delete it",
                )?;
            } else if is("isVerified") == Some(false) {
                let next =
                    "hesper create enrollment erott NAME -o FILE.jwt, then hesper router enroll FILE.jwt";
                report.warn(name, "has not enrolled", next)?;
            } else {
                report.fail(name, "offline", "start it: hesper router run; its log says what it misses")?;
            }
        }
        Ok(())
    }

    async fn identities(&self, report: &mut Report) -> Result<()> {
        let Some(identities) = self.all(Kind::Identity, report).await? else { return Ok(()) };
        // Administrators are people; they have no sessions of nodes.
        let nodes: Vec<_> =
            identities.iter().filter(|i| i.get("isAdmin").and_then(Value::as_bool) != Some(true)).collect();
        let online = |i: &Value| i.get("isOnline").and_then(Value::as_bool) == Some(true);
        let offline: Vec<_> = nodes.iter().filter(|i| !online(i)).map(|i| cell(i.get("name"))).collect();
        let found = format!("{} of {} online", nodes.len() - offline.len(), nodes.len());
        if offline.is_empty() {
            return report.ok("identities", found);
        }
        let next = "start their nodes, or delete those that are gone";
        report.warn("identities", format!("{found}; offline: {}", some(&offline)), next)
    }

    async fn enrollments(&self, report: &mut Report) -> Result<()> {
        let Some(enrollments) = self.all(Kind::Enrollment, report).await? else { return Ok(()) };
        let now = OffsetDateTime::now_utc();
        let expired = |e: &&Value| {
            let end = e.get("expiresAt").and_then(Value::as_str);
            end.and_then(|end| OffsetDateTime::parse(end, &Rfc3339).ok()).is_some_and(|end| end <= now)
        };
        let is_pending = |e: &&Value| e.get("state").and_then(Value::as_str).is_none_or(|s| s != "redeemed");
        let whose = |e: &Value| {
            let name = e.pointer("/identity/name").or_else(|| e.pointer("/edgeRouter/name"));
            cell(name.or_else(|| e.get("identityId")).or_else(|| e.get("edgeRouterId")))
        };
        let waiting: Vec<_> = enrollments.iter().filter(is_pending).collect();
        let over: Vec<_> = waiting.iter().copied().filter(expired).map(whose).collect();
        if over.is_empty() {
            return report.ok("enrollments", format!("{} wait to be redeemed", waiting.len()));
        }
        let next = "make new ones: hesper create enrollment ott IDENTITY -o FILE.jwt";
        report.warn("enrollments", format!("expired before they were redeemed: {}", some(&over)), next)
    }

    /// What stands between services and those who should use them.
    async fn services(&self, report: &mut Report) -> Result<()> {
        let Some(services) = self.all(Kind::Service, report).await? else { return Ok(()) };
        if services.is_empty() {
            return report.warn("services", "there is none", "hesper create service NAME");
        }
        for service in services.iter().take(MAX_SERVICES) {
            let (id, name) = (cell(service.get("id")), cell(service.get("name")));
            match requests::hint(&self.session, Kind::Service, &id).await {
                None => report.ok(format!("service '{name}'"), "can be dialed")?,
                Some(hint) => {
                    let next = format!("hesper policy-advisor services {name}");
                    report.warn(format!("service '{name}'"), hint, next)?;
                }
            }
        }
        match services.len().checked_sub(MAX_SERVICES + 1) {
            None => Ok(()),
            Some(more) => report.ok("services", format!("{} more were not looked at", more + 1)),
        }
    }
}

/// A few of these names.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MAX_NAMES + 1) {
        None => shown,
        Some(more) => format!("{shown} and {} more", more + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_names_stand_for_many() {
        let names: Vec<_> = (0..12).map(|n| n.to_string()).collect();
        assert_eq!(some(&names[..2]), "0, 1");
        assert_eq!(some(&names[..10]), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9");
        assert_eq!(some(&names), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
    }
}
