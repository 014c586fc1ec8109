//! UDP between two nodes: flows of datagrams beside the streams of a connection.
//!
//! A flow is a stream that stays silent: it is dialed, admitted, renewed, revoked and ended like any other. Its payloads travel as QUIC
//! datagrams (RFC 9221), each preceded by the stream's id as a variable-length integer (RFC 9000, 16). What cannot be carried at once is
//! dropped and counted, as UDP does: what is longer than a packet of this path, what the network is too slow for, what the reader of a
//! flow is too slow for. Nothing waits, so that one flow cannot hold up another.
//!
//! [`Demux`] decides and is plain; `Datagrams` reads the connection; [`DatagramFlow`] is what programs get.

use crate::{
    control::{self, Line},
    memory::{Memory, Queued},
    node::Inner,
    stream::{Stream, StreamError, StreamHandle},
};
use bytes::Bytes;
use hesper_model::id::IdentityId;
use quinn::{Connection, SendDatagramError, StreamId};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
};
use tokio::sync::Notify;

/// Payloads that may wait for the reader of one flow: what a burst of one client brings while its reader is scheduled.
pub const FLOW_QUEUE: usize = 256;
/// What all flows of one connection may hold unread, in bytes: the promise about memory per peer. Less while the node's
/// [`memory`](crate::memory) is short.
pub const CONNECTION_QUEUE: usize = 4 << 20;
/// What keeping one payload costs beside its bytes.
const OVERHEAD: usize = 64;

/// Why a datagram that arrived was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Its flow is over, or never was.
    NoFlow,
    /// It does not begin with a stream's id.
    Malformed,
    /// The reader of its flow is too slow, or those of all flows together, of its connection or of the node.
    QueueFull,
}

/// Datagrams of one node that reached no program.
#[derive(Debug, Default)]
pub struct DatagramCounters {
    /// Of flows that are over, or never were.
    pub no_flow: AtomicU64,
    /// Not understood.
    pub malformed: AtomicU64,
    /// More than the readers of flows took.
    pub queue_full: AtomicU64,
}

