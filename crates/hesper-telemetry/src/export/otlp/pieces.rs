//! Sending one shipment in as many requests as the destination's limit demands (OTLP specification, "Message size limits").

use super::answer::Answer;
use crate::{
    export::{Failure, Shipment},
    origin::{BatchId, Origin},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use hesper_otlp::{PartialSuccess, Signal, limits::REQUEST_LEN, split, validate};
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing::{Instrument as _, info_span};

/// No peer is believed to take less: what it refuses below is refused for good.
pub(crate) const SMALLEST: usize = 16 * 1024;

/// One request: a shipment or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) signal: Signal,
    pub(crate) payload: Bytes,
    pub(crate) origin: &'a Origin,
    pub(crate) id: Option<BatchId>,
}

/// Sends single requests.
pub(crate) trait Carrier: Sync {
    /// Sends one; has its own deadline.
    fn carry<'a>(&'a self, piece: &'a Piece<'a>) -> BoxFuture<'a, Answer>;

    /// The destination, for messages.
    fn to(&self) -> &str;
}

/// The largest request that a destination takes, as far as it has told.
#[derive(Debug)]
pub(crate) struct Limit(AtomicUsize);

impl Default for Limit {
    fn default() -> Self {
        Self(AtomicUsize::new(REQUEST_LEN))
    }
}

impl Limit {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from a refusal of so many bytes; returns what to try next.
    fn learn(&self, named: Option<usize>, refused: usize) -> usize {
        let limit = named.unwrap_or(refused / 2).max(SMALLEST);
        self.0.fetch_min(limit, Ordering::Relaxed);
        self.get().min(refused.saturating_sub(1))
    }
}

/// What became of the pieces so far.
#[derive(Default)]
struct Tally {
    rejected: i64,
    message: String,
    /// The last piece that was dropped, and whether any was taken.
    failure: Option<String>,
    taken: bool,
}

impl Tally {
    fn taken(&mut self, partial: PartialSuccess) {
        self.taken = true;
        self.rejected = self.rejected.saturating_add(partial.rejected.max(0));
        if !partial.message.is_empty() {
            self.message = partial.message;
        }
    }

    fn dropped(&mut self, items: u64, reason: String) {
        self.rejected = self.rejected.saturating_add(i64::try_from(items).unwrap_or(i64::MAX));
        self.message.clone_from(&reason);
        self.failure = Some(reason);
    }

    fn outcome(self) -> Result<PartialSuccess, Failure> {
        match self.failure {
            Some(reason) if !self.taken => Err(Failure::Never { reason }),
            _ => Ok(PartialSuccess { rejected: self.rejected, message: self.message }),
        }
    }
}

/// Sends a shipment: whole if it fits, else in pieces. A piece that may arrive later stops it: all is sent again then.
pub(crate) async fn deliver(
    carrier: &dyn Carrier,
    limit: &Limit,
    shipment: &Shipment,
) -> Result<PartialSuccess, Failure> {
    let mut tally = Tally::default();
    let (signal, origin) = (shipment.batch.signal, &*shipment.origin);
    // What is left to send, the next piece last; and how many items went before it.
    let mut left = vec![shipment.batch.payload.clone()];
    let (mut divided, mut before) = (false, 0);
    while let Some(payload) = left.pop() {
        let len = payload.len();
        if len > limit.get() && divide(signal, &payload, limit.get(), &mut left) {
            divided = true;
            continue;
        }
        let items = if divided { count(signal, &payload) } else { shipment.items };
        let id = shipment.id.map(|id| if divided { part(id, before, items) } else { id });
        if len > REQUEST_LEN {
            tally.dropped(items, too_long(carrier.to(), len));
        } else {
            let piece = Piece { signal, payload, origin, id };
            match carry(carrier, &piece, items).await {
                Answer::Taken(partial) => tally.taken(partial),
                Answer::TooLarge { limit: named, reason } => {
                    let most = limit.learn(named, len);
                    if len > SMALLEST && divide(signal, &piece.payload, most, &mut left) {
                        divided = true;
                        continue;
                    }
                    tally.dropped(items, reason);
                }
                Answer::Failed(Failure::Never { reason }) => tally.dropped(items, reason),
                Answer::Failed(again) => return Err(again),
            }
        }
        before += items;
    }
    tally.outcome()
}

/// Sends one piece: a span of the traces that its items came by.
async fn carry(carrier: &dyn Carrier, piece: &Piece<'_>, items: u64) -> Answer {
    let signal = piece.signal;
    let span = hesper_trace::continued(&piece.origin.traces, || {
        info_span!(
            "otlp send",
            otel.name = format!("otlp send {signal}"),
            otel.kind = "client",
            "mesh.signal" = %signal,
            "mesh.destination" = carrier.to(),
            "mesh.items" = items,
        )
    });
    let answer = carrier.carry(piece).instrument(span.clone()).await;
    match &answer {
        Answer::Taken(_) => {}
        Answer::TooLarge { reason, .. } => hesper_trace::fail(&span, reason),
        Answer::Failed(failure) => hesper_trace::fail(&span, failure),
    }
    answer
}

fn too_long(to: &str, len: usize) -> String {
    format!(
        "{to}: not sent, for one item alone has {len} bytes, more than the {REQUEST_LEN} that OTLP allows"
    )
}

/// Divides a payload into pieces that are sent next. False: it is one item, or cannot be divided.
fn divide(signal: Signal, payload: &Bytes, most: usize, left: &mut Vec<Bytes>) -> bool {
    let pieces = split::split(signal, payload, most);
    if pieces.len() < 2 {
        return false;
    }
    left.extend(pieces.into_iter().rev());
    true
}

