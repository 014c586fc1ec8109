//! What is compared: each subject is a running tunnel with an address that leads to the target.

mod hesper;
mod peers;
mod plain;
mod private;

pub(crate) use hesper::Hesper;

use crate::{process::Program, report::DIRECT};
use anyhow::Result;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

pub(crate) use plain::{host as quinn_host, proxy as quinn_proxy};

/// A running tunnel. Ends when dropped.
pub(crate) struct Subject {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// What it consists of, with the names under which their CPU time is reported.
    pub(crate) programs: Vec<Program>,
    /// What it needs besides, whose time does not count.
    pub(crate) helpers: Vec<Program>,
    /// Its files.
    pub(crate) directory: Option<tempfile::TempDir>,
    /// Hesper has more to it.
    pub(crate) hesper: Option<Hesper>,
}

impl Subject {
    fn new(name: &'static str, address: SocketAddr, programs: Vec<Program>) -> Self {
        Self { name, address, programs, helpers: Vec::new(), directory: None, hesper: None }
    }

    fn with(mut self, directory: tempfile::TempDir) -> Self {
        self.directory = Some(directory);
        self
    }

    /// Every process of it: name and id.
    pub(crate) fn processes(&self) -> Vec<(&'static str, u32)> {
        let own = self.programs.iter().map(|p| (p.name, p.pid()));
        let router = self.hesper.iter().filter_map(|h| Some(("router", h.stack.router.as_ref()?.pid())));
        own.chain(router).collect()
    }
}

/// Every subject, in the order of the report, with how to get what it needs.
pub(crate) const SUBJECTS: &[(&str, &str)] = &[
    (DIRECT, "TCP without anything in between"),
    ("quinn", "a QUIC tunnel without a router, with Hesper's own copying, TLS and transport settings"),
    ("hesper", "controller, router, tunnel host and tunnel proxy, of the built binary"),
    ("stunnel", "apt-get install stunnel4"),
    ("haproxy", "apt-get install haproxy (TLS at both ends)"),
    ("ssh", "apt-get install openssh-server openssh-client (ssh -L, default cipher)"),
    ("ssh-aes128-gcm", "apt-get install openssh-server openssh-client (ssh -L with aes128-gcm@openssh.com)"),
    ("rathole", "cargo install rathole (without encryption)"),
    ("dumbpipe", "cargo install dumbpipe"),
    ("wireguard-go", "apt-get install wireguard-go wireguard-tools; root"),
    ("nebula", "apt-get install nebula; root"),
];

/// Where things are.
pub(crate) struct Surroundings {
    /// The `hesper` binary.
    pub(crate) hesper: PathBuf,
    /// The target, on loopback.
    pub(crate) target: SocketAddr,
}

/// Why a subject does not run.
pub(crate) enum NotStarted {
    /// Something is not installed, or not allowed.
    Missing(String),
    /// It should have started.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NotStarted {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Starts one of [`SUBJECTS`]. Must be called by the main thread (see [`crate::process::command`]).
pub(crate) async fn start(name: &str, around: &Surroundings) -> Result<Subject, NotStarted> {
    let target = around.target;
    let missing = SUBJECTS.iter().find(|(known, _)| *known == name).map_or("", |(_, how)| how);
    let missing = || NotStarted::Missing(format!("not installed: {missing}"));
    let find = |program: &str| crate::process::installed(program).ok_or_else(missing);
    match name {
        DIRECT => Ok(Subject::new(DIRECT, target, Vec::new())),
        "quinn" => Ok(plain::start(target).await?),
        "hesper" => Ok(hesper::start(&around.hesper, target).await?),
        "stunnel" => {
            let program = find("stunnel4").or_else(|_| find("stunnel"))?;
            Ok(peers::stunnel(&program, target).await?)
        }
        "haproxy" => Ok(peers::haproxy(&find("haproxy")?, target).await?),
        "ssh" | "ssh-aes128-gcm" => {
            let programs: [PathBuf; 3] = [find("sshd")?, find("ssh")?, find("ssh-keygen")?];
            Ok(peers::ssh(&programs, name == "ssh-aes128-gcm", target).await?)
        }
        "rathole" => Ok(peers::rathole(&find("rathole")?, target).await?),
        "dumbpipe" => Ok(peers::dumbpipe(&find("dumbpipe")?, target).await?),
        "wireguard-go" => {
            needs_tun()?;
            Ok(private::wireguard(&find("wireguard-go")?, &find("wg")?).await?)
        }
        "nebula" => {
            needs_tun()?;
            Ok(private::nebula(&find("nebula")?, &find("nebula-cert")?).await?)
        }
        other => Err(NotStarted::Failed(anyhow::anyhow!("the bench knows no subject '{other}'"))),
    }
}

/// Both make network interfaces.
fn needs_tun() -> Result<(), NotStarted> {
    let tun = std::fs::OpenOptions::new().read(true).write(true).open(Path::new("/dev/net/tun"));
    tun.map(drop).map_err(|error| NotStarted::Missing(format!("needs root and /dev/net/tun ({error})")))
}
