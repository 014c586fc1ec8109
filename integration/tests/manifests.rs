//! Policy as code against a real controller: what is created, changed, pruned, refused, and left alone.

#[path = "../../crates/hesper-manifest/tests/manifest/bad_files.rs"]
mod bad_files;

use hesper_integration::{Output, Place, Stack};
use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
};

const SITE: &str = r##"
set: site
identities:
  - {name: prometheus, roleAttributes: [scrapers]}
  - {name: "web/1", roleAttributes: [hosts]}
edge-routers:
  - {name: second, cost: 5}
config-types:
  - {name: alert.v1, schema: {type: object, properties: {level: {type: integer}}}}
configs:
  - {name: web.host, configType: host.v1, data: {protocol: tcp, address: 127.0.0.1, port: 9100}}
services:
  - {name: metrics, configs: [web.host], roleAttributes: [scrape]}
service-policies:
  - {name: dial, type: Dial, identityRoles: ["#scrapers"], serviceRoles: ["@metrics"]}
  - {name: bind, type: Bind, identityRoles: ["@web/1"], serviceRoles: ["#scrape"]}
tests:
  - {identity: prometheus, can-dial-only: metrics, cannot-bind: "#all", via: router-quickstart}
"##;

fn policy(stack: &Stack, words: &[&str]) -> Output {
    stack.cli([&["policy"], words].concat())
}

fn export(stack: &Stack) -> String {
    policy(stack, &["export"]).ok().stdout
}

#[test]
fn files_create_change_and_prune_and_a_second_apply_has_nothing_to_do() {
    let stack = Stack::start();
    stack.cli(["create", "identity", "by-hand"]).ok();
    let file = stack.file("site.yaml", SITE);
    let diff = policy(&stack, &["diff", &file]).ok().stdout;
    assert!(diff.starts_with("+ config-type 'alert.v1' (set site)\n"), "{diff}");
    assert!(diff.ends_with("8 to create, 0 to change, 0 to delete; 1 test passed\n"), "{diff}");
    policy(&stack, &["diff", &file, "--exit-code"]).fails_with(1);

    let tokens = stack.path("tokens");
    let applied = policy(&stack, &["apply", &file, "--yes", "--jwt-dir", &tokens]).ok();
    assert_eq!(applied.stdout.lines().filter(|l| l.starts_with("created ")).count(), 8, "{}", applied.stdout);
    assert!(applied.stdout.ends_with("done: 8 changes\n") && applied.stderr.is_empty(), "{}", applied.stderr);
    assert_eq!(fs::metadata(&tokens).expect("made").permissions().mode() & 0o777, 0o700);
    for name in ["prometheus", "web%2F1", "second"] {
        let token = format!("{tokens}/{name}.jwt");
        assert_eq!(fs::metadata(&token).expect(name).permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&token).expect(name);
        assert!(text.starts_with("eyJ") && !applied.stdout.contains(&text), "{name}");
    }
    stack.cli(["enroll", &format!("{tokens}/prometheus.jwt"), "-o", &stack.path("p.json")]).ok();

    for words in [&["apply", &file, "--yes"][..], &["diff", &file, "--exit-code", "--prune"]] {
        let again = policy(&stack, words).ok().stdout;
        assert_eq!(again, "nothing to do: 8 entities are as declared; 1 test passed\n");
    }

    let changed = SITE
        .replace("cost: 5", "cost: 7")
        .replace("roleAttributes: [scrape]}", "roleAttributes: [scrape, web]}")
        .replace(
            "  - {name: bind, type: Bind, identityRoles: [\"@web/1\"], serviceRoles: [\"#scrape\"]}\n",
            "",
        )
        .replace("  - {name: \"web/1\", roleAttributes: [hosts]}\n", "");
    stack.file("site.yaml", &changed);
    let kept = policy(&stack, &["diff", &file]).ok();
    assert!(
        kept.stderr.contains("kept without --prune: service-policy 'bind', identity 'web/1'"),
        "{}",
        kept.stderr
    );
    let dry = policy(&stack, &["apply", &file, "--dry-run", "-j"]).ok().json();
    assert_eq!(dry["keptWithoutPrune"][1], "identity 'web/1'");
    let told = policy(&stack, &["diff", &file, "--prune"]).ok().stdout;
    assert_eq!(
        told,
        "~ edge-router 'second'\n    cost: 5 -> 7\n~ service 'metrics'\n    roleAttributes: [\"scrape\"] -> [\"scrape\",\"web\"]\n\
         - service-policy 'bind'\n- identity 'web/1'\n0 to create, 2 to change, 2 to delete; 1 test passed\n"
    );
    let json = policy(&stack, &["diff", &file, "--prune", "-j"]).ok().json();
    let actions: Vec<_> = json["changes"].as_array().expect("changes").iter().map(|c| &c["action"]).collect();
    assert_eq!(actions, ["update", "update", "delete", "delete"]);
    assert_eq!(json["changes"][0]["fields"]["cost"]["to"], 7);
    policy(&stack, &["apply", &file, "--prune", "--yes"]).ok();
    let left = export(&stack);
    assert!(
        !left.contains("web/1") && left.contains("name: by-hand") && left.contains("name: router-quickstart")
    );
}

