//! The control stream of a peer connection: renewals of grants and the chosen path from the dialer, probes both ways.
//!
//! A probe makes the other side speak. After an interruption it is what ends the pause: QUIC by itself would resend only when its timer
//! fires, which by then may be as far away as the interruption was long; an answered probe tells it at once what was lost. So that probes and
//! paths get through when everything else is stuck, the stream goes before all others, and has room of its own in the send window. The word
//! about the path is sent as a datagram, too: on a stream it would wait for what was lost before it.

use crate::{
    congestion::Room,
    early::LastHeard,
    frame::{self, FrameError},
    memory::Share,
    path_watch::Signs,
};
use hesper_model::id::Tag;
use hesper_proto::overlay::{ControlFrame, Echo, Probe, RenewGrant, UsePath, control_frame::Frame};
use prost::Message;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc};

/// Frames that may wait on one connection.
const FRAMES: usize = 1024;
/// Before all streams that carry traffic.
const PRIORITY: i32 = i32::MAX;
/// What the send window has beyond that for traffic, while a frame is written.
const RESERVE: u64 = 64 << 10;
/// Dials in quick succession wake the keeper once: it takes traffic for flowing for much longer after each word.
const TRAFFIC_EVERY: Duration = Duration::from_millis(100);
/// Routers named in one frame; more are left out.
const MAX_ROUTERS: usize = 16;

/// What a datagram of the control stream begins with: the stream's id, a variable-length integer; the control stream is a connection's first.
pub(crate) const DATAGRAM_ID: [u8; 1] = [0];

/// One connection to a peer, with its control stream, and what its keeper is to know.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) connection: Connection,
    /// Of the node's memory; given back with the line.
    share: Share,
    frames: mpsc::Sender<Frame>,
    /// Control frames written and read, and echoes among the latter.
    written: AtomicU64,
    read: AtomicU64,
    echoes: AtomicU64,
    suspect: AtomicBool,
    last_heard: Mutex<LastHeard>,
    /// For what must not wait for acknowledgements.
    room: Option<Arc<Room>>,
    /// Number of the dialer's latest word about the path.
    path_sequence: AtomicU64,
    /// The session at the other end: of a dialer known from the first grant.
    tag: OnceLock<Tag>,
    /// For the keeper, which `wake` wakes.
    orders: Mutex<Orders>,
    /// When the keeper was told of traffic last.
    traffic_told: Mutex<Option<Instant>>,
    pub(crate) wake: Notify,
}

/// What happened since the keeper looked last.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// A router called the peer gone or restarted.
    pub(crate) suspect: bool,
    /// A dial begins.
    pub(crate) traffic: bool,
    /// The dialer's latest word about the path.
    pub(crate) use_path: Option<Vec<String>>,
}

impl Line {
    /// A line, and the queue of its control stream for [`write`].
    pub(crate) fn new(connection: Connection, share: Share) -> (Arc<Self>, mpsc::Receiver<Frame>) {
        connection.set_receive_window(share.receive.into());
        connection.set_send_window(share.send);
        let (frames, queue) = mpsc::channel(FRAMES);
        let line = Self {
            room: Room::of(&connection),
            last_heard: Mutex::new(LastHeard::new(Instant::now(), heard(&connection))),
            connection,
            share,
            frames,
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            echoes: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            path_sequence: AtomicU64::new(0),
            tag: OnceLock::new(),
            orders: Mutex::default(),
            traffic_told: Mutex::default(),
            wake: Notify::new(),
        };
        (Arc::new(line), queue)
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: impl FnOnce(&mut Orders)) {
        order(&mut self.orders());
        self.wake.notify_one();
    }

    pub(crate) fn take_orders(&self) -> Orders {
        std::mem::take(&mut self.orders())
    }

    /// The other end's session; only the first word counts.
    pub(crate) fn set_tag(&self, tag: Tag) {
        if self.tag.set(tag).is_ok() {
            self.wake.notify_one();
        }
    }

    pub(crate) fn tag(&self) -> Option<Tag> {
        self.tag.get().copied()
    }

