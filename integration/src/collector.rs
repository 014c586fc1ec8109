//! `hesper collect` as a process with a directory of its own.

use crate::{Netns, Output, Process, Stack, binaries, run, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

/// What it logs: enough to understand a failure.
const LOG: &str = "info,hesper=debug";

/// Gives the command that runs a program.
type Starter = dyn Fn(&Path) -> Command;

/// A collector that runs, or has run: it can be killed and started again, and keeps its directory.
pub struct Collector {
    name: String,
    directory: tempfile::TempDir,
    files: Vec<PathBuf>,
    identity: Option<String>,
    environment: Vec<(String, String)>,
    /// Gives the command that runs this program; without it, here.
    place: Option<Box<Starter>>,
    forgiven: Vec<String>,
    process: Option<Process>,
}

impl Collector {
    /// One with this configuration, in which `DIRECTORY` stands for a directory of its own; not yet started.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn new(name: &str, config: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("hesper-collect-").tempdir().expect("a directory");
        let files = vec![directory.path().join("config.yaml")];
        let collector = Self {
            name: name.to_owned(),
            directory,
            files,
            identity: None,
            environment: Vec::new(),
            place: None,
            forgiven: Vec::new(),
            process: None,
        };
        collector.configure(config);
        collector
    }

    /// One with this file as its configuration, as it is.
    ///
    /// # Panics
    /// When there is no directory for it.
    #[track_caller]
    pub fn of_file(name: &str, file: PathBuf) -> Self {
        Self { files: vec![file], ..Self::new(name, "") }
    }

    /// In the mesh, as the identity in this file.
    #[must_use]
    pub fn identity(mut self, file: &str) -> Self {
        self.identity = Some(file.to_owned());
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In a namespace (which must outlive it).
    #[must_use]
    pub fn inside(self, netns: &Netns) -> Self {
        let name = netns.name().to_owned();
        self.by(move |program| crate::netns::command_in(&name, program))
    }

    /// By a command that runs this program.
    #[must_use]
    pub fn by(mut self, place: impl Fn(&Path) -> Command + 'static) -> Self {
        self.place = Some(Box::new(place));
        self
    }

    /// An ERROR line that contains `part` is expected.
    #[must_use]
    pub fn forgive(mut self, part: &str) -> Self {
        self.forgiven.push(part.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(mut self) -> Self {
        self.restart();
        self
    }

    /// Starts it again, after [`kill`](Self::kill) or [`terminate`](Self::terminate).
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn restart(&mut self) {
        let mut process = Process::ours(&self.name, self.command());
        for part in &self.forgiven {
            process = process.forgive(part);
        }
        let ready = |line: &str| (line == "ready" || line.starts_with("ready ")).then_some(());
        process.wait_for_line("it is ready", Stack::PATIENCE, ready);
        self.process = Some(process);
    }

    /// Starts it and waits for its end: it cannot run.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&self) -> Output {
        run(self.command(), "", Stack::PATIENCE)
    }

    /// `hesper collect` with these arguments instead, to its end, in the same environment.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn cli(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let mut command = self.bare();
        command.args(arguments);
        run(command, "", Stack::PATIENCE)
    }

    /// `hesper collect --check` of its configuration.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn check(&self) -> Output {
        let mut arguments = vec!["--check".into()];
        arguments.extend(self.config_arguments());
        self.cli(arguments)
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a running collector")
    }

    /// The address of a receiver, as it told when it was ready: `otlp/grpc`.
    ///
    /// # Panics
    /// When it told none.
    #[track_caller]
    pub fn told(&self, receiver: &str) -> SocketAddr {
        self.process.as_ref().expect("a running collector").told(receiver)
    }

    /// Writes its configuration anew; [`reload`](Self::reload) takes it up.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn configure(&self, config: &str) {
        let config = config.replace("DIRECTORY", &self.directory.path().display().to_string());
        fs::write(&self.files[0], config).expect("write the configuration");
    }

    /// SIGHUP, and waits until it says this.
    ///
    /// # Panics
    /// When it does not say it.
    #[track_caller]
    pub fn reload(&mut self, says: &str) {
        let count = |process: &Process| process.lines().iter().filter(|line| line.contains(says)).count();
        let process = self.process.as_ref().expect("a running collector");
        let before = count(process);
        let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::HUP).expect("signal the collector");
        wait_until(&format!("it says {says:?} after SIGHUP"), Stack::PATIENCE, || count(process) > before);
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it had logged errors.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM; how it ended.
    ///
    /// # Panics
    /// When it does not end, or had logged errors.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let ended = self.process().terminate(Duration::from_secs(60));
        self.process = None;
        ended
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = self.bare();
        command.args(self.config_arguments());
        if let Some(identity) = &self.identity {
            command.args(["-i", identity]);
        }
        command
    }

    fn config_arguments(&self) -> Vec<PathBuf> {
        self.files.iter().flat_map(|file| [PathBuf::from("--config"), file.clone()]).collect()
    }

    /// Nothing from the developer's own environment.
    fn bare(&self) -> Command {
        let program = binaries::hesper();
        let mut command = self.place.as_ref().map_or_else(|| Command::new(&program), |place| place(&program));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if ["HESPER_", "OTEL_", "KUBE"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name.as_ref());
            }
        }
        command
            .current_dir(&self.directory)
            .env("HOME", self.directory.path())
            .env("HESPER_CONFIG_DIR", self.directory.path().join("home"))
            .env("HESPER_LOG", LOG)
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("collect");
        command
    }
}
