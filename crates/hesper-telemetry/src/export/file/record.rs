//! Batches as they lie in a file, and what a crash leaves of the last one.

use hesper_collector_config::exporters::{File as Settings, FileFormat};
use hesper_otlp::{Batch, json};
use serde::de::IgnoredAny;
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// How much of a file is read at once when its end is looked for.
const CHUNK: usize = 64 * 1024;

/// How batches are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    json: bool,
    zstd: bool,
}

impl Format {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { json: settings.format == FileFormat::Json, zstd: settings.zstd }
    }

    /// Is there a length before each batch? Lines have none.
    fn framed(self) -> bool {
        self.zstd || !self.json
    }

    /// A batch as a line, or with its length before it.
    pub(super) fn encode(self, batch: &Batch) -> Result<Vec<u8>, String> {
        let fault = |error: String| format!("the {} cannot be written: {error}", batch.signal);
        let mut bytes = match self.json {
            true => json::encode(batch.signal, &batch.payload).map_err(|error| fault(error.to_string()))?,
            false => batch.payload.to_vec(),
        };
        if self.zstd {
            bytes = zstd::bulk::compress(&bytes, zstd::DEFAULT_COMPRESSION_LEVEL)
                .map_err(|error| fault(error.to_string()))?;
        }
        if !self.framed() {
            bytes.push(b'\n');
            return Ok(bytes);
        }
        let len = u32::try_from(bytes.len()).map_err(|_| fault("it has more than 4 GiB".into()))?;
        Ok([&len.to_be_bytes()[..], &bytes].concat())
    }

    /// Makes the end of a file that was left by a crash an end of a batch, and stands there. Returns its length.
    pub(super) fn mend(self, file: &mut File) -> io::Result<u64> {
        let len = file.seek(SeekFrom::End(0))?;
        let (whole, newline) = if self.framed() { (frames(file, len)?, false) } else { lines(file, len)? };
        if whole < len {
            tracing::warn!(
                bytes = len - whole,
                "the last batch of a file was cut short by a crash; it is taken out"
            );
            file.set_len(whole)?;
        }
        let mut end = file.seek(SeekFrom::Start(whole))?;
        if newline {
            io::Write::write_all(file, b"\n")?;
            end += 1;
        }
        Ok(end)
    }
}

/// Where the last whole frame ends.
fn frames(file: &mut File, len: u64) -> io::Result<u64> {
    let (mut end, mut head) = (0, [0; 4]);
    while end + 4 <= len {
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut head)?;
        let next = end + 4 + u64::from(u32::from_be_bytes(head));
        if next > len {
            break;
        }
        end = next;
    }
    Ok(end)
}

/// Where the last whole line ends, and whether its line break is missing.
fn lines(file: &mut File, len: u64) -> io::Result<(u64, bool)> {
    let mut tail = Vec::new();
    let mut at = len;
    let begin = loop {
        if at == 0 {
            break 0;
        }
        let chunk = usize::try_from(at).unwrap_or(CHUNK).min(CHUNK);
        at -= chunk as u64;
        let mut bytes = vec![0; chunk];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        if let Some(place) = bytes.iter().rposition(|byte| *byte == b'\n') {
            tail.splice(0..0, bytes[place + 1..].iter().copied());
            break at + place as u64 + 1;
        }
        tail.splice(0..0, bytes);
    };
    let whole = !tail.is_empty() && serde_json::from_slice::<IgnoredAny>(&tail).is_ok();
    Ok(if whole { (len, true) } else { (begin, false) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_otlp::Signal;
    use std::io::Write;

    fn batches() -> Vec<Batch> {
        let batch = |name: &str| {
            let text =
                format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"{name}"}}]}}]}}]}}"#);
            Batch {
                signal: Signal::Traces,
                payload: json::decode(Signal::Traces, text.as_bytes()).expect("spans"),
            }
        };
        vec![batch("one"), batch("two"), batch("three")]
    }

    #[test]
    fn a_file_cut_anywhere_holds_whole_batches_again() {
        for format in [
            Format { json: true, zstd: false },
            Format { json: false, zstd: false },
            Format { json: true, zstd: true },
            Format { json: false, zstd: true },
        ] {
            let records: Vec<Vec<u8>> = batches().iter().map(|b| format.encode(b).expect("bytes")).collect();
            let all = records.concat();
            for cut in 0..=all.len() {
                let mut file = tempfile::tempfile().expect("a file");
                file.write_all(&all[..cut]).expect("written");
                let len = format.mend(&mut file).expect("mended");
                file.write_all(&records[0]).expect("written");
                let mut found = Vec::new();
                file.seek(SeekFrom::Start(0)).expect("a file");
                file.read_to_end(&mut found).expect("read");
                // A line that misses its break only is a line.
                let missing = usize::from(!format.framed());
                let whole = (1..=3).filter(|n| records[..*n].concat().len() <= cut + missing).count();
                let expected = records[..whole].concat();
                assert_eq!(len as usize, expected.len(), "{format:?} cut at {cut}");
                assert_eq!(found, [expected, records[0].clone()].concat());
            }
        }
    }

    #[test]
    fn a_long_tail_is_found_too() {
        let format = Format { json: true, zstd: false };
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"{}\n{\"a\":\"").expect("written");
        file.write_all(&vec![b'x'; 3 * CHUNK]).expect("written");
        assert_eq!(format.mend(&mut file).expect("mended"), 3);
    }
}