impl DatagramCounters {
    fn count(&self, dropped: Dropped) {
        let counter = match dropped {
            Dropped::NoFlow => &self.no_flow,
            Dropped::Malformed => &self.malformed,
            Dropped::QueueFull => &self.queue_full,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// The payload as it travels: the flow's id, then the payload.
pub fn encode(flow: u64, payload: &[u8]) -> Bytes {
    let mut datagram = Vec::with_capacity(id_len(flow) + payload.len());
    match id_len(flow) {
        1 => datagram.extend(&(flow as u8).to_be_bytes()),
        2 => datagram.extend(&(flow as u16 | 0x4000).to_be_bytes()),
        4 => datagram.extend(&(flow as u32 | 0x8000_0000).to_be_bytes()),
        _ => datagram.extend(&(flow | 0xc000_0000_0000_0000).to_be_bytes()),
    }
    datagram.extend(payload);
    datagram.into()
}

/// Flow and payload of what arrived.
pub fn decode(datagram: &[u8]) -> Option<(u64, &[u8])> {
    let first = *datagram.first()?;
    let (id, payload) = datagram.split_at_checked(1 << (first >> 6))?;
    let id = id.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    Some((id & (u64::MAX >> (64 - 8 * (1 << (first >> 6)) + 2)), payload))
}

/// Length of a flow's id in front of each payload.
const fn id_len(flow: u64) -> usize {
    match flow {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// The flows of one connection and what waits for their readers. Plain; bounded by [`FLOW_QUEUE`], [`CONNECTION_QUEUE`], and what the node
/// has left.
#[derive(Debug, Default)]
pub struct Demux {
    flows: HashMap<u64, Queue>,
    bytes: usize,
    /// Of the node's memory, for `bytes`.
    queued: Queued,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Bytes>,
    dropped: u64,
}

impl Demux {
    /// No flows yet; what waits comes out of this memory.
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self { queued: Queued::of(memory), ..Self::default() }
    }

    /// From now on payloads of this flow are kept.
    pub fn open(&mut self, flow: u64) {
        self.flows.entry(flow).or_default();
    }

    /// The flow is over; what waits is forgotten.
    pub fn close(&mut self, flow: u64) {
        let queue = self.flows.remove(&flow).unwrap_or_default();
        self.forget(queue.waiting.iter().map(|p| cost(p)).sum());
    }

    fn forget(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.queued.hold(self.bytes as u64);
    }

    /// Something arrived. Returns the flow whose reader is to be woken.
    ///
    /// # Errors
    /// Why it was dropped; of a full queue, what is newest is dropped, as the kernel does.
    pub fn deliver(&mut self, datagram: &[u8]) -> Result<u64, Dropped> {
        let (flow, payload) = decode(datagram).ok_or(Dropped::Malformed)?;
        let queue = self.flows.get_mut(&flow).ok_or(Dropped::NoFlow)?;
        let bytes = self.bytes + cost(payload);
        let full = queue.waiting.len() >= FLOW_QUEUE || bytes > CONNECTION_QUEUE;
        if full || !self.queued.hold(bytes as u64) {
            queue.dropped += 1;
            return Err(Dropped::QueueFull);
        }
        self.bytes = bytes;
        // A copy: what arrived is a piece of a buffer of many packets, which must not live as long as the slowest reader.
        queue.waiting.push_back(Bytes::copy_from_slice(payload));
        Ok(flow)
    }

    /// The flow's oldest payload.
    pub fn take(&mut self, flow: u64) -> Option<Bytes> {
        let payload = self.flows.get_mut(&flow)?.waiting.pop_front()?;
        self.forget(cost(&payload));
        Some(payload)
    }

    /// Payloads of this flow that were dropped because its reader was too slow.
    pub fn dropped(&self, flow: u64) -> u64 {
        self.flows.get(&flow).map_or(0, |q| q.dropped)
    }
}

fn cost(payload: &[u8]) -> usize {
    payload.len() + OVERHEAD
}

/// The flows of one connection.
pub(crate) struct Datagrams {
    connection: Connection,
    shared: Arc<Shared>,
    counters: Arc<DatagramCounters>,
    reading: AtomicBool,
}

struct Shared(Mutex<State>);

struct State {
    demux: Demux,
    readers: HashMap<u64, Arc<Notify>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams").field("flows", &self.shared.lock().readers.len()).finish()
    }
}

impl Datagrams {
    pub(crate) fn new(connection: Connection, node: &Inner) -> Self {
        let state = State { demux: Demux::new(&node.memory), readers: HashMap::new() };
        Self {
            connection,
            shared: Arc::new(Shared(Mutex::new(state))),
            counters: node.counters.datagrams.clone(),
            reading: AtomicBool::new(false),
        }
    }

    /// Keeps what arrives for this stream's flow. Before the other side may send, so before the dial or its answer.
    pub(crate) fn flow(&self, stream: StreamId) -> Flow {
        let flow = Flow {
            id: stream.into(),
            connection: self.connection.clone(),
            shared: self.shared.clone(),
            arrived: Arc::default(),
        };
        {
            let mut state = self.shared.lock();
            state.demux.open(flow.id);
            state.readers.insert(flow.id, flow.arrived.clone());
        }
        // Most connections never carry a datagram.
        if !self.reading.swap(true, AcqRel) {
            tokio::spawn(read(self.connection.clone(), self.shared.clone(), self.counters.clone(), None));
        }
        flow
    }

    /// Reads from now on, because words of the control stream may come.
    pub(crate) fn listen(&self, line: Arc<Line>) {
        if !self.reading.swap(true, AcqRel) {
            tokio::spawn(read(
                self.connection.clone(),
                self.shared.clone(),
                self.counters.clone(),
                Some(line),
            ));
        }
    }
}

/// Reads until the connection ends.
async fn read(
    connection: Connection,
    shared: Arc<Shared>,
    counters: Arc<DatagramCounters>,
    control: Option<Arc<Line>>,
) {
    while let Ok(datagram) = connection.read_datagram().await {
        if let Some(line) = &control
            && let Some(frame) = datagram.strip_prefix(&control::DATAGRAM_ID)
        {
            line.hear_datagram(frame);
            continue;
        }
        let mut state = shared.lock();
        match state.demux.deliver(&datagram) {
            Ok(flow) => {
                if let Some(reader) = state.readers.get(&flow) {
                    reader.notify_one();
                }
            }
            Err(dropped) => counters.count(dropped),
        }
    }
}

/// A flow's place in its connection; given up when dropped.
pub(crate) struct Flow {
    id: u64,
    connection: Connection,
    shared: Arc<Shared>,
    arrived: Arc<Notify>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.demux.close(self.id);
        state.readers.remove(&self.id);
    }
}

/// What became of a payload that was to be sent. Sent does not mean received: it is UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Yes,
    /// Dropped: longer than a packet of this path carries.
    TooLong {
        /// The longest payload that would have been carried.
        max: usize,
    },
    /// Dropped: the network takes no more for now.
    Congested,
}

/// Datagrams between this node and one identity, for as long as the grant lives. Dropped, it ends on both sides.
pub struct DatagramFlow {
    stream: Stream,
    flow: Flow,
    /// The other side has ended the flow; what it sent before is still to be read.
    over: bool,
}

impl fmt::Debug for DatagramFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramFlow")
            .field("peer", self.stream.peer())
            .field("id", &self.flow.id)
            .finish_non_exhaustive()
    }
}

