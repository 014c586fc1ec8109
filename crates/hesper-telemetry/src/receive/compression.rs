//! Compressed requests, taken apart as they come: never more than the limit is written, whatever the input claims to hold.
//!
//! gzip, zlib and zstd are streams. Snappy and LZ4 are kept until they are whole (they are bounded as any request), then taken apart
//! piece by piece. `deflate` means zlib, as RFC 9110 §8.4.1.2 and the Collector have it.

use super::admission::Lease;
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use hesper_collector_config::Compression;
use hesper_otlp::{Refusal, room::Room};
use std::io::{self, Read};
use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

/// Most members of a gzip stream and frames of an LZ4 stream: each costs a new decoder.
const MAX_MEMBERS: u32 = 1024;
/// Largest window of zstd, as a power of two: 8 MiB, which every decoder of the HTTP coding must have and none must exceed (RFC 9659 §3).
const ZSTD_WINDOW_LOG: u32 = 23;
/// What the output grows by.
const STEP: std::ops::RangeInclusive<usize> = 32 << 10..=4 << 20;
/// First bytes of framed Snappy. A raw block never begins so: it would be 895 bytes that begin with two literals of one byte.
const SNAPPY_FRAMES: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// What has been decompressed.
#[derive(Debug)]
pub(crate) struct Output {
    room: Room,
    /// How much may be there now: so much is covered by the lease.
    covered: usize,
    limit: usize,
}

/// A decoder with what it remembers.
pub(crate) struct Decoder(State);

enum State {
    Flate { inner: Decompress, gzip: bool, members: u32, ended: bool },
    Zstd { inner: Zstd<'static>, ended: bool },
    Whole { lz4: bool, input: Vec<u8> },
}

impl Output {
    /// Takes up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        // One byte more than allowed, to see that there is more than allowed.
        Self { room: Room::new(limit.saturating_add(1)), covered: 0, limit }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.room.len()
    }

    /// All of it.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.room.into_bytes()
    }

    /// Is there nothing left to write to?
    fn is_full(&self) -> bool {
        self.len() == self.covered
    }

    /// Makes sure that something can be written, and that the lease covers it and `besides`.
    fn make_room(&mut self, besides: usize, lease: &mut Lease) -> Result<(), Refusal> {
        self.check()?;
        let len = self.len();
        if self.is_full() {
            let step = len.clamp(*STEP.start(), *STEP.end()).min(self.limit.saturating_sub(len) + 1);
            lease.cover(len + step + besides)?;
            self.room.reserve(len + step);
            self.covered = len + step;
        }
        Ok(())
    }

    /// What can be written to.
    fn free(&mut self) -> &mut [u8] {
        self.room.free(self.covered)
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.len() <= self.limit { Ok(()) } else { Err(Refusal::TooLarge { limit: self.limit }) }
    }
}

impl Decoder {
    /// A decoder. `None`: the bytes are not compressed.
    pub(crate) fn new(compression: Compression) -> Result<Option<Self>, Refusal> {
        let flate = |inner, gzip| State::Flate { inner, gzip, members: 1, ended: false };
        Ok(Some(Self(match compression {
            Compression::None => return Ok(None),
            Compression::Gzip => flate(Decompress::new_gzip(15), true),
            Compression::Zlib | Compression::Deflate => flate(Decompress::new(true), false),
            Compression::Zstd => {
                let mut inner = Zstd::new().map_err(internal)?;
                inner.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(internal)?;
                State::Zstd { inner, ended: false }
            }
            Compression::Snappy => State::Whole { lz4: false, input: Vec::new() },
            Compression::Lz4 => State::Whole { lz4: true, input: Vec::new() },
        })))
    }

