//! The file in which events are kept: one JSON object per line, private, and rotated before it grows too large.
//!
//! `audit.jsonl` is the newest, `audit.jsonl.1` the one before, and so on. What goes is the oldest file; a rotation that fails leaves
//! everything where it is, and the lines go on into the file that is there.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

/// Smallest file before a rotation: the longest events still fit into one.
const FILE_MIN: u64 = 64 * 1024;
/// Most files.
const FILES_MAX: usize = 1_000;
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of one file; the next line goes into a new one.
    pub file_size: Size,
    /// Files, the newest among them.
    pub files: usize,
}

impl Default for Retention {
    /// 5 files of 100 MiB.
    fn default() -> Self {
        Self { file_size: Size(100 << 20), files: 5 }
    }
}

/// A retention that loses lines that were just written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRetention {
    /// Too small.
    #[error("audit files of {0} are too small: give at least {least}", least = Size(FILE_MIN))]
    Size(Size),
    /// Too few or too many.
    #[error("{0} audit files are not possible: keep 2 to {FILES_MAX}")]
    Files(usize),
}

impl Retention {
    /// Can it be kept?
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self) -> Result<Self, InvalidRetention> {
        if self.file_size.0 < FILE_MIN {
            return Err(InvalidRetention::Size(self.file_size));
        }
        // With a single one, all that was written would go at once.
        if !(2..=FILES_MAX).contains(&self.files) {
            return Err(InvalidRetention::Files(self.files));
        }
        Ok(self)
    }
}

/// A number of bytes as people write it: `100MiB`, `64KiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// Text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size: write a number with a unit, such as 100MiB, 64KiB or 1GiB")]
pub struct InvalidSize(String);

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let parse = || {
            let (number, unit) =
                UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
            number.parse::<u64>().ok()?.checked_mul(*unit)
        };
        parse().map(Self).ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, u64)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl TryFrom<String> for Size {
    type Error = InvalidSize;
    fn try_from(text: String) -> Result<Self, InvalidSize> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

/// The file that lines go to.
pub(super) struct Keeper<W = File> {
    out: W,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
    path: PathBuf,
    retention: Retention,
    /// The last rotation failed.
    stuck: bool,
}

impl Keeper {
    /// Appends to a file, which is made if it is missing, and made private (0600).
    pub(super) fn open(path: &Path, retention: Retention) -> io::Result<Self> {
        let out = private(path)?;
        let torn = !ends_with_newline(path, &out)?;
        Ok(Self { out, torn, path: path.to_owned(), retention, stuck: false })
    }

    /// Writes a line, into a new file when this one is large enough.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        // Asked each time: others may have emptied it.
        let length = self.out.metadata().map_or(0, |metadata| metadata.len());
        if length > 0 && length.saturating_add(line.len() as u64) >= self.retention.file_size.0 {
            match self.rotate() {
                Ok(()) => self.stuck = false,
                Err(fault) => {
                    if !std::mem::replace(&mut self.stuck, true) {
                        let path = self.path.display();
                        tracing::warn!(%fault, %path, "the audit file could not be rotated and grows on: check its directory");
                    }
                }
            }
        }
        self.write(line)
    }

    /// Moves each file one number on and begins a new one. Nothing is changed for the file in use until the new one is open.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered: Vec<PathBuf> = (1..self.retention.files).map(|n| numbered(&self.path, n)).collect();
        // A rotation that was cut short has left a gap, into which the others move; without one, the oldest goes.
        let gap = numbered.iter().position(|path| !path.exists()).unwrap_or(numbered.len() - 1);
        for at in (0..gap).rev() {
            fs::rename(&numbered[at], &numbered[at + 1])?;
        }
        let Some(first) = numbered.first() else { return Ok(()) };
        fs::rename(&self.path, first)?;
        match private(&self.path) {
            Ok(out) => {
                (self.out, self.torn) = (out, false);
                self.prune();
                Ok(())
            }
            Err(fault) => {
                // The file in use keeps its name.
                fs::rename(first, &self.path)?;
                Err(fault)
            }
        }
    }

    /// Fewer files may be wanted than there were before.
    fn prune(&self) {
        let beyond = (self.retention.files..=FILES_MAX).map(|n| numbered(&self.path, n));
        for path in beyond.take_while(|path| path.exists()) {
            if let Err(fault) = fs::remove_file(&path) {
                tracing::warn!(%fault, path = %path.display(), "an old audit file could not be removed");
                return;
            }
        }
    }
}

impl<W: Write> Keeper<W> {
    #[cfg(test)]
    pub(super) fn to(out: W) -> Self {
        Self { out, torn: false, path: PathBuf::new(), retention: Retention::default(), stuck: false }
    }

    /// Writes a line whole and at once.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        let mut whole = Vec::with_capacity(line.len() + 2);
        if self.torn {
            // Ends the piece of a line that the failed write may have left.
            whole.push(b'\n');
        }
        whole.extend_from_slice(line.as_bytes());
        whole.push(b'\n');
        self.torn = true;
        self.out.write_all(&whole)?;
        self.out.flush()?;
        self.torn = false;
        Ok(())
    }
}

/// `audit.jsonl.3`
fn numbered(path: &Path, n: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{n}"));
    name.into()
}

fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Whether the next line can start right away: the file is empty or its last byte ends a line.
fn ends_with_newline(path: &Path, file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    if length == 0 || !file.metadata()?.is_file() {
        return Ok(true);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests;
