//! Each command, typed wrongly: the exit code (2 mistyped, 1 refused), one clear message, nothing half-created.
//!
//! The commands are found by walking `--help`, so that a new one without a case in [`cases`] fails the test.

mod cases;
mod ground;
mod help;

use cases::{Case, long_lived, management};
use ground::Ground;
use std::collections::BTreeSet;

fn check_all(ground: &Ground, commands: &BTreeSet<String>, cases: &[Case]) {
    for case in cases {
        ground.check(&[], case);
        // The management verbs are the same behind `edge`.
        let behind_edge = |words: &str| commands.contains(&format!("edge {words}"));
        if commands.iter().any(|c| case.starts_with(c) && behind_edge(c)) {
            ground.check(&["edge"], case);
        }
    }
}

#[test]
fn every_command_has_a_case() {
    let ground = Ground::without_network();
    let commands = help::leaves(&ground);
    assert!(commands.len() > 100, "{} commands were found: {commands:?}", commands.len());
    let all: Vec<Case> = management().into_iter().chain(long_lived()).collect();
    let tried = |command: &str| all.iter().any(|case| case.starts_with(command));
    let without: Vec<_> =
        commands.iter().filter(|c| !tried(c.strip_prefix("edge ").unwrap_or(c.as_str()))).collect();
    assert!(without.is_empty(), "no bad input is tried for {without:?}");
    for command in &commands {
        let words: Vec<&str> = command.split(' ').collect();
        let unknown = [&words[..], &["--no-such-flag"]].concat();
        ground.refused(&unknown, 2, &["--no-such-flag"]);
        let many = [&words[..], &["a", "b", "c", "d", "--timeout", "never"]].concat();
        ground.refused(&many, 2, &[]);
    }
}

#[test]
fn the_management_commands_refuse_and_leave_everything_as_it_was() {
    let ground = Ground::with_network();
    let commands = help::leaves(&ground);
    check_all(&ground, &commands, &management());
}

#[test]
fn the_long_lived_commands_refuse_to_start() {
    let ground = Ground::with_network();
    let commands = help::leaves(&ground);
    check_all(&ground, &commands, &long_lived());
}

#[test]
fn a_login_that_has_ended_or_is_damaged_says_what_to_do() {
    let ground = Ground::with_network();
    let expired = ground.ended_session();
    for words in [&["list", "services"][..], &["create", "service", "x"], &["delete", "service", "taken"]] {
        let told = ground.refused_with(words, &[("HESPER_CONFIG_DIR", &expired)], 1);
        assert!(
            told.contains("your session is invalid or has expired, please run 'hesper edge login' again")
        );
    }
    let empty = ground.stack().path("no-logins");
    let told = ground.refused_with(&["list", "services"], &[("HESPER_CONFIG_DIR", &empty)], 1);
    assert!(told.contains("run 'hesper edge login' first"), "{told}");
    std::fs::create_dir(&empty).expect("a directory");
    std::fs::write(format!("{empty}/hesper-cli.json"), "{").expect("written");
    let told = ground.refused_with(&["list", "services"], &[("HESPER_CONFIG_DIR", &empty)], 1);
    assert!(told.contains("damaged; remove the file and log in again"), "{told}");
    ground.is_as_it_was("logins that do not work");
}

#[test]
fn a_wrong_password_is_refused_and_soon_throttled() {
    let ground = Ground::with_network();
    let controller = ground.stack().controller_address();
    let login = ["login", &controller, "-u", "admin"];
    for _ in 0..5 {
        let told = ground.refused_with(&login, &[("HESPER_PASSWORD", "a wrong guess")], 1);
        assert!(told.contains("401 Unauthorized: wrong username or password"), "{told}");
        assert!(!told.contains("a wrong guess"), "{told}");
    }
    let told = ground.refused_with(&login, &[("HESPER_PASSWORD", "a wrong guess")], 1);
    assert!(told.contains("429 Too Many Requests"), "{told}");
    // The session that is there is not touched by it.
    ground.is_as_it_was("wrong passwords");
}
