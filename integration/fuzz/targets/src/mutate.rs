//! Mutations of an input, by a seed: what a fuzzer does without looking.

use rand::{Rng, SeedableRng, rngs::StdRng};

/// Longest mutation.
const LONGEST: usize = 16 << 10;
/// Words that formats and parsers care about.
const WORDS: [&[u8]; 16] = [
    b"\r\n",
    b"\n",
    b"\0",
    b"{}",
    b"[]",
    b"null",
    b"\"",
    b"\\",
    b"-1",
    b"1e309",
    b"18446744073709551616",
    b"\xff\xff\xff\xff",
    b"\xc3\x28",
    b".",
    b"%00",
    b" ",
];

/// Other bytes that begin as `input` does, mostly.
pub fn mutate(input: &[u8], seed: u64) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut bytes = input.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let to = rng.random_range(at..=bytes.len().min(at + 64));
        match rng.random_range(0..7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let copy = bytes[at..to].to_vec();
                let times = rng.random_range(1..4);
                bytes.splice(at..at, copy.repeat(times));
            }
            4 => drop(bytes.splice(at..to, WORDS[rng.random_range(0..WORDS.len())].iter().copied())),
            5 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, WORDS[rng.random_range(0..WORDS.len())].iter().copied())),
        }
    }
    bytes.truncate(LONGEST);
    bytes
}
