//! The few things that the log asks of a disk, and the directory that does them.

use crate::walk::ReadAt;
use std::{
    any::Any,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The file that is locked while a log is open.
const LOCK: &str = "lock";

/// One flat directory of files.
///
/// Names are durable after [`Disk::sync_names`], bytes after [`DiskFile::sync`]; what was not synchronised may be there after
/// a power cut, in part, or not. A rename is never half.
pub trait Disk: Send + Sync {
    /// Keeps others out until the guard is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The names of all files.
    ///
    /// # Errors
    /// As the disk says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new empty file, in the place of one that may have that name.
    ///
    /// # Errors
    /// As the disk says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// A file to read and write.
    ///
    /// # Errors
    /// `NotFound`, and as the disk says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in the place of one that may have it.
    ///
    /// # Errors
    /// As the disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open can still read it.
    ///
    /// # Errors
    /// As the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes what was created, renamed and removed durable.
    ///
    /// # Errors
    /// As the disk says.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length, bytes.
    ///
    /// # Errors
    /// As the disk says.
    fn size(&self) -> io::Result<u64>;

    /// Reads some bytes; 0 at the end.
    ///
    /// # Errors
    /// As the disk says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes. After an error some may be written.
    ///
    /// # Errors
    /// As the disk says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off.
    ///
    /// # Errors
    /// As the disk says.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes bytes and length durable. After an error nobody knows which of them are, and a second call would not tell.
    ///
    /// # Errors
    /// As the disk says.
    fn sync(&self) -> io::Result<()>;
}

impl ReadAt for dyn DiskFile + '_ {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(self, buffer, offset)
    }
}

/// A directory of the file system, made where there is none. Telemetry is private: nobody but the owner may read it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Opens or makes the directory.
    ///
    /// # Errors
    /// When it cannot be made or its name not be made durable.
    pub fn new(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let path = path.canonicalize()?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { path })
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

impl Disk for Directory {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = Self::options().create(true).truncate(false).open(self.path.join(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        // A name that is no text is none of ours.
        let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
        entries.filter_map(|entry| entry.map(name).transpose()).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        // Not truncated: after a failed fsync the pages of an old file are not to be trusted.
        match self.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Arc::new(Self::options().create_new(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Self::options().open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        // The length is data too, says fdatasync(2); times are not.
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn nobody_else_reads_it() {
        let place = tempfile::tempdir().expect("tempdir");
        let path = place.path().join("a/queue");
        let disk = Directory::new(&path).expect("made");
        disk.create("x").expect("created");
        let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(path.clone()), 0o700);
        assert_eq!(mode(path.join("x")), 0o600);
    }

    #[test]
    fn one_at_a_time() {
        let place = tempfile::tempdir().expect("tempdir");
        let (one, two) = (Directory::new(place.path()), Directory::new(place.path()));
        let (one, two) = (one.expect("opened"), two.expect("opened"));
        let guard = one.lock().expect("free");
        assert_eq!(two.lock().expect_err("taken").kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        two.lock().expect("free again");
    }

    #[test]
    fn created_files_are_new_ones() {
        let place = tempfile::tempdir().expect("tempdir");
        let disk = Directory::new(place.path()).expect("opened");
        let old = disk.create("x").expect("created");
        old.write_at(b"old", 0).expect("written");
        let new = disk.create("x").expect("created");
        assert_eq!((old.size().expect("size"), new.size().expect("size")), (3, 0));
        disk.rename("x", "y").expect("renamed");
        disk.sync_names().expect("synchronised");
        assert_eq!(disk.list().expect("list"), ["y"]);
        assert_eq!(disk.open("x").err().expect("gone").kind(), io::ErrorKind::NotFound);
        disk.remove("y").expect("removed");
        assert_eq!(disk.list().expect("list"), [""; 0]);
    }
}
