//! Tunnels that are network interfaces: two namespaces on one cable, an encrypted network above it, the target at the far end.
//!
//! The near end is this process's own namespace, which therefore must be one of the bench's own; the far end is a process that
//! sleeps in another. Nothing has a name, so nothing is left behind.

use super::Subject;
use crate::{
    process::{Program, command, installed, output},
    stack::free_port,
};
use anyhow::{Context, Result, bail};
use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};
use tempfile::TempDir;

/// One pair of namespaces. Each gets its own addresses.
struct Cable {
    number: u8,
    far: Program,
}

static CABLES: AtomicU8 = AtomicU8::new(1);

impl Cable {
    async fn new() -> Result<Self> {
        if std::env::var_os(crate::network::INSIDE).is_none() {
            bail!("only within a network namespace of its own (--mtu 1500 or 9000)");
        }
        let number = CABLES.fetch_add(1, Ordering::Relaxed);
        let mut far = command(needed("unshare")?)?;
        far.args(["--net", "sh", "-c", "echo ready; exec sleep 86400"]);
        let mut far = Program::start("far end", far)?;
        far.line(|line| (line == "ready").then_some(())).await?;
        let cable = Self { number, far };
        let (near_end, far_end) = (format!("near{number}"), format!("far{number}"));
        let pid = cable.far.pid().to_string();
        cable.ip(&["link", "add", &near_end, "type", "veth", "peer", "name", &far_end, "netns", &pid])?;
        for (inside, device, address) in [(false, &near_end, 1), (true, &far_end, 2)] {
            let address = format!("10.91.{number}.{address}/24");
            cable.ip_in(inside, &["addr", "add", &address, "dev", device])?;
            cable.ip_in(inside, &["link", "set", device, "up"])?;
            cable.ip_in(inside, &["link", "set", "lo", "up"])?;
        }
        Ok(cable)
    }

    fn underlay(&self, end: u8) -> String {
        format!("10.91.{}.{end}", self.number)
    }

    fn overlay(&self, end: u8) -> String {
        format!("10.92.{}.{end}", self.number)
    }

    /// A command at the far end.
    fn far(&self, program: &Path) -> Result<Command> {
        let mut enter = command(needed("nsenter")?)?;
        enter.args(["-t", &self.far.pid().to_string(), "-n"]).arg(program);
        Ok(enter)
    }

    fn at(&self, far: bool, program: &Path) -> Result<Command> {
        if far { self.far(program) } else { command(program) }
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        self.ip_in(false, arguments)
    }

    fn ip_in(&self, far: bool, arguments: &[&str]) -> Result<()> {
        let mut ip = self.at(far, &needed("ip")?)?;
        ip.args(arguments);
        output(ip).map(drop)
    }

    /// The target at the far end of the overlay, and the subject around it.
    async fn subject(
        self,
        name: &'static str,
        programs: Vec<Program>,
        directory: TempDir,
    ) -> Result<Subject> {
        let at: SocketAddr = format!("{}:{}", self.overlay(2), free_port()?).parse()?;
        let mut target = self.far(&std::env::current_exe()?)?;
        target.args(["__target", &at.to_string()]);
        let mut target = Program::start("target", target)?;
        target.line(|line| line.starts_with("ready ").then_some(())).await?;
        target.listens(at).await.context("the overlay does not carry anything")?;
        let mut subject = Subject::new(name, at, programs).with(directory);
        subject.helpers = vec![target, self.far];
        Ok(subject)
    }
}

fn needed(program: &str) -> Result<std::path::PathBuf> {
    installed(program).with_context(|| format!("{program} is not installed"))
}

