//! Compression of requests: engines and buffers are used again, for making them costs more than a small request.

use bytes::Bytes;
use flate2::{Compress, Compression as Level, Crc, FlushCompress, Status};
use hesper_collector_config::Compression;
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// From this size on a request is compressed beside the tasks that wait for sockets: it takes milliseconds.
const LONG: usize = 128 * 1024;
/// Most engines and buffers that are kept: as many as requests are compressed at once in practice.
const KEPT: usize = 16;
/// Larger buffers are not kept.
const KEPT_LEN: usize = 8 * 1024 * 1024;

/// Which of the two formats "snappy" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snappy {
    /// With frames: what gRPC's peers speak.
    Framed,
    /// One block: what `Content-Encoding: snappy` is.
    Block,
}

/// Compresses with one algorithm.
#[derive(Clone)]
pub(crate) struct Compressor {
    algorithm: Compression,
    level: Option<i32>,
    snappy: Snappy,
    engines: Arc<Mutex<Vec<Engine>>>,
    buffers: Arc<Buffers>,
}

type Buffers = Mutex<Vec<Vec<u8>>>;

enum Engine {
    Gzip(Compress),
    Zlib(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
    SnappyBlock(Box<snap::raw::Encoder>),
    SnappyFramed,
    Lz4,
}

impl Compressor {
    /// One for an algorithm; the level is that of the algorithm, none is its default.
    pub(crate) fn new(algorithm: Compression, level: Option<i64>, snappy: Snappy) -> Self {
        let level = level.map(|level| i32::try_from(level).unwrap_or(i32::MAX));
        Self { algorithm, level, snappy, engines: Arc::default(), buffers: Arc::default() }
    }

    /// What the header says; none when nothing is compressed.
    pub(crate) fn name(&self) -> Option<&'static str> {
        match self.algorithm {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::Snappy => Some("snappy"),
            Compression::Zlib => Some("zlib"),
            Compression::Deflate => Some("deflate"),
            Compression::Lz4 => Some("lz4"),
        }
    }

    /// Compresses a request.
    pub(crate) async fn compress(&self, payload: &Bytes) -> io::Result<Bytes> {
        if self.algorithm == Compression::None {
            return Ok(payload.clone());
        }
        if payload.len() < LONG {
            return self.now(payload);
        }
        let (this, payload) = (self.clone(), payload.clone());
        tokio::task::spawn_blocking(move || this.now(&payload)).await.map_err(io::Error::other)?
    }

    fn now(&self, payload: &[u8]) -> io::Result<Bytes> {
        let mut engine = match take(&self.engines) {
            Some(engine) => engine,
            None => self.engine()?,
        };
        let mut buffer = take(&self.buffers).unwrap_or_default();
        buffer.clear();
        engine.run(payload, &mut buffer)?;
        give(&self.engines, engine);
        Ok(Bytes::from_owner(Lent { buffer, home: Arc::clone(&self.buffers) }))
    }

    fn engine(&self) -> io::Result<Engine> {
        let deflate = match self.level {
            None | Some(-1) => Level::default(),
            Some(level) => Level::new(level.clamp(0, 9).unsigned_abs()),
        };
        Ok(match self.algorithm {
            Compression::Zlib | Compression::Deflate => Engine::Zlib(Compress::new(deflate, true)),
            Compression::Zstd => Engine::Zstd(zstd::bulk::Compressor::new(
                self.level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL),
            )?),
            Compression::Snappy if self.snappy == Snappy::Block => {
                Engine::SnappyBlock(Box::new(snap::raw::Encoder::new()))
            }
            Compression::Snappy => Engine::SnappyFramed,
            Compression::Lz4 => Engine::Lz4,
            Compression::None | Compression::Gzip => Engine::Gzip(Compress::new(deflate, false)),
        })
    }
}

