//! The command line against a real controller and router: `hesper quickstart` and everything an administrator types.

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PASSWORD: &str = "correct horse battery staple";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running quickstart and the directory it and its administrator live in.
struct Network {
    quickstart: Option<Child>,
    ready: String,
    directory: tempfile::TempDir,
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut child) = self.quickstart.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Network {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut network = Self { quickstart: None, ready: String::new(), directory };
        network.run_quickstart(&["--home", &network.path("home"), "--ctrl-port", "0", "--router-port", "0"]);
        network.login();
        network
    }

    fn run_quickstart(&mut self, words: &[&str]) {
        let mut child = self
            .command()
            .arg("quickstart")
            .args(words)
            .env("HESPER_PASSWORD", PASSWORD)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("hesper runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        if line.is_empty() {
            let output = child.wait_with_output().expect("ended");
            panic!("quickstart ended: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.quickstart = Some(child);
        self.ready = line.trim_end().to_owned();
    }

    /// Asks quickstart to stop and returns its exit code and what it logged.
    fn stop(&mut self) -> (Option<i32>, String) {
        let child = self.quickstart.take().expect("running");
        let asked = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
        assert!(asked.success());
        let output = child.wait_with_output().expect("ended");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn address(&self, role: &str) -> &str {
        let found = self.ready.split_whitespace().find_map(|w| w.strip_prefix(role)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("no {role} in {:?}", self.ready))
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hesper"));
        command
            .env("HESPER_CONFIG_DIR", self.directory.path().join("config"))
            .env_remove("HESPER_PASSWORD")
            .env_remove("HESPER_LOG")
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn login(&self) {
        let words = ["edge", "login", self.address("controller"), "-u", "admin", "-y"];
        let output =
            self.command().args(words).env("HESPER_PASSWORD", PASSWORD).output().expect("hesper runs");
        assert!(output.status.success(), "{output:?}");
    }

    fn hesper(&self, words: &[&str]) -> Output {
        self.command().args(words).output().expect("hesper runs")
    }

    /// Standard output of a command that succeeds.
    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.hesper(words);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Standard error of a command that fails with exit code 1.
    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        let output = self.hesper(words);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(stderr.starts_with("error") && stderr.trim_end().lines().count() == 1, "{words:?}: {stderr}");
        stderr
    }

    fn json(&self, words: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(words)).expect("JSON")
    }
}

fn mode(path: &str) -> u32 {
    std::fs::metadata(path).expect(path).permissions().mode() & 0o777
}

#[test]
fn identities_are_made_enrolled_changed_and_deleted() {
    let network = Network::start();
    let (jwt, json) = (network.path("kube.id.jwt"), network.path("kube.id.json"));
    let created = network.ok(&["edge", "create", "identity", "device", "kube.id", "-o", &jwt, "-a", "a,b"]);
    let lines: Vec<&str> = created.lines().collect();
    assert!(lines[0].starts_with("New identity kube.id created with id: "), "{created}");
    assert!(lines[1].starts_with("Enrollment expires at 20") && lines[1].ends_with('Z'), "{created}");
    assert_eq!((lines.len(), mode(&jwt)), (2, 0o600));

    let taken = network.fails(&["create", "identity", "other", "-o", &jwt]);
    assert!(taken.contains("exists already"), "{taken}");
    assert_eq!(network.json(&["list", "identities", r#"name="other""#, "-j"])["data"], serde_json::json!([]));

    let enrolled = network.hesper(&["edge", "enroll", &jwt]);
    assert!(enrolled.status.success() && enrolled.stdout.is_empty(), "{enrolled:?}");
    let told = String::from_utf8_lossy(&enrolled.stderr).into_owned();
    assert!(
        told.contains(&format!("INFO    enrolled successfully. identity file written to: {json}")),
        "{told}"
    );
    assert_eq!(mode(&json), 0o600);
    assert!(!Path::new(&jwt).exists(), "a used token is removed");
    assert!(!Path::new(&format!("{json}.key.pending")).exists());

    assert!(network.fails(&["create", "identity", "kube.id"]).contains("409 Conflict"));
    assert!(
        network
            .fails(&["update", "identity", "nobody", "-a", "x"])
            .contains("no identities found with id or name nobody")
    );
    assert_eq!(network.ok(&["update", "identity", "kube.id", "-a", "", "-n", "renamed"]), "");
    let shown = network.json(&["list", "identities", r#"name="renamed""#, "-j"]);
    assert_eq!(shown["data"][0]["roleAttributes"], serde_json::json!([]));
    let id = shown["data"][0]["id"].as_str().expect("an id");
    assert_eq!(
        network.ok(&["delete", "identity", "renamed"]),
        format!("delete of identity with id {id}: OK\n")
    );
    assert!(
        network
            .fails(&["delete", "identity", "renamed"])
            .contains("Found 0 identities with id or name matching renamed")
    );
    network.ok(&["delete", "identity", "renamed", "--ignore-missing"]);
}

#[test]
fn services_and_policies_tell_what_is_missing_until_nothing_is() {
    let network = Network::start();
    for name in ["server", "client"] {
        network.ok(&["create", "identity", name, "-a", "all"]);
    }
    let intercept = r#"{"protocols":["tcp"],"addresses":["web.hesper"],"portRanges":[{"low":80,"high":80}]}"#;
    let made = network.ok(&["create", "config", "web.intercept", "intercept.v1", intercept]);
    assert!(made.starts_with("New config web.intercept created with id: "), "{made}");
    let wrong = network.fails(&["create", "config", "bad", "intercept.v1", r#"{"protocols":["tcp"]}"#]);
    assert!(wrong.contains("400 Bad Request, INVALID_FIELD") && wrong.contains("addresses"), "{wrong}");

    let hint = |words: &[&str]| {
        let output = network.hesper(words);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let first = hint(&["create", "service", "web", "-c", "web.intercept", "-a", "w"]);
    assert!(
        first.starts_with("hint: ") && first.contains("Bind policy") && first.contains("Dial policy"),
        "{first}"
    );
    let second =
        hint(&["create", "sp", "web.bind", "Bind", "--service-roles", "@web", "--identity-roles", "@server"]);
    assert!(second.contains("Dial policy") && !second.contains("Bind policy"), "{second}");
    assert_eq!(
        hint(&[
            "create",
            "service-policy",
            "web.dial",
            "Dial",
            "--service-roles",
            "#w",
            "--identity-roles",
            "@client"
        ]),
        ""
    );

    let policies = network.ok(&["ls", "sps", "sort by name", "--csv"]);
    assert!(policies.contains(",web.bind,Bind,AnyOf,@web,@server,"), "{policies}");
    assert!(network.ok(&["list", "service", "identities", "web"]).contains("results: 1-2 of 2"));
    let advice = network.ok(&["policy-advisor", "identities", "client", "web", "-q"]);
    assert_eq!(advice, "OKAY : client (1) -> web (1) Common Routers: (1/1) Dial: Y Bind: N \n\n");
    assert!(network.ok(&["policy-advisor", "services"]).contains("OKAY : server (1) -> web (1)"));

    let in_use = network.fails(&["delete", "config", "web.intercept"]);
    assert!(in_use.contains("409 Conflict") && in_use.contains("web"), "{in_use}");
    for (words, named) in [
        (
            &["create", "sp", "x", "Dial", "--service-roles", "@nobody"][..],
            "no services found with id or name nobody",
        ),
        (&["create", "sp", "x", "Dial", "--service-roles", "web"], "role entries must be prefixed"),
        (&["create", "sp", "x", "Dial", "--service-roles", "#all,#w"], "it should be the only role"),
        (&["create", "service", "x", "-c", "nothing"], "no configs found with id or name nothing"),
        (&["list", "services", "name="], "INVALID_FILTER"),
        (&["list", "services", "--role-filters", "w"], "role entries must be prefixed"),
        (&["create", "enrollment", "ott", "nobody"], "no identities found"),
    ] {
        let message = network.fails(words);
        assert!(message.contains(named), "{words:?}: {message}");
    }
    assert!(network.ok(&["list", "sps", r#"name="x""#]).contains("results: none"), "nothing half-created");
    let deleted =
        network.ok(&["delete", "service-policy", "where", r#"name contains "web""#, "limit", "none"]);
    assert!(
        deleted.starts_with("filter returned results: 1-2 of 2\n") && deleted.matches(": OK").count() == 2,
        "{deleted}"
    );
}

#[test]
fn quickstart_is_ready_once_and_comes_back_on_the_same_home() {
    let mut network = Network::start();
    let controller = network.address("controller").to_owned();
    let router = network.address("router").to_owned();
    assert_eq!(network.ready, format!("ready controller={controller} router={router}"));
    let routers = network.ok(&["list", "ers", "--csv"]);
    assert!(routers.contains(",router-quickstart,true,true,0,public"), "{routers}");
    assert!(network.ok(&["list", "erps", "--csv"]).contains(",all-endpoints-public-routers,#public,#all"));
    assert!(network.ok(&["list", "serps", "--csv"]).contains(",all-routers-all-services,#all,#all"));
    network.ok(&["create", "service", "kept"]);

    let (code, log) = network.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    let port = |address: &str| address.rsplit_once(':').expect("host:port").1.to_owned();
    let (home, ctrl, edge) = (network.path("home"), port(&controller), port(&router));
    network.run_quickstart(&["--home", &home, "--ctrl-port", &ctrl, "--router-port", &edge]);
    assert_eq!(network.address("controller"), controller);
    network.login();
    assert!(network.ok(&["list", "services"]).contains("kept"));
}

#[test]
fn without_a_home_nothing_stays_and_the_password_is_made_up() {
    let temporary = tempfile::tempdir().expect("a directory");
    let mut network = Network {
        quickstart: None,
        ready: String::new(),
        directory: tempfile::tempdir().expect("a directory"),
    };
    let mut child = network
        .command()
        .args(["edge", "quickstart", "--ctrl-port", "0", "--router-port", "0"])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hesper runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    network.ready = line.trim_end().to_owned();
    network.quickstart = Some(child);
    assert_eq!(std::fs::read_dir(temporary.path()).expect("readable").count(), 1);
    let (code, banner) = network.stop();
    assert_eq!(code, Some(0), "{banner}");
    assert_eq!(banner.matches("password (shown only now): ").count(), 1, "{banner}");
    assert_eq!(
        std::fs::read_dir(temporary.path()).expect("readable").count(),
        0,
        "the temporary directory is removed"
    );
}

#[test]
fn logins_by_password_by_certificate_and_several_at_once() {
    let network = Network::start();
    let controller = network.address("controller").to_owned();
    let with = |words: &[&str], password: &str| {
        network.command().args(words).env("HESPER_PASSWORD", password).output().expect("hesper runs")
    };
    let wrong = with(&["login", &controller, "-u", "admin", "-y", "-i", "other"], "wrong");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("401 Unauthorized"), "{wrong:?}");
    let fresh = network.path("fresh");
    let untrusted = network
        .command()
        .args(["login", &controller, "-u", "admin"])
        .env("HESPER_CONFIG_DIR", &fresh)
        .env("HESPER_PASSWORD", PASSWORD)
        .output()
        .expect("hesper runs");
    assert_eq!(untrusted.status.code(), Some(1), "nobody said yes");
    assert!(String::from_utf8_lossy(&untrusted.stderr).contains("is not trusted"), "{untrusted:?}");
    assert!(!Path::new(&fresh).exists());

    let (jwt, file) = (network.path("root.jwt"), network.path("root.json"));
    network.ok(&["create", "identity", "root", "-A", "-o", &jwt]);
    network.ok(&["enroll", &jwt, "-o", &file]);
    let saved = network.ok(&["login", &controller, "-f", &file, "-i", "root"]);
    assert!(saved.contains("Saving identity 'root' to "), "{saved}");
    assert!(network.ok(&["list", "identities", "-i", "root"]).contains("root"));
    let again = with(&["login", &controller, "-u", "admin", "--read-only"], PASSWORD);
    assert!(again.status.success(), "the authority is known already: {again:?}");
    assert!(network.fails(&["create", "service", "x"]).contains("read-only"));
    assert_eq!(network.ok(&["logout", "-i", "root"]), "Logged out of identity 'root'\n");
    assert!(network.fails(&["list", "services", "-i", "root"]).contains("has logged out"));
    assert_eq!(mode(&network.path("config/hesper-cli.json")), 0o600);
}

#[test]
fn the_demo_is_true() {
    let temporary = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_hesper"))
        .arg("demo")
        .env_remove("HESPER_LOG")
        .env("TMPDIR", temporary.path())
        .output()
        .expect("hesper runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("\nall 10 steps are true"), "{told}");
    assert_eq!(told.matches("    ok: ").count(), 10, "{told}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(temporary.path()).expect("readable").count(), 0, "nothing stays");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let network = Network::start();
    for n in 0..3 {
        network.ok(&["create", "service", &format!("s{n}")]);
    }
    let mut child = network
        .command()
        .args(["list", "services", "-j"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hesper runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_service_is_reached_through_two_tunnelers() {
    let network = Network::start();
    let target = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = target.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in target.incoming() {
            let mut stream = stream.expect("a stream");
            std::io::Write::write_all(&mut stream, b"hello from the dark\n").expect("written");
        }
    });
    let jwt = |name: &str| {
        let path = network.path(&format!("{name}.jwt"));
        network.ok(&["create", "identity", name, "-o", &path]);
        path
    };
    let (host_jwt, client_jwt) = (jwt("host"), jwt("client"));
    let config = format!(r#"{{"protocol":"tcp","address":"127.0.0.1","port":{port}}}"#);
    network.ok(&["create", "config", "dark.host", "host.v1", &config]);
    network.ok(&["create", "service", "dark", "-c", "dark.host"]);
    network.ok(&[
        "create",
        "sp",
        "dark.bind",
        "Bind",
        "--service-roles",
        "@dark",
        "--identity-roles",
        "@host",
    ]);
    network.ok(&[
        "create",
        "sp",
        "dark.dial",
        "Dial",
        "--service-roles",
        "@dark",
        "--identity-roles",
        "@client",
    ]);

    let spawn = |words: &[&str]| {
        let mut child = network
            .command()
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("hesper runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        (child, line)
    };
    let (mut host, ready) = spawn(&["tunnel", "host", "-i", &network.path("host.json"), "--jwt", &host_jwt]);
    assert_eq!(ready, "ready identity=host\n");
    let (mut proxy, ready) =
        spawn(&["tunnel", "proxy", "-i", &network.path("client.json"), "--jwt", &client_jwt, "dark:0"]);
    let address =
        ready.trim_end().strip_prefix("ready identity=client dark=").expect("an address").to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");

    let until = Instant::now() + PATIENCE;
    loop {
        let mut got = String::new();
        let read = std::net::TcpStream::connect(&address)
            .and_then(|mut s| std::io::Read::read_to_string(&mut s, &mut got));
        if read.is_ok() && got == "hello from the dark\n" {
            break;
        }
        assert!(Instant::now() < until, "the service was not reached");
        std::thread::sleep(Duration::from_millis(100));
    }
    let terminators = network.ok(&["list", "service", "terminators", "dark", "--csv"]);
    assert_eq!(terminators.lines().count(), 2, "{terminators}");
    for child in [&mut host, &mut proxy] {
        let _ = child.kill();
        let _ = child.wait();
    }
}
