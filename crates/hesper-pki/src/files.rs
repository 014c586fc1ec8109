//! Private files: created exclusively with mode 0600, replaced atomically, on disk before success is reported.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// A file operation that failed, and on which path.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct FileError {
    /// What was tried, as a verb phrase.
    pub action: &'static str,
    /// The path.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// True when the file was there already.
    pub fn already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// True when the file is not there.
    pub fn not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { action, path, source }
}

/// Creates a file with mode 0600 and puts it on disk. Whatever is at the path already, a symbolic link included, is an
/// error and stays as it is. A half-written file is removed.
pub fn write_new(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let error = || failed("could not write", path);
    // O_CREAT | O_EXCL: POSIX demands failure when the name is a symbolic link, dangling or not.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(error())?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
    written.map_err(|e| {
        // Ours, since this call created it.
        let _ = fs::remove_file(path);
        error()(e)
    })
}

/// Replaces a file's content atomically: readers see the old content or the new one, also after a crash. Mode 0600.
/// The file that a symbolic link points to is replaced, not the link.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let error = || failed("could not replace", path);
    let target = fs::canonicalize(path).map_err(error())?;
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = target.with_file_name(name);
    match fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error()(e)),
        _ => {}
    }
    write_new(&fresh, content)?;
    fs::rename(&fresh, &target).and_then(|()| sync_parent(&target)).map_err(|e| {
        let _ = fs::remove_file(&fresh);
        error()(e)
    })
}

/// Makes a directory (and its parents) that only its owner can enter; tightens one that exists.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    let error = || failed("could not create directory", path);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(error())?;
    if fs::metadata(path).map_err(error())?.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(error())?;
    }
    Ok(())
}

/// Reads a text file of at most `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<String, FileError> {
    let error = || failed("could not read", path);
    let mut text = String::new();
    let file = File::open(path).map_err(error())?;
    io::Read::read_to_string(&mut io::Read::take(file, max + 1), &mut text).map_err(error())?;
    if text.len() as u64 > max {
        return Err(error()(io::Error::other(format!("it is larger than {max} bytes"))));
    }
    Ok(text)
}

/// True when somebody other than the owner may read or write the file.
pub fn is_open_to_others(path: &Path) -> Result<bool, FileError> {
    let found = fs::metadata(path).map_err(failed("could not read", path))?;
    Ok(found.mode() & 0o077 != 0)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_private_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_new(&path, b"one").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(write_new(&path, b"two").unwrap_err().already_exists());
        assert_eq!(read(&path, 100).unwrap(), "one");
    }

    #[test]
    fn a_symbolic_link_is_refused_even_when_it_dangles() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(write_new(&link, b"x").unwrap_err().already_exists());
        assert!(!target.exists());
    }

    #[test]
    fn replacing_keeps_the_link_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        write_new(&target, b"one").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert_eq!(read(&target, 100).unwrap(), "two");
        assert_eq!(mode(&target), 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(replace(&dir.path().join("absent"), b"x").unwrap_err().not_found());
    }

    #[test]
    fn reading_is_capped_and_directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        private_dir(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        private_dir(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
        let path = inner.join("f");
        write_new(&path, b"1234").unwrap();
        assert!(read(&path, 4).is_ok());
        assert!(read(&path, 3).is_err());
        assert!(!is_open_to_others(&path).unwrap());
    }
}
