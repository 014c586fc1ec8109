//! The book as a file: `HESPERL1`, the checksum (CRC-32C, little-endian) of what follows, and a protobuf message.

use super::{
    DropReason, Party,
    account::Accounts,
    book::{Book, Sheet, Totals},
};
use crate::delivery::seen::Seen;
use hesper_otlp::Signal;
use hesper_queue::Ranges;
use prost::Message;
use std::ops::Range;

/// First bytes of the file; the last one is the version of the format.
const MAGIC: &[u8; 8] = b"HESPERL1";
/// Bytes before the message.
const FIXED: usize = 12;

#[derive(Clone, PartialEq, Message)]
struct FileProto {
    #[prost(message, repeated, tag = "1")]
    accounts: Vec<AccountProto>,
    /// Pairs: first number, past the last number.
    #[prost(uint64, repeated, tag = "2")]
    counted: Vec<u64>,
    #[prost(message, repeated, tag = "3")]
    sheets: Vec<SheetProto>,
    #[prost(message, repeated, tag = "4")]
    seen: Vec<SeenProto>,
    #[prost(uint64, tag = "5")]
    forgotten: u64,
}

#[derive(Clone, PartialEq, Message)]
struct AccountProto {
    /// 1 an identity, 2 a user, 3 unknown, 4 all others.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    signal: String,
}

#[derive(Clone, PartialEq, Message)]
struct SheetProto {
    #[prost(string, tag = "1")]
    destination: String,
    #[prost(uint64, repeated, tag = "2")]
    settled: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    uncounted: Vec<u64>,
    #[prost(message, repeated, tag = "4")]
    totals: Vec<TotalsProto>,
    #[prost(uint64, tag = "5")]
    lost: u64,
    #[prost(bool, tag = "6")]
    unresolved: bool,
    #[prost(bool, tag = "7")]
    retired: bool,
}

#[derive(Clone, PartialEq, Message)]
struct TotalsProto {
    #[prost(uint64, tag = "1")]
    accepted: u64,
    #[prost(uint64, tag = "2")]
    delivered: u64,
    /// In the order of [`DropReason::ALL`].
    #[prost(uint64, repeated, tag = "3")]
    dropped: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SeenProto {
    #[prost(bytes = "vec", tag = "1")]
    queue: Vec<u8>,
    #[prost(uint64, repeated, tag = "2")]
    numbers: Vec<u64>,
}

impl Book {
    /// The file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let sheet = |(name, sheet): (&String, &Sheet)| SheetProto {
            destination: name.clone(),
            settled: pairs(&sheet.settled),
            uncounted: pairs(&sheet.uncounted),
            totals: sheet.totals.iter().map(totals_proto).collect(),
            lost: sheet.lost,
            unresolved: sheet.unresolved,
            retired: sheet.retired,
        };
        let seen = self.seen.queues().into_iter();
        let message = FileProto {
            accounts: self.accounts.iter().map(|(party, signal)| account_proto(party, signal)).collect(),
            counted: pairs(&self.counted),
            sheets: self.sheets.iter().map(sheet).collect(),
            seen: seen.map(|(id, set)| SeenProto { queue: id.to_vec(), numbers: pairs(set) }).collect(),
            forgotten: self.seen.forgotten,
        };
        frame(MAGIC, &message.encode_to_vec())
    }

    /// Reads a file; `None` when it is not what [`Self::encode`] wrote.
    pub(crate) fn decode(file: &[u8]) -> Option<Self> {
        let message = FileProto::decode(unframe(MAGIC, file)?).ok()?;
        let accounts = message.accounts.into_iter().map(account).collect::<Option<Vec<_>>>()?;
        let places = accounts.len();
        let sheets = message.sheets.into_iter().map(|sheet| {
            let totals: Vec<_> = sheet.totals.iter().map(totals).collect();
            let read = Sheet {
                settled: set(&sheet.settled),
                uncounted: set(&sheet.uncounted),
                totals,
                lost: sheet.lost,
                unresolved: sheet.unresolved,
                retired: sheet.retired,
            };
            (read.totals.len() <= places).then_some((sheet.destination, read))
        });
        let seen = message.seen.into_iter();
        let seen = seen.map(|seen| Some((seen.queue.try_into().ok()?, ranges(&seen.numbers).collect())));
        Some(Self::restore(
            Accounts::restore(accounts)?,
            set(&message.counted),
            sheets.collect::<Option<_>>()?,
            Seen::restore(seen.collect::<Option<Vec<_>>>()?, message.forgotten),
        ))
    }
}

/// Puts the fixed bytes before a body.
pub(crate) fn frame(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    [magic, &crc32c::crc32c(body).to_le_bytes()[..], body].concat()
}

/// The body; `None` when it is not whole.
pub(crate) fn unframe<'a>(magic: &[u8; 8], file: &'a [u8]) -> Option<&'a [u8]> {
    let (fixed, body) = file.split_at_checked(FIXED)?;
    let whole = fixed.starts_with(magic) && fixed[magic.len()..] == crc32c::crc32c(body).to_le_bytes();
    whole.then_some(body)
}

fn pairs(set: &Ranges) -> Vec<u64> {
    set.iter().flat_map(|range| [range.start, range.end]).collect()
}

fn ranges(pairs: &[u64]) -> impl Iterator<Item = Range<u64>> {
    pairs.chunks_exact(2).map(|pair| pair[0]..pair[1])
}

fn set(pairs: &[u64]) -> Ranges {
    let mut set = Ranges::default();
    for range in ranges(pairs) {
        set.add(range);
    }
    set
}

fn account_proto(party: &Party, signal: Signal) -> AccountProto {
    let (kind, id, name) = match party {
        Party::Identity { id, name } => (1, id.as_str(), name.as_str()),
        Party::User { name } => (2, "", name.as_str()),
        Party::Unknown => (3, "", ""),
        Party::Other => (4, "", ""),
    };
    AccountProto { kind, id: id.into(), name: name.into(), signal: signal.name().into() }
}

fn account(account: AccountProto) -> Option<(Party, Signal)> {
    let party = match account.kind {
        1 => Party::Identity { id: account.id, name: account.name },
        2 => Party::User { name: account.name },
        3 => Party::Unknown,
        4 => Party::Other,
        _ => return None,
    };
    let signal = Signal::ALL.into_iter().find(|signal| signal.name() == account.signal)?;
    Some((party, signal))
}

fn totals_proto(totals: &Totals) -> TotalsProto {
    TotalsProto { accepted: totals.accepted, delivered: totals.delivered, dropped: totals.dropped.to_vec() }
}

fn totals(proto: &TotalsProto) -> Totals {
    let mut dropped = [0; DropReason::ALL.len()];
    dropped.iter_mut().zip(&proto.dropped).for_each(|(count, stored)| *count = *stored);
    Totals { accepted: proto.accepted, delivered: proto.delivered, dropped }
}
