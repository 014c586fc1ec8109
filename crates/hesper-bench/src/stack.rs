//! Hesper for real: controller, router and tunnels as processes of the built binary, in a directory of their own.

use crate::process::{Program, command, output};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

/// The administrator of a network that lives for minutes on loopback.
const USER: &str = "admin";
const PASSWORD: &str = "only for this measurement";
/// Services use every router, identities too.
const EVERYBODY: &str = "#all";

/// See the module. Everything ends, and is removed, when it is dropped.
pub(crate) struct Stack {
    binary: PathBuf,
    controller_port: u16,
    router_port: u16,
    metrics_port: u16,
    /// `None` while stopped.
    pub(crate) controller: Option<Program>,
    /// `None` while stopped.
    pub(crate) router: Option<Program>,
    // Last: the files outlive the processes.
    directory: tempfile::TempDir,
}

/// A port that nobody uses now, for TCP and UDP.
pub(crate) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("there is no free port")
}

impl Stack {
    /// Starts controller and router, with policies by which everybody may use the router.
    pub(crate) async fn start(binary: &Path) -> Result<Self> {
        let mut stack = Self {
            binary: binary.to_owned(),
            controller_port: free_port()?,
            router_port: free_port()?,
            metrics_port: free_port()?,
            controller: None,
            router: None,
            directory: tempfile::Builder::new().prefix("hesper-bench-").tempdir()?,
        };
        let (home, port) = (stack.path("controller"), stack.controller_port.to_string());
        let mut init = stack.hesper(["controller", "init", "--home", &home])?;
        init.args(["--ctrl-address", "127.0.0.1", "--ctrl-port", &port, "-u", USER])
            .env("HESPER_PASSWORD", PASSWORD);
        output(init)?;
        stack.start_controller().await?;
        let mut login = stack.hesper(["edge", "login", &format!("127.0.0.1:{port}"), "-u", USER, "-y"])?;
        login.env("HESPER_PASSWORD", PASSWORD);
        output(login)?;
        let token = stack.path("router.jwt");
        let routers = ["--edge-router-roles", EVERYBODY];
        stack.cli(["create", "edge-router", "router", "-o", &token])?;
        stack.cli(
            [&["create", "edge-router-policy", "all", "--identity-roles", EVERYBODY], &routers[..]].concat(),
        )?;
        stack.cli(
            [&["create", "service-edge-router-policy", "all", "--service-roles", EVERYBODY], &routers[..]]
                .concat(),
        )?;
        stack.cli(["router", "enroll", &token, "--home", &stack.path("router")])?;
        stack.start_router().await?;
        Ok(stack)
    }

    /// Starts the controller, also again.
    pub(crate) async fn start_controller(&mut self) -> Result<()> {
        let command = self.hesper(["controller", "run", "--home", &self.path("controller")])?;
        let mut controller = Program::start("controller", command)?;
        controller.line(ready).await?;
        self.controller = Some(controller);
        Ok(())
    }

    /// Starts the router, also again.
    pub(crate) async fn start_router(&mut self) -> Result<()> {
        let (at, metrics) =
            (format!("127.0.0.1:{}", self.router_port), format!("127.0.0.1:{}", self.metrics_port));
        let home = self.path("router");
        let arguments =
            ["router", "run", "--home", &home, "--listen", &at, "--advertise", &at, "--metrics", &metrics];
        let mut router = Program::start("router", self.hesper(arguments)?)?;
        router.line(ready).await?;
        self.router = Some(router);
        Ok(())
    }

    /// `kill -9` of both.
    pub(crate) fn kill(&mut self) {
        self.controller = None;
        self.router = None;
    }

    /// Process id of the router.
    pub(crate) fn router_pid(&self) -> Result<u32> {
        Ok(self.router.as_ref().context("the router does not run")?.pid())
    }

    /// Where the router serves its metrics.
    pub(crate) fn router_metrics(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.metrics_port).into()
    }

    /// The controller's URL.
    pub(crate) fn controller_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.controller_port)
    }

    /// A path in the stack's directory, as text for an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Runs one command as the administrator.
    pub(crate) fn cli<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        output(self.hesper(arguments)?)
    }

    /// Creates and enrolls an identity; the path of its file.
    pub(crate) fn enroll(&self, name: &str) -> Result<String> {
        let (token, file) = (self.path(&format!("{name}.jwt")), self.path(&format!("{name}.json")));
        self.cli(["create", "identity", name, "-o", &token])?;
        self.cli(["enroll", &token, "-o", &file])?;
        Ok(file)
    }

    /// A service that leads to this address, which `host` hosts and everybody may dial.
    pub(crate) fn publish(&self, service: &str, target: SocketAddr, host: &str) -> Result<()> {
        let config = json!({"protocol": "tcp", "address": target.ip(), "port": target.port()}).to_string();
        let host_config = format!("{service}.host");
        self.cli(["create", "config", &host_config, "host.v1", &config])?;
        self.cli(["create", "service", service, "--configs", &host_config])?;
        self.allow("Bind", service, &format!("@{host}"))?;
        self.allow("Dial", service, EVERYBODY)
    }

    /// The service-policy `SERVICE.bind` or `SERVICE.dial`.
    pub(crate) fn allow(&self, what: &str, service: &str, identities: &str) -> Result<()> {
        let (name, service) = (format!("{service}.{what}"), format!("@{service}"));
        let roles = ["--service-roles", &service, "--identity-roles", identities];
        self.cli([&["create", "service-policy", &name, what], &roles[..]].concat()).map(drop)
    }

    /// Starts `hesper tunnel` and waits until it is ready.
    pub(crate) async fn tunnel(&self, name: &'static str, arguments: &[&str]) -> Result<Program> {
        let command = self.hesper([&["tunnel"], arguments].concat())?;
        let mut program = Program::start(name, command)?;
        program.line(ready).await?;
        Ok(program)
    }

    /// The management API as the administrator, for what is timed or done a thousand times.
    pub(crate) async fn api(&self) -> Result<Api> {
        let ca = std::fs::read_to_string(Path::new(&self.path("controller")).join("pki/ca.pem"))?;
        let mut tls = hesper_pki::tls::ca_client(&ca)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build()?;
        let mut api =
            Api { http, base: format!("{}/edge/management/v1", self.controller_url()), token: String::new() };
        let body = json!({"username": USER, "password": PASSWORD});
        let session = api.call(reqwest::Method::POST, "authenticate?method=password", Some(&body)).await?;
        api.token = session["token"].as_str().context("no session token")?.to_owned();
        Ok(api)
    }

    /// The `hesper` command with this stack's environment.
    pub(crate) fn hesper<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        let mut hesper = command(&self.binary)?;
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HESPER_") {
                hesper.env_remove(name);
            }
        }
        let directory = self.directory.path();
        hesper
            .args(arguments)
            .current_dir(directory)
            .env("HOME", directory)
            .env("HESPER_CONFIG_DIR", directory.join("config"))
            .env("HESPER_LOG", "warn");
        Ok(hesper)
    }
}

/// What every long-running `hesper` prints once it serves.
fn ready(line: &str) -> Option<()> {
    line.starts_with("ready ").then_some(())
}

/// A login at the management API.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    /// One request; the `data` of the answer.
    pub(crate) async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let mut request = self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("the controller answered {status} to {path}: {text}");
        }
        let mut value: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok(value["data"].take())
    }
}
