//! `login`, `logout`.

use super::flags::{ApiArgs, UsageError};
use crate::{
    api_client::{Action, Client, Session},
    config_store::{ConfigStore, DEFAULT_LOGIN, Login},
    first_contact::{Authority, certificate_refusal},
    output,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use hesper_client::diagnosis;
use hesper_pki::{
    credentials::{Credentials, SharedCredentials},
    identity_file::IdentityFile,
    tls,
};
use reqwest::Url;
use serde_json::Value;
use std::{
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const DEFAULT_PORT: u16 = 1280;

/// Logs in at a controller.
#[derive(Args, Debug)]
#[command(
    after_help = "The password comes from --password-file, else from the environment variable HESPER_PASSWORD, else it is asked for. \
    Logins are stored in $HESPER_CONFIG_DIR, by default ~/.config/hesper."
)]
pub(crate) struct LoginArgs {
    /// The controller: HOST, HOST:PORT or https://HOST:PORT
    #[arg(value_name = "HOST[:PORT]", default_value = "localhost:1280")]
    controller: String,
    /// Who logs in
    #[arg(short = 'u', long)]
    username: Option<String>,
    /// The password, for all on this machine to see; better use HESPER_PASSWORD, --password-file or be asked
    #[arg(short = 'p', long, conflicts_with = "password_file")]
    password: Option<String>,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Trust this certificate authority (PEM)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust the certificate authority that the controller shows, without asking
    #[arg(short = 'y', long)]
    yes: bool,
    /// Log in by this client certificate (PEM)
    #[arg(short = 'c', long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// The client certificate's key (PEM)
    #[arg(short = 'k', long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Log in by the certificate of this identity file
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = ["client_cert", "username", "password", "password_file", "ca"])]
    file: Option<PathBuf>,
    /// Refuse commands that change something
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Ends a session.
#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    api: ApiArgs,
}

impl LoginArgs {
    /// Logs in and stores the session.
    ///
    /// # Errors
    /// The authority is not trusted, the controller refused, or nothing could be stored.
    pub(crate) async fn run(self) -> Result<()> {
        let store = ConfigStore::from_environment()?;
        let url = controller_url(&self.controller)?;
        let (ca_cert, username, answer) = match &self.file {
            Some(file) => {
                let identity = IdentityFile::load(file)?;
                self.by_certificate(&url, identity.credentials()?).await?
            }
            None => {
                let authority = self.authority(&store, &url).await?;
                match (&self.client_cert, &self.client_key) {
                    (Some(cert), Some(key)) => {
                        let credentials = Credentials::from_pem(&read(cert)?, &read(key)?, &authority.pem);
                        self.by_certificate(
                            &url,
                            credentials.context("the client certificate is not usable")?,
                        )
                        .await?
                    }
                    _ => self.by_password(&url, authority).await?,
                }
            }
        };
        let token = answer.pointer("/data/token").and_then(Value::as_str);
        let token = token.context("the controller's answer held no session token")?.to_owned();
        let name = self.api.cli_identity.clone().unwrap_or_else(|| DEFAULT_LOGIN.to_owned());
        let mut logins = store.load()?;
        let login = Login {
            url: url.as_str().trim_end_matches('/').to_owned(),
            username,
            token: Some(token),
            login_time: OffsetDateTime::now_utc().format(&Rfc3339)?,
            ca_cert,
            read_only: self.read_only,
        };
        logins.edge_identities.insert(name.clone(), login);
        logins.default = Some(name.clone());
        store.save(&logins)?;
        output::line(format_args!("Saving identity '{name}' to {}", store.path().display()))?;
        if self.api.output_json {
            let mut shown = answer;
            if let Some(data) = shown.get_mut("data").and_then(Value::as_object_mut) {
                data.remove("token");
            }
            output::json(&shown)?;
        }
        Ok(())
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.api.timeout)
    }

    /// The authority to trust: given, trusted before at this URL, or shown by the controller and accepted now.
    async fn authority(&self, store: &ConfigStore, url: &Url) -> Result<Authority> {
        if let Some(path) = &self.ca {
            return Authority::from_pem(read(path)?).with_context(|| path.display().to_string());
        }
        let shown = Authority::ask(url, self.timeout()).await?;
        let known = store.load()?.edge_identities.into_values().find(|l| same_controller(&l.url, url));
        if let Some(known) = known {
            let known = Authority::from_pem(known.ca_cert).context("the stored CA is damaged")?;
            if known.fingerprints == shown.fingerprints {
                return Ok(known);
            }
            // While the CA is rotated the old one vouches for the new one.
            if let Ok(vouched) = known.again(url, self.timeout()).await {
                return Ok(vouched);
            }
            output::line("The controller's certificate authority is NOT the one that was trusted before")?;
        }
        output::line("Untrusted certificate authority retrieved from server")?;
        output::line("Verified that server supplied certificates are trusted by server")?;
        output::line(format_args!("Server supplied {} certificates", shown.fingerprints.len()))?;
        for fingerprint in &shown.fingerprints {
            output::line(format_args!("SHA-256 fingerprint {fingerprint}"))?;
        }
        if !self.yes && !confirmed("Trust server provided certificate authority [Y/N]: ")? {
            bail!(
                "the certificate authority of {url} is not trusted: compare its fingerprint and answer Y, or give it with --ca"
            );
        }
        Ok(shown)
    }

    async fn by_password(&self, url: &Url, authority: Authority) -> Result<(String, String, Value)> {
        let username = match &self.username {
            Some(name) => name.clone(),
            None => {
                ask("Enter username: ")?.ok_or_else(|| UsageError("no user name: give it with -u".into()))?
            }
        };
        let password = self.password(&username)?;
        let client =
            Client::new(url, tls::ca_client(&authority.pem)?, self.timeout())?.trusting(&authority.pem);
        let answer = client.login_by_password(&username, &password).await?;
        Ok((authority.pem, username, answer))
    }

    async fn by_certificate(&self, url: &Url, credentials: Credentials) -> Result<(String, String, Value)> {
        let ca = credentials.ca_pem.clone();
        let credentials = SharedCredentials::new(credentials);
        let client =
            Client::new(url, tls::controller_client(credentials.clone()), self.timeout())?.trusting(&ca);
        let refused = match client.login_by_certificate().await {
            Ok(answer) => return Ok((ca, String::new(), answer)),
            Err(e) => e,
        };
        match diagnosis::diagnose(&[url.as_str().parse()?], &credentials).await {
            Some(diagnosis) => {
                bail!("the controller at {url} and the certificate do not go together: {diagnosis}")
            }
            None => match certificate_refusal(url, credentials).await {
                Ok(Some(refusal)) => bail!("the controller at {url} refused the certificate: {refusal}"),
                Ok(None) | Err(_) => Err(refused),
            },
        }
    }

    fn password(&self, username: &str) -> Result<String> {
        if let Some(password) = &self.password {
            return Ok(password.clone());
        }
        if let Some(path) = &self.password_file {
            return first_line(path);
        }
        if let Some(password) = std::env::var("HESPER_PASSWORD").ok().filter(|p| !p.is_empty()) {
            return Ok(password);
        }
        if !std::io::stdin().is_terminal() {
            bail!(UsageError("no password: set HESPER_PASSWORD, or give --password-file".into()));
        }
        rpassword::prompt_password(format!("Enter password for {username}: "))
            .context("cannot read the password")
    }
}

