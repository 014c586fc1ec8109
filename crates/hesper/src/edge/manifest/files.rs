//! Which files were meant, and their text.

use anyhow::{Result, bail};
use hesper_manifest::Source;
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Largest file read, in bytes: far above a thousand entities of each kind.
const MAX_FILE: u64 = 16 << 20;
/// Most directories inside each other; a link that leads back ends here.
const MAX_DEPTH: usize = 16;

/// Reads files, every `.yaml` and `.yml` below directories in the order of their names, and `-` as standard input.
///
/// # Errors
/// Everything that cannot be read, together.
pub(crate) fn read(given: &[PathBuf]) -> Result<Vec<Source>> {
    let (mut sources, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for path in given {
        let mut paths = Vec::new();
        if path.as_os_str() != "-" && path.is_dir() {
            if let Err(e) = below(path, &mut paths, MAX_DEPTH) {
                problems.push(format!("cannot read {}: {e}", path.display()));
            } else if paths.is_empty() {
                problems.push(format!("the directory {} holds no .yaml or .yml file", path.display()));
            }
        } else {
            paths.push(path.clone());
        }
        for path in paths.into_iter().filter(|p| seen.insert(p.clone())) {
            match text(&path) {
                Ok(text) => sources.push(Source { name: path.display().to_string(), text }),
                Err(e) => problems.push(format!("cannot read {}: {e}", path.display())),
            }
        }
    }
    if problems.is_empty() { Ok(sources) } else { bail!("{}", problems.join("; ")) }
}

fn below(directory: &Path, paths: &mut Vec<PathBuf>, depth: usize) -> io::Result<()> {
    let mut entries =
        fs::read_dir(directory)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() && depth > 0 {
            below(&path, paths, depth - 1)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            paths.push(path);
        }
    }
    Ok(())
}

fn text(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    } else {
        fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    }
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if bytes.len() as u64 > MAX_FILE {
        return Err(wrong(format!("it is larger than {MAX_FILE} bytes")));
    }
    String::from_utf8(bytes)
        .map_err(|e| wrong(format!("it is not UTF-8 text, from byte {}", e.utf8_error().valid_up_to())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_in_order_and_nothing_twice() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("sub/.hidden")).expect("directories");
        for name in ["b.yaml", "a.yml", "c.json", "sub/d.yaml", ".e.yaml", "sub/.hidden/f.yaml"] {
            fs::write(at(name), name).expect("written");
        }
        let sources = read(&[at("b.yaml"), dir.path().to_owned()]).expect("read");
        let texts: Vec<_> = sources.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["b.yaml", "a.yml", "sub/d.yaml"]);
    }

    #[test]
    fn everything_that_cannot_be_read_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let latin = dir.path().join("latin.yaml");
        fs::write(&latin, b"a: \xe9\n").expect("written");
        fs::create_dir(dir.path().join("empty")).expect("a directory");
        let error =
            read(&[latin, dir.path().join("none"), dir.path().join("empty")]).expect_err("three problems");
        let text = error.to_string();
        for part in
            ["latin.yaml: it is not UTF-8 text, from byte 3", "none: No such file", "empty holds no .yaml"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
