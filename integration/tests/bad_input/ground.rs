//! What the commands are tried on, and what must hold after each.

use crate::cases::Case;
use hesper_integration::{Output, Stack, binaries, run};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a Rust value, panic or source line looks like.
const INSIDES: [&str; 12] = [
    "Err(",
    "Ok(",
    "Some(",
    "Os {",
    "Error {",
    "Error(",
    "panicked",
    "stack backtrace",
    "RUST_BACKTRACE",
    ".rs:",
    "\u{1b}",
    "::",
];
/// What a token, a key or the administrator's password looks like.
const SECRETS: [&str; 3] = ["eyJ", "PRIVATE KEY", Stack::PASSWORD];

/// A network with something in it, or none; and the files around it.
pub(crate) struct Ground {
    stack: Option<Stack>,
    directory: tempfile::TempDir,
    before: State,
}

/// Everything a refused command must leave alone.
#[derive(Debug, PartialEq, Default)]
struct State {
    counts: serde_json::Value,
    files: BTreeMap<String, (u64, Duration)>,
}

impl Ground {
    /// No controller anywhere: only what is refused while it is read can be tried.
    pub(crate) fn without_network() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { stack: None, directory, before: State::default() }
    }

    /// A network in which the names of `cases` are `taken`, and files to stumble over.
    pub(crate) fn with_network() -> Self {
        let stack = Stack::start();
        let made = format!(r#"{{"protocol":"tcp","address":"127.0.0.1","port":{}}}"#, 80);
        for words in [
            &["create", "identity", "taken", "-a", "clients"][..],
            &["create", "config-type", "taken", r#"{"type":"object","required":["a"]}"#],
            &["create", "config", "taken", "host.v1", &made],
            &["create", "service", "taken", "-c", "taken"],
            &["create", "service", "second"],
            &["create", "sp", "taken", "Dial", "--service-roles", "@taken", "--identity-roles", "#clients"],
            &["create", "erp", "taken", "--edge-router-roles", "#all", "--identity-roles", "#clients"],
            &["create", "serp", "taken", "--edge-router-roles", "#all", "--service-roles", "#all"],
            &["create", "edge-router", "taken", "-o", "router.jwt"],
            &["create", "terminator", "taken", "taken", "tcp:a:1", "--host", "taken"],
            &["create", "enrollment", "ott", "taken", "-o", "identity.jwt"],
            &["controller", "init", "--home", "initialised", "-u", "root", "--password-file", "password.txt"],
        ] {
            stack.file("password.txt", "something long enough\n");
            stack.cli(words).ok();
        }
        for (name, text) in [
            ("empty", ""),
            ("text", "no JSON, no PEM, no token\n"),
            (
                "wrong-key.json",
                r#"{"ztAPI":"https://127.0.0.1:1","id":{"cert":"pem:x","key":"pem:y","ca":"pem:z"}}"#,
            ),
            ("object.json", "{}"),
            (
                "collect.yaml",
                "{receivers: {otlp: {protocols: {grpc: {endpoint: 'hesper://otlp'}}}}, exporters: {debug: }, \
                 service: {telemetry: {metrics: {level: none}}, pipelines: {traces: {receivers: [otlp], \
                 exporters: [debug]}}}}",
            ),
        ] {
            let path = stack.file(name, text);
            private(&path);
        }
        fs::create_dir(stack.path("directory")).expect("a directory");
        let mut ground = Self { stack: Some(stack), ..Self::without_network() };
        ground.before = ground.state();
        ground
    }

    /// The network.
    pub(crate) fn stack(&self) -> &Stack {
        self.stack.as_ref().expect("a ground with a network")
    }

    /// The help of a command.
    pub(crate) fn help(&self, words: &[String]) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = self.run(&words, &[]).ok();
        assert_eq!(help.stderr, "", "{}", help.command);
        help.stdout
    }

    /// Types a case behind a prefix and expects its refusal, and everything as it was.
    #[track_caller]
    pub(crate) fn check(&self, prefix: &[&str], case: &Case) {
        let words: Vec<String> = case.words.iter().map(|word| self.filled_in(word)).collect();
        let words: Vec<&str> = prefix.iter().copied().chain(words.iter().map(String::as_str)).collect();
        let says: Vec<String> = case.says.iter().map(|part| self.filled_in(part)).collect();
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        self.refused(&words, case.code, &says);
        self.is_as_it_was(&words.join(" "));
    }

    /// Types a command and expects one message with these parts.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str], code: i32, says: &[&str]) {
        let told = self.refused_with(words, &[], code);
        for part in says {
            assert!(told.contains(part), "{words:?} does not say {part:?}: {told}");
        }
    }

    /// Types a command with these environment variables and gives its one message.
    #[track_caller]
    pub(crate) fn refused_with(&self, words: &[&str], environment: &[(&str, &str)], code: i32) -> String {
        let output = self.run(words, environment).fails_with(code);
        let Output { command, stdout, stderr, .. } = output;
        let messages = stderr.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(messages, 1, "{command} tells not one message:\n{stderr}");
        // Clap explains in several lines; whatever else there is beside a refusal is a log line with its time.
        let extra = |line: &&str| !line.starts_with("error") && !line.starts_with("20");
        if code == 1 {
            assert_eq!(stderr.lines().find(extra), None, "{command} tells more than its message:\n{stderr}");
        }
        assert!(!stderr.contains(" ERROR "), "{command} logs an error for bad input:\n{stderr}");
        // What is deleted and whom to trust is told on the way.
        let tells = words.contains(&"delete") || words.contains(&"login");
        assert!(tells || stdout.is_empty(), "{command} wrote to standard output: {stdout}");
        for part in INSIDES.iter().chain(&SECRETS) {
            let logged = *part == "::";
            let told = stderr.lines().filter(|line| !(logged && line.starts_with("20")));
            for line in told {
                assert!(!line.contains(part), "{command} shows {part:?}:\n{stderr}");
            }
        }
        stderr
    }

    /// Fails when something was created, deleted, or written.
    #[track_caller]
    pub(crate) fn is_as_it_was(&self, after: &str) {
        if self.stack.is_some() {
            let now = self.state();
            assert_eq!(now.counts, self.before.counts, "after {after}");
            let ours = |state: &State| {
                state
                    .files
                    .clone()
                    .into_iter()
                    .filter(|(path, _)| !is_of_these_tests(path))
                    .collect::<Vec<_>>()
            };
            assert_eq!(ours(&now), ours(&self.before), "after {after}");
        }
    }

    /// A directory of logins whose only session has been ended at the controller.
    pub(crate) fn ended_session(&self) -> String {
        let (stack, directory) = (self.stack(), self.stack().path("ended"));
        let environment = [("HESPER_CONFIG_DIR", directory.as_str()), ("HESPER_PASSWORD", Stack::PASSWORD)];
        let login = ["login", &stack.controller_address(), "-u", "admin", "-y"];
        stack.cli_with(login, &environment, "").ok();
        let file = format!("{directory}/hesper-cli.json");
        let kept = fs::read(&file).expect("the stored login");
        stack.cli_with(["logout"], &environment, "").ok();
        fs::write(&file, kept).expect("written");
        directory
    }

    fn run(&self, words: &[&str], environment: &[(&str, &str)]) -> Output {
        if let Some(stack) = &self.stack {
            return stack.cli_with(words, environment, "");
        }
        let mut command = Command::new(binaries::hesper());
        command
            .args(words)
            .env("HESPER_CONFIG_DIR", self.directory.path())
            .current_dir(self.directory.path());
        command.envs(environment.iter().copied());
        run(command, "", PATIENCE)
    }

    fn filled_in(&self, word: &str) -> String {
        let Some(stack) = &self.stack else { return word.to_owned() };
        let port =
            |address: String| address.rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap_or_default();
        word.replace("$CONTROLLER", &stack.controller_address())
            .replace("$TCP", &port(stack.controller_address()))
            .replace("$UDP", &port(stack.router_address()))
            .replace("$DIR", stack.path("").trim_end_matches('/'))
    }

    fn state(&self) -> State {
        let stack = self.stack();
        let counts = stack.cli(["list", "summary", "-j"]).ok().json()["data"].clone();
        let mut files = BTreeMap::new();
        collect(Path::new(&stack.path("")), "", &mut files);
        State { counts, files }
    }
}

/// Logins that the tests themselves make on the way.
fn is_of_these_tests(path: &str) -> bool {
    ["ended", "no-logins"].iter().any(|name| path.starts_with(name))
}

fn private(path: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
}

/// Every file below, with size and time of its last change. What the controller itself keeps changes all the time.
fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, (u64, Duration)>) {
    for entry in fs::read_dir(directory).expect("readable").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let Ok(meta) = entry.metadata() else { continue };
        if name == "home" {
            continue;
        }
        if meta.is_dir() {
            files.insert(format!("{name}/"), Default::default());
            collect(&entry.path(), &format!("{name}/"), files);
        } else {
            let changed = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            files.insert(name, (meta.len(), changed.unwrap_or_default()));
        }
    }
}
