//! Every command, typed wrongly: exit code 2, one message, nothing on standard output, nothing done.

use std::{
    path::Path,
    process::{Command, Output},
};

fn hesper(config: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hesper"))
        .args(words)
        .env("HESPER_CONFIG_DIR", config)
        .env_remove("HESPER_PASSWORD")
        .stdin(std::process::Stdio::null())
        .output()
        .expect("hesper runs")
}

fn refused(config: &Path, words: &[&str], code: i32) -> String {
    let output = hesper(config, words);
    let stderr = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{words:?} wrote to standard output");
    assert_eq!(stderr.matches("error:").count(), 1, "{words:?}: {stderr}");
    assert!(stderr.starts_with("error: "), "{words:?}: {stderr}");
    stderr
}

/// What the table below types behind `edge` as well.
const EDGE_VERBS: [&str; 7] = ["create", "update", "delete", "list", "enroll", "login", "quickstart"];

/// The subcommands that the help of `words` lists.
fn subcommands(config: &Path, words: &[String]) -> Vec<String> {
    let mut help: Vec<&str> = words.iter().map(String::as_str).collect();
    help.push("--help");
    let output = hesper(config, &help);
    assert!(output.status.success(), "{help:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut commands = Vec::new();
    for line in text.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty()) {
        if let Some(name) =
            line.strip_prefix("  ").filter(|l| !l.starts_with(' ')).and_then(|l| l.split_whitespace().next())
            && name != "help"
        {
            commands.push(name.to_owned());
        }
    }
    commands
}

fn walk(config: &Path, words: Vec<String>, visit: &mut dyn FnMut(&[String], bool)) {
    let below = subcommands(config, &words);
    visit(&words, below.is_empty());
    for name in below {
        let mut deeper = words.clone();
        deeper.push(name);
        walk(config, deeper, visit);
    }
}

#[test]
fn every_command_refuses_what_it_does_not_know() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut leaves, mut groups) = (0, 0);
    walk(dir.path(), Vec::new(), &mut |words, leaf| {
        let typed = |more: &[&'static str]| -> Vec<String> {
            words.iter().cloned().chain(more.iter().map(|m| (*m).to_owned())).collect()
        };
        let check = |more: &[&'static str]| {
            let typed = typed(more);
            let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
            refused(dir.path(), &typed, 2)
        };
        check(&["--no-such-flag"]);
        if leaf {
            leaves += 1;
            check(&["--no-such-flag", "a", "b", "c", "d", "e", "f", "g"]);
        } else {
            groups += 1;
            check(&["no-such-command"]);
            let message = check(&[]);
            // `collect` without a word behind it is a command itself.
            let missing = if words == ["collect"] { "--config" } else { "subcommand" };
            assert!(message.contains(missing), "{words:?}: {message}");
        }
    });
    assert!(leaves > 100 && groups > 10, "{leaves} commands and {groups} groups were walked");
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "something was stored");
}