/// wireguard-go, keys by `wg`.
pub(super) async fn wireguard(program: &Path, wg: &Path) -> Result<Subject> {
    let cable = Cable::new().await?;
    let dir = tempfile::Builder::new().prefix("hesper-bench-wg-").tempdir()?;
    let mut keys = Vec::new();
    for end in 1..=2u8 {
        let mut generate = command(wg)?;
        generate.arg("genkey");
        let private = output(generate)?.trim().to_owned();
        let file = dir.path().join(format!("private{end}"));
        std::fs::write(&file, &private)?;
        let mut public = command("sh")?;
        public.args(["-c", "exec \"$0\" pubkey < \"$1\""]).arg(wg).arg(&file);
        keys.push((file, output(public)?.trim().to_owned()));
    }
    let mut programs = Vec::new();
    for (end, far, name) in [(1u8, false, "dialer"), (2, true, "binder")] {
        let device = format!("hbwg{}{end}", cable.number);
        let mut run = cable.at(far, program)?;
        run.args(["-f", &device]).env("LOG_LEVEL", "error").env("WG_PROCESS_FOREGROUND", "1");
        programs.push(Program::start(name, run)?);
        let other = 3 - end;
        let endpoint = format!("{}:51820", cable.underlay(other));
        let allowed = format!("{}/32", cable.overlay(other));
        let mut tries = 0;
        loop {
            let mut set = cable.at(far, wg)?;
            set.args(["set", &device, "listen-port", "51820", "private-key"])
                .arg(&keys[usize::from(end) - 1].0);
            set.args([
                "peer",
                &keys[usize::from(other) - 1].1,
                "endpoint",
                &endpoint,
                "allowed-ips",
                &allowed,
            ]);
            match output(set) {
                Ok(_) => break,
                Err(error) if tries > 200 => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        cable.ip_in(far, &["addr", "add", &format!("{}/24", cable.overlay(end)), "dev", &device])?;
        cable.ip_in(far, &["link", "set", &device, "mtu", "1420", "up"])?;
    }
    cable.subject("wireguard-go", programs, dir).await
}

/// nebula, the far end being the lighthouse.
pub(super) async fn nebula(program: &Path, cert: &Path) -> Result<Subject> {
    let cable = Cable::new().await?;
    let dir = tempfile::Builder::new().prefix("hesper-bench-nebula-").tempdir()?;
    let run = |arguments: &[&str]| {
        let mut make = command(cert)?;
        make.args(arguments).current_dir(dir.path());
        output(make)
    };
    run(&["ca", "-name", "bench"])?;
    let mut programs = Vec::new();
    for (end, far, name) in [(2u8, true, "binder"), (1, false, "dialer")] {
        let host = format!("end{end}");
        run(&["sign", "-name", &host, "-ip", &format!("{}/24", cable.overlay(end))])?;
        let path = |file: &str| dir.path().join(file).display().to_string();
        let lighthouse = if far {
            "  am_lighthouse: true\n".into()
        } else {
            format!("  hosts: [\"{}\"]\n", cable.overlay(2))
        };
        let config = format!(
            "pki: {{ca: {}, cert: {}, key: {}}}\n\
             static_host_map:\n  \"{}\": [\"{}:4242\"]\n\
             lighthouse:\n{lighthouse}\
             listen: {{host: 0.0.0.0, port: 4242}}\n\
             tun: {{dev: hbneb{}{end}, mtu: 1300}}\n\
             logging: {{level: error, format: text}}\n\
             firewall:\n  outbound:\n    - {{port: any, proto: any, host: any}}\n  inbound:\n    - {{port: any, proto: any, host: any}}\n",
            path("ca.crt"),
            path(&format!("{host}.crt")),
            path(&format!("{host}.key")),
            cable.overlay(2),
            cable.underlay(2),
            cable.number,
        );
        let file = dir.path().join(format!("{host}.yml"));
        std::fs::write(&file, config)?;
        let mut run = cable.at(far, program)?;
        run.arg("-config").arg(&file);
        programs.push(Program::start(name, run)?);
    }
    wait_for_address(&cable).await?;
    cable.subject("nebula", programs, dir).await
}

/// nebula makes its interface by itself.
async fn wait_for_address(cable: &Cable) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let mut show = cable.far(&needed("ip")?)?;
        show.args(["-o", "addr"]);
        if output(show)?.contains(&cable.overlay(2)) {
            return Ok(());
        }
        if begun.elapsed() > crate::process::PATIENCE {
            bail!("nebula has no interface");
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
