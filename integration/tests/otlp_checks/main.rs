//! The 58 checks of OTLP, each as a test of the built `hesper collect` from outside: clients and servers on loopback that are not
//! Hesper's. They are numbered as in the list that the project keeps of the specification 1.11 and of what the Collector does.
//!
//! What cannot be seen from outside, and where it is tested:
//!
//! | check | what | why | crate test |
//! |---|---|---|---|
//! | 31, 32 | a receiver that takes a part of a request, or warns | no pipeline of ours does: policy judges whole requests | `hesper-telemetry`: `receive/answers.rs` |
//! | 45 | codes that a receiver never answers, as HTTP statuses | they come from nowhere | `hesper-otlp`: `status/code.rs` |
//! | 50 | an answer beyond 4 MiB | all of ours are short | `hesper-telemetry`: `receive/answers.rs` |

mod answers;
mod client;
mod codings;
mod compression;
mod data;
mod ground;
mod json;
mod lifecycle;
mod limits;
mod paths;
mod peer;
mod requests;
mod retry;

use std::{collections::BTreeSet, fs, path::Path};

/// How many checks there are.
const CHECKS: u32 = 58;

/// The numbers of the tests in a text.
fn numbers(text: &str) -> Vec<u32> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split("\nfn check_").skip(1).filter_map(|rest| digits(rest).parse().ok()).collect()
}

#[test]
fn every_check_has_its_test() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp_checks");
    let files = fs::read_dir(directory).expect("the tests").map(|file| file.expect("a file").path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let found: Vec<_> =
        sources.flat_map(|path| numbers(&fs::read_to_string(path).expect("a source"))).collect();
    let missing: Vec<_> = (1..=CHECKS).filter(|number| !found.contains(number)).collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
    assert_eq!(
        found.iter().collect::<BTreeSet<_>>().len(),
        found.len(),
        "two tests for one number: {found:?}"
    );
    assert_eq!(found.len(), CHECKS as usize, "there is no such check: {found:?}");
}
