//! Rust code from `proto/`, by protox: no protoc needed. The result is checked in; a test below keeps it true.

use crate::shell::root;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every file that has definitions; imports are found from here.
const PROTOS: [&str; 7] = [
    "hesper/control/v1/common.proto",
    "hesper/control/v1/node.proto",
    "hesper/control/v1/router.proto",
    "hesper/overlay/v1/attach.proto",
    "hesper/overlay/v1/link.proto",
    "hesper/overlay/v1/stream.proto",
    "hesper/telemetry/v1/origin.proto",
];

/// Where the generated code lives.
fn generated() -> PathBuf {
    root().join("crates/hesper-proto/src/generated")
}

/// Regenerates the checked-in code.
pub(crate) fn write() -> Result<()> {
    fs::create_dir_all(generated())?;
    generate(&generated())
}

fn generate(into: &Path) -> Result<()> {
    let files = protox::compile(PROTOS, [root().join("proto")]).context("proto/ does not compile")?;
    tonic_prost_build::configure().out_dir(into).compile_fds(files).context("code generation failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_in_code_is_what_proto_generates() {
        let fresh = tempfile::tempdir().expect("temporary directory");
        generate(fresh.path()).expect("generate");
        let names = |dir: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(dir).expect("read").map(|e| e.expect("entry").file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&generated()), names(fresh.path()));
        for name in names(fresh.path()) {
            let read = |dir: &Path| fs::read_to_string(dir.join(&name)).expect("read");
            assert!(
                read(&generated()) == read(fresh.path()),
                "{name:?} is stale: run `cargo xtask codegen` and commit the result"
            );
        }
    }
}
