//! The body of a request as it comes: counted, decompressed, kept.
//!
//! What is not compressed and comes in one piece is kept as it came; else it is written once, to where it stays.

use super::{
    admission::Lease,
    compression::{Decoder, Output},
    framing::{Framing, Piece},
};
use bytes::Bytes;
use hesper_collector_config::Compression;
use hesper_otlp::{Refusal, limits::Limits, room::Room};

/// A single piece that is smaller is copied: it would hold the whole buffer of the connection.
const WORTH_KEEPING: usize = 8 << 10;

/// Takes the chunks of a body.
pub(crate) trait Intake: Send + 'static {
    /// The next chunk.
    fn push(&mut self, chunk: Bytes, lease: &mut Lease) -> Result<(), Refusal>;

    /// About how much is there already, bytes.
    fn size(&self) -> usize;

    /// There is no more: the decompressed body.
    fn finish(self, lease: &mut Lease) -> Result<Bytes, Refusal>;
}

/// A body that is the message: OTLP/HTTP.
pub(crate) struct Whole {
    limits: Limits,
    expected: usize,
    wire: usize,
    store: Store,
}

enum Store {
    Nothing,
    One(Bytes),
    Many(Room),
    Packed(Box<Decoder>, Output),
}

/// A body that is a gRPC frame.
pub(crate) struct Framed {
    framing: Framing,
    compression: Compression,
    limits: Limits,
    message: Option<Whole>,
}

impl Whole {
    /// For a body that is compressed so. `expected`: how long it claims to be.
    pub(crate) fn new(
        compression: Compression,
        limits: Limits,
        expected: Option<u64>,
    ) -> Result<Self, Refusal> {
        let expected = usize::try_from(expected.unwrap_or(0)).unwrap_or(usize::MAX);
        if expected > limits.request {
            return Err(Refusal::too_large(&limits, false));
        }
        let store = match Decoder::new(compression)? {
            None => Store::Nothing,
            Some(decoder) => Store::Packed(Box::new(decoder), Output::new(limits.decompressed)),
        };
        Ok(Self { limits, expected, wire: 0, store })
    }
}

impl Intake for Whole {
    fn push(&mut self, chunk: Bytes, lease: &mut Lease) -> Result<(), Refusal> {
        self.wire += chunk.len();
        if self.wire > self.limits.request {
            return Err(Refusal::too_large(&self.limits, false));
        }
        if let Store::Packed(decoder, out) = &mut self.store {
            return decoder.feed(&chunk, out, lease);
        }
        if self.wire > self.limits.decompressed {
            return Err(Refusal::too_large(&self.limits, true));
        }
        lease.cover(self.wire)?;
        match &mut self.store {
            Store::Nothing => self.store = Store::One(chunk),
            Store::One(first) => {
                let most = if self.expected > 0 { self.expected } else { self.limits.request };
                let mut room = Room::new(most);
                // Somebody says how much will come: what is large costs addresses until it has come.
                room.reserve(self.expected.max(self.wire));
                room.extend(first);
                room.extend(&chunk);
                self.store = Store::Many(room);
            }
            Store::Many(room) => room.extend(&chunk),
            Store::Packed(..) => {}
        }
        Ok(())
    }

    fn size(&self) -> usize {
        match &self.store {
            Store::Packed(decoder, out) => out.len() + decoder.waiting(),
            _ => self.wire,
        }
    }

    fn finish(self, lease: &mut Lease) -> Result<Bytes, Refusal> {
        let bytes = match self.store {
            Store::Nothing => return Ok(Bytes::new()),
            Store::One(bytes) if bytes.len() < WORTH_KEEPING => return Ok(Bytes::copy_from_slice(&bytes)),
            Store::One(bytes) => return Ok(bytes),
            Store::Many(room) => room.into_bytes(),
            Store::Packed(decoder, mut out) => {
                decoder.finish(&mut out, lease)?;
                out.into_bytes()
            }
        };
        lease.settle(bytes.len());
        Ok(bytes)
    }
}

impl Framed {
    /// For a call whose compressed message is compressed so.
    pub(crate) fn new(compression: Compression, limits: Limits) -> Self {
        Self { framing: Framing::default(), compression, limits, message: None }
    }

