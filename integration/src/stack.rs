//! A controller and one or more routers with a directory of their own, and the command line logged in to them.

mod options;
mod routers;

pub use options::StackOptions;

use crate::{
    Netns, Output, Process, binaries,
    netns::{command_in, enter},
    output::run,
    watchdog::Watchdog,
};
use routers::Seat;
use std::{
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

const USER: &str = "admin";
/// What long-running processes log: enough to understand a failure.
const LOG: &str = "info,hesper=debug";

/// Where something runs: in the host's network or in a namespace, under which address others reach it.
#[derive(Debug, Clone)]
pub struct Place {
    netns: Option<String>,
    address: Ipv4Addr,
}

impl Place {
    /// The host's network, reachable on loopback.
    pub fn host() -> Self {
        Self { netns: None, address: Ipv4Addr::LOCALHOST }
    }

    /// A namespace (which must outlive what runs in it), reachable on `address`.
    pub fn namespace(netns: &Netns, address: Ipv4Addr) -> Self {
        Self { netns: Some(netns.name().to_owned()), address }
    }

    /// The address under which others reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The namespace.
    pub(crate) fn netns(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    /// A connection from there.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<std::net::TcpStream> {
        let connect = || {
            self.enter();
            std::net::TcpStream::connect(to)
        };
        std::thread::scope(|scope| scope.spawn(connect).join()).expect("a thread")
    }

    /// Moves this thread there.
    pub fn enter(&self) {
        if let Some(netns) = &self.netns {
            enter(netns);
        }
    }

    fn command(&self, program: &Path) -> Command {
        self.netns.as_deref().map_or_else(|| Command::new(program), |netns| command_in(netns, program))
    }
}

/// A controller and its routers, and where they keep things. Everything ends when it is dropped.
pub struct Stack {
    place: Place,
    controller_port: u16,
    /// Of quickstart's router.
    router_port: u16,
    /// Running `quickstart`, when they share a process.
    both: Option<Process>,
    controller: Option<Process>,
    /// Routers that are processes of their own.
    routers: Vec<Seat>,
    /// Further arguments of each router.
    router_arguments: Vec<String>,
    // The files outlive the processes.
    directory: tempfile::TempDir,
    _watchdog: Watchdog,
}

impl Stack {
    /// The administrator's password; the user name is `admin`.
    pub const PASSWORD: &str = "correct horse battery staple";
    /// How long a condition may take to come true. Never reached when all is well.
    pub const PATIENCE: Duration = Duration::from_secs(60);
    /// How long one command of the command line may take.
    const COMMAND: Duration = Duration::from_secs(120);

    /// `hesper quickstart` on free ports of the host's loopback, with an administrator logged in.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_at(Place::host())
    }

    /// As [`start`](Self::start), elsewhere.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_at(place: Place) -> Self {
        let mut stack = Self::new(place, 0);
        stack.start_both();
        stack.login();
        stack
    }

    /// `controller run` and `router run` as two processes with the policies of quickstart, an administrator logged in. For more than
    /// that, see [`StackOptions`].
    ///
    /// # Panics
    /// When something does not start.
    #[track_caller]
    pub fn separate() -> Self {
        StackOptions::default().start()
    }

    /// As [`separate`](Self::separate), elsewhere.
    ///
    /// # Panics
    /// When something does not start.
    #[track_caller]
    pub fn separate_at(place: Place) -> Self {
        StackOptions::default().at(place).start()
    }

    fn new(place: Place, controller_port: u16) -> Self {
        let directory =
            tempfile::Builder::new().prefix("hesper-test-").tempdir().expect("temporary directory");
        let routers = Vec::new();
        Self {
            place,
            controller_port,
            router_port: 0,
            both: None,
            controller: None,
            routers,
            router_arguments: Vec::new(),
            directory,
            _watchdog: Watchdog::start(),
        }
    }

    /// Starts quickstart again, on the same ports and home, after [`kill`](Self::kill).
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start_both(&mut self) {
        let (home, address) = (self.path("home"), self.place.address.to_string());
        let (controller, router) = (self.controller_port.to_string(), self.router_port.to_string());
        let arguments = [
            &["quickstart", "--home", &home, "-u", USER, "-p", Self::PASSWORD][..],
            &["--ctrl-address", &address, "--ctrl-port", &controller],
            &["--router-address", &address, "--router-port", &router],
        ]
        .concat();
        let mut process = self.node("quickstart", arguments);
        self.controller_port = ready(&mut process, "controller");
        self.router_port = ready(&mut process, "router");
        self.both = Some(process);
    }

    /// Starts the controller, also again after [`kill_controller`](Self::kill_controller).
    ///
    /// # Panics
    /// When it does not start, or runs inside quickstart.
    #[track_caller]
    pub fn start_controller(&mut self) {
        assert!(self.both.is_none(), "made by Stack::start: the controller is not a process of its own");
        let mut process = self.node("controller", ["controller", "run", "--home", &self.path("controller")]);
        ready(&mut process, "controller");
        self.controller = Some(process);
    }

    /// `kill -9` of quickstart.
    pub fn kill(&mut self) {
        self.both = None;
    }

    /// `kill -9` of the controller, when it is a process of its own.
    pub fn kill_controller(&mut self) {
        self.controller = None;
    }

    /// SIGTERM to the controller, when it is a process of its own; how it ended.
    ///
    /// # Panics
    /// When it is no process of its own, or does not end.
    #[track_caller]
    pub fn terminate_controller(&mut self) -> ExitStatus {
        self.controller.take().expect("a controller of its own").terminate(Self::PATIENCE)
    }

    /// The process that the controller is or runs in.
    ///
    /// # Panics
    /// When it was killed.
    pub fn controller(&self) -> &Process {
        self.controller.as_ref().or(self.both.as_ref()).expect("a running controller")
    }

    /// `ADDRESS:PORT` of the controller (TCP).
    pub fn controller_address(&self) -> String {
        format!("{}:{}", self.place.address, self.controller_port)
    }

    /// A path in the stack's directory, as text for an argument.
    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Writes a file into the stack's directory and gives its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
        path
    }

    /// Runs one command as the logged-in administrator: `stack.cli(["list", "services", "-j"])`.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn cli(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.cli_with(arguments, &[], "")
    }

    /// [`cli`](Self::cli) with more environment variables and with standard input.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn cli_with(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: &[(&str, &str)],
        input: &str,
    ) -> Output {
        let mut command = self.hesper(&self.place, arguments);
        command.envs(environment.iter().copied());
        run(command, input, Self::COMMAND)
    }

    /// Logs the administrator in, as [`start`](Self::start) did.
    ///
    /// # Panics
    /// When the controller refuses.
    #[track_caller]
    pub fn login(&self) {
        let arguments = ["edge", "login", &self.controller_address(), "-u", USER, "-y"];
        self.cli_with(arguments, &[("HESPER_PASSWORD", Self::PASSWORD)], "").ok();
    }

    /// Creates an identity with these role attributes, enrolls it, and gives the path of its identity file.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn enroll(&self, name: &str, attributes: &[&str]) -> String {
        let (token, file) = (self.path(&format!("{name}.jwt")), self.path(&format!("{name}.json")));
        let mut create = vec!["create", "identity", name, "-o", &token];
        let attributes = attributes.join(",");
        if !attributes.is_empty() {
            create.extend(["-a", &attributes]);
        }
        self.cli(create).ok();
        self.cli(["enroll", &token, "-o", &file]).ok();
        file
    }

    /// Starts `hesper` with these arguments as a process that keeps running, next to the controller.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn node(&self, name: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Process {
        self.node_at(&self.place, name, arguments)
    }

    /// As [`node`](Self::node), elsewhere.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn node_at(
        &self,
        place: &Place,
        name: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Process {
        let mut command = self.hesper(place, arguments);
        command.env("HESPER_LOG", LOG);
        Process::ours(name, command)
    }

    /// Starts `hesper tunnel` with these arguments and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn tunnel(&self, name: &str, arguments: &[&str]) -> Process {
        self.tunnel_at(&self.place, name, arguments)
    }

    /// As [`tunnel`](Self::tunnel), elsewhere.
    ///
    /// # Panics
    /// When it does not become ready.
    #[track_caller]
    pub fn tunnel_at(&self, place: &Place, name: &str, arguments: &[&str]) -> Process {
        let mut process = self.node_at(place, name, [&["tunnel"], arguments].concat());
        process.wait_for_line("it is ready", Self::PATIENCE, |line| line.starts_with("ready ").then_some(()));
        process
    }

    /// Creates a service that leads to this address of its hosts (`host.v1`), with a policy by which `hosts` may bind it.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn publish(&self, service: &str, target: SocketAddr, hosts: &str) {
        let config = format!(r#"{{"protocol":"tcp","address":"{}","port":{}}}"#, target.ip(), target.port());
        let host = format!("{service}.host");
        self.cli(["create", "config", &host, "host.v1", &config]).ok();
        self.cli(["create", "service", service, "--configs", &host]).ok();
        self.allow("Bind", service, hosts);
    }

    /// Creates the service-policy `SERVICE.dial` or `SERVICE.bind`.
    ///
    /// # Panics
    /// When it cannot be created.
    #[track_caller]
    pub fn allow(&self, what: &str, service: &str, identities: &str) {
        let (name, service) = (format!("{service}.{}", what.to_lowercase()), format!("@{service}"));
        let roles = ["--service-roles", &service, "--identity-roles", identities];
        self.cli([&["create", "service-policy", &name, what], &roles[..]].concat()).ok();
    }

    /// Starts a program of `examples/` that keeps running.
    ///
    /// # Panics
    /// When it is not built or cannot be started.
    #[track_caller]
    pub fn example_at(
        &self,
        place: &Place,
        name: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Process {
        let mut command = place.command(&binaries::example(name));
        self.environment(command.args(arguments)).env("HESPER_LOG", LOG);
        Process::ours(name, command)
    }

    /// The `hesper` command with the environment of this stack, not yet started.
    pub fn hesper(&self, place: &Place, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = place.command(&binaries::hesper());
        self.environment(command.args(arguments));
        command
    }

    /// Runs a bash script in which `hesper` is the built binary and the administrator is logged in.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn script(&self, script: &str) -> Output {
        let mut command = self.place.command(&binaries::installed("bash", "bash"));
        let programs = binaries::hesper().parent().map(Path::to_owned).unwrap_or_default();
        let old = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&old))).expect("PATH");
        self.environment(command.args(["-euo", "pipefail", "-c", script])).env("PATH", path);
        run(command, "", Self::COMMAND)
    }

    /// Nothing from the developer's own environment, everything into this stack's directory.
    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HESPER_") {
                command.env_remove(name);
            }
        }
        let directory: PathBuf = self.directory.path().to_owned();
        command
            .current_dir(&directory)
            .env("HOME", &directory)
            .env("HESPER_CONFIG_DIR", directory.join("config"))
            .env("RUST_BACKTRACE", "1")
    }
}

/// The port in `ready … NAME=HOST:PORT …`, which a role prints once it serves.
#[track_caller]
fn ready(process: &mut Process, role: &str) -> u16 {
    process.wait_for_line(&format!("{role} is ready"), Stack::PATIENCE, |line| {
        let words = line.strip_prefix("ready ")?.split_whitespace();
        let address = words.filter_map(|word| word.split_once('=')).find(|(name, _)| *name == role)?.1;
        address.rsplit_once(':')?.1.parse().ok()
    })
}
