//! An identity file: who may read it, what it holds, and how long that is good.

use super::report::{Report, chain};
use anyhow::Result;
use hesper_client::clock::shown;
use hesper_pki::{
    credentials::{Credentials, SharedCredentials, is_late},
    files,
    identity_file::IdentityFile,
    spiffe::SpiffeRole,
};
use std::{fs::OpenOptions, path::Path};
use time::OffsetDateTime;

/// What the file says.
pub(super) struct Known {
    pub(super) credentials: SharedCredentials,
    pub(super) controllers: Vec<String>,
}

impl Known {
    /// Is it a node's, and not a router's?
    pub(super) fn is_node(&self) -> bool {
        self.credentials.current().id.role == SpiffeRole::Identity
    }
}

/// Looks at the file. None: it is of no use.
///
/// # Errors
/// Nothing can be told.
pub(super) fn check(path: &Path, report: &mut Report) -> Result<Option<Known>> {
    let name = path.display();
    let file = match IdentityFile::load(path) {
        Ok(file) => file,
        Err(error) => {
            let next = format!("check its path and owner, or enroll again: hesper enroll FILE.jwt -o {name}");
            report.fail("identity file", chain(&error), next)?;
            return Ok(None);
        }
    };
    permissions(path, report)?;
    match file.credentials() {
        Ok(credentials) => {
            report.ok("identity", credentials.id.to_string())?;
            certificate(&credentials, OffsetDateTime::now_utc(), report)?;
            let credentials = SharedCredentials::new(credentials);
            Ok(Some(Known { credentials, controllers: file.controllers() }))
        }
        Err(error) => {
            let next = format!("enroll again: hesper enroll FILE.jwt -o {name}");
            report.fail("identity", chain(&error), next)?;
            Ok(None)
        }
    }
}

fn permissions(path: &Path, report: &mut Report) -> Result<()> {
    let name = path.display().to_string();
    match files::is_open_to_others(path) {
        Ok(true) => {
            let found = format!("{name} can be read or written by others, and holds the private key");
            return report.warn("identity file", found, format!("chmod 600 {name}"));
        }
        Ok(false) => {}
        Err(error) => return report.fail("identity file", chain(&error), "check its owner"),
    }
    // Opened, not written to.
    if let Err(error) = OpenOptions::new().append(true).open(path) {
        let found = format!("{name} cannot be written: {error}");
        let next = "a renewed certificate is lost at a restart: let the program's user own the file";
        return report.warn("identity file", found, next);
    }
    report.ok("identity file", format!("{name} is its owner's alone"))
}

fn certificate(credentials: &Credentials, now: OffsetDateTime, report: &mut Report) -> Result<()> {
    let (from, until) = (credentials.not_before, credentials.not_after);
    let again = format!(
        "ask for a new token (hesper create enrollment ott {} -o FILE.jwt) and enroll again",
        credentials.id.id
    );
    if now >= until {
        let next = format!("if the clock of this machine is right, {again}");
        report.fail("certificate", format!("expired at {}", shown(until)), next)?;
    } else if now < from {
        let found = format!("valid only from {} on", shown(from));
        report.fail("certificate", found, "set the clock of this machine: it is behind the controller's")?;
    } else if is_late(from, until, now) {
        let found = format!("valid until {}, and was to be renewed at half of its life", shown(until));
        report.warn(
            "certificate",
            found,
            "its node renews it while it runs: see why it does not in its log",
        )?;
    } else {
        report.ok("certificate", format!("valid until {}, renewed at half of its life", shown(until)))?;
    }
    // In the middle of its life: what the time is was asked above.
    match credentials.check_chain(from + (until - from) / 2) {
        Ok(()) => {
            let (count, ca) =
                (credentials.ca_sha256.len(), credentials.issuer.as_deref().unwrap_or_default());
            report.ok("CA trust", format!("issued by CA {}, {count} trusted", ca.get(..16).unwrap_or(ca)))
        }
        Err(error) => report.fail("CA trust", chain(&error), again),
    }
}
