//! The thread that writes: one after the other, and never half a batch.

use super::{
    record::Format,
    rotation::{Older, gone, put_aside, put_aside_at},
};
use hesper_collector_config::exporters::{File as Settings, Rotation};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Instant, SystemTime},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What the thread is asked for.
pub(super) enum Job {
    /// Write this; the permit is for its place in the queue.
    Write {
        path: PathBuf,
        bytes: Vec<u8>,
        done: oneshot::Sender<io::Result<()>>,
        _place: OwnedSemaphorePermit,
    },
    /// Bring everything to the disk.
    Sync { done: oneshot::Sender<()> },
}

/// Files that are open, and how they are written.
pub(super) struct Writer {
    format: Format,
    settings: Settings,
    open: BTreeMap<PathBuf, Open>,
    /// Files that this thread has begun: they are never begun again.
    begun: BTreeSet<PathBuf>,
    turn: u64,
}

struct Open {
    file: File,
    len: u64,
    /// When it was written last, to close the one that waits longest.
    turn: u64,
    dirty: bool,
}

impl Writer {
    pub(super) fn new(settings: Settings) -> Self {
        let format = Format::of(&settings);
        Self { format, settings, open: BTreeMap::new(), begun: BTreeSet::new(), turn: 0 }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        let interval = self.settings.flush_interval.max(std::time::Duration::from_millis(10));
        let mut next = Instant::now() + interval;
        loop {
            match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Job::Write { path, bytes, done, _place }) => {
                    let result = self.write(&path, &bytes);
                    if result.is_err() {
                        // What is left of it is looked at when it is opened again.
                        self.open.remove(&path);
                    }
                    // Nobody may be waiting any more.
                    let _ = done.send(result);
                }
                Ok(Job::Sync { done }) => {
                    self.sync();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.sync();
                    next = Instant::now() + interval;
                }
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
        }
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.turn += 1;
        let turn = self.turn;
        if !self.open.contains_key(path) {
            let opened = self.begin(path)?;
            self.make_room();
            self.open.insert(path.to_owned(), opened);
        }
        if let Some(rotation) = self.settings.rotation.clone() {
            self.rotate(path, bytes.len() as u64, &rotation)?;
        }
        let Some(open) = self.open.get_mut(path) else { return Err(io::Error::other("it is not open")) };
        if let Err(error) = open.file.write_all(bytes) {
            // Half a batch would make the rest unreadable.
            open.file.set_len(open.len)?;
            open.file.seek(SeekFrom::Start(open.len))?;
            return Err(error);
        }
        (open.len, open.turn, open.dirty) = (open.len + bytes.len() as u64, turn, true);
        Ok(())
    }

    fn begin(&mut self, path: &Path) -> io::Result<Open> {
        if self.settings.create_directory
            && let Some(directory) = path.parent()
        {
            fs::create_dir_all(directory)?;
        }
        let settings = &self.settings;
        let keep = settings.append || settings.rotation.is_some() || settings.group_by.is_some();
        let fresh = !keep && !self.begun.contains(path);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(fresh).open(path)?;
        let len = self.format.mend(&mut file)?;
        if !keep {
            self.begun.insert(path.to_owned());
        }
        Ok(Open { file, len, turn: self.turn, dirty: false })
    }

    /// Closes the file that was not written for longest when there are too many.
    fn make_room(&mut self) {
        let most = self.settings.group_by.as_ref().map_or(u64::MAX, |group| group.max_open_files);
        while self.open.len() as u64 >= most.max(1) {
            let Some(path) = self.open.iter().min_by_key(|(_, open)| open.turn).map(|(path, _)| path.clone())
            else {
                return;
            };
            if let Some(open) = self.open.remove(&path) {
                sync(&path, &open);
            }
        }
    }

    fn rotate(&mut self, path: &Path, more: u64, rotation: &Rotation) -> io::Result<()> {
        let full =
            self.open.get(path).is_some_and(|open| open.len > 0 && open.len + more > rotation.max_size);
        if !full {
            return Ok(());
        }
        let now = SystemTime::now();
        let free = (0..1000).map(|try_no| put_aside(path, now, try_no)).find(|aside| !aside.exists());
        let aside = free.ok_or_else(|| io::Error::other("no name is left for the older file"))?;
        if let Some(open) = self.open.remove(path) {
            sync(path, &open);
        }
        fs::rename(path, &aside)?;
        let opened = self.begin(path)?;
        self.open.insert(path.to_owned(), opened);
        for path in gone(older(path)?, rotation, now) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an older file cannot be removed");
            }
        }
        Ok(())
    }

    fn sync(&mut self) {
        for (path, open) in self.open.iter_mut().filter(|(_, open)| open.dirty) {
            sync(path, open);
            open.dirty = false;
        }
    }
}

fn sync(path: &Path, open: &Open) {
    if let Err(error) = open.file.sync_data() {
        tracing::warn!(path = %path.display(), %error, "a file cannot be brought to the disk");
    }
}

/// The older files of a path.
fn older(path: &Path) -> io::Result<Vec<Older>> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(since) = put_aside_at(path, &entry.file_name().to_string_lossy()) {
            found.push(Older { path: entry.path(), since, size: entry.metadata()?.len() });
        }
    }
    Ok(found)
}