#[test]
fn wrong_values_are_named() {
    let dir = tempfile::tempdir().expect("a directory");
    for (words, named) in [
        (&["create", "identity"][..], "<NAME>"),
        (&["create", "identity", "robot", "x"], "'robot' is no type of identity"),
        (&["create", "identity", "a", "b", "c"], "'c'"),
        (&["create", "identity", "x", "-p", "best"], "best"),
        (&["create", "identity", "x", "-c", "70000"], "70000"),
        (&["create", "identity", "x", "--tags", "novalue"], "novalue"),
        (&["create", "sp", "x", "bind"], "Invalid policy type 'bind'. Valid values: [Bind, Dial]"),
        (&["create", "sp", "x", "Bind", "--semantic", "OneOf"], "OneOf"),
        (&["create", "service", "x", "--terminator-strategy", "best"], "best"),
        (&["create", "config", "x", "host.v1"], "no configuration"),
        (&["create", "config", "x", "host.v1", "{"], "Attempted to parse: {"),
        (&["create", "config", "x", "host.v1", "[1]"], "a JSON object is needed"),
        (&["create", "config", "x", "host.v1", "{}", "-f", "y"], "not both"),
        (&["create", "config-type", "x", "nonsense"], "Attempted to parse: nonsense"),
        (&["create", "terminator", "s", "r", "tcp:a:1"], "--host"),
        (&["create", "enrollment", "ott", "x", "-d", "0"], "0"),
        (&["update", "identity", "x"], "no change specified"),
        (&["update", "identity", "x", "--admin=perhaps"], "perhaps"),
        (&["delete", "service"], "<ID|NAME>"),
        (&["list", "services", "true", "extra"], "'extra'"),
        (&["list", "service", "nothing", "x"], "'nothing'"),
        (&["list", "services", "--csv", "-j"], "cannot be used with"),
        (&["list", "services", "--timeout", "0"], "0"),
        (&["enroll"], "<JWT"),
        (&["enroll", "a.jwt", "-j", "b.jwt"], "cannot be used with"),
        (&["enroll", "a.jwt", "-a", "RSA"], "RSA"),
        (&["login", "http://ctrl"], "only https"),
        (&["login", "a b"], "no controller address"),
        (&["login", "-c", "cert.pem"], "--client-key"),
        (&["login", "-p", "x", "--password-file", "y"], "cannot be used with"),
        (&["completion", "tcsh"], "tcsh"),
        (&["controller", "init"], "--home"),
        (&["controller", "run", "--home", "x", "--listen", "nowhere"], "nowhere"),
        (&["router", "run", "--home", "x"], "--advertise"),
        (&["router", "run", "--home", "x", "--advertise", "host"], "HOST:PORT"),
        (&["router", "enroll", "x.jwt"], "--home"),
        (&["quickstart", "--ctrl-port", "70000"], "70000"),
        (&["quickstart", "--configure-and-exit"], "--home"),
        (&["tunnel", "host"], "--identity"),
        (&["tunnel", "proxy", "-i", "x.json"], "SERVICE:PORT"),
        (&["tunnel", "proxy", "-i", "x.json", "web"], "SERVICE:PORT"),
        (&["tunnel", "proxy", "-i", "x.json", "web:53:sctp"], "is not SERVICE:PORT"),
        (&["tunnel", "run", "-i", "x.json", "--proxy", "9180"], "9180"),
        (&["demo", "extra"], "'extra'"),
    ] {
        for prefix in [&[][..], &["edge"]] {
            if prefix == ["edge"] && !EDGE_VERBS.contains(&words[0]) {
                continue;
            }
            let words: Vec<&str> = prefix.iter().chain(words).copied().collect();
            let message = refused(dir.path(), &words, 2);
            assert!(message.contains(named), "{words:?}: {message}");
        }
    }
}

#[test]
fn what_fails_is_told_once_and_exits_with_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("missing");
    let missing = missing.to_str().expect("text");
    for (words, named) in [
        (&["list", "services"][..], "run 'hesper edge login' first"),
        (&["create", "identity", "x"], "no login 'default'"),
        (&["delete", "service", "x", "-i", "blue"], "no login 'blue'"),
        (&["logout"], "no login"),
        (&["enroll", missing], "missing"),
        (&["create", "config", "x", "host.v1", "-f", missing], "cannot read"),
        (
            &["login", "127.0.0.1:1", "-u", "x", "-y", "--timeout", "2"],
            "cannot talk to the controller at https://127.0.0.1:1/",
        ),
        (&["login", "--ca", missing], "cannot read"),
        (&["login", "-f", missing], "missing"),
        (&["controller", "run", "--home", missing], "hesper controller init --home"),
        (
            &["controller", "init", "--home", missing, "--ctrl-address", "no name"],
            "neither a DNS name nor an IP address",
        ),
        (&["controller", "init", "--home", missing, "--trust-domain", "A B"], "trust domain"),
        (&["router", "enroll", missing, "--home", missing], "missing"),
        (&["router", "run", "--home", missing, "--advertise", "127.0.0.1:9"], "hesper router enroll"),
        (&["tunnel", "host", "-i", missing], "hesper edge enroll"),
        (&["tunnel", "run", "-i", missing, "--jwt", missing], "missing"),
        (&["quickstart", "--home", missing, "--trust-domain", "A B"], "trust domain"),
    ] {
        let message = refused(dir.path(), words, 1);
        assert!(message.contains(named), "{words:?}: {message}");
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("readable").count(),
            0,
            "{words:?} left something behind"
        );
    }
}

#[test]
fn help_version_and_completions_work_without_a_controller() {
    let dir = tempfile::tempdir().expect("a directory");
    for words in [
        &["--help"][..],
        &["--version"],
        &["version"],
        &["edge", "version"],
        &["completion", "bash"],
        &["completion", "zsh"],
        &["completion", "fish"],
    ] {
        let output = hesper(dir.path(), words);
        assert!(
            output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(),
            "{words:?}"
        );
    }
}
