//! The log of a pipeline, with its book beside it.
//!
//! The book goes to disk before anything is acknowledged to the log. So after a crash the book knows everything that the log's cursors
//! know: what it has beyond them is acknowledged again, and what was stored after it was written is read from the log and counted. The
//! destination `~ledger` of the log holds back what is not in the file.

use super::{
    OpenError,
    desk::{self, Desk, LEDGER, Saved},
    ledger::{Entry, Row},
    numbers::QueueIds,
    plan::Storage,
    source::DiskSource,
};
use crate::origin::RecordHeader;
use hesper_queue::{Acker, Appender, Begin, Clock, Disk, Event, Log, Options, Reader, Recovery, Stats};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

/// How often the book is written down: what a crash undoes is delivered again.
pub(crate) const SAVE_EVERY: Duration = Duration::from_millis(500);
/// When somebody waits for room, which only what is written down gives.
const HURRY: Duration = Duration::from_millis(20);
/// The pause after the disk refused.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a log that somebody else has open is tried again.
const LOCK_POLL: Duration = Duration::from_millis(20);
/// How much is read at once when a log is opened, bytes.
const READ: usize = 4 << 20;

/// Opens a directory as a disk. The tests have one that breaks.
pub(crate) type Disks = Arc<dyn Fn(&Path) -> io::Result<Arc<dyn Disk>> + Send + Sync>;

/// What a log stands on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) disks: Disks,
    pub(crate) clock: Clock,
    /// How often the book is written down.
    pub(crate) save_every: Duration,
}

/// An open log. Dropping it leaves everything on disk as a crash would.
pub(crate) struct Store {
    pub(crate) storage: Storage,
    pub(crate) desk: Arc<Desk>,
    pub(crate) appender: Appender,
    ids: Arc<QueueIds>,
    ackers: Arc<Ackers>,
    hurry: Arc<Notify>,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
    log: Log,
    pipeline: String,
}

#[derive(Default)]
struct Ackers(Mutex<BTreeMap<String, Acker>>);

impl Ackers {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Acker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledge(&self, saved: &Saved) {
        for (name, acker) in &*self.all() {
            for range in saved.settled.get(name).into_iter().flat_map(|settled| settled.iter()) {
                acker.ack_range(range);
            }
        }
    }
}

/// What was opened before anybody reads.
struct Opened {
    desk: Arc<Desk>,
    log: Log,
    recovery: Recovery,
    ids: QueueIds,
}

impl Store {
    /// Opens the log of a pipeline for these destinations, and counts what the last process left.
    pub(crate) async fn open(
        pipeline: &str,
        storage: &Storage,
        destinations: &[String],
        ground: &Ground,
    ) -> Result<(Arc<Self>, Vec<DiskSource>), OpenError> {
        let directory = storage.directory.join(escaped(pipeline));
        let opened = open_log(pipeline, storage, &directory, ground).await?;
        tell(pipeline, &opened.recovery);
        let Opened { desk, log, ids, .. } = opened;
        let (ids, ackers) = (Arc::new(ids), Arc::new(Ackers::default()));
        let mut sources = Vec::new();
        let next = log.stats().next;
        desk.book().truncate(next);
        for name in destinations {
            let reader = log.reader(name, Begin::End).await?;
            sources.push(source(pipeline, &desk, &ids, &ackers, reader));
        }
        let ledger = count_rest(&log, &desk, next).await?;
        ackers.all().insert(LEDGER.to_owned(), ledger.acker());
        let hurry = Arc::new(Notify::new());
        let keeper = Keeper {
            desk: desk.clone(),
            ackers: ackers.clone(),
            hurry: hurry.clone(),
            every: ground.save_every,
        };
        // The reader of the ledger is given back with the keeper: nobody else may have it.
        let keeper = AbortOnDropHandle::new(tokio::spawn(keeper.run(ledger)));
        let store = Self {
            storage: storage.clone(),
            appender: log.appender(),
            ids,
            ackers,
            hurry,
            keeper: Mutex::new(Some(keeper)),
            log,
            desk,
            pipeline: pipeline.to_owned(),
        };
        // What was acknowledged late is so now, and what was counted just now is kept.
        store.save().await;
        Ok((Arc::new(store), sources))
    }

    /// Begins to serve another destination; one that the log does not know, from now on.
    pub(crate) async fn add(&self, name: &str) -> Result<DiskSource, hesper_queue::DestinationError> {
        let reader = self.log.reader(name, Begin::End).await?;
        Ok(source(&self.pipeline, &self.desk, &self.ids, &self.ackers, reader))
    }

    /// Forgets a destination that nobody serves, and what it has yet to get.
    pub(crate) async fn forget(&self, name: &str) -> Result<(), hesper_queue::DestinationError> {
        self.ackers.all().remove(name);
        self.log.forget(name).await?;
        self.desk.book().forget(name);
        self.save().await;
        Ok(())
    }

