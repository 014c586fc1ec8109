//! Clocks that are wrong by ten minutes, one way or the other: whoever has one says so, with both times, and nothing hangs.

use hesper_integration::{Output, Place, Process, Stack, StackOptions, free_port, wait_until};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const PATIENCE: Duration = Stack::PATIENCE;
/// Ten minutes, fast and slow.
const OFFSETS: [i64; 2] = [600, -600];
/// What everybody says who finds the clock wrong; both times follow.
const ADVICE: &str = "check the clock of this machine (it says ";

/// The library that tells a program another time, of the Debian package `faketime`.
fn library() -> PathBuf {
    let candidates = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = candidates.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found
        .find(|path| path.is_file())
        .expect("faketime is not installed: apt-get install faketime, or run `cargo xtask test`")
}

/// The environment of a program whose clock is wrong by so many seconds. Only the time of day: timers go on as they should.
fn wrong_by(offset: i64) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME", format!("{offset:+}")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

fn start(stack: &Stack, name: &str, offset: i64, arguments: &[&str]) -> Process {
    let mut command = stack.hesper(&Place::host(), arguments);
    command.env("HESPER_LOG", "info,hesper=debug").envs(wrong_by(offset));
    Process::ours(name, command)
}

fn cli(stack: &Stack, offset: i64, arguments: &[&str]) -> Output {
    let wrong = wrong_by(offset);
    let wrong: Vec<_> = wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();
    stack.cli_with(arguments, &wrong, "")
}

/// Both times are told, and they are so far apart.
#[track_caller]
fn assert_told(text: &str, offset: i64) {
    let Some((_, told)) = text.split_once(ADVICE) else { panic!("nothing about the clock: {text}") };
    let (here, rest) = told.split_once("; the controller says ").expect("the controller's time");
    let (there, _) = rest.split_once(')').expect("its end");
    let [here, there] = [here, there].map(seconds_of_day);
    let difference = (here - there).rem_euclid(86_400);
    let expected = offset.rem_euclid(86_400);
    let apart = (difference - expected).abs();
    assert!(apart.min(86_400 - apart) < 60, "{here} and {there} in {text}");
}

/// Of an RFC 3339 time.
#[track_caller]
fn seconds_of_day(time: &str) -> i64 {
    let clock = time.get(11..19).unwrap_or_else(|| panic!("no time: {time}"));
    clock.split(':').map(|part| part.parse::<i64>().expect("a number")).fold(0, |sum, part| sum * 60 + part)
}

#[track_caller]
fn assert_warns(process: &Process, offset: i64) {
    wait_until("it says that its clock is wrong", PATIENCE, || process.said(ADVICE));
    let lines = process.lines();
    assert_told(lines.iter().find(|line| line.contains(ADVICE)).expect("the line"), offset);
}

#[test]
fn nodes_routers_and_commands_with_a_wrong_clock_say_so() {
    let stack = StackOptions::default().start();
    stack.cli(["create", "service", "echo"]).ok();
    stack.allow("Bind", "echo", "#all");
    for (n, offset) in OFFSETS.into_iter().enumerate() {
        // A command works, or says why it does not; it does not hang (that is a panic of `cli`).
        let listed = cli(&stack, offset, &["list", "services", "-j"]);
        if listed.code != 0 {
            assert_told(&listed.stderr, offset);
        }
        println!("{offset:+} s: list services: {}: {}", listed.code, listed.stderr.trim());

        // Enrolling: a slow or fast clock within the token's life does not matter, or is named.
        let (token, file) = (stack.path(&format!("late{n}.jwt")), stack.path(&format!("late{n}.json")));
        stack.cli(["create", "identity", &format!("late{n}"), "-o", &token]).ok();
        let enrolled = cli(&stack, offset, &["enroll", &token, "-o", &file]);
        println!("{offset:+} s: enroll: {}: {}", enrolled.code, enrolled.stderr.trim());
        if enrolled.code == 0 {
            assert!(Path::new(&file).is_file());
        } else {
            assert_told(&enrolled.stderr, offset);
        }

        // A node cannot knock at the router with another time than the router's; it says why, and goes on trying.
        let identity = stack.enroll(&format!("node{n}"), &[]);
        let mut node = start(&stack, "node", offset, &["tunnel", "host", "-i", &identity]);
        assert_warns(&node, offset);
        assert!(node.ended().is_none());
        let asked = SystemTime::now();
        node.terminate(PATIENCE);
        println!("{offset:+} s: the node ended in {:.1?}", asked.elapsed().unwrap_or_default());

        // A router.
        let (name, token) = (format!("wrong{n}"), stack.path(&format!("wrong{n}.jwt")));
        let home = stack.path(&name);
        let at = format!("127.0.0.1:{}", free_port());
        stack.cli(["create", "edge-router", &name, "-o", &token]).ok();
        stack.cli(["router", "enroll", &token, "--home", &home]).ok();
        let run = ["router", "run", "--home", &home, "--listen", &at, "--advertise", &at];
        let mut router = start(&stack, &name, offset, &run);
        assert_warns(&router, offset);
        assert!(router.ended().is_none());
        router.terminate(PATIENCE);
        stack.cli(["delete", "edge-router", &name]).ok();
    }
    // Whoever has the right time has noticed nothing.
    let identity = stack.enroll("right", &[]);
    let _node = stack.tunnel("right", &["host", "-i", &identity]);
}