impl DatagramFlow {
    pub(crate) fn new(stream: Stream, flow: Flow) -> Self {
        Self { stream, flow, over: false }
    }

    /// The identity on the other side, as its certificate proved it.
    pub fn peer(&self) -> &IdentityId {
        self.stream.peer()
    }

    /// A handle that ends the flow from outside.
    pub fn handle(&self) -> StreamHandle {
        self.stream.handle()
    }

    /// The longest payload that this path carries now.
    pub fn max_len(&self) -> usize {
        self.flow.connection.max_datagram_size().unwrap_or(0).saturating_sub(id_len(self.flow.id))
    }

    /// Sends a payload or drops it; never waits.
    ///
    /// # Errors
    /// The flow is over.
    pub fn send(&self, payload: &[u8]) -> Result<Sent, StreamError> {
        if let Some(reason) = self.stream.ended() {
            return Err(reason);
        }
        self.stream.touch();
        let too_long = || Sent::TooLong { max: self.max_len() };
        if payload.len() > self.max_len() {
            return Ok(too_long());
        }
        let datagram = encode(self.flow.id, payload);
        // Else quinn would drop older ones to make room, and nobody would count them.
        if self.flow.connection.datagram_send_buffer_space() < datagram.len() {
            return Ok(Sent::Congested);
        }
        match self.flow.connection.send_datagram(datagram) {
            Ok(()) => Ok(Sent::Yes),
            Err(SendDatagramError::ConnectionLost(e)) => Err(StreamError::PeerLost(e)),
            Err(_) => Ok(too_long()),
        }
    }

    /// The next payload; `None` when the other side has ended the flow. Cancel-safe.
    ///
    /// # Errors
    /// The grant ended, or the connection is lost; what had arrived before is not given any more.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, StreamError> {
        while !self.over {
            tokio::select! {
                biased;
                end = self.stream.end() => match end {
                    Ok(()) => self.over = true,
                    Err(reason) => return Err(reason),
                },
                payload = self.flow.next() => {
                    self.stream.touch();
                    return Ok(Some(payload));
                }
            }
        }
        Ok(self.flow.shared.lock().demux.take(self.flow.id))
    }

    /// Payloads that arrived and were dropped because [`Self::recv`] was not called often enough.
    pub fn dropped(&self) -> u64 {
        self.flow.shared.lock().demux.dropped(self.flow.id)
    }

    /// Ends the flow as broken.
    pub fn abort(self) {
        self.stream.abort();
    }
}

impl Flow {
    async fn next(&self) -> Bytes {
        loop {
            if let Some(payload) = self.shared.lock().demux.take(self.id) {
                return payload;
            }
            // One that arrives in between has left its permit.
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
#[path = "datagram_tests.rs"]
mod tests;
