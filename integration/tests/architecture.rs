//! The shape of the house: arrows between crates only point down, and every crate follows the same rules.

use hesper_integration::binaries::repository;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The layer of each crate (ARCHITECTURE.md). A crate may use crates of lower layers only.
const LAYERS: &[(&str, u8)] = &[
    ("hesper-model", 0),
    ("hesper-yaml", 0),
    ("hesper-collector-config", 1),
    ("hesper-filter", 1),
    ("hesper-observe", 1),
    ("hesper-otlp", 1),
    ("hesper-overlay", 1),
    ("hesper-pki", 1),
    ("hesper-policy", 1),
    ("hesper-prometheus", 1),
    ("hesper-proto", 1),
    ("hesper-queue", 1),
    ("hesper-trace", 1),
    ("hesper-client", 2),
    ("hesper-kubernetes", 2),
    ("hesper-manifest", 2),
    ("hesper-sdk", 2),
    ("hesper-store", 2),
    ("hesper-telemetry", 2),
    ("hesper-collect", 3),
    ("hesper-controller", 3),
    ("hesper-router", 3),
    ("hesper-tunnel", 3),
    ("hesper", 4),
    ("hesper-bench", 4),
    ("hesper-fuzz-targets", 4),
    ("hesper-integration", 4),
    ("xtask", 4),
    // Programs of users: on top of the SDK like anybody's.
    ("dark-axum", 3),
    ("reflectz", 3),
];

/// Arrows inside a layer, each with its reason.
const SAME_LAYER: &[(&str, &str, &str)] = &[
    ("hesper-collector-config", "hesper-otlp", "a pipeline is named by the signal that it carries"),
    ("hesper-kubernetes", "hesper-telemetry", "its processor is one of a pipeline like the others"),
    ("hesper-observe", "hesper-trace", "what becomes of its spans is a metric of every role"),
    ("hesper-overlay", "hesper-pki", "peers prove their identity in the QUIC handshake"),
    ("hesper-overlay", "hesper-proto", "the messages of attach and streams"),
    ("hesper-overlay", "hesper-trace", "a dial that is turned away at the door is part of its trace, too"),
    (
        "hesper-prometheus",
        "hesper-collector-config",
        "jobs, relabelling and exporters are what their settings say",
    ),
    ("hesper-sdk", "hesper-client", "a node reaches the controller as a router does"),
];

/// What keeps a pure crate pure: no runtime, no sockets, no TLS.
const PURE: &[&str] = &[
    "hesper-model",
    "hesper-yaml",
    "hesper-policy",
    "hesper-filter",
    "hesper-manifest",
    "hesper-collector-config",
    "hesper-otlp",
    "hesper-prometheus",
];
const IMPURE: &[&str] =
    &["tokio", "quinn", "rustls", "hyper", "axum", "tonic", "reqwest", "rusqlite", "socket2"];

/// Lines of a hand-written file, tests included. Beyond, it is two files.
const LONGEST: usize = 600;

/// Lines of the story at the top of a `lib.rs` or `main.rs`.
const STORY: usize = 3;

struct Package {
    name: String,
    directory: PathBuf,
    manifest: String,
    /// Workspace crates it uses, dev-dependencies left out: tests may look anywhere.
    uses: Vec<String>,
    /// Everything it uses.
    dependencies: Vec<String>,
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let ours: Vec<String> = list.iter().map(|package| text(&package["name"])).collect();
    let package = |value: &Value| {
        let manifest = PathBuf::from(text(&value["manifest_path"]));
        let needed =
            value["dependencies"].as_array().expect("dependencies").iter().filter(|d| d["kind"] != "dev");
        let dependencies: Vec<String> = needed.map(|dependency| text(&dependency["name"])).collect();
        Package {
            name: text(&value["name"]),
            directory: manifest.parent().expect("a directory").to_owned(),
            manifest: fs::read_to_string(&manifest).expect("manifest"),
            uses: dependencies.iter().filter(|name| ours.contains(name)).cloned().collect(),
            dependencies,
        }
    };
    list.iter().map(package).collect()
}

