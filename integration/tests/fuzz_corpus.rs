//! The fuzzers' corpus, and mutations of it, hold with every test run; the fuzzers themselves are in `integration/fuzz`.

use hesper_fuzz_targets::{TARGETS, Target, mutate::mutate};
use hesper_integration::binaries::repository;
use std::{
    fs,
    panic::{catch_unwind, set_hook, take_hook},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What the corpus may hold, so that it stays readable.
const MOST_FILES: usize = 200;
const MOST_BYTES: u64 = 200 << 10;
/// Mutations of each target, unless they take too long: some targets start a connection each time.
const MUTATIONS: u64 = 4_000;
const ENOUGH: Duration = Duration::from_secs(6);

fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = repository().join("integration/fuzz/corpus").join(target);
    let listed = fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut files: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Runs a target; panics in tasks of its runtime count too.
fn holds(panics: &AtomicUsize, (name, run): Target, input: &[u8], what: &str) {
    let before = panics.load(Relaxed);
    let result = catch_unwind(|| run(input));
    assert!(
        result.is_ok() && panics.load(Relaxed) == before,
        "{name} breaks on {what}: {:?}",
        input.escape_ascii().to_string()
    );
}

#[test]
fn every_input_of_the_corpus_and_thousands_of_mutations_hold() {
    let panics: Arc<AtomicUsize> = Arc::default();
    let (counted, print) = (panics.clone(), take_hook());
    set_hook(Box::new(move |info| {
        counted.fetch_add(1, Relaxed);
        print(info);
    }));
    for target in TARGETS {
        let files = corpus(target.0);
        assert!(files.len() >= 3, "{} has no corpus", target.0);
        let inputs: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
        for (file, input) in files.iter().zip(&inputs) {
            holds(&panics, target, input, &file.display().to_string());
        }
        let (begun, mut mutations) = (Instant::now(), 0);
        while mutations < MUTATIONS && begun.elapsed() < ENOUGH {
            let input = &inputs[mutations as usize % inputs.len()];
            holds(&panics, target, &mutate(input, mutations), &format!("mutation {mutations}"));
            mutations += 1;
        }
        println!("{}: {} inputs, {mutations} mutations in {:.1?}", target.0, inputs.len(), begun.elapsed());
    }
}

#[test]
fn the_corpus_is_small_and_every_target_has_a_fuzzer() {
    let files: Vec<_> = TARGETS.iter().flat_map(|(name, _)| corpus(name)).collect();
    let bytes: u64 = files.iter().map(|file| file.metadata().expect("a file").len()).sum();
    assert!(files.len() <= MOST_FILES && bytes <= MOST_BYTES, "{} files, {bytes} bytes", files.len());
    let fuzzers = repository().join("integration/fuzz");
    let manifest = fs::read_to_string(fuzzers.join("Cargo.toml")).expect("the fuzzers' manifest");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no binary of the fuzzers");
        let source = fs::read_to_string(fuzzers.join(format!("fuzz_targets/{name}.rs"))).expect("a fuzzer");
        assert!(source.contains(&format!("::{name}::run(input)")), "{name} runs something else");
    }
    let known = fs::read_dir(fuzzers.join("corpus")).expect("the corpus").count();
    assert_eq!(known, TARGETS.len(), "a corpus without a target");
}