fn count(signal: Signal, payload: &[u8]) -> u64 {
    validate(signal, payload).map(|counts| counts.items).unwrap_or_default()
}

/// The name of a part: the same when the same items of the same batch are sent again, different from all other parts and the whole.
fn part(id: BatchId, before: u64, items: u64) -> BatchId {
    let mark = (1 << 127) | (u128::from(before) << 64) | u128::from(items);
    BatchId { queue: (u128::from_be_bytes(id.queue) ^ mark).to_be_bytes(), ..id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use hesper_otlp::Batch;
    use std::sync::{Arc, Mutex};

    /// A peer with a limit, which it may name.
    struct Peer {
        limit: usize,
        names: bool,
        /// Bytes, items and name of each request.
        seen: Mutex<Vec<(usize, u64, Option<BatchId>)>>,
    }

    impl Carrier for Peer {
        fn carry<'a>(&'a self, piece: &'a Piece<'a>) -> BoxFuture<'a, Answer> {
            let len = piece.payload.len();
            let items = count(piece.signal, &piece.payload);
            self.seen.lock().expect("a lock").push((len, items, piece.id));
            let answer = if len > self.limit {
                Answer::TooLarge { limit: self.names.then_some(self.limit), reason: "too large".into() }
            } else {
                Answer::Taken(PartialSuccess::default())
            };
            async { answer }.boxed()
        }

        fn to(&self) -> &str {
            "peer"
        }
    }

    fn message(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut len = body.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(body);
        out
    }

    /// Spans whose names have so many bytes.
    fn shipment(names: &[usize]) -> Shipment {
        let span = |len: &usize| message(2, &message(5, &vec![b'x'; *len]));
        let spans: Vec<u8> = names.iter().flat_map(span).collect();
        let payload = Bytes::from(message(1, &message(2, &spans)));
        Shipment {
            batch: Batch { signal: Signal::Traces, payload },
            items: names.len() as u64,
            origin: Arc::new(Origin::default()),
            id: Some(BatchId { queue: [7; 16], number: 3 }),
        }
    }

    async fn deliver_to(peer: &Peer, limit: &Limit, shipment: &Shipment) -> Result<PartialSuccess, Failure> {
        peer.seen.lock().expect("a lock").clear();
        deliver(peer, limit, shipment).await
    }

    #[tokio::test]
    async fn check_53_a_limit_is_found_and_remembered() {
        for names in [true, false] {
            let peer = Peer { limit: 40_000, names, seen: Mutex::default() };
            let (limit, shipment) = (Limit::default(), shipment(&[1000; 200]));
            let done = deliver_to(&peer, &limit, &shipment).await;
            assert_eq!(done, Ok(PartialSuccess::default()));
            let seen = peer.seen.lock().expect("a lock").clone();
            let taken: Vec<_> = seen.iter().filter(|(len, ..)| *len <= 40_000).collect();
            assert_eq!(taken.iter().map(|(_, items, _)| items).sum::<u64>(), 200);
            assert!(seen.len() - taken.len() <= if names { 1 } else { 3 }, "{seen:?}");
            deliver_to(&peer, &limit, &shipment).await.expect("taken");
            assert!(peer.seen.lock().expect("a lock").iter().all(|(len, ..)| *len <= 40_000));
        }
    }

    #[tokio::test]
    async fn parts_have_names_of_their_own_and_the_same_when_sent_again() {
        let peer = Peer { limit: 40_000, names: true, seen: Mutex::default() };
        let (limit, shipment) = (Limit::default(), shipment(&[1000; 200]));
        let ids = || {
            let seen = peer.seen.lock().expect("a lock");
            seen.iter().filter(|(len, ..)| *len <= 40_000).filter_map(|(_, _, id)| *id).collect::<Vec<_>>()
        };
        deliver_to(&peer, &limit, &shipment).await.expect("taken");
        let first = ids();
        deliver_to(&peer, &limit, &shipment).await.expect("taken");
        assert_eq!(first, ids());
        let different: std::collections::BTreeSet<_> = first.iter().chain(&shipment.id).collect();
        assert_eq!(different.len(), first.len() + 1);
    }

    #[tokio::test]
    async fn an_item_that_is_too_large_alone_is_counted_and_the_others_arrive() {
        let peer = Peer { limit: 40_000, names: true, seen: Mutex::default() };
        let done = deliver_to(&peer, &Limit::default(), &shipment(&[100, 50_000, 100])).await;
        assert_eq!(done, Ok(PartialSuccess { rejected: 1, message: "too large".into() }));
        let lone = deliver_to(&peer, &Limit::default(), &shipment(&[50_000])).await;
        assert_eq!(lone, Err(Failure::Never { reason: "too large".into() }));
    }

    #[tokio::test]
    async fn check_49_an_item_beyond_the_limit_of_otlp_is_not_sent() {
        let peer = Peer { limit: usize::MAX, names: false, seen: Mutex::default() };
        let done = deliver_to(&peer, &Limit::default(), &shipment(&[100, REQUEST_LEN, 100])).await;
        assert_eq!(done.expect("two were taken").rejected, 1);
        assert!(peer.seen.lock().expect("a lock").iter().all(|(len, ..)| *len < REQUEST_LEN));
    }

    #[tokio::test]
    async fn a_peer_that_refuses_every_size_is_not_asked_for_ever() {
        let peer = Peer { limit: 0, names: false, seen: Mutex::default() };
        let done = deliver_to(&peer, &Limit::default(), &shipment(&[1000; 200])).await;
        assert!(matches!(done, Err(Failure::Never { .. })));
        assert!(peer.seen.lock().expect("a lock").len() < 40);
    }
}