    /// The destinations that the log keeps records for.
    pub(crate) fn destinations(&self) -> Vec<String> {
        let stats = self.log.stats();
        stats.destinations.into_keys().filter(|name| name != LEDGER).collect()
    }

    /// Batches that its destinations have yet to get, summed over them.
    pub(crate) fn queued(&self) -> u64 {
        let destinations = self.log.stats().destinations.into_iter().filter(|(name, _)| name != LEDGER);
        destinations.map(|(_, destination)| destination.queued_records).sum()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.log.stats()
    }

    /// Somebody found the log full.
    pub(crate) fn is_wanting(&self) {
        self.hurry.notify_one();
        self.desk.changed.notify_one();
    }

    /// Writes everything down, now.
    pub(crate) async fn save(&self) {
        save(&self.desk, &self.ackers).await;
        self.log.flush().await;
    }

    /// Writes everything down, and lets the log go when nobody else has it.
    pub(crate) async fn close(self: Arc<Self>) {
        // The task holds the ledger's reader.
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(keeper);
        self.save().await;
        if let Ok(store) = Arc::try_unwrap(self) {
            store.log.flush().await;
            // Its threads end what they do.
            let _ = tokio::task::spawn_blocking(move || drop(store)).await;
        }
    }
}

fn source(
    pipeline: &str,
    desk: &Arc<Desk>,
    ids: &Arc<QueueIds>,
    ackers: &Arc<Ackers>,
    reader: Reader,
) -> DiskSource {
    let lost = desk.book().open(reader.name(), &reader.acknowledged());
    if lost > 0 {
        let destination = reader.name();
        tracing::warn!(pipeline, destination, records = lost, "gone from the queue: the ledger says damaged");
    }
    ackers.all().insert(reader.name().to_owned(), reader.acker());
    let (desk, ids) = (desk.clone(), ids.clone());
    DiskSource { reader, desk, ids, pipeline: pipeline.to_owned(), paused: false }
}

/// Opens the log, and waits for another process that has it.
async fn open_log(
    pipeline: &str,
    storage: &Storage,
    directory: &Path,
    ground: &Ground,
) -> Result<Opened, OpenError> {
    let until = Instant::now() + storage.timeout;
    loop {
        let (pipeline, storage, directory) = (pipeline.to_owned(), storage.clone(), directory.to_owned());
        let ground = ground.clone();
        let open = move || open_blocking(&pipeline, &storage, &directory, &ground);
        match tokio::task::spawn_blocking(open).await {
            Ok(Err(OpenError::Queue(hesper_queue::OpenError::InUse { .. }))) if Instant::now() < until => {
                sleep(LOCK_POLL).await;
            }
            Ok(opened) => return opened,
            Err(error) => return Err(OpenError::Task(error.to_string())),
        }
    }
}

