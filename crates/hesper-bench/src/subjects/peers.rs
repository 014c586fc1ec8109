//! Other tunnels over TCP or QUIC on loopback, each configured as its own manual shows for this purpose.

use super::Subject;
use crate::{
    process::{Program, command, output},
    stack::free_port,
};
use anyhow::{Context, Result};
use hesper_pki::{
    ca::{CertificateAuthority, IssueRequest},
    key,
    spiffe::{SpiffeId, SpiffeRole},
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use time::OffsetDateTime;

fn directory(name: &str) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix(&format!("hesper-bench-{name}-")).tempdir()?)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Writes a file that only its owner may read; its path.
fn file(directory: &TempDir, name: &str, text: &str) -> Result<String> {
    let path = directory.path().join(name);
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path.display().to_string())
}

/// A P-256 certificate for 127.0.0.1 with its key, PEM, as the mesh's own are.
fn certificate() -> Result<String> {
    let now = OffsetDateTime::now_utc();
    let (authority, key) = (CertificateAuthority::create("bench", now)?, key::generate()?);
    let request = IssueRequest {
        subject: SpiffeId::new("bench", SpiffeRole::Controller, "peer")?,
        spki_der: key.spki_der().to_vec(),
        validity: Duration::from_secs(86_400),
        dns_names: vec!["localhost".into()],
        ip_addresses: vec![Ipv4Addr::LOCALHOST.into()],
    };
    Ok(format!("{}{}{}", authority.issue(&request, now)?.chain_pem, authority.ca_pem(), *key.to_pem()))
}

/// stunnel at both ends.
pub(super) async fn stunnel(program: &Path, target: SocketAddr) -> Result<Subject> {
    let dir = directory("stunnel")?;
    let pem = file(&dir, "peer.pem", &certificate()?)?;
    let (outer, inner) = (local(free_port()?), local(free_port()?));
    let common = "foreground = yes\nsyslog = no\ndebug = err\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n";
    let server = format!("{common}cert = {pem}\n[bench]\naccept = {inner}\nconnect = {target}\n");
    let client = format!("{common}client = yes\n[bench]\naccept = {outer}\nconnect = {inner}\n");
    let mut programs = Vec::new();
    for (name, text, at) in [("binder", server, inner), ("dialer", client, outer)] {
        let mut stunnel = command(program)?;
        stunnel.arg(file(&dir, name, &text)?);
        let mut program = Program::start(name, stunnel)?;
        program.listens(at).await?;
        programs.push(program);
    }
    Ok(Subject::new("stunnel", outer, programs).with(dir))
}

/// haproxy at both ends, TLS in between.
pub(super) async fn haproxy(program: &Path, target: SocketAddr) -> Result<Subject> {
    let dir = directory("haproxy")?;
    let pem = file(&dir, "peer.pem", &certificate()?)?;
    let (outer, inner) = (local(free_port()?), local(free_port()?));
    let config = |bind: String, server: String| {
        format!(
            "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n\
             listen bench\n  bind {bind}\n  server next {server}\n"
        )
    };
    let mut programs = Vec::new();
    for (name, text, at) in [
        ("binder", config(format!("{inner} ssl crt {pem}"), target.to_string()), inner),
        ("dialer", config(outer.to_string(), format!("{inner} ssl verify none")), outer),
    ] {
        let mut haproxy = command(program)?;
        haproxy.args(["-db", "-f", &file(&dir, name, &text)?]);
        let mut program = Program::start(name, haproxy)?;
        program.listens(at).await?;
        programs.push(program);
    }
    Ok(Subject::new("haproxy", outer, programs).with(dir))
}

/// `ssh -L` over one connection to an sshd of our own. `programs`: sshd, ssh, ssh-keygen.
pub(super) async fn ssh(programs: &[PathBuf; 3], aes: bool, target: SocketAddr) -> Result<Subject> {
    let [sshd, ssh, keygen] = programs;
    let dir = directory("ssh")?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    for key in ["host", "user"] {
        let mut make = command(keygen)?;
        make.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
        output(make)?;
    }
    fs::copy(path("user.pub"), path("authorized"))?;
    if rustix::process::getuid().is_root() {
        // Where sshd wants an empty directory, which the system's own start script makes.
        fs::create_dir_all("/run/sshd")?;
    }
    let (outer, inner) = (local(free_port()?), local(free_port()?));
    let settings = format!(
        "ListenAddress {inner}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nAllowTcpForwarding local\nPermitRootLogin yes\nMaxStartups 100\n",
        path("host"),
        path("authorized")
    );
    let mut server = command(sshd)?;
    server.args(["-D", "-e", "-f", &file(&dir, "sshd", &settings)?]);
    let mut server = Program::start("binder", server)?;
    server.listens(inner).await?;
    let mut client = command(ssh)?;
    client.args(["-N", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
    client.args([
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ExitOnForwardFailure=yes",
        "-o",
        "IdentitiesOnly=yes",
    ]);
    if aes {
        client.args(["-c", "aes128-gcm@openssh.com"]);
    }
    client.args(["-i", &path("user"), "-p", &inner.port().to_string()]);
    client.args(["-L", &format!("{outer}:{target}"), "127.0.0.1"]);
    let mut client = Program::start("dialer", client)?;
    client.listens(outer).await?;
    let name = if aes { "ssh-aes128-gcm" } else { "ssh" };
    Ok(Subject::new(name, outer, vec![client, server]).with(dir))
}

/// rathole over plain TCP.
pub(super) async fn rathole(program: &Path, target: SocketAddr) -> Result<Subject> {
    let dir = directory("rathole")?;
    let (outer, inner) = (local(free_port()?), local(free_port()?));
    let server = format!(
        "[server]\nbind_addr = \"{inner}\"\ndefault_token = \"bench\"\n[server.services.bench]\nbind_addr = \"{outer}\"\nnodelay = true\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{inner}\"\ndefault_token = \"bench\"\n[client.services.bench]\nlocal_addr = \"{target}\"\nnodelay = true\n"
    );
    let mut programs = Vec::new();
    for (name, flag, text, at) in
        [("dialer", "--server", server, inner), ("binder", "--client", client, outer)]
    {
        let mut rathole = command(program)?;
        rathole.args([flag, &file(&dir, &format!("{name}.toml"), &text)?]);
        let mut program = Program::start(name, rathole)?;
        program.listens(at).await?;
        programs.push(program);
    }
    Ok(Subject::new("rathole", outer, programs).with(dir))
}

/// dumbpipe: iroh between two endpoints that find each other by the addresses in the ticket.
pub(super) async fn dumbpipe(program: &Path, target: SocketAddr) -> Result<Subject> {
    let outer = local(free_port()?);
    let mut listen = command(program)?;
    listen.args(["listen-tcp", "--host", &target.to_string()]);
    let mut listen = Program::start("binder", listen)?;
    let words = |line: &str| {
        let mut words = line.split_whitespace();
        words
            .find(|word| word.len() > 50 && word.chars().all(|c| c.is_ascii_alphanumeric()))
            .map(str::to_owned)
    };
    let ticket = listen.line(words).await.context("dumbpipe told no ticket")?;
    let mut connect = command(program)?;
    connect.args(["connect-tcp", "--addr", &outer.to_string(), &ticket]);
    let mut connect = Program::start("dialer", connect)?;
    connect.listens(outer).await?;
    Ok(Subject::new("dumbpipe", outer, vec![connect, listen]))
}
