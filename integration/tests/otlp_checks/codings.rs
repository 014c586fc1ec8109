//! Compressions of bodies and messages, by the libraries that others use too.

use std::io::{Read, Write};

/// Compresses. `snappy` is a block, as over HTTP; `snappy-frames` is what gRPC has under the name of snappy.
pub(crate) fn compress(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::fast();
    match coding {
        "" | "identity" => bytes.to_vec(),
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("gzip")
        }
        "zlib" | "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("zlib")
        }
        "zstd" => zstd::encode_all(bytes, 1).expect("zstd"),
        "snappy" => snap::raw::Encoder::new().compress_vec(bytes).expect("snappy"),
        "snappy-frames" => {
            let mut encoder = snap::write::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).expect("snappy");
            encoder.into_inner().expect("snappy")
        }
        "lz4" => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes).expect("lz4");
            encoder.finish().expect("lz4")
        }
        other => panic!("no compression is called {other}"),
    }
}

/// Decompresses what another has compressed.
#[track_caller]
pub(crate) fn decompress(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let read = match coding {
        "" | "identity" => return bytes.to_vec(),
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out),
        "zlib" | "deflate" => flate2::read::ZlibDecoder::new(bytes).read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::new(bytes).expect("zstd").read_to_end(&mut out),
        "snappy" => return snap::raw::Decoder::new().decompress_vec(bytes).expect("snappy"),
        "snappy-frames" => snap::read::FrameDecoder::new(bytes).read_to_end(&mut out),
        "lz4" => lz4_flex::frame::FrameDecoder::new(bytes).read_to_end(&mut out),
        other => panic!("no compression is called {other}"),
    };
    read.unwrap_or_else(|error| panic!("{coding}: {error}"));
    out
}