#[test]
fn an_export_checks_offline_and_applies_to_nothing_here_and_to_everything_elsewhere() {
    let stack = Stack::start();
    let file = stack.file("site.yaml", SITE);
    policy(&stack, &["apply", &file, "--yes"]).ok();
    stack.cli(["create", "service", "by hand #1", "-t", "owner=me,since=1.5"]).ok();
    let exported = export(&stack);
    let now = stack.file("now.yaml", &exported);
    assert!(policy(&stack, &["check", &now]).ok().stdout.starts_with("ok: "));
    let same = policy(&stack, &["diff", &now, "--exit-code", "--prune"]).ok().stdout;
    assert!(same.starts_with("nothing to do: "), "{same}");
    assert_eq!(policy(&stack, &["export", "-j"]).ok().json()["services"][0]["name"], "by hand #1");

    let other = Stack::start();
    let there = other.file("now.yaml", &exported);
    other.cli(["policy", "apply", &there, "--yes", "--jwt-dir", "tokens"]).ok();
    assert_eq!(export(&other), exported);
}

/// An apply that asks and waits for the answer.
struct Asking(Child);

impl Asking {
    fn start(stack: &Stack, words: &[&str]) -> Self {
        let mut command = stack.hesper(&Place::host(), [&["policy", "apply"], words].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut asked = Vec::new();
        let stderr = child.stderr.as_mut().expect("piped");
        while !asked.ends_with(b"? [y/N]: ") {
            let mut byte = [0];
            stderr.read_exact(&mut byte).expect("a question");
            asked.push(byte[0]);
        }
        Self(child)
    }

    fn answer(mut self, answer: &str) -> (i32, String, String) {
        self.0.stdin.take().expect("piped").write_all(answer.as_bytes()).expect("answered");
        let output = self.0.wait_with_output().expect("ended");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

#[test]
fn what_somebody_else_changes_meanwhile_is_not_overwritten() {
    let stack = Stack::start();
    // Without tests, that others change something else is no reason to stop.
    let site = SITE.split("tests:").next().expect("a part");
    let file = stack.file("site.yaml", site);
    policy(&stack, &["apply", &file, "--yes"]).ok();
    let changed = site.replace("cost: 5", "cost: 7").replace("[scrape]}", "[scrape, ours]}").replace(
        "  - {name: dial,",
        "  - {name: other, type: Dial, identityRoles: [\"@prometheus\"], serviceRoles: [\"@metrics\"]}\n  - {name: dial,",
    );
    stack.file("site.yaml", &changed);

    let (code, _, stderr) = Asking::start(&stack, &[&file]).answer("n\n");
    assert_eq!((code, stderr.contains("nothing was applied: it was not confirmed")), (1, true), "{stderr}");

    let apply = Asking::start(&stack, &[&file]);
    stack.cli(["update", "service", "metrics", "-a", "theirs"]).ok();
    let (code, stdout, stderr) = apply.answer("y\n");
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert!(stdout.contains("changed edge-router 'second'\nnot done: change service 'metrics'\nnot done: create service-policy 'other'\n"), "{stdout}");
    for part in [
        "error: stopped at service 'metrics' with 1 of 3 changes done",
        "service 'metrics' was changed by somebody else since it was read, and was not overwritten",
        "apply the same files again",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(export(&stack).contains("roleAttributes: [theirs]"));
    // The next one sees their change and goes on.
    let told = policy(&stack, &["apply", &file, "--yes"]).ok().stdout;
    assert_eq!(told, "changed service 'metrics'\ncreated service-policy 'other'\ndone: 2 changes\n");

    // Deleted meanwhile, and made meanwhile.
    stack.file("site.yaml", &changed.replace("ours]", "mine]"));
    let apply = Asking::start(&stack, &[&file]);
    stack.cli(["delete", "sp", "dial", "other"]).ok();
    stack.cli(["delete", "service", "metrics"]).ok();
    let (code, _, stderr) = apply.answer("yes\n");
    assert_eq!(
        (code, stderr.contains("service 'metrics' was deleted by somebody else")),
        (1, true),
        "{stderr}"
    );
    let apply = Asking::start(&stack, &[&file]);
    stack.cli(["create", "service", "metrics"]).ok();
    let (code, _, stderr) = apply.answer("y\n");
    assert_eq!((code, stderr.contains("already a service named 'metrics'")), (1, true), "{stderr}");
}

#[test]
fn tests_that_passed_on_what_was_read_hold_until_somebody_else_changes_the_network() {
    let stack = Stack::start();
    let file = stack.file("site.yaml", SITE);
    policy(&stack, &["apply", &file, "--yes"]).ok();
    stack.file("site.yaml", &SITE.replace("cost: 5", "cost: 7").replace("[scrape]}", "[scrape, ours]}"));

    // It says that prometheus can dial metrics and nothing else; after this it can, and no entity of the file has changed.
    let apply = Asking::start(&stack, &[&file]);
    stack.cli(["create", "service", "secret"]).ok();
    stack
        .cli([
            "create",
            "sp",
            "theirs",
            "Dial",
            "--identity-roles",
            "@prometheus",
            "--service-roles",
            "@secret",
        ])
        .ok();
    let (code, stdout, stderr) = apply.answer("y\n");
    assert_eq!(code, 1, "{stdout}{stderr}");
    assert_eq!(stdout.matches("not done: ").count(), 2, "{stdout}");
    for part in [
        "stopped at edge-router 'second' with 0 of 2 changes done",
        "somebody else has changed the network since it was read, so the tests may not hold any more",
        "apply the same files again",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let refused = policy(&stack, &["apply", &file, "--yes"]).fails_with(1);
    assert!(refused.stderr.contains("can-dial-only"), "the next one tells: {}", refused.stderr);
    stack.cli(["delete", "sp", "theirs"]).ok();
    // One's own changes are no reason to stop.
    let told = policy(&stack, &["apply", &file, "--yes"]).ok().stdout;
    assert!(told.ends_with("done: 2 changes\n"), "{told}");
}

#[test]
fn nothing_is_applied_while_a_test_fails() {
    let stack = Stack::start();
    let before = export(&stack);
    let one = stack.file("one.yaml", &format!("{SITE}  - {{identity: web/1, can-dial: metrics}}\n"));
    for words in [&["apply", &one, "--yes"][..], &["diff", &one]] {
        let refused = policy(&stack, words).fails_with(1);
        assert_eq!(
            refused.stderr,
            format!(
                "error: {one}:19:5: identity 'web/1' can-dial service 'metrics': expected allow, got deny: no Dial service-policy has both identity 'web/1' and service 'metrics'; nothing was applied\n"
            )
        );
    }
    let two = "  - {identity: prometheus, cannot-dial: metrics, why: secret}\n  - {identity: Default Admin, can-dial: metrics}\n";
    let two = stack.file("two.yaml", &format!("{SITE}{two}"));
    let refused = policy(&stack, &["apply", &two, "--yes", "--jwt-dir", "tokens"]).fails_with(1).stderr;
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(lines.len(), 3, "{refused}");
    assert!(
        lines[0].contains(&format!("allowed by Dial service-policy 'dial' ({two}:15:5) (must hold: secret)")),
        "{refused}"
    );
    assert_eq!(lines[2], "error: 2 failures in 3 policy tests; nothing was applied");
    let json = policy(&stack, &["apply", &two, "--yes", "-j"]).fails_with(1).json();
    assert_eq!(json["failures"][0]["line"], 19);
    assert_eq!(export(&stack), before);
    assert!(!fs::exists(stack.path("tokens")).expect("readable"));
}

#[test]
fn what_was_done_before_a_failure_stays_and_the_next_apply_goes_on() {
    let stack = Stack::start();
    let first = "set: s\nconfig-types: [{name: b.type, schema: {type: object}}]\n";
    let file = stack.file("s.yaml", first);
    policy(&stack, &["apply", &file, "--yes"]).ok();
    stack.cli(["create", "config", "by-hand", "b.type", "{}"]).ok();
    let next = "set: s\nconfig-types: [{name: a.type}, {name: b.type, schema: {type: object, required: [x]}}]\n\
                identities: [{name: node}]\n";
    stack.file("s.yaml", next);
    let stopped = policy(&stack, &["apply", &file, "--yes", "--jwt-dir", "tokens"]).fails_with(1);
    assert_eq!(
        stopped.stdout,
        "created config-type 'a.type'\nnot done: change config-type 'b.type'\nnot done: create identity 'node'\n"
    );
    assert!(
        stopped.stderr.contains("with 1 of 3 changes done") && stopped.stderr.contains("'by-hand'"),
        "{}",
        stopped.stderr
    );
    assert_eq!(fs::read_dir(stack.path("tokens")).expect("made").count(), 0, "no empty token is left");
    stack.cli(["update", "config", "by-hand", "-d", r#"{"x":1}"#]).ok();
    let done = policy(&stack, &["apply", &file, "--yes", "--jwt-dir", "tokens"]).ok().stdout;
    assert_eq!(done, "changed config-type 'b.type'\ncreated identity 'node'\ndone: 2 changes\n");

    // A token file that is taken: nothing is begun.
    stack.file("s.yaml", &next.replace("[{name: node}]", "[{name: node}, {name: a-new}, {name: new}]"));
    stack.file("tokens/new.jwt", "kept");
    let refused = policy(&stack, &["apply", &file, "--yes", "--jwt-dir", "tokens"]).fails_with(1);
    assert!(refused.stderr.contains("new.jwt exists already"), "{}", refused.stderr);
    assert!(!export(&stack).contains("a-new"));
    let hinted = policy(&stack, &["apply", &file, "--yes"]).ok();
    assert!(hinted.stderr.starts_with("hint: 2 new nodes without an enrollment token"), "{}", hinted.stderr);
}

#[test]
fn bad_files_are_refused_offline_with_place_reason_and_next_step() {
    let stack = Stack::start();
    let before = export(&stack);
    let mut wrong = String::new();
    for (text, expected) in bad_files::BAD_FILES {
        let path = stack.file("f.yaml", text);
        let checked = policy(&stack, &["check", "f.yaml"]);
        if checked.code != 1
            || !checked.stderr.starts_with(&format!("error: {expected}"))
            || !checked.stdout.is_empty()
        {
            wrong += &format!("{text}\nexpected {expected}\n     got {}{}\n", checked.stdout, checked.stderr);
        }
        fs::remove_file(path).expect("removed");
    }
    assert!(wrong.is_empty(), "{wrong}");

    let both = stack.file("f.yaml", "services: [{nam: x}]\n");
    let told = policy(&stack, &["apply", &both, "--yes"]).fails_with(1);
    assert!(
        told.stderr.ends_with("error: 2 faults in the policy files; nothing was applied\n"),
        "{}",
        told.stderr
    );
    let json = policy(&stack, &["check", &both, "-j"]).fails_with(1).json();
    assert_eq!((&json["faults"][1]["line"], &json["faults"][1]["column"]), (&1.into(), &13.into()));
    let piped = stack.cli_with(["policy", "check", "-"], &[], "services: [{name: x}]\n").ok().stdout;
    assert_eq!(piped, "ok: 1 entity in 1 file, no tests\n");
    assert_eq!(export(&stack), before);
}
