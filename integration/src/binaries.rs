//! Where the programs are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// `target/<profile>`, from the place of the running test: `target/<profile>/deps/<test>`.
fn profile_directory() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let deps = test.parent().unwrap_or(Path::new("."));
    let directory = if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps };
    directory.to_owned()
}

/// `target`.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().map(Path::to_owned).unwrap_or_default()
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The built `hesper`.
///
/// # Panics
/// When it is not built.
pub fn hesper() -> PathBuf {
    env::var_os("HESPER_BIN").map_or_else(|| built("hesper"), PathBuf::from)
}

/// A built program of `examples/`: `reflectz`, `dark-axum`.
///
/// # Panics
/// When it is not built.
pub fn example(name: &str) -> PathBuf {
    built(name)
}

fn built(name: &str) -> PathBuf {
    let path = profile_directory().join(name);
    assert!(
        path.is_file(),
        "{} is missing: build it first with `cargo build -p {name}`, or run `cargo xtask test`",
        path.display()
    );
    path
}

/// A program that the system has.
///
/// # Panics
/// When it is not installed; the message names the Debian package.
pub fn installed(program: &str, package: &str) -> PathBuf {
    let places = env::var_os("PATH").unwrap_or_default();
    // Debian keeps some of them where an ordinary user does not look.
    let found = env::split_paths(&places).chain(["/usr/sbin".into(), "/sbin".into()]).find_map(|directory| {
        let path = directory.join(program);
        path.is_file().then_some(path)
    });
    found.unwrap_or_else(|| {
        panic!("{program} is not installed: apt-get install {package}, or run `cargo xtask test`")
    })
}
