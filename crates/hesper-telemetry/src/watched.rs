//! Files that may change while we run: read again when they do, without a restart.
//!
//! Nothing runs in the background: who needs the content asks for it, and at most once per interval that looks at the files.
//! So what counts is never older than the interval, after a quiet night too.

use arc_swap::ArcSwap;
use std::{
    fmt, fs, io,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

/// How often credentials are looked at when no interval is set.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);
/// A file that was changed so shortly before it was read may change again without a new time: it is read once more.
const SETTLED: Duration = Duration::from_secs(2);
/// Larger than any certificate bundle, htpasswd, token or key file that is meant.
const MAX_SIZE: u64 = 16 << 20;

type Load<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// What files say, as of at most an interval ago. When they become unreadable, what they said before stays, and that is told once.
pub(crate) struct Watched<T> {
    files: Vec<PathBuf>,
    interval: Option<Duration>,
    load: Load<T>,
    current: ArcSwap<T>,
    state: Mutex<State>,
}

struct State {
    due: Instant,
    seen: Vec<Option<Stamp>>,
    settled: bool,
    told: Option<String>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Watched<T> {
    /// Loads for the first time. `interval` none, or no files: never again.
    pub(crate) fn new<E: fmt::Display>(
        files: Vec<PathBuf>,
        interval: Option<Duration>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        let (seen, settled) = look(&files);
        let current = ArcSwap::from_pointee(load()?);
        let due = Instant::now() + interval.unwrap_or_default();
        let load: Load<T> = Box::new(move || load().map_err(|e| e.to_string()));
        let state = Mutex::new(State { due, seen, settled, told: None });
        Ok(Self { interval: interval.filter(|_| !files.is_empty()), files, load, current, state })
    }

    /// What the files say.
    pub(crate) fn current(&self) -> Arc<T> {
        if let Some(interval) = self.interval {
            self.refresh(interval, Instant::now());
        }
        self.current.load_full()
    }

    fn refresh(&self, interval: Duration, now: Instant) {
        // Whoever does not get the lock is content with what there is: somebody is looking.
        let Ok(mut state) = self.state.try_lock() else { return };
        if now < state.due {
            return;
        }
        state.due = now + interval;
        let (seen, settled) = look(&self.files);
        let changed = seen != state.seen;
        if !changed && state.settled {
            return;
        }
        // The stamps are from before the reading: a change that comes in between is seen the next time.
        (state.seen, state.settled) = (seen, settled);
        match (self.load)() {
            Ok(fresh) => {
                if changed || state.told.is_some() {
                    tracing::info!(files = ?self.files, "read again, since they changed");
                }
                self.current.store(Arc::new(fresh));
                state.told = None;
            }
            Err(error) => {
                if state.told.as_ref() != Some(&error) {
                    tracing::warn!(files = ?self.files, %error, "changed and cannot be used; what they said before stays in force");
                }
                state.told = Some(error);
                state.settled = false;
            }
        }
    }
}

/// The stamps of all files, and whether none of them changed just now.
fn look(files: &[PathBuf]) -> (Vec<Option<Stamp>>, bool) {
    let now = SystemTime::now();
    let mut settled = true;
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        settled &= found.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > SETTLED));
        Some(Stamp {
            file: (found.dev(), found.ino()),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    let stamps = files.iter().map(stamp).collect();
    (stamps, settled)
}

/// Reads a text file; errors name it.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let failed = |e: io::Error| format!("{} cannot be read: {e}", path.display());
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(format!("{} is larger than {MAX_SIZE} bytes", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number in a file, looked at whenever it is asked for.
    fn number(path: &Path, interval: Option<Duration>) -> Result<Watched<u32>, String> {
        let file = path.to_owned();
        let load = move || read(&file)?.trim().parse::<u32>().map_err(|e| e.to_string());
        Watched::new(vec![path.to_owned()], interval, load)
    }

    #[test]
    fn what_changes_is_read_again_and_what_breaks_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("n");
        assert!(number(&path, Some(Duration::ZERO)).expect_err("no file").contains("cannot be read"));
        fs::write(&path, "1").expect("written");
        let watched = number(&path, Some(Duration::ZERO)).expect("a number");
        assert_eq!(*watched.current(), 1);
        // In the same tick of the clock, of the same length.
        fs::write(&path, "2").expect("written");
        assert_eq!(*watched.current(), 2);
        for broken in ["x", ""] {
            fs::write(&path, broken).expect("written");
            assert_eq!(*watched.current(), 2);
        }
        fs::remove_file(&path).expect("removed");
        assert_eq!(*watched.current(), 2);
        fs::write(&path, "3").expect("written");
        assert_eq!(*watched.current(), 3);
    }

    #[test]
    fn nothing_is_looked_at_before_its_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("n");
        fs::write(&path, "1").expect("written");
        let (hour, never) = (Duration::from_secs(3600), number(&path, None).expect("a number"));
        let hourly = number(&path, Some(hour)).expect("a number");
        fs::write(&path, "2").expect("written");
        assert_eq!((*never.current(), *hourly.current()), (1, 1));
        hourly.refresh(hour, Instant::now() + hour);
        assert_eq!((*never.current(), *hourly.current()), (1, 2));
    }
}
