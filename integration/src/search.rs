//! Looking for words where they must not be: in captured packets, in the memory of a process.

use std::{
    fmt,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
};

/// Bytes of memory read at a time.
const CHUNK: usize = 4 << 20;

/// Something to look for.
#[derive(Clone, PartialEq, Eq)]
pub struct Needle {
    /// What it is, for messages.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Needle {
    /// # Panics
    /// When there is nothing to look for.
    pub fn new(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        assert!(bytes.len() > 3, "{name} is too short to be found by no accident");
        Self { name: name.to_owned(), bytes }
    }
}

/// The names of the needles that are somewhere in `bytes`.
pub fn found_in(bytes: &[u8], needles: &[Needle]) -> Vec<String> {
    let mut begins: Vec<Vec<&Needle>> = vec![Vec::new(); 256];
    for needle in needles {
        begins[usize::from(needle.bytes[0])].push(needle);
    }
    let mut found: Vec<String> = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        let candidates = &begins[usize::from(*byte)];
        if candidates.is_empty() {
            continue;
        }
        for needle in candidates {
            if bytes[at..].starts_with(&needle.bytes) && !found.contains(&needle.name) {
                found.push(needle.name.clone());
            }
        }
    }
    found
}

/// The names of the needles that are in readable memory of a process, and how many bytes were looked through. Freeze it first.
///
/// # Panics
/// When it may not be looked at.
#[track_caller]
pub fn found_in_memory(pid: u32, needles: &[Needle]) -> (Vec<String>, usize) {
    let maps =
        fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|e| panic!("process {pid}: {e}"));
    let overlap = needles.iter().map(|needle| needle.bytes.len()).max().unwrap_or(1) - 1;
    let (mut found, mut looked): (Vec<String>, usize) = (Vec::new(), 0);
    for (from, to) in maps.lines().filter_map(region) {
        let mut at = from;
        while at < to {
            let len = CHUNK.min((to - at) as usize);
            let mut bytes = vec![0; len];
            // The kernel's own pages, such as [vvar], cannot be read this way.
            if memory.seek(SeekFrom::Start(at)).is_err() || memory.read_exact(&mut bytes).is_err() {
                break;
            }
            looked += len;
            for name in found_in(&bytes, needles) {
                if !found.contains(&name) {
                    found.push(name);
                }
            }
            at += len as u64;
            // What lies across the border of two pieces.
            if at < to {
                at -= overlap as u64;
            }
        }
    }
    (found, looked)
}

/// A readable region of `/proc/PID/maps` (proc_pid_maps(5)).
fn region(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let (from, to) = range.split_once('-')?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    permissions.starts_with('r').then_some((number(from)?, number(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_wherever_it_is() {
        let needles = [Needle::new("a", "aaab"), Needle::new("b", "border"), Needle::new("c", "never")];
        assert_eq!(found_in(b"aaaaab border", &needles), ["a", "b"]);
        assert_eq!(found_in(b"aaa bordernot neve", &needles), ["b"]);
        assert_eq!(found_in(b"", &needles), [""; 0]);
    }

    #[test]
    fn a_word_in_our_own_memory_is_found() {
        let word: String = "dlroWyrevEnIdnuoFtoN".chars().rev().collect();
        let kept = Box::new(word.clone());
        let (found, looked) = found_in_memory(std::process::id(), &[Needle::new("word", word)]);
        assert_eq!(found, ["word"], "{kept}");
        assert!(looked > 1 << 20);
    }
}
