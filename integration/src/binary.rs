//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// The `hesper` binary of the profile that the test was built with.
///
/// # Panics
/// When it was not built.
pub fn hesper() -> PathBuf {
    built("hesper")
}

/// An example program, by the name of its package.
///
/// # Panics
/// When it was not built.
pub fn example(name: &str) -> PathBuf {
    built(name)
}

/// The checkout.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .expect("integration/ is in the checkout")
}

/// Test executables are in `target/<profile>/deps`; programs one level up.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let profile = test.ancestors().nth(2).expect("tests run from target/<profile>/deps");
    let path = profile.join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --workspace` or `cargo xtask test`",
        path.display()
    );
    path
}
