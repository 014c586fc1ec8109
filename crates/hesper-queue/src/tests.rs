//! The whole log: its promises, on a disk that breaks in every way that disks do.

mod basics;
mod bytes;
mod faults;
mod full;
mod model;
mod power;

use crate::{
    Begin, Clock, DropReason, Entry, Event, Log, Options, Reader, Record, Recovery, faulty::FaultyDisk,
};
use ::bytes::Bytes;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Small enough for a dozen segments in a test; cursors are saved when a test says so.
fn small() -> Options {
    Options {
        segment_bytes: 400,
        max_record_bytes: 400,
        max_bytes: 4_000,
        waiting_bytes: 100_000,
        group_bytes: 400,
        save_every: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// An [`Event`], kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Dropped { destination: String, reason: DropReason, count: u64, seqs: Vec<u64> },
    Damaged { bytes: u64, records: u64 },
    Fault(&'static str),
}

/// A disk, and what logs on it are opened with.
struct World {
    disk: FaultyDisk,
    options: Options,
    now_ms: Arc<AtomicU64>,
    told: Arc<Mutex<Vec<Told>>>,
}

impl World {
    fn new(options: Options) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_000_000));
        Self { disk: FaultyDisk::new(), options, now_ms, told: Arc::default() }
    }

    fn open(&self) -> (Log, Recovery) {
        let told = self.told.clone();
        let observer = Arc::new(move |event: &Event<'_>| told.lock().expect("lock").push(Told::from(event)));
        let now_ms = self.now_ms.clone();
        let clock: Clock = Arc::new(move || now_ms.load(Ordering::Relaxed));
        let path = Path::new("/queue");
        Log::open_on(Arc::new(self.disk.clone()), path, self.options.clone(), observer, clock)
            .expect("opened")
    }

    /// Everything told since the last time.
    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().expect("lock"))
    }

    fn entry(&self, payload: impl Into<Vec<u8>>) -> Entry {
        let payload = Bytes::from(payload.into());
        Entry { time_ms: self.now_ms.load(Ordering::Relaxed), header: Bytes::from_static(b"origin"), payload }
    }

    /// Appends these, one group each.
    async fn append(&self, log: &Log, payloads: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Vec<u64> {
        let mut seqs = Vec::new();
        for payload in payloads {
            seqs.push(log.appender().append(self.entry(payload)).await.expect("appended"));
        }
        seqs
    }

    fn segments(&self) -> usize {
        use crate::disk::Disk;
        let names = self.disk.list().expect("list");
        names.iter().filter(|name| name.ends_with(".seg")).count()
    }
}

impl From<&Event<'_>> for Told {
    fn from(event: &Event<'_>) -> Self {
        match event {
            Event::Dropped { destination, reason, count, records, .. } => Self::Dropped {
                destination: (*destination).to_owned(),
                reason: *reason,
                count: *count,
                seqs: records.iter().map(|record| record.seq).collect(),
            },
            Event::Damaged { bytes, records, .. } => Self::Damaged { bytes: *bytes, records: *records },
            Event::Fault { doing, .. } => Self::Fault(doing),
        }
    }
}

/// Everything up to the end.
async fn drain(reader: &mut Reader) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let records = reader.read(1000).await.expect("read");
        if records.is_empty() {
            return all;
        }
        all.extend(records);
    }
}

fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq).collect()
}

fn payloads(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.payload.to_vec()).collect()
}

/// The payloads of everything in the log, as a destination that begins with the oldest record gets it.
async fn everything(log: &Log) -> Vec<Vec<u8>> {
    let mut reader = log.reader("audit", Begin::Oldest).await.expect("reader");
    payloads(&drain(&mut reader).await)
}

/// A payload that is 60 bytes long, so that four records make a segment of [`small`].
fn payload(number: u64) -> Vec<u8> {
    format!("{number:060}").into_bytes()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
}
