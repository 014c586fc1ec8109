use crate::{check, extension, header, reason, until};
use hesper_telemetry::auth::server::{Raw, build};
use std::fs;

#[tokio::test]
async fn any_of_the_tokens_is_taken_behind_the_scheme() {
    let settings = extension("bearertokenauth:\n  tokens: [alpha, beta]");
    let server = build(&settings, Raw::Forget).expect("an authenticator");
    for (value, right) in [
        ("Bearer alpha", true),
        ("bearer beta", true),
        ("Bearer alph", false),
        ("Bearer alphaa", false),
        ("Bearer ", false),
        ("alpha", false),
    ] {
        let answer = check(&*server, &header("authorization", value)).await;
        assert_eq!(answer.is_ok(), right, "{value}");
        if let Err(refusal) = answer {
            assert!(!reason(refusal).contains("alph"), "{value}");
        }
    }
}

#[tokio::test]
async fn header_and_scheme_may_be_others() {
    let settings = extension("bearertokenauth: {header: X-Token, scheme: '', token: alpha}");
    let server = build(&settings, Raw::Forget).expect("an authenticator");
    check(&*server, &header("x-token", "alpha")).await.expect("the token");
    check(&*server, &header("authorization", "alpha")).await.expect_err("another header");
    let settings = extension("bearertokenauth: {header: 'X Token', token: alpha}");
    assert!(build(&settings, Raw::Forget).err().expect("no header").to_string().contains("X Token"));
}

#[tokio::test]
async fn the_file_counts_and_is_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tokens");
    fs::write(&file, " alpha \n\nbeta\n").expect("written");
    let text = format!("bearertokenauth: {{token: inline, filename: '{}'}}", file.display());
    let server = build(&extension(&text), Raw::Forget).expect("an authenticator");
    let bearer = |token: &str| header("authorization", &format!("Bearer {token}"));
    for (token, right) in [("alpha", true), ("beta", true), ("inline", false), ("", false)] {
        assert_eq!(check(&*server, &bearer(token)).await.is_ok(), right, "{token}");
    }
    fs::write(&file, "\n").expect("written");
    check(&*server, &bearer("alpha")).await.expect("no tokens are no list");
    fs::write(&file, "gamma\n").expect("written");
    until(&*server, &bearer("gamma"), true).await;
    check(&*server, &bearer("alpha")).await.expect_err("gone");
}