impl Engine {
    fn run(&mut self, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(engine) => gzip(engine, payload, out),
            Self::Zlib(engine) => deflate(engine, payload, out),
            Self::Zstd(engine) => {
                out.reserve(zstd::zstd_safe::compress_bound(payload.len()));
                engine.compress_to_buffer(payload, out).map(drop)
            }
            Self::SnappyBlock(engine) => {
                out.resize(snap::raw::max_compress_len(payload.len()), 0);
                let len = engine.compress(payload, out)?;
                out.truncate(len);
                Ok(())
            }
            Self::SnappyFramed => {
                let mut writer = snap::write::FrameEncoder::new(out);
                writer.write_all(payload)?;
                writer.flush()
            }
            Self::Lz4 => {
                let mut writer = lz4_flex::frame::FrameEncoder::new(out);
                writer.write_all(payload)?;
                writer.finish().map(drop).map_err(io::Error::other)
            }
        }
    }
}

/// A member of gzip (RFC 1952) without name and time around what deflate makes.
fn gzip(engine: &mut Compress, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend_from_slice(&HEAD);
    deflate(engine, payload, out)?;
    let mut crc = Crc::new();
    crc.update(payload);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    Ok(())
}

fn deflate(engine: &mut Compress, payload: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    engine.reset();
    out.reserve(payload.len() / 4 + 64);
    loop {
        let read = usize::try_from(engine.total_in()).unwrap_or(payload.len());
        if engine.compress_vec(&payload[read..], out, FlushCompress::Finish)? == Status::StreamEnd {
            return Ok(());
        }
        out.reserve(out.capacity().max(64));
    }
}

/// A buffer that goes back when nobody reads it any more.
struct Lent {
    buffer: Vec<u8>,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.buffer.capacity() <= KEPT_LEN {
            give(&self.home, std::mem::take(&mut self.buffer));
        }
    }
}

fn take<T>(kept: &Mutex<Vec<T>>) -> Option<T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give<T>(kept: &Mutex<Vec<T>>, one: T) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT {
        kept.push(one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn back(algorithm: Compression, snappy: Snappy, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let read = match algorithm {
            Compression::None => (&mut &bytes[..]).read_to_end(&mut out),
            Compression::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
            Compression::Zlib | Compression::Deflate => {
                flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out)
            }
            Compression::Zstd => zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut out),
            Compression::Snappy if snappy == Snappy::Block => {
                out = snap::raw::Decoder::new().decompress_vec(bytes).expect("snappy");
                Ok(out.len())
            }
            Compression::Snappy => snap::read::FrameDecoder::new(bytes).read_to_end(&mut out),
            Compression::Lz4 => lz4_flex::frame::FrameDecoder::new(bytes).read_to_end(&mut out),
        };
        read.expect("what was compressed");
        out
    }

    #[tokio::test]
    async fn every_algorithm_gives_back_what_it_was_given() {
        use Compression::{Deflate, Gzip, Lz4, None, Snappy as Snap, Zlib, Zstd};
        let noise: Vec<u8> = (0..140_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for algorithm in [None, Gzip, Zstd, Snap, Zlib, Deflate, Lz4] {
            for snappy in [Snappy::Framed, Snappy::Block] {
                for level in [Option::None, Some(1)] {
                    let compressor = Compressor::new(algorithm, level, snappy);
                    for text in [&b""[..], b"a", &b"abcd".repeat(2000), &noise, b"again"] {
                        let text = Bytes::copy_from_slice(text);
                        let small = compressor.compress(&text).await.expect("compressed");
                        assert_eq!(back(algorithm, snappy, &small), text, "{algorithm:?} {}", text.len());
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn buffers_come_back() {
        let compressor = Compressor::new(Compression::Gzip, None, Snappy::Framed);
        let one = compressor.compress(&Bytes::from_static(b"one")).await.expect("compressed");
        let copy = one.clone();
        drop(one);
        assert_eq!(compressor.buffers.lock().expect("a lock").len(), 0, "somebody still reads it");
        drop(copy);
        assert_eq!(compressor.buffers.lock().expect("a lock").len(), 1);
        assert_eq!(compressor.engines.lock().expect("a lock").len(), 1);
    }
}
