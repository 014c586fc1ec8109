//! A file that does not exist yet and will hold a secret.

use anyhow::{Context, Result};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file reserved before the work whose result it will hold, so that the work is not done for nothing.
///
/// It is created exclusively (`O_EXCL`, which also refuses a symbolic link) with mode 0600, and removed again when it is
/// dropped before [`NewFile::write`] succeeded.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    file: Option<File>,
}

impl NewFile {
    /// Creates the file, empty.
    ///
    /// # Errors
    /// Something of that name exists, or the directory is missing or closed.
    pub(crate) fn reserve(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!(
                    "{} exists already and is not overwritten: remove it or choose another file",
                    path.display()
                )
            }
            _ => anyhow::Error::new(e).context(format!("cannot create {}", path.display())),
        })?;
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the file and makes it last.
    ///
    /// # Errors
    /// The content cannot be written; then the file is removed.
    pub(crate) fn write(mut self, content: &[u8]) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(content)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        self.file = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn it_is_private_and_vanishes_unless_it_was_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.jwt");
        drop(NewFile::reserve(&path).expect("reserved"));
        assert!(!path.exists());
        NewFile::reserve(&path).expect("reserved").write(b"token").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"token");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, link) = (dir.path().join("kept"), dir.path().join("link"));
        fs::write(&path, "kept").expect("written");
        symlink(dir.path().join("elsewhere"), &link).expect("linked");
        for taken in [&path, &link] {
            let error = NewFile::reserve(taken).expect_err("taken").to_string();
            assert!(error.contains("exists already"), "{error}");
        }
        assert_eq!(fs::read(&path).expect("read"), b"kept");
        assert!(!dir.path().join("elsewhere").exists());
        let missing = NewFile::reserve(&dir.path().join("no/such")).expect_err("no directory").to_string();
        assert!(missing.contains("cannot create"), "{missing}");
    }
}
