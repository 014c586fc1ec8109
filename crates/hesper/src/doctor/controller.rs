//! The way to a controller, step by step: name, TCP, TLS, HTTP, and what time it has there.

use super::{
    identity::Known,
    report::{Report, chain},
};
use anyhow::Result;
use hesper_client::{
    clock::{self, Clocks, shown},
    connect::{ConnectError, ControllerUrl, connect},
    diagnosis::diagnose,
};
use hesper_pki::tls;
use rustls::ClientConfig;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// For each step.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tokens are accepted half a minute early at most: beyond, clocks get in the way.
const TOLERATED: Duration = Duration::from_secs(20);

/// With the certificate of a node or router. Returns those that answer.
///
/// # Errors
/// Nothing can be told.
pub(super) async fn of_identity(known: &Known, report: &mut Report) -> Result<Vec<ControllerUrl>> {
    let credentials = &known.credentials;
    let mut reached = Vec::new();
    for text in &known.controllers {
        let Ok(url) = text.parse::<ControllerUrl>() else {
            let next = "enroll again: the identity file was changed";
            report.fail(
                "controller",
                format!("'{text}' in the identity file is no URL of a controller"),
                next,
            )?;
            continue;
        };
        let trust = tls::controller_client(credentials.clone());
        let clock = tls::clock_client(&credentials.current().ca_pem).ok();
        let to = Way { url: &url, trust, clock };
        match to.check(report).await? {
            Outcome::Reached => {
                // A server that refuses a client's certificate says so only after the handshake.
                match diagnose(std::slice::from_ref(&url), credentials).await {
                    Some(diagnosis) => {
                        report.fail(name(&url, "client certificate"), diagnosis.to_string(), "")?
                    }
                    None => reached.push(url),
                }
            }
            Outcome::Refused => {
                if let Some(diagnosis) = diagnose(std::slice::from_ref(&url), credentials).await {
                    report.fail(name(&url, "certificates"), diagnosis.to_string(), "")?;
                }
            }
            Outcome::Away => {}
        }
    }
    Ok(reached)
}

/// With the CA of a stored login, unless it was `reached` already.
///
/// # Errors
/// Nothing can be told.
pub(super) async fn of_login(
    url: &str,
    ca_pem: &str,
    reached: &[ControllerUrl],
    report: &mut Report,
) -> Result<bool> {
    let again = "log in again: hesper edge login";
    let (Ok(url), Ok(trust)) = (url.trim_end_matches('/').parse::<ControllerUrl>(), tls::ca_client(ca_pem))
    else {
        report.fail("login", format!("the stored login for {url} is damaged"), again)?;
        return Ok(false);
    };
    if reached.contains(&url) {
        return Ok(true);
    }
    let to = Way { url: &url, trust, clock: tls::clock_client(ca_pem).ok() };
    Ok(to.check(report).await? == Outcome::Reached)
}

fn name(url: &ControllerUrl, step: &str) -> String {
    format!("controller {} {step}", url.authority())
}

/// How far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Reached,
    /// Somebody is there, and TLS does not come about.
    Refused,
    Away,
}

struct Way<'a> {
    url: &'a ControllerUrl,
    trust: ClientConfig,
    /// Trusts the same, whatever the time is.
    clock: Option<ClientConfig>,
}

impl Way<'_> {
    async fn check(&self, report: &mut Report) -> Result<Outcome> {
        let Some(addresses) = self.dns(report).await? else { return Ok(Outcome::Away) };
        if !self.tcp(&addresses, report).await? {
            return Ok(Outcome::Away);
        }
        let secure = self.tls(report).await?;
        // Asked whatever TLS says: a wrong clock may be the reason.
        let clocks = match &self.clock {
            Some(config) => clock::ask(std::slice::from_ref(self.url), config.clone()).await,
            None => None,
        };
        if let Some(clocks) = clocks {
            difference(clocks, report)?;
        }
        if !secure {
            return Ok(Outcome::Refused);
        }
        match clocks {
            Some(_) => report.ok(name(self.url, "HTTP"), "answers")?,
            None => {
                let next = "see its log; is it a Hesper controller that listens there?";
                report.fail(name(self.url, "HTTP"), "no answer over TLS", next)?;
                return Ok(Outcome::Away);
            }
        }
        Ok(Outcome::Reached)
    }

    async fn dns(&self, report: &mut Report) -> Result<Option<Vec<SocketAddr>>> {
        let host = self.url.host();
        let bare = host.trim_matches(['[', ']']);
        let found = timeout(PATIENCE, lookup_host((bare, self.url.port()))).await;
        let next = format!("check the name, and DNS: getent hosts {bare}");
        match found {
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                let shown: Vec<_> = found.iter().map(|address| address.ip().to_string()).collect();
                report.ok(name(self.url, "DNS"), shown.join(", "))?;
                return Ok(Some(found));
            }
            Ok(Err(error)) => report.fail(name(self.url, "DNS"), format!("no address: {error}"), next)?,
            Err(_) => report.fail(name(self.url, "DNS"), "no answer", next)?,
        }
        Ok(None)
    }

    async fn tcp(&self, addresses: &[SocketAddr], report: &mut Report) -> Result<bool> {
        let mut last = "no address".to_owned();
        for address in addresses {
            let begun = Instant::now();
            match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(_)) => {
                    let took = begun.elapsed().as_secs_f64() * 1000.0;
                    report.ok(name(self.url, "TCP"), format!("connected in {took:.1} ms"))?;
                    return Ok(true);
                }
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address}: no answer within {} s", PATIENCE.as_secs()),
            }
        }
        let next = "check that the controller runs, and that no firewall is between";
        report.fail(name(self.url, "TCP"), last, next)?;
        Ok(false)
    }

    async fn tls(&self, report: &mut Report) -> Result<bool> {
        let mut config = self.trust.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let Err(error) = connect(self.url, Arc::new(config)).await else {
            report.ok(name(self.url, "TLS"), "its certificate is good, by a CA that is trusted here")?;
            return Ok(true);
        };
        let next = match &error {
            error if error.time_fault().is_some() => "compare the clocks of both machines",
            ConnectError::Tls { .. } => {
                "check that nothing intercepts the connection, and that it is this network's controller"
            }
            _ => "check that a controller listens there",
        };
        report.fail(name(self.url, "TLS"), chain(&error), next)?;
        Ok(false)
    }
}

fn difference(clocks: Clocks, report: &mut Report) -> Result<()> {
    let apart = (clocks.here - clocks.controller).abs();
    let found = format!("{} here, {} at the controller", shown(clocks.here), shown(clocks.controller));
    if apart > TOLERATED {
        let next = "certificates and tokens are refused: set this machine's clock, by NTP (timedatectl set-ntp true)";
        report.fail("clock", found, next)
    } else if clocks.differ() {
        report.warn("clock", found, "keep both by NTP")
    } else {
        report.ok("clock", "agrees with the controller's")
    }
}
