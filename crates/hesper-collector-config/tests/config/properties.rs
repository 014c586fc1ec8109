//! Whatever the text: no panic, no secret in what is printed, no fault that is only the echo of another.

use crate::{env, told};
use hesper_collector_config::load;
use proptest::prelude::*;

const EVERYTHING: &str = include_str!("everything.yaml");
const CORPUS: [&str; 4] = [
    EVERYTHING,
    include_str!("../../../../examples/collector/article/server.yaml"),
    include_str!("../../../../examples/collector/operator/edge-v1alpha1.yaml"),
    include_str!("../../../../examples/collector/operator/server-v1beta1.yaml"),
];
/// What is written over a place of a text.
const SNIPPETS: [&str; 16] = [
    "",
    " ",
    "\n",
    "\n\n  ",
    ":",
    ": ",
    "[",
    "{}",
    "\"",
    "|",
    "${env:PASSWORD}",
    "${",
    "$",
    "&a *a",
    "null",
    "-1",
];

/// All that is ever printed about a text.
fn printed(text: &str) -> String {
    match load(&[("f.yaml", text)], &env) {
        Ok((config, remarks)) => {
            let remarks: String = remarks.iter().map(|remark| format!("{remark}{remark:?}")).collect();
            format!("{config:?}{config:#?}{remarks}")
        }
        Err(faults) => told(&faults),
    }
}

#[test]
fn everything_loads() {
    let (config, _) =
        load(&[("f.yaml", EVERYTHING)], &env).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    assert_eq!(config.receivers.len() + config.processors.len() + config.exporters.len(), 2 + 7 + 6);
    assert_eq!(config.service.pipelines.len(), 4);
}

#[test]
fn a_key_that_is_misspelt_never_shows_a_secret_and_is_told_once() {
    let lines: Vec<&str> = EVERYTHING.lines().collect();
    let mut wrong = String::new();
    for (i, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(':').filter(|(key, _)| !key.contains('#') && !key.contains('"'))
        else {
            continue;
        };
        let mut changed = lines.clone();
        let misspelt = line.replacen(key, &format!("{key}q"), 1);
        changed[i] = &misspelt;
        let printed = printed(&changed.join("\n"));
        if printed.contains("SECRET") && !misspelt.contains("user-1q:SECRET1") {
            wrong += &format!("{misspelt}\n{printed}\n");
        }
        // Whatever else is wrong then, another key is not suddenly unknown.
        if printed.matches("is no key of").count() > 1 {
            wrong += &format!("{misspelt}\n{printed}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_value_that_does_not_fit_makes_no_key_unknown() {
    let lines: Vec<&str> = EVERYTHING.lines().collect();
    let mut wrong = String::new();
    for (i, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.split_once(": ").filter(|(key, _)| !key.contains('#')) else {
            continue;
        };
        for other in ["[[]]", "(${env:NONE}"] {
            let mut changed = lines.clone();
            let misfit = format!("{key}: {other}");
            changed[i] = &misfit;
            let printed = printed(&changed.join("\n"));
            if printed.contains("is no key of") || printed.contains("SECRET") {
                wrong += &format!("{misfit}\n{printed}\n");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_is_too_strange(
        corpus in 0..CORPUS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, 0..SNIPPETS.len()), 1..4),
    ) {
        let mut text: Vec<char> = CORPUS[corpus].chars().collect();
        for (at, length, snippet) in edits {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, SNIPPETS[snippet].chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = load(&[("f.yaml", &text)], &env) {
            prop_assert!(!faults.is_empty());
            let lines = text.lines().count();
            for fault in faults {
                prop_assert!(!fault.reason.is_empty() && !fault.next.is_empty());
                prop_assert!(fault.place.line >= 1 && fault.place.line <= lines + 1, "{fault}");
            }
        }
    }

    #[test]
    fn no_characters_are_too_strange(text in "\\PC{0,200}|[a-z:{}\\[\\]$|>&*!'\" \n-]{0,200}") {
        let _ = load(&[("f.yaml", &text)], &env);
        let wrapped = format!("receivers: {{otlp: {{protocols: {text}}}}}\n{text}");
        let _ = load(&[("f.yaml", &wrapped), ("g.yaml", &text)], &|_| Some(text.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_secret_is_ever_printed(secret in "[a-zA-Z0-9]{12,20}", from_env: bool) {
        let source = if from_env { "${env:TOKEN}" } else { &*secret };
        let text = EVERYTHING.replace("SECRET", source);
        let env = |name: &str| if name == "TOKEN" { Some(secret.clone()) } else { env(name) };
        let (config, remarks) = load(&[("f.yaml", &text)], &env).expect("it loads");
        let remarks: String = remarks.iter().map(|remark| format!("{remark}{remark:?}")).collect();
        let printed = format!("{config:?}{config:#?}{remarks}");
        prop_assert!(!printed.contains(&secret));
    }
}
