//! Where everything that happens to a batch is written down: the book, and its file.

use super::{
    files,
    ledger::{Book, DropReason, Entry, Row},
};
use crate::origin::RecordHeader;
use hesper_queue::{Disk, Event, Ranges};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The book's file in the log's directory.
const FILE: &str = "ledger";
/// No file is longer, bytes; a full one has some 6 MiB.
const FILE_MAX: u64 = 64 << 20;
/// The destination of the log that holds back what is not yet in the file. No exporter can be called so.
pub(crate) const LEDGER: &str = "~ledger";

/// The book of one sequence of numbers, and where it is kept.
pub(crate) struct Desk {
    pipeline: String,
    book: Mutex<Book>,
    /// None in memory.
    disk: Option<Arc<dyn Disk>>,
    /// Held while the file is written, so that an older book never replaces a newer one. The version that was written.
    written: Mutex<u64>,
    /// Told when there is something to write down.
    pub(crate) changed: Notify,
}

/// Reads a ledger beside a log, whoever has that open. `None`: there is none.
pub(crate) fn read(disk: &dyn Disk) -> io::Result<Option<Vec<Row>>> {
    let Some(file) = files::read(disk, FILE, FILE_MAX)? else { return Ok(None) };
    let book = Book::decode(&file).ok_or_else(|| io::Error::other("it is damaged"))?;
    Ok(Some(book.rows()))
}

/// What was written down.
pub(crate) struct Saved {
    /// By destination: what may be acknowledged.
    pub(crate) settled: BTreeMap<String, Ranges>,
}

impl Desk {
    /// A book in memory.
    pub(crate) fn in_memory(pipeline: &str) -> Self {
        Self::new(pipeline, None, Book::new(0))
    }

    fn new(pipeline: &str, disk: Option<Arc<dyn Disk>>, book: Book) -> Self {
        let written = Mutex::new(book.version());
        Self { pipeline: pipeline.to_owned(), book: Mutex::new(book), disk, written, changed: Notify::new() }
    }

    /// The book in the log's directory, and the bytes of its file; an empty book where there is none that can be read.
    pub(crate) fn load(pipeline: &str, disk: Arc<dyn Disk>) -> io::Result<(Self, Option<Vec<u8>>)> {
        let file = files::read(&*disk, FILE, FILE_MAX)?;
        let book = file.as_deref().and_then(Book::decode);
        if file.is_some() && book.is_none() {
            tracing::warn!(
                pipeline,
                "the ledger beside the queue cannot be read: it begins anew with what is in the queue"
            );
        }
        Ok((Self::new(pipeline, Some(disk), book.unwrap_or_else(|| Book::new(0))), file))
    }

    /// Is the file as it was loaded? Else somebody else has written it meanwhile.
    pub(crate) fn is_as_loaded(&self, file: Option<&[u8]>) -> io::Result<bool> {
        let Some(disk) = &self.disk else { return Ok(true) };
        Ok(files::read(&**disk, FILE, FILE_MAX)?.as_deref() == file)
    }

    /// The book. Not to be held while anybody waits.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn accept(&self, number: u64, entry: &Entry) {
        self.book().accept(number, entry);
        self.changed.notify_one();
    }

    /// As [`Book::settle`].
    pub(crate) fn settle(
        &self,
        destination: &str,
        number: u64,
        entry: &Entry,
        dropped: &[(DropReason, u64)],
    ) -> bool {
        let news = self.book().settle(destination, number, entry, dropped);
        self.changed.notify_one();
        news
    }

    /// As [`Book::lose`].
    pub(crate) fn lose(&self, destination: &str, numbers: std::ops::Range<u64>) {
        self.book().lose(destination, numbers);
        self.changed.notify_one();
    }

    /// Is there anything that is not written down?
    pub(crate) fn is_dirty(&self) -> bool {
        let written = *self.written.lock().unwrap_or_else(PoisonError::into_inner);
        self.disk.is_some() && self.book().version() != written
    }

    /// Writes the book down. Blocks until it is on disk.
    pub(crate) fn save(&self) -> io::Result<Saved> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, file, saved) = {
            let book = self.book();
            let version = book.version();
            let disk = self.disk.as_ref().filter(|_| version != *written);
            (version, disk.map(|disk| (disk, book.encode())), self.settled(&book))
        };
        if let Some((disk, file)) = file {
            files::write(&**disk, FILE, &file)?;
            *written = version;
        }
        Ok(saved)
    }

    /// What may be acknowledged if it need not be written down.
    pub(crate) fn unsaved(&self) -> Saved {
        self.settled(&self.book())
    }

    fn settled(&self, book: &Book) -> Saved {
        let mut settled: BTreeMap<_, _> =
            book.destinations().map(|name| (name.to_owned(), book.settled(name))).collect();
        settled.insert(LEDGER.to_owned(), book.counted().clone());
        Saved { settled }
    }

    /// What the log tells of itself. Called by its threads.
    pub(crate) fn observe(&self, event: &Event<'_>) {
        let pipeline = &self.pipeline;
        match event {
            Event::Dropped { destination, reason, count, records, among } => {
                tracing::warn!(pipeline, destination, %reason, records = count, "dropped from the queue");
                if *destination == LEDGER {
                    self.count_gone(records, among.clone());
                } else if records.is_empty() {
                    self.lose(destination, among.clone());
                } else {
                    self.dropped(destination, (*reason).into(), records);
                }
            }
            Event::Damaged { file, offset, bytes, records } => {
                tracing::warn!(pipeline, file, offset, bytes, records, "the queue is damaged: skipped");
            }
            Event::Fault { doing, file, error } => {
                tracing::warn!(pipeline, file, %error, "the queue could not {doing} a file: it tries again");
            }
        }
    }

    /// Records that nobody has counted yet, and that will not be read any more.
    fn count_gone(&self, records: &[hesper_queue::DroppedRecord], among: std::ops::Range<u64>) {
        let mut book = self.book();
        for record in records {
            match RecordHeader::decode(&record.header) {
                Ok(header) => book.accept(record.seq, &Entry::of(&header)),
                Err(_) => book.pass(record.seq..record.seq + 1),
            }
        }
        if records.is_empty() {
            book.pass(among);
        }
    }

    /// The log writes its cursors down next, and deletes the records: so the book goes first.
    fn dropped(&self, destination: &str, reason: DropReason, records: &[hesper_queue::DroppedRecord]) {
        {
            let mut book = self.book();
            for record in records {
                match RecordHeader::decode(&record.header) {
                    Ok(header) => {
                        let entry = Entry::of(&header);
                        book.settle(destination, record.seq, &entry, &[(reason, entry.items)]);
                    }
                    Err(_) => {
                        book.lose(destination, record.seq..record.seq + 1);
                    }
                }
            }
        }
        if let Err(error) = self.save() {
            tracing::warn!(pipeline = self.pipeline, %error, "the ledger was not written to disk");
        }
        self.changed.notify_one();
    }
}