impl LogoutArgs {
    /// Ends the session at the controller and forgets its token.
    ///
    /// # Errors
    /// Nobody is logged in, or the file cannot be written. A controller that cannot be reached is only told about.
    pub(crate) async fn run(self) -> Result<()> {
        let store = ConfigStore::from_environment()?;
        let (name, login) = store.login(self.api.cli_identity.as_deref())?;
        let session = Session::resume(&login, &self.api)?;
        if let Err(e) = session.delete(Action::Deleting, "current-api-session").await {
            eprintln!("note: the session was not ended at the controller ({e:#}); it ends by itself");
        }
        let mut logins = store.load()?;
        if let Some(login) = logins.edge_identities.get_mut(&name) {
            login.token = None;
        }
        store.save(&logins)?;
        Ok(output::line(format_args!("Logged out of identity '{name}'"))?)
    }
}

/// The controller's base URL from what was typed.
///
/// # Errors
/// It is no host, or no `https` URL.
fn controller_url(typed: &str) -> Result<Url> {
    let with_scheme = if typed.contains("://") { typed.to_owned() } else { format!("https://{typed}") };
    let wrong =
        |why: &str| UsageError(format!("'{typed}' is no controller address ({why}); write HOST:PORT"));
    let mut url = Url::parse(&with_scheme).map_err(|e| wrong(&e.to_string()))?;
    if url.scheme() != "https" {
        bail!(wrong("only https is spoken"));
    }
    if url.host_str().is_none_or(str::is_empty) || !url.username().is_empty() {
        bail!(wrong("there is no host"));
    }
    // Url drops 443 as the scheme's own port; when it was typed, it is meant.
    let authority = with_scheme
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split(['/', '?', '#']).next())
        .unwrap_or_default();
    if url.port().is_none() && !authority.ends_with(":443") {
        let _ = url.set_port(Some(DEFAULT_PORT));
    }
    url.set_path("/");
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn same_controller(stored: &str, url: &Url) -> bool {
    Url::parse(stored).is_ok_and(|s| {
        s.host_str() == url.host_str() && s.port_or_known_default() == url.port_or_known_default()
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The first line of a password file.
///
/// # Errors
/// The file cannot be read or its first line is empty.
pub(crate) fn first_line(path: &Path) -> Result<String> {
    let text = read(path)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => bail!("the first line of {} is empty: no password", path.display()),
    }
}

fn confirmed(question: &str) -> Result<bool> {
    let answer = ask(question)?.unwrap_or_default();
    Ok(["y", "yes"].iter().any(|yes| answer.eq_ignore_ascii_case(yes)))
}

/// Asks on standard output and reads a line; none at the end of the input.
fn ask(question: &str) -> Result<Option<String>> {
    output::raw(question.as_bytes())?;
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
    let line = line.trim();
    Ok((!line.is_empty()).then(|| line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls() {
        for (typed, url) in [
            ("localhost", "https://localhost:1280/"),
            ("ctrl:1281", "https://ctrl:1281/"),
            ("https://ctrl", "https://ctrl:1280/"),
            ("https://ctrl:443/edge/management/v1?x#y", "https://ctrl/"),
            ("[::1]:1280", "https://[::1]:1280/"),
        ] {
            assert_eq!(controller_url(typed).expect(typed).as_str(), url);
        }
        for bad in ["http://ctrl", "", "a b", "ctrl:99999", "user@ctrl"] {
            assert!(controller_url(bad).is_err(), "{bad}");
        }
        assert!(same_controller("https://a:1280", &controller_url("a").expect("a")));
    }
}