    /// Calls the peer into question: it is to prove itself, and until then nothing new is begun with it.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Relaxed);
        self.order(|o| o.suspect = true);
    }

    /// It has proved itself.
    pub(crate) fn trust(&self) {
        self.suspect.store(false, Relaxed);
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Relaxed)
    }

    /// Traffic is about to flow: the path is to be watched closely.
    pub(crate) fn expect_traffic(&self) {
        let mut told = self.traffic_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|at| at.elapsed() >= TRAFFIC_EVERY) {
            *told = Some(Instant::now());
            self.order(|o| o.traffic = true);
        }
    }

    /// Frames that the connection has authenticated. Datagrams are no evidence: anybody can replay them.
    pub(crate) fn heard(&self) -> u64 {
        heard(&self.connection)
    }

    /// The same, and whether it was heard of lately.
    pub(crate) fn heard_lately(&self) -> (u64, bool) {
        let (now, count) = (Instant::now(), self.heard());
        (count, self.note_heard(now, count).is_lately(now))
    }

    fn note_heard(&self, now: Instant, count: u64) -> MutexGuard<'_, LastHeard> {
        let mut last = self.last_heard.lock().unwrap_or_else(PoisonError::into_inner);
        last.look(now, count);
        last
    }

    /// The counters as they stand `now`.
    pub(crate) fn signs(&self, now: Instant) -> Signs {
        let stats = self.connection.stats();
        let (rx, tx) = (&stats.frame_rx, &stats.frame_tx);
        drop(self.note_heard(now, frames(rx)));
        Signs {
            heard: frames(rx),
            answered: rx.acks + self.echoes.load(Relaxed),
            sent: frames(tx) - tx.acks,
            data: rx.stream + rx.datagram + tx.stream + tx.datagram,
            control: self.written.load(Relaxed) + self.read.load(Relaxed),
            rtt: stats.path.rtt,
        }
    }

    /// Puts a frame into the queue; a full one will speak anyway.
    pub(crate) fn send(&self, frame: Frame) {
        if self.frames.try_send(frame).is_err() {
            tracing::debug!("the control stream takes no more");
        }
    }

    /// Asks the peer for a sign, whatever waits.
    pub(crate) fn probe(&self) {
        self.make_room();
        self.send(Frame::Probe(Probe {}));
    }

    fn make_room(&self) {
        if let Some(room) = &self.room {
            room.make();
        }
    }

    /// Tells the hosting side about the path.
    pub(crate) fn use_path(&self, router_ids: Vec<String>) {
        let sequence = self.path_sequence.fetch_add(1, Relaxed) + 1;
        self.send(Frame::UsePath(UsePath { router_ids: router_ids.clone(), sequence }));
        self.repeat_path(router_ids);
    }

    /// Tells it again, past everything that waits. Best effort, as datagrams are.
    pub(crate) fn repeat_path(&self, router_ids: Vec<String>) {
        let sequence = self.path_sequence.load(Relaxed);
        let frame = ControlFrame { frame: Some(Frame::UsePath(UsePath { router_ids, sequence })) };
        let mut datagram = DATAGRAM_ID.to_vec();
        datagram.extend(frame.encode_to_vec());
        self.written.fetch_add(1, Relaxed);
        self.make_room();
        let _ = self.connection.send_datagram(datagram.into());
    }

    pub(crate) fn hear_datagram(&self, frame: &[u8]) {
        self.read.fetch_add(1, Relaxed);
        if let Ok(ControlFrame { frame: Some(Frame::UsePath(path)) }) = ControlFrame::decode(frame) {
            self.hear_path(path);
        }
    }

    fn hear_path(&self, mut path: UsePath) {
        if path.sequence > self.path_sequence.fetch_max(path.sequence, Relaxed) {
            path.router_ids.truncate(MAX_ROUTERS);
            self.order(|o| o.use_path = Some(path.router_ids));
        }
    }

    pub(crate) fn close(&self, code: VarInt) {
        self.connection.close(code, b"");
    }
}

/// Frames received on a connection and authenticated by it.
pub(crate) fn heard(connection: &Connection) -> u64 {
    frames(&connection.stats().frame_rx)
}

fn frames(rx: &quinn::FrameStats) -> u64 {
    rx.acks
        + rx.ping
        + rx.stream
        + rx.datagram
        + rx.crypto
        + rx.max_data
        + rx.max_stream_data
        + rx.max_streams_bidi
        + rx.reset_stream
        + rx.stop_sending
        + rx.data_blocked
        + rx.stream_data_blocked
        + rx.new_connection_id
        + rx.retire_connection_id
}

/// Writes frames until the connection ends.
pub(crate) async fn write(line: Arc<Line>, mut send: SendStream, mut queue: mpsc::Receiver<Frame>) {
    let _ = send.set_priority(PRIORITY);
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => frame,
                None => return,
            },
            _ = line.connection.closed() => return,
        };
        line.written.fetch_add(1, Relaxed);
        let frame = ControlFrame { frame: Some(frame) };
        // Writers of traffic fill the window, and are only woken by acknowledgements: nobody takes the reserve in this moment.
        line.connection.set_send_window(line.share.send + RESERVE);
        // Without a deadline: during an interruption this may wait, and the idle timeout ends the connection.
        let result = frame::write_message(&mut send, &frame).await;
        line.connection.set_send_window(line.share.send);
        if result.is_err() {
            return;
        }
    }
}

/// Reads until the stream ends; answers probes, takes paths, hands over renewals. Empty frames are words of a newer version.
pub(crate) async fn read(
    line: &Line,
    mut recv: RecvStream,
    mut renewed: impl FnMut(RenewGrant),
) -> FrameError {
    loop {
        // As long as the connection lives: the transport's idle timeout ends this wait.
        let message = frame::read_message::<ControlFrame>(&mut recv, frame::MAX_MESSAGE_LEN).await;
        line.read.fetch_add(1, Relaxed);
        match message {
            Ok(ControlFrame { frame: Some(Frame::Renew(renewal)) }) => renewed(renewal),
            Ok(ControlFrame { frame: Some(Frame::Probe(_)) }) => line.send(Frame::Echo(Echo {})),
            Ok(ControlFrame { frame: Some(Frame::Echo(_)) }) => {
                line.echoes.fetch_add(1, Relaxed);
            }
            Ok(ControlFrame { frame: Some(Frame::UsePath(path)) }) => line.hear_path(path),
            Ok(ControlFrame { frame: None }) => {}
            Err(error) => return error,
        }
    }
}