    /// Takes the next bytes.
    pub(crate) fn feed(&mut self, chunk: &[u8], out: &mut Output, lease: &mut Lease) -> Result<(), Refusal> {
        match &mut self.0 {
            State::Flate { inner, gzip, members, ended } => {
                inflate(inner, *gzip, members, ended, chunk, out, lease)
            }
            State::Zstd { inner, ended } => unzstd(inner, ended, chunk, out, lease),
            State::Whole { input, .. } => {
                lease.cover(input.len() + chunk.len())?;
                input.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    /// There is no more.
    pub(crate) fn finish(self, out: &mut Output, lease: &mut Lease) -> Result<(), Refusal> {
        match self.0 {
            State::Flate { ended: true, .. } | State::Zstd { ended: true, .. } => out.check(),
            State::Flate { .. } => Err(malformed("gzip or zlib", "it is cut short")),
            State::Zstd { .. } => Err(malformed("zstd", "it is cut short")),
            State::Whole { lz4: true, input } => unlz4(&input, out, lease),
            State::Whole { lz4: false, input } if input.starts_with(SNAPPY_FRAMES) => {
                let mut frames = snap::read::FrameDecoder::new(&input[..]);
                copy(&mut frames, "snappy", input.len(), out, lease)
            }
            State::Whole { lz4: false, input } => unsnap(&input, out, lease),
        }
    }

    /// Bytes that are kept until the end.
    pub(crate) fn waiting(&self) -> usize {
        if let State::Whole { input, .. } = &self.0 { input.len() } else { 0 }
    }
}

fn inflate(
    inner: &mut Decompress,
    gzip: bool,
    members: &mut u32,
    ended: &mut bool,
    mut chunk: &[u8],
    out: &mut Output,
    lease: &mut Lease,
) -> Result<(), Refusal> {
    let name = if gzip { "gzip" } else { "zlib" };
    while !chunk.is_empty() {
        if *ended {
            *members += 1;
            if !gzip || *members > MAX_MEMBERS {
                return Err(malformed(name, "there is more behind its end"));
            }
            (*inner, *ended) = (Decompress::new_gzip(15), false);
        }
        out.make_room(0, lease)?;
        let (eaten, status) = step(inner, chunk, name, out)?;
        chunk = &chunk[eaten..];
        *ended = status == Status::StreamEnd;
        let full = out.is_full();
        if eaten == 0 && !*ended && !full {
            return Err(malformed(name, "it cannot be read on"));
        }
        if chunk.is_empty() && !*ended && full {
            // There may be output that had no room.
            drain(inner, ended, name, out, lease)?;
        }
    }
    Ok(())
}

/// Gets what a decoder still has when all its input is eaten.
fn drain(
    inner: &mut Decompress,
    ended: &mut bool,
    name: &str,
    out: &mut Output,
    lease: &mut Lease,
) -> Result<(), Refusal> {
    while !*ended && out.is_full() {
        out.make_room(0, lease)?;
        let (_, status) = step(inner, &[], name, out)?;
        *ended = status == Status::StreamEnd;
    }
    Ok(())
}

/// Writes what there is room for; how much of the input that took.
fn step(
    inner: &mut Decompress,
    chunk: &[u8],
    name: &str,
    out: &mut Output,
) -> Result<(usize, Status), Refusal> {
    let (read, written) = (inner.total_in(), inner.total_out());
    let status =
        inner.decompress(chunk, out.free(), FlushDecompress::None).map_err(|error| malformed(name, error))?;
    let since = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
    out.room.wrote(since(inner.total_out(), written));
    Ok((since(inner.total_in(), read), status))
}

fn unzstd(
    inner: &mut Zstd<'static>,
    ended: &mut bool,
    chunk: &[u8],
    out: &mut Output,
    lease: &mut Lease,
) -> Result<(), Refusal> {
    let mut input = InBuffer::around(chunk);
    loop {
        // The decoder keeps a window of what it wrote.
        out.make_room(out.len().min(1 << ZSTD_WINDOW_LOG), lease)?;
        let (hint, written) = {
            let mut buffer = OutBuffer::around(out.free());
            let hint = inner.run(&mut input, &mut buffer).map_err(|error| malformed("zstd", error))?;
            (hint, buffer.pos())
        };
        out.room.wrote(written);
        *ended = hint == 0;
        let eaten = input.pos() == chunk.len();
        if eaten && (*ended || !out.is_full()) {
            return Ok(());
        }
    }
}

fn unsnap(input: &[u8], out: &mut Output, lease: &mut Lease) -> Result<(), Refusal> {
    let len = snap::raw::decompress_len(input).map_err(|error| malformed("snappy", error))?;
    if len > out.limit {
        return Err(Refusal::TooLarge { limit: out.limit });
    }
    // A block that claims more than its bytes can hold (a copy of two bytes writes 64 at most) is not believed.
    if len > input.len().saturating_mul(64) {
        return Err(malformed("snappy", "it claims more than it holds"));
    }
    lease.cover(input.len() + len)?;
    out.room.reserve(len);
    out.covered = len;
    let mut decoder = snap::raw::Decoder::new();
    let written = decoder.decompress(input, out.free()).map_err(|error| malformed("snappy", error))?;
    out.room.wrote(written);
    Ok(())
}

/// Bytes that remember whether somebody wanted more.
struct Source<'a> {
    rest: &'a [u8],
    starved: bool,
}

impl Read for &mut Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.starved |= self.rest.is_empty() && !into.is_empty();
        self.rest.read(into)
    }
}

/// Frame by frame. The library takes a frame without its end mark for whole, so whether it asked for more tells.
fn unlz4(input: &[u8], out: &mut Output, lease: &mut Lease) -> Result<(), Refusal> {
    let mut source = Source { rest: input, starved: false };
    for _ in 0..MAX_MEMBERS {
        let mut frame = lz4_flex::frame::FrameDecoder::new(&mut source);
        copy(&mut frame, "lz4", input.len(), out, lease)?;
        drop(frame);
        if source.starved {
            return Err(malformed("lz4", "it is cut short"));
        }
        if source.rest.is_empty() {
            return Ok(());
        }
    }
    Err(malformed("lz4", "it has too many frames"))
}

/// Writes all that a reader has.
fn copy(
    reader: &mut impl Read,
    name: &str,
    besides: usize,
    out: &mut Output,
    lease: &mut Lease,
) -> Result<(), Refusal> {
    loop {
        out.make_room(besides, lease)?;
        let read = reader.read(out.free()).map_err(|error| malformed(name, error))?;
        out.room.wrote(read);
        if read == 0 {
            return out.check();
        }
    }
}

fn malformed(name: &str, reason: impl std::fmt::Display) -> Refusal {
    Refusal::Malformed(format!("the body is no {name}: {reason}"))
}

fn internal(error: io::Error) -> Refusal {
    Refusal::Internal(format!("there is no decoder: {error}"))
}
