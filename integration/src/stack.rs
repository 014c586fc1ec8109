//! A controller and a router for one test.

use crate::{
    binary::hesper,
    netns::Netns,
    process::{Output, Process, run},
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The administrator's password in every stack.
const PASSWORD: &str = "only-for-this-test";

/// Where and how a stack runs.
#[derive(Default)]
pub struct StackOptions<'a> {
    /// The host it runs on; none = the machine itself, on loopback.
    pub host: Option<&'a Netns>,
    /// Addresses by which nodes reach it; none = 127.0.0.1.
    pub address: Option<String>,
}

/// `hesper quickstart` in a directory of its own, with a logged-in command line.
pub struct Stack<'a> {
    directory: TempDir,
    host: Option<&'a Netns>,
    address: String,
    /// Controller's `host:port`.
    pub controller: String,
    /// Router's `host:port`.
    pub router: String,
    server: Option<Process>,
}

impl Stack<'static> {
    /// On loopback, on ports that the OS chooses.
    pub fn start() -> Self {
        Stack::with(StackOptions::default())
    }
}

impl<'a> Stack<'a> {
    /// On a host.
    ///
    /// # Panics
    /// When it does not start, or the administrator cannot log in.
    pub fn with(options: StackOptions<'a>) -> Self {
        let mut stack = Self {
            directory: tempfile::Builder::new().prefix("hesper-it-").tempdir().expect("temporary directory"),
            host: options.host,
            address: options.address.unwrap_or_else(|| "127.0.0.1".into()),
            controller: String::new(),
            router: String::new(),
            server: None,
        };
        stack.start_server(0, 0);
        let controller = stack.controller.clone();
        stack.cli(["edge", "login", &controller, "-u", "admin", "-y"]).ok();
        stack
    }

    fn start_server(&mut self, ctrl_port: u16, router_port: u16) {
        let mut command = self.hesper_command();
        command.arg("quickstart").arg("--home").arg(self.path("mesh"));
        command.args(["--ctrl-address", &self.address, "--ctrl-port", &ctrl_port.to_string()]);
        command.args(["--router-address", &self.address, "--router-port", &router_port.to_string()]);
        let mut server = Process::spawn("quickstart", &mut command);
        let ready = server.line("ready ");
        let field = |name: &str| {
            let value = ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("no {name} in {ready:?}")).to_owned()
        };
        (self.controller, self.router) = (field("controller"), field("router"));
        self.server = Some(server);
    }

    /// kill -9 of controller and router together.
    pub fn kill9(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill9();
        }
    }

    /// Starts controller and router again, on the same ports.
    pub fn restart(&mut self) {
        let port = |address: &str| -> u16 {
            address
                .rsplit(':')
                .next()
                .and_then(|p| p.parse().ok())
                .unwrap_or_else(|| panic!("no port in {address}"))
        };
        let (ctrl, router) = (port(&self.controller), port(&self.router));
        self.start_server(ctrl, router);
    }

    /// A file or directory of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the test; its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("write a file of the test");
        path
    }

    /// `hesper`, with this stack's environment, on this stack's host.
    pub fn hesper_command(&self) -> Command {
        self.command_on(self.host, hesper())
    }

    /// A program on a host, with this stack's environment.
    pub fn command_on(&self, host: Option<&Netns>, program: impl AsRef<OsStr>) -> Command {
        let mut command =
            host.map_or_else(|| Command::new(program.as_ref()), |host| host.command(program.as_ref()));
        command.env("HESPER_CONFIG_DIR", self.path("cli")).env("HESPER_PASSWORD", PASSWORD);
        command.env_remove("HESPER_LOG").current_dir(self.directory.path());
        command
    }

    /// Runs `hesper ARGS…` as the logged-in administrator.
    pub fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Output {
        run(self.hesper_command().args(args))
    }

    /// Creates an identity with role attributes and enrolls it; the path of its identity file.
    pub fn identity(&self, name: &str, attributes: &[&str]) -> PathBuf {
        let (jwt, json) = (self.path(&format!("{name}.jwt")), self.path(&format!("{name}.json")));
        let mut create = self.hesper_command();
        create.args(["edge", "create", "identity", name, "-o"]).arg(&jwt);
        if !attributes.is_empty() {
            create.args(["-a", &attributes.join(",")]);
        }
        run(&mut create).ok();
        run(self.hesper_command().args(["edge", "enroll"]).arg(&jwt).arg("-o").arg(&json)).ok();
        json
    }

    /// Starts a long-running `hesper` command on a host (`None` = the stack's own).
    pub fn spawn<S: AsRef<OsStr>>(&self, host: Option<&Netns>, args: impl IntoIterator<Item = S>) -> Process {
        let args: Vec<_> = args.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let name =
            format!("hesper {}", args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" "));
        Process::spawn(name, self.command_on(host.or(self.host), hesper()).args(args))
    }

    /// The stack's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
