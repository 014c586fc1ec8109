//! What the threads and the handles of a log have in common.

use crate::{
    AppendError, DestinationError, DropReason, Entry, Event, Observer, Options, disk::Disk, state::State,
};
use std::{
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};
use tokio::sync::{Notify, oneshot, watch};

/// Tells the time, ms since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;
/// Something for the thread that reads.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A record that waits for the disk.
pub(crate) struct Waiting {
    pub(crate) entry: Entry,
    pub(crate) size: u64,
    pub(crate) done: oneshot::Sender<Result<u64, AppendError>>,
}

/// What the thread that writes is asked.
pub(crate) enum Message {
    Append(Waiting),
    /// Look at the state.
    Wake,
    /// Save cursors, delete what can go.
    Flush(oneshot::Sender<()>),
    Open {
        name: String,
        begin: Begin,
        done: oneshot::Sender<Result<(), DestinationError>>,
    },
    Forget {
        name: String,
        done: oneshot::Sender<Result<(), DestinationError>>,
    },
    Close,
}

/// Where a destination that the log does not know begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With what is appended from now on.
    #[default]
    End,
    /// With the oldest record that there is.
    Oldest,
}

/// One log.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Clock,
    pub(crate) observer: Observer,
    state: Mutex<State>,
    /// Told whenever an append may find room where there was none.
    pub(crate) room_freed: Notify,
    /// The number of the next record: all before are on disk. Ends with the log.
    pub(crate) committed: watch::Receiver<u64>,
    pub(crate) inbox: mpsc::Sender<Message>,
    /// `None` ends the thread.
    pub(crate) reads: mpsc::Sender<Option<Job>>,
}

/// The ends of a new [`Shared`] that its threads hold.
pub(crate) struct Ends {
    pub(crate) inbox: mpsc::Receiver<Message>,
    pub(crate) reads: mpsc::Receiver<Option<Job>>,
    pub(crate) committed: watch::Sender<u64>,
}

impl Shared {
    pub(crate) fn new(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Clock,
        observer: Observer,
        state: State,
    ) -> (Arc<Self>, Ends) {
        // Neither is bounded by itself: `Room` bounds the appends, the rest is one for each caller that waits.
        let (inbox, writer) = mpsc::channel();
        let (reads, reader) = mpsc::channel();
        let (commits, committed) = watch::channel(state.next);
        let state = Mutex::new(state);
        let room_freed = Notify::new();
        let shared = Self { options, disk, clock, observer, state, room_freed, committed, inbox, reads };
        (Arc::new(shared), Ends { inbox: writer, reads: reader, committed: commits })
    }

    /// The state. Never held while the disk works or somebody else is called.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        (self.observer)(event);
    }

    /// Tells of a refusal that no caller sees.
    pub(crate) fn fault(&self, doing: &'static str, file: &str, error: &io::Error) {
        self.state().counters.faults += 1;
        self.tell(&Event::Fault { doing, file, error });
    }

    /// Acknowledges records; how many of them that is news for.
    pub(crate) fn ack(&self, name: &str, range: Range<u64>) -> u64 {
        let (news, wakes) = {
            let mut state = self.state();
            let news = state.ack(name, range);
            (news, news > 0 && state.wakes(self.options.save_acks))
        };
        self.wake(wakes);
        news
    }

    /// A reader has found a damaged place, or records missing.
    pub(crate) fn damaged(&self, name: &str, base: u64, offset: u64, bytes: u64, lost: Range<u64>) {
        let records = lost.end - lost.start;
        let among = lost.clone();
        let (count, file, wakes) = {
            let mut state = self.state();
            let count = state.lose(name, lost);
            (count, state.tell_damage(base, offset, bytes, records), state.wakes(self.options.save_acks))
        };
        self.wake(wakes);
        if let Some(file) = file {
            self.tell(&Event::Damaged { file: &file, offset, bytes, records });
        }
        if count > 0 {
            let reason = DropReason::Damaged;
            self.tell(&Event::Dropped { destination: name, reason, count, records: &[], among });
        }
    }

    pub(crate) fn wake(&self, wakes: bool) {
        if wakes {
            // A writer that is gone needs no waking.
            let _ = self.inbox.send(Message::Wake);
        }
    }
}