    fn begin(&self, compressed: bool, len: usize) -> Result<Whole, Refusal> {
        let compression = match (compressed, self.compression) {
            (false, _) => Compression::None,
            (true, Compression::None) => {
                let reason = "the message is compressed, and no grpc-encoding says how";
                return Err(Refusal::Malformed(reason.to_owned()));
            }
            (true, compression) => compression,
        };
        Whole::new(compression, self.limits, Some(len as u64))
    }
}

impl Intake for Framed {
    fn push(&mut self, mut chunk: Bytes, lease: &mut Lease) -> Result<(), Refusal> {
        while let Some(piece) = self.framing.next(&mut chunk)? {
            match (piece, &mut self.message) {
                (Piece::Start { compressed, len }, _) => self.message = Some(self.begin(compressed, len)?),
                (Piece::Data(data), Some(message)) => message.push(data, lease)?,
                (Piece::Data(_), None) => {}
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.message.as_ref().map_or(0, Intake::size)
    }

    fn finish(self, lease: &mut Lease) -> Result<Bytes, Refusal> {
        self.framing.finish()?;
        self.message.map_or_else(|| Ok(Bytes::new()), |message| message.finish(lease))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receive::admission::Admission;
    use proptest::prelude::*;
    use std::io::Write;

    const ALL: [Compression; 7] = [
        Compression::None,
        Compression::Gzip,
        Compression::Zlib,
        Compression::Deflate,
        Compression::Zstd,
        Compression::Snappy,
        Compression::Lz4,
    ];

    fn pack(compression: Compression, plain: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::fast();
        match compression {
            Compression::None => plain.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain).and_then(|()| encoder.finish()).expect("gzip")
            }
            Compression::Zlib | Compression::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(plain).and_then(|()| encoder.finish()).expect("zlib")
            }
            Compression::Zstd => zstd::encode_all(plain, 1).expect("zstd"),
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).expect("snappy"),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).expect("lz4");
                encoder.finish().expect("lz4")
            }
        }
    }

    fn snappy_frames(plain: &[u8]) -> Vec<u8> {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(plain).expect("snappy");
        encoder.into_inner().expect("snappy")
    }

    fn limits(request: usize, decompressed: usize) -> Limits {
        Limits { request, decompressed, ..Limits::default() }
    }

    /// Reads a body in chunks of so many bytes; what came of it, and how much was held at most.
    fn read(
        compression: Compression,
        limits: Limits,
        wire: &[u8],
        chunk: usize,
    ) -> (Result<Bytes, Refusal>, usize) {
        let admission = Admission::new(usize::MAX / 2);
        let mut lease = admission.begin().expect("room");
        let mut most = 0;
        let mut run = || {
            let mut intake = Whole::new(compression, limits, None)?;
            for chunk in wire.chunks(chunk.max(1)) {
                intake.push(Bytes::copy_from_slice(chunk), &mut lease)?;
                most = most.max(admission.in_flight());
            }
            intake.finish(&mut lease)
        };
        (run(), most)
    }

    #[test]
    fn what_is_too_large_stops_at_the_limit() {
        const LIMIT: usize = 100_000;
        let plain = vec![7; 50 * LIMIT];
        for compression in ALL {
            let wire = pack(compression, &plain);
            for chunk in [100, 10_000_000] {
                let (read, most) = read(compression, limits(1 << 30, LIMIT), &wire, chunk);
                assert_eq!(read, Err(Refusal::TooLarge { limit: LIMIT }), "{compression:?}");
                assert!(most < 3 * LIMIT + wire.len(), "{compression:?} held {most}");
            }
            let (exact, _) =
                read(compression, limits(1 << 30, LIMIT), &pack(compression, &plain[..LIMIT]), 999);
            assert_eq!(exact.expect("it fits").len(), LIMIT, "{compression:?}");
            let (wire_limit, _) = read(compression, limits(wire.len() - 1, 1 << 30), &wire, 999);
            assert_eq!(wire_limit, Err(Refusal::TooLarge { limit: wire.len() - 1 }), "{compression:?}");
        }
        let claims = Whole::new(Compression::None, limits(10, 10), Some(11)).map(drop);
        assert_eq!(claims, Err(Refusal::TooLarge { limit: 10 }));
    }

    #[test]
    fn what_is_cut_short_or_goes_on_is_malformed() {
        let plain = b"some text, and some text again, and again".repeat(9);
        for compression in ALL.into_iter().filter(|compression| *compression != Compression::None) {
            let wire = pack(compression, &plain);
            for cut in [1, wire.len() / 2, wire.len() - 1] {
                let (read, _) = read(compression, Limits::default(), &wire[..cut], 50);
                assert!(matches!(read, Err(Refusal::Malformed(_))), "{compression:?} {cut} {read:?}");
            }
            let (more, _) = read(compression, Limits::default(), &[&wire[..], b"more"].concat(), 50);
            assert!(matches!(more, Err(Refusal::Malformed(_))), "{compression:?} {more:?}");
        }
        let end_mark = pack(Compression::Lz4, &plain);
        let (read, _) = read(Compression::Lz4, Limits::default(), &end_mark[..end_mark.len() - 4], 50);
        assert!(matches!(read, Err(Refusal::Malformed(_))), "cut at a block: {read:?}");
    }

    #[test]
    fn a_window_of_zstd_that_is_too_large_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("zstd");
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(27)).expect("a parameter");
        encoder.write_all(&[1; 1000]).expect("zstd");
        let (read, _) = read(Compression::Zstd, Limits::default(), &encoder.finish().expect("zstd"), 50);
        assert!(matches!(read, Err(Refusal::Malformed(_))), "{read:?}");
    }

    #[test]
    fn streams_of_several_pieces_are_read_to_the_end() {
        for compression in [Compression::Gzip, Compression::Zstd, Compression::Lz4] {
            let wire =
                [pack(compression, b"one "), pack(compression, b""), pack(compression, b"two")].concat();
            let (bytes, _) = read(compression, Limits::default(), &wire, 7);
            assert_eq!(bytes.expect("read"), &b"one two"[..], "{compression:?}");
        }
        let many = pack(Compression::Gzip, b"").repeat(1025);
        let (many, _) = read(Compression::Gzip, Limits::default(), &many, 999);
        assert!(matches!(many, Err(Refusal::Malformed(_))), "{many:?}");
    }

    #[test]
    fn a_large_single_chunk_is_kept_as_it_came() {
        let admission = Admission::default();
        for (len, kept) in [(WORTH_KEEPING, true), (WORTH_KEEPING - 1, false)] {
            let chunk = Bytes::from(vec![1; len]);
            let mut lease = admission.begin().expect("room");
            let mut intake = Whole::new(Compression::None, Limits::default(), None).expect("an intake");
            intake.push(chunk.clone(), &mut lease).expect("room");
            let bytes = intake.finish(&mut lease).expect("whole");
            assert_eq!((bytes == chunk, bytes.as_ptr() == chunk.as_ptr()), (true, kept));
        }
    }

    proptest! {
        /// Whatever is compressed, however it is cut: it comes out as it was, and what is held is what is there.
        #[test]
        fn bodies_come_out_as_they_went_in(
            plain in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..3000),
                (any::<u8>(), 0usize..300_000).prop_map(|(byte, len)| vec![byte; len]),
            ],
            which in 0..8usize,
            chunk in 1usize..100_000,
        ) {
            let (compression, wire) = match ALL.get(which) {
                Some(compression) => (*compression, pack(*compression, &plain)),
                None => (Compression::Snappy, snappy_frames(&plain)),
            };
            let (bytes, _) = read(compression, Limits::default(), &wire, chunk);
            prop_assert_eq!(bytes.expect("read"), plain);
        }

        /// Bytes that are nothing are an error, or something within the limit; never more, never a panic.
        #[test]
        fn noise_stays_within_the_limit(
            noise in prop::collection::vec(any::<u8>(), 0..500), flip in any::<(usize, u8)>(), which in 0..7usize, chunk in 1usize..600,
        ) {
            let compression = ALL[which];
            let mut wire = pack(compression, &noise.repeat(30));
            if !wire.is_empty() {
                let at = flip.0 % wire.len();
                wire[at] ^= flip.1;
            }
            for wire in [&wire, &noise] {
                let (bytes, most) = read(compression, limits(1 << 20, 10_000), wire, chunk);
                prop_assert!(bytes.map_or(0, |bytes| bytes.len()) <= 10_000);
                prop_assert!(most < 100_000, "{} {:?}", most, compression);
            }
        }
    }
}
