use crate::{check, extension, header, reason, until};
use base64::{Engine, engine::general_purpose::STANDARD};
use hesper_telemetry::auth::{
    Authenticator,
    server::{Raw, build},
};
use http::HeaderMap;
use std::{fmt::Write, fs, sync::Arc};

/// "myPassword" at the lowest cost.
const BCRYPT: &str = "$2y$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy";

fn basic(user: &str, password: &str) -> HeaderMap {
    header("authorization", &format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn inline(lines: &str) -> Arc<dyn Authenticator> {
    let block: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    let settings = extension(&format!("basicauth/server:\n  htpasswd:\n    inline: |\n{block}"));
    build(&settings, Raw::Forget).expect("an authenticator")
}

#[tokio::test]
async fn the_seed_of_the_issue_lets_its_user_in_and_names_the_newline_of_echo() {
    let server = inline("user-1:1234");
    let known = check(&*server, &basic("user-1", "1234")).await.expect("the user");
    assert_eq!(known.into_iter().collect::<Vec<_>>(), [("username".to_owned(), "user-1".to_owned())]);

    // What `echo "user-1:1234" | base64` prints.
    let told = reason(
        check(&*server, &header("authorization", "Basic dXNlci0xOjEyMzQK")).await.expect_err("newline"),
    );
    assert!(told.contains("newline") && told.contains("echo") && !told.contains("1234"), "{told}");
    let told = reason(check(&*server, &basic("user-1", "12345")).await.expect_err("wrong"));
    assert!(!told.contains("newline") && !told.contains("1234"), "{told}");
}

#[tokio::test]
async fn quotes_are_part_of_the_name_and_hinted_at() {
    let server = inline("\"user-1:1234\"");
    check(&*server, &basic("\"user-1", "1234\"")).await.expect("as it is written");
    check(&*server, &basic("user-1", "1234")).await.expect_err("without");
    let told =
        reason(check(&*inline("user-1:1234"), &basic("\"user-1", "1234\"")).await.expect_err("quotes"));
    assert!(told.contains("quotes"), "{told}");
}

#[tokio::test]
async fn what_is_no_basic_header_is_told_so() {
    let server = inline("user-1:1234");
    for (value, expected) in [
        ("Bearer x", "Basic"),
        ("Basic !", "base64"),
        ("Basic dXNlci0x", "colon"),
        (&*format!("Basic {}", STANDARD.encode("a:".to_owned() + &"x".repeat(2000))), "more than"),
    ] {
        let told = reason(check(&*server, &header("authorization", value)).await.expect_err(value));
        assert!(told.contains(expected), "{value}: {told}");
    }
    let told = reason(check(&*server, &HeaderMap::new()).await.expect_err("nothing"));
    assert!(told.contains("no credentials"), "{told}");
    let lower = header("authorization", &format!("bASIC {}", STANDARD.encode("user-1:1234")));
    check(&*server, &lower).await.expect("in any case");
}

#[tokio::test]
async fn of_two_lines_the_later_counts_and_inline_before_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("htpasswd");
    fs::write(&file, format!("# a:comment\na:file\nb:first\nb:{BCRYPT}\n\nnonsense\nd:with:colon\n"))
        .expect("written");
    let text = format!("basicauth:\n  htpasswd: {{file: '{}', inline: 'a:inline'}}", file.display());
    let server = build(&extension(&text), Raw::Keep).expect("an authenticator");
    for (user, password, right) in [
        ("a", "inline", true),
        ("a", "file", false),
        ("b", "myPassword", true),
        ("b", "first", false),
        ("b", BCRYPT, false),
        ("d", "with:colon", true),
        ("nonsense", "", false),
        ("# a", "comment", false),
        ("", "", false),
    ] {
        let headers = basic(user, password);
        let answer = check(&*server, &headers).await;
        assert_eq!(answer.is_ok(), right, "{user}:{password}");
        if let Ok(known) = answer {
            assert_eq!(known["raw"], STANDARD.encode(format!("{user}:{password}")));
        }
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_read_keeps_everybody_out_and_is_named() {
    let settings = extension("basicauth:\n  htpasswd:\n    inline: |\n      a:b\n      joe:$2y$04$short");
    let error = build(&settings, Raw::Forget).err().expect("a broken hash").to_string();
    assert!(error.contains("joe") && error.contains("line 2") && !error.contains("short"), "{error}");
    let missing = extension("basicauth:\n  htpasswd: {file: /does/not/exist}");
    let error = build(&missing, Raw::Forget).err().expect("no file").to_string();
    assert!(error.contains("/does/not/exist"), "{error}");
}

#[tokio::test]
async fn a_file_that_changes_counts_at_once_and_a_broken_one_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("htpasswd");
    let write = |lines: &str| fs::write(&file, lines).expect("written");
    write(&format!("a:{BCRYPT}\n"));
    let text = format!("basicauth:\n  htpasswd: {{file: '{}'}}", file.display());
    let server = build(&extension(&text), Raw::Forget).expect("an authenticator");
    let (a, b) = (basic("a", "myPassword"), basic("b", "2"));
    check(&*server, &a).await.expect("the user");
    check(&*server, &b).await.expect_err("not yet");

    write(&format!("a:{BCRYPT}\nb:2\n"));
    until(&*server, &b, true).await;
    write("b:$apr1$broken");
    check(&*server, &b).await.expect("what was there stays");
    write("b:2\nc:3\n");
    until(&*server, &basic("c", "3"), true).await;
    check(&*server, &a).await.expect_err("its verdict is forgotten with the line");
}

#[tokio::test]
async fn a_thousand_requests_with_costly_passwords_are_answered() {
    let server = inline(&format!("a:{}", "$2y$10$abcdefghijklmnopqrstuuKc8V2d8pVvE7cRr1yTn0n0l2vYp4yYu"));
    // Cost 10, and the password is wrong: one check for all of them, not one each.
    let headers = basic("a", "wrong");
    let answers = futures::future::join_all((0..1000).map(|_| check(&*server, &headers))).await;
    assert!(answers.into_iter().all(|answer| reason(answer.expect_err("wrong")).contains("wrong")));
}

#[tokio::test]
async fn an_unknown_user_is_refused_with_the_same_words() {
    let mut lines = String::new();
    for n in 0..20 {
        writeln!(lines, "user-{n}:{}", if n % 2 == 0 { BCRYPT } else { "myPassword" }).expect("written");
    }
    let server = inline(&lines);
    let wrong = reason(check(&*server, &basic("user-1", "x")).await.expect_err("wrong"));
    for n in 0..40 {
        // The right password of whoever it is checked against opens nothing.
        let answer = check(&*server, &basic(&format!("nobody-{n}"), "myPassword")).await;
        assert_eq!(reason(answer.expect_err("unknown")), wrong);
    }
}