fn open_blocking(
    pipeline: &str,
    storage: &Storage,
    directory: &Path,
    ground: &Ground,
) -> Result<Opened, OpenError> {
    let failed = |doing| move |source| OpenError::Io { doing, path: directory.to_owned(), source };
    let disk = (ground.disks)(directory).map_err(failed("open the queue"))?;
    let (desk, file) = Desk::load(pipeline, disk.clone()).map_err(failed("read the ledger"))?;
    let desk = Arc::new(desk);
    let observed = desk.clone();
    let observer = Arc::new(move |event: &Event<'_>| observed.observe(event));
    // What is settled is in the ledger's file first, and is acknowledged again from there after a crash: the cursors have no hurry.
    let options = Options { save_every: 10 * ground.save_every, ..storage.options() };
    let (log, recovery) = Log::open_on(disk.clone(), directory, options, observer, ground.clock.clone())?;
    // Before the lock was ours, another process may have ended its work.
    if !desk.is_as_loaded(file.as_deref()).map_err(failed("read the ledger"))? && !desk.is_dirty() {
        return Err(hesper_queue::OpenError::InUse { path: directory.to_owned() }.into());
    }
    let stats = log.stats();
    let ids = QueueIds::open(&*disk, stats.next - stats.records, stats.next);
    Ok(Opened { desk, log, recovery, ids: ids.map_err(failed("write the queue's id"))? })
}

/// Reads what was stored after the book was written. The reader that did so.
async fn count_rest(log: &Log, desk: &Desk, next: u64) -> Result<Reader, hesper_queue::DestinationError> {
    let mut reader = log.reader(LEDGER, Begin::Oldest).await?;
    if !knows(desk, log, &reader) {
        // The book is lost, or older than the cursor: everything is read that is there.
        drop(reader);
        log.forget(LEDGER).await?;
        reader = log.reader(LEDGER, Begin::Oldest).await?;
    }
    loop {
        match reader.read(READ).await {
            Ok(records) if records.is_empty() => break,
            Ok(records) => {
                let mut book = desk.book();
                for record in records {
                    match RecordHeader::decode(&record.header) {
                        Ok(header) => book.accept(record.seq, &Entry::of(&header)),
                        Err(_) => book.pass(record.seq..record.seq + 1),
                    }
                }
            }
            Err(hesper_queue::ReadError::Closed) => return Err(hesper_queue::DestinationError::Closed),
            Err(error) => {
                tracing::warn!(%error, "trying again");
                sleep(PAUSE).await;
            }
        }
    }
    desk.book().pass(0..next);
    Ok(reader)
}

/// Has the book all that is in the log before what the reader has yet to read?
fn knows(desk: &Desk, log: &Log, reader: &Reader) -> bool {
    let stats = log.stats();
    let oldest = stats.next - stats.records;
    let book = desk.book();
    reader.acknowledged().iter().all(|range| {
        let there = range.start.max(oldest)..range.end;
        there.is_empty() || book.counted().count(there.clone()) == there.end - there.start
    })
}

/// Writes the book down whenever it has changed, and acknowledges what is in it.
struct Keeper {
    desk: Arc<Desk>,
    ackers: Arc<Ackers>,
    hurry: Arc<Notify>,
    every: Duration,
}

impl Keeper {
    async fn run(self, _ledger: Reader) {
        loop {
            self.desk.changed.notified().await;
            tokio::select! {
                () = sleep(self.every) => {}
                () = self.hurry.notified() => sleep(HURRY).await,
            }
            if !save(&self.desk, &self.ackers).await {
                sleep(PAUSE).await;
                self.desk.changed.notify_one();
            }
        }
    }
}

/// Whether it was written.
async fn save(desk: &Arc<Desk>, ackers: &Ackers) -> bool {
    let writer = desk.clone();
    match tokio::task::spawn_blocking(move || writer.save()).await {
        Ok(Ok(saved)) => {
            ackers.acknowledge(&saved);
            true
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "the ledger was not written to disk: tried again");
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                // Only a segment that goes makes room.
                ackers.acknowledge(&desk.unsaved());
            }
            false
        }
        // The process ends.
        Err(_) => false,
    }
}

/// Tells of what was not as it should be.
fn tell(pipeline: &str, recovery: &Recovery) {
    let Recovery { segments, records, bytes, torn_bytes, damaged_bytes, damaged_records, .. } = recovery;
    tracing::info!(pipeline, segments, records, bytes, torn_bytes, "opened the queue");
    if *damaged_bytes > 0 {
        tracing::warn!(pipeline, damaged_bytes, damaged_records, "the queue is damaged: skipped");
    }
    for destination in &recovery.unreadable_cursors {
        tracing::warn!(
            pipeline,
            destination,
            "its place in the queue cannot be read: it gets what is there again"
        );
    }
    for (destination, records) in &recovery.missing {
        tracing::warn!(pipeline, destination, records, "segments of the queue are gone");
    }
    for fault in &recovery.faults {
        tracing::warn!(pipeline, "{fault}");
    }
}

/// The name of a pipeline's directory: everything but letters, digits, `-` and `_` as `%XX`.
pub(crate) fn escaped(pipeline: &str) -> PathBuf {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let escape = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    pipeline.bytes().map(escape).collect::<String>().into()
}

/// The ledger of a pipeline below the directory of a `file_storage`, as it was written down last; a pipeline at work does so within
/// seconds. `None`: there is none. Needs nobody's leave: files are replaced as a whole.
///
/// # Errors
/// It cannot be read.
pub fn read_ledger(directory: &Path, pipeline: &str) -> io::Result<Option<Vec<Row>>> {
    let path = directory.join(escaped(pipeline));
    // Opening would make it.
    if !path.is_dir() {
        return Ok(None);
    }
    desk::read(&hesper_queue::Directory::new(&path)?)
}

/// Opens a directory of the file system, which is made when that was asked for.
pub(crate) fn directories(storage: &Storage) -> Disks {
    use std::os::unix::fs::DirBuilderExt;
    let (root, create) = (storage.directory.clone(), storage.create);
    Arc::new(move |path| {
        match create {
            Some(mode) if !root.is_dir() => {
                std::fs::DirBuilder::new().recursive(true).mode(mode).create(&root)?;
            }
            None if !root.is_dir() => {
                let reason = "there is no such directory: make it, or write create_directory: true";
                return Err(io::Error::new(io::ErrorKind::NotFound, reason));
            }
            _ => {}
        }
        Ok(Arc::new(hesper_queue::Directory::new(path)?))
    })
}
