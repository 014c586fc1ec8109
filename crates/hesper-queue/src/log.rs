//! The handles: a log, and who appends to it.

use crate::{
    AppendError, Begin, DestinationError, Directory, Entry, Observer, OpenError, Options, Reader, Stats,
    disk::Disk,
    recovery::{Found, Recovery, recover},
    segment::size_of,
    shared::{Clock, Ends, Message, Shared, Waiting},
    writer::Writer,
};
use std::{
    any::Any,
    future::Future,
    io,
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::oneshot;

/// An open log. It is closed when this is dropped, which waits for the disk; [`Log::close`] does so without keeping the
/// caller's thread.
pub struct Log {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Held until the threads are gone.
    _lock: Box<dyn Any + Send + Sync>,
}

/// Appends to a log. Cheap to clone.
#[derive(Clone)]
pub struct Appender {
    shared: Arc<Shared>,
}

/// A record on its way to disk. The record goes there whether or not this is awaited.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<u64, AppendError>>);

impl Log {
    /// Opens the log in a directory, which is made where there is none, and says what was found. Reads the newest segment,
    /// of the others only the first bytes; damage there shows when they are read. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the options do not fit together, somebody else has the directory, or the disk refuses.
    pub fn open(path: &Path, options: Options, observer: Observer) -> Result<(Self, Recovery), OpenError> {
        let failed = |source| OpenError::Io { doing: "make the queue", path: path.to_owned(), source };
        let disk = Directory::new(path).map_err(failed)?;
        Self::open_on(Arc::new(disk), path, options, observer, Arc::new(now_ms))
    }

    /// As [`Log::open`], on another disk and with another clock; `path` is what errors name.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: Options,
        observer: Observer,
        clock: Clock,
    ) -> Result<(Self, Recovery), OpenError> {
        options.check().map_err(OpenError::Options)?;
        let failed = |doing| move |source| OpenError::Io { doing, path: path.to_owned(), source };
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { path: path.to_owned() },
            _ => failed("lock the queue")(error),
        })?;
        let Found { state, recovery } = recover(&*disk, path)?;
        let (shared, ends) = Shared::new(options, disk, clock, observer, state);
        let mut log = Self { shared, threads: Vec::new(), _lock: lock };
        let Ends { inbox, reads, committed } = ends;
        let writer = Writer::new(log.shared.clone(), inbox, committed);
        log.spawn("queue-write", || writer.run()).map_err(failed("start a thread for the queue"))?;
        let read = move || reads.into_iter().map_while(|job| job).for_each(|job| job());
        log.spawn("queue-read", read).map_err(failed("start a thread for the queue"))?;
        Ok((log, recovery))
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// Somebody who appends.
    pub fn appender(&self) -> Appender {
        Appender { shared: self.shared.clone() }
    }

    /// The reader of a destination. One that the log does not know begins at `begin`, and its cursor is on disk when this
    /// returns; one that it knows begins where it was.
    ///
    /// # Errors
    /// When the name cannot be one, the destination has a reader, or the new cursor was not written.
    pub async fn reader(&self, destination: &str, begin: Begin) -> Result<Reader, DestinationError> {
        let name = destination.to_owned();
        self.ask(|done| Message::Open { name, begin, done }).await.ok_or(DestinationError::Closed)??;
        Ok(Reader::new(self.shared.clone(), destination))
    }

    /// Forgets a destination: what it has yet to get is kept for it no longer. Until then it holds back the deletion of
    /// segments, whether or not it has a reader.
    ///
    /// # Errors
    /// When there is none of that name, it has a reader, or the disk refuses.
    pub async fn forget(&self, destination: &str) -> Result<(), DestinationError> {
        let name = destination.to_owned();
        self.ask(|done| Message::Forget { name, done }).await.ok_or(DestinationError::Closed)?
    }

    /// Writes down all acknowledgements so far, and deletes what can go. What the disk refuses is told as
    /// [`crate::Event::Fault`].
    pub async fn flush(&self) {
        // A log that is closed has done so.
        let _ = self.ask(Message::Flush).await;
    }

    /// The counters and gauges.
    pub fn stats(&self) -> Stats {
        self.shared.state().stats(&self.shared.options)
    }

    /// Ends the log: what was appended before is on disk, and so are the acknowledgements.
    pub async fn close(self) {
        self.shared.state().closed = true;
        self.flush().await;
    }

    /// `None` when the log is closed.
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.shared.inbox.send(message(done)).ok()?;
        answer.await.ok()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.room_freed.notify_waiters();
        // A thread that is gone has told why by its panic.
        let _ = self.shared.inbox.send(Message::Close);
        let _ = self.shared.reads.send(None);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Appender {
    /// Appends a record and waits until it is on disk; its number. Waits for room, too: give it a deadline. Dropped before
    /// it has room, nothing was appended; later, the record may be.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`], [`AppendError::Io`] and [`AppendError::Closed`].
    pub async fn append(&self, entry: Entry) -> Result<u64, AppendError> {
        self.submit(entry).await?.await
    }

    /// As [`Appender::append`], but waits for room only: the record is on disk when what this returns says so. Dropped before it ends,
    /// nothing was appended.
    ///
    /// # Errors
    /// [`AppendError::TooLarge`] and [`AppendError::Closed`].
    pub async fn submit(&self, entry: Entry) -> Result<Pending, AppendError> {
        let size = size_of(&entry);
        loop {
            let mut freed = pin!(self.shared.room_freed.notified());
            // Before looking, so that nothing is missed.
            freed.as_mut().enable();
            match self.take_room(size) {
                Ok(()) => break,
                Err(AppendError::Full { .. } | AppendError::Overrun { .. }) => freed.await,
                Err(error) => return Err(error),
            }
        }
        self.send(entry, size)
    }

    /// Appends a record if there is room now. To be awaited: the record counts as stored when that says so.
    ///
    /// # Errors
    /// [`AppendError::Full`] and [`AppendError::Overrun`] when there is no room, [`AppendError::TooLarge`] and
    /// [`AppendError::Closed`].
    pub fn try_append(&self, entry: Entry) -> Result<Pending, AppendError> {
        let size = size_of(&entry);
        self.take_room(size).inspect_err(|error| {
            let counters = &mut self.shared.state().counters;
            match error {
                AppendError::Full { .. } => counters.refused_full += 1,
                AppendError::Overrun { .. } => counters.refused_overrun += 1,
                _ => {}
            }
        })?;
        self.send(entry, size)
    }

    fn take_room(&self, size: u64) -> Result<(), AppendError> {
        let (taken, wakes) = {
            let mut state = self.shared.state();
            if state.closed {
                return Err(AppendError::Closed);
            }
            let taken = state.room.take(size, &self.shared.options);
            let full = matches!(taken, Err(AppendError::Full { .. }));
            state.starving |= full;
            // A cursor that is saved may be all that is missing.
            (taken, full && state.wakes(self.shared.options.save_acks))
        };
        self.shared.wake(wakes);
        taken
    }

    fn send(&self, entry: Entry, size: u64) -> Result<Pending, AppendError> {
        let (done, pending) = oneshot::channel();
        let message = Message::Append(Waiting { entry, size, done });
        self.shared.inbox.send(message).map_err(|_| AppendError::Closed)?;
        Ok(Pending(pending))
    }
}

impl Future for Pending {
    type Output = Result<u64, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(AppendError::Closed)))
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is none: nothing is old then.
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
