//! The crate from outside: files in, plans, verdicts and faults out, against a controller of plain data.

mod bad_files;
mod controller;
mod faults;
mod plans;
mod properties;
mod verdicts;

use hesper_manifest::{Fault, Manifest, Snapshot, Source};

/// One file called `f.yaml`.
fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "f.yaml".into(), text: text.into() }]
}

/// What files alone declare.
fn read(text: &str) -> Manifest {
    Manifest::read(&source(text), None).unwrap_or_else(|faults| panic!("{}\n{text}", told(&faults)))
}

/// What files declare on top of what is there.
fn read_over(text: &str, present: &Snapshot) -> Manifest {
    Manifest::read(&source(text), Some(present)).unwrap_or_else(|faults| panic!("{}\n{text}", told(&faults)))
}

fn told(faults: &[Fault]) -> String {
    faults.iter().map(|f| format!("{f}\n")).collect()
}