/// Fails with all findings at once.
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn arrows_between_crates_point_down() {
    let layers: BTreeMap<_, _> = LAYERS.iter().copied().collect();
    let mut findings = Vec::new();
    for package in packages() {
        let Some(layer) = layers.get(package.name.as_str()) else {
            findings.push(format!(
                "{} has no layer: give it one in this test and in ARCHITECTURE.md",
                package.name
            ));
            continue;
        };
        for used in &package.uses {
            let allowed =
                SAME_LAYER.iter().any(|(from, to, _)| (*from, *to) == (package.name.as_str(), used.as_str()));
            if !allowed && layers.get(used.as_str()).is_some_and(|below| below >= layer) {
                findings.push(format!("{} must not use {used}: the arrow does not point down", package.name));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn every_exception_is_used() {
    let packages = packages();
    let find = |name: &str| packages.iter().find(|package| package.name == name);
    let unknown = LAYERS.iter().filter(|(name, _)| find(name).is_none());
    let mut findings: Vec<_> = unknown.map(|(name, _)| format!("{name} is no crate")).collect();
    let idle = SAME_LAYER
        .iter()
        .filter(|(from, to, _)| find(from).is_some_and(|p| !p.uses.contains(&(*to).to_owned())));
    findings.extend(idle.map(|(from, to, _)| format!("{from} does not use {to}: remove the exception")));
    assert_none(&findings);
}

#[test]
fn pure_crates_have_no_runtime_and_no_sockets() {
    let pure = packages().into_iter().filter(|package| PURE.contains(&package.name.as_str()));
    let findings: Vec<_> = pure
        .flat_map(|package| {
            let impure: Vec<_> =
                package.dependencies.into_iter().filter(|name| IMPURE.contains(&name.as_str())).collect();
            impure.into_iter().map(move |name| format!("{} must not use {name}", package.name))
        })
        .collect();
    assert_none(&findings);
}

#[test]
fn every_crate_has_the_workspace_lints() {
    let mut findings = Vec::new();
    for package in packages() {
        let shared = package.manifest.contains("[lints]\nworkspace = true");
        // Its code is generated; the lints would speak of the generator. It still forbids unsafe code.
        let generated =
            package.name == "hesper-proto" && package.manifest.contains("unsafe_code = \"forbid\"");
        if !shared && !generated {
            findings.push(format!("{} needs `[lints]` with `workspace = true`", package.name));
        }
    }
    assert_none(&findings);
}

#[test]
fn a_directory_has_the_name_of_its_crate() {
    let root = repository();
    let mut findings = Vec::new();
    for package in packages() {
        let place = package.directory.strip_prefix(&root).expect("inside the repository");
        let short = package.name.strip_prefix("hesper-").unwrap_or(&package.name);
        let expected = [
            Path::new("crates").join(&package.name),
            Path::new("examples").join(&package.name),
            PathBuf::from(short),
            // Inside the workspace of the fuzzers that run it.
            Path::new("integration").join(short.replace('-', "/")),
        ];
        if !expected.iter().any(|allowed| allowed == place) {
            findings.push(format!("{} is in {}", package.name, place.display()));
        }
    }
    assert_none(&findings);
}

#[test]
fn every_crate_opens_with_its_story() {
    let mut findings = Vec::new();
    for package in packages() {
        for root in ["src/lib.rs", "src/main.rs"].map(|file| package.directory.join(file)) {
            let Ok(text) = fs::read_to_string(&root) else { continue };
            let program = root.ends_with("src/main.rs") && package.directory.join("src/lib.rs").exists();
            let story = text.lines().take_while(|line| line.starts_with("//!")).count();
            if story < STORY && !program && package.name != "xtask" {
                findings.push(format!(
                    "{} opens with {story} lines of story, fewer than {STORY}",
                    root.display()
                ));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn no_file_is_too_long() {
    let mut findings = Vec::new();
    for package in packages() {
        let mut waiting = vec![package.directory];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(directory).expect("list").map(|entry| entry.expect("entry").path()) {
                let name = entry.file_name().unwrap_or_default();
                if entry.is_dir() && name != "target" && name != "generated" {
                    waiting.push(entry);
                } else if entry.extension().is_some_and(|extension| extension == "rs") {
                    let lines = fs::read_to_string(&entry).expect("text").lines().count();
                    if lines > LONGEST {
                        findings.push(format!("{} has {lines} lines, more than {LONGEST}", entry.display()));
                    }
                }
            }
        }
    }
    assert_none(&findings);
}
