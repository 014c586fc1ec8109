//! The programs of others that the tests run against: Debian packages, packages of PyPI and npm, an OpenTelemetry Collector built
//! from its Go modules, cargo-deny.

use crate::shell::{cargo, output, root, run, target};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Debian packages that the tests use.
const PACKAGES: &[&str] = &[
    "bash",
    "curl",
    "faketime",
    "iproute2",
    "prometheus",
    "prometheus-node-exporter",
    "python3",
    "python3-venv",
];

/// Debian's own interpreter, whatever else the PATH offers: it is the one that python3-venv belongs to.
const PYTHON: &str = "/usr/bin/python3";

/// The version installed where there is none.
const CARGO_DENY: &str = "0.20.2";

/// What asks Debian's maintainer scripts not to start services (invoke-rc.d and deb-systemd-invoke look here).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing.
pub(crate) fn install() -> Result<()> {
    debian_packages()?;
    python_environment()?;
    javascript_packages()?;
    collector()
}

fn debian_packages() -> Result<()> {
    let mut missing: Vec<&str> = PACKAGES.iter().copied().filter(|package| !is_installed(package)).collect();
    // Any Node.js will do, and Debian's brings hundreds of packages.
    if in_path("node").is_none() || in_path("npm").is_none() {
        missing.extend(["nodejs", "npm"]);
    }
    if missing.is_empty() {
        println!("Debian packages: all there");
        return Ok(());
    }
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("packages are missing: run as root, or first `sudo apt-get install {}`", missing.join(" "));
    }
    let _quiet = NoServices::begin()?;
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-qq", "-y", "-o", "Dpkg::Use-Pty=0", "--no-install-recommends"]).args(missing);
    run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    output(query.args(["-W", "-f=${db:Status-Status}", package])).is_ok_and(|status| status == "installed")
}

/// While it lives, installing a package starts no daemon: the tests start theirs themselves, on ports of their own.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY) {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n").context(POLICY)?;
                Ok(Self { ours: true })
            }
            // The machine has a policy of its own (containers do, and it says the same).
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(e) => Err(e).context(POLICY),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // Left behind it would only go on keeping services from starting; there is nobody to tell.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// `target/python`, made anew when the pinned packages change.
fn python_environment() -> Result<()> {
    let wanted = root().join("integration/peers/requirements.txt");
    let wanted_text = read(&wanted)?;
    let environment = target()?.join("python");
    let stamp = environment.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted_text) {
        println!("Python environment: all there");
        return Ok(());
    }
    run(Command::new(PYTHON).args(["-m", "venv", "--clear"]).arg(&environment))?;
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["install", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:", "-r"]);
    run(install.arg(&wanted))?;
    fs::write(&stamp, wanted_text).with_context(|| stamp.display().to_string())
}

/// `target/javascript`, made anew when the pinned packages change. No script of a package is run.
fn javascript_packages() -> Result<()> {
    let wanted = root().join("integration/peers/js");
    let environment = target()?.join("javascript");
    fs::create_dir_all(&environment).with_context(|| environment.display().to_string())?;
    let stamp = environment.join("installed.json");
    let lock = read(&wanted.join("package-lock.json"))?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        println!("JavaScript packages: all there");
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        fs::copy(wanted.join(file), environment.join(file)).with_context(|| file.to_owned())?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(install.current_dir(&environment))?;
    fs::write(&stamp, lock).with_context(|| stamp.display().to_string())
}

/// `target/otelcol/otelcol`, a real OpenTelemetry Collector, built anew when its source or its modules change; some minutes with Go's
/// cache empty. The tests that need it say so where there is no Go.
fn collector() -> Result<()> {
    let source = root().join("integration/otelcol");
    let Some(go) =
        in_path("go").or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
    else {
        println!("OpenTelemetry Collector: not built, for Go is not installed; one test will be left out");
        return Ok(());
    };
    let directory = target()?.join("otelcol");
    let (program, stamp) = (directory.join("otelcol"), directory.join("built-from"));
    let wanted =
        read(&source.join("go.sum"))? + &read(&source.join("go.mod"))? + &read(&source.join("main.go"))?;
    if program.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == wanted) {
        println!("OpenTelemetry Collector: all there");
        return Ok(());
    }
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let mut build = Command::new(go);
    // Without symbols: nobody debugs it, and it is half as big.
    build.args(["build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&program).arg(".");
    run(build.current_dir(&source).env("CGO_ENABLED", "0"))?;
    fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// `cargo deny`: the user's own, or one in `target/tools`, built at the first need (some minutes).
pub(crate) fn cargo_deny() -> Result<Command> {
    let tools = target()?.join("tools");
    let own = tools.join("bin/cargo-deny");
    if !own.is_file() {
        if let Some(found) = in_path("cargo-deny") {
            return Ok(deny_command(&found));
        }
        let mut install = cargo();
        install.args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"]).arg(&tools);
        run(install.env("CARGO_TARGET_DIR", tools.join("build")))?;
    }
    Ok(deny_command(&own))
}

fn deny_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}
