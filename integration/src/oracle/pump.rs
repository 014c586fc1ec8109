//! The bytes of a transfer: what is sent, and whether exactly that arrives.

use super::{ENDLESS, Fault, Received, Shared, Side};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

/// Payload of a block.
pub(super) const BLOCK: usize = 16 << 10;
/// Number (8), length (4), flags (4).
pub(super) const HEAD: usize = 16;
const LAST: u32 = 1;
/// Random bytes from which every block is cut at a place of its own.
const POOL: usize = (1 << 20) + 7;

/// The bytes of a direction.
struct Content {
    pool: Vec<u8>,
    twist: u64,
}

impl Content {
    fn new(seed: u64, up: bool) -> Self {
        let twist = seed.rotate_left(17) ^ if up { 0x5b } else { 0xd1 };
        let mut state = twist;
        let mut pool = Vec::with_capacity(POOL + BLOCK + 8);
        while pool.len() < POOL + BLOCK {
            pool.extend_from_slice(&mix(&mut state).to_le_bytes());
        }
        Self { pool, twist }
    }

    fn block(&self, number: u64, len: usize) -> &[u8] {
        let mut state = self.twist ^ number;
        let at = (mix(&mut state) % POOL as u64) as usize;
        &self.pool[at..at + len]
    }
}

/// SplitMix64.
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(super) fn send(mut stream: &TcpStream, shared: &Shared, side: Side) -> io::Result<()> {
    let up = side == Side::Client;
    let (total, plan) = (if up { shared.plan.up } else { shared.plan.down }, shared.plan);
    let content = Content::new(plan.seed, up);
    let mut digest = Context::new(&SHA256);
    let (begun, mut sent) = (Instant::now(), 0);
    let mut message = Vec::with_capacity(HEAD + BLOCK + SHA256_OUTPUT_LEN);
    for number in 0.. {
        let stopped = total == ENDLESS && shared.stop.load(Relaxed);
        let len = if stopped { 0 } else { (total - sent).min(BLOCK as u64) as usize };
        sent += len as u64;
        let last = stopped || sent == total;
        let payload = content.block(number, len);
        digest.update(payload);
        message.clear();
        message.extend(number.to_be_bytes());
        message.extend((len as u32).to_be_bytes());
        message.extend((if last { LAST } else { 0 }).to_be_bytes());
        message.extend_from_slice(payload);
        if last {
            message.extend_from_slice(digest.finish().as_ref());
            stream.write_all(&message)?;
            stream.shutdown(Shutdown::Write)?;
            break;
        }
        stream.write_all(&message)?;
        if let Some(rate) = plan.rate {
            let due = begun + Duration::from_secs_f64(sent as f64 / rate as f64);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    Ok(())
}

pub(super) fn receive(mut stream: TcpStream, shared: &Shared, side: Side) -> Result<Received, Fault> {
    let up = side == Side::Server;
    let content = Content::new(shared.plan.seed, up);
    let mut digest = Context::new(&SHA256);
    let mut clock = Clock { shared, heard: Instant::now(), received: Received::default() };
    let mut payload = vec![0; BLOCK];
    for number in 0.. {
        let mut head = [0; HEAD];
        clock.fill(&mut stream, &mut head, || format!("before block {number}"))?;
        let [found, len, flags] = fields(&head);
        match found.cmp(&number) {
            std::cmp::Ordering::Less => return Err(format!("block {found} came again instead of {number}")),
            std::cmp::Ordering::Greater => return Err(format!("block {found} came, {number} is lost")),
            std::cmp::Ordering::Equal if len > BLOCK as u64 => {
                return Err(format!("the head of block {number} is altered"));
            }
            std::cmp::Ordering::Equal => {}
        }
        let payload = &mut payload[..len as usize];
        clock.fill(&mut stream, payload, || format!("in block {number}"))?;
        if payload != content.block(number, payload.len()) {
            return Err(format!("block {number} is altered"));
        }
        digest.update(payload);
        clock.received.bytes += len;
        shared.received[usize::from(!up)].store(clock.received.bytes, Relaxed);
        if flags == u64::from(LAST) {
            break;
        }
    }
    let mut told = [0; SHA256_OUTPUT_LEN];
    clock.fill(&mut stream, &mut told, || "before the checksum".into())?;
    if told != *digest.finish().as_ref() {
        return Err("the checksum is wrong".into());
    }
    let planned = if up { shared.plan.up } else { shared.plan.down };
    if planned != ENDLESS && planned != clock.received.bytes {
        return Err(format!("{} bytes came instead of {planned}", clock.received.bytes));
    }
    match stream.read(&mut [0]) {
        Ok(0) => Ok(clock.received),
        Ok(_) => Err("bytes came after the last".into()),
        Err(e) => Err(format!("no end after the last byte: {e}")),
    }
}

fn fields(head: &[u8; HEAD]) -> [u64; 3] {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    [number(&head[..8]), number(&head[8..12]), number(&head[12..])]
}

/// Reads, and measures how long nothing came.
struct Clock<'a> {
    shared: &'a Shared,
    heard: Instant,
    received: Received,
}

impl Clock<'_> {
    fn fill(
        &mut self,
        stream: &mut TcpStream,
        mut buf: &mut [u8],
        place: impl Fn() -> String,
    ) -> Result<(), Fault> {
        while !buf.is_empty() {
            let len = match stream.read(buf) {
                Ok(0) => return Err(format!("the stream ended {}", place())),
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(format!("the stream broke {}: {e}", place())),
            };
            buf = &mut buf[len..];
            let (now, waited) = (Instant::now(), self.heard.elapsed());
            if waited > self.received.longest_stall {
                self.received.longest_stall = waited;
                self.received.stalled_at = self.heard - self.shared.started;
            }
            self.heard = now;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_directions_and_seeds_have_bytes_of_their_own() {
        let blocks = [(1, true), (1, false), (2, true)].map(|(seed, up)| Content::new(seed, up));
        assert_ne!(blocks[0].block(0, 64), blocks[1].block(0, 64));
        assert_ne!(blocks[0].block(0, 64), blocks[2].block(0, 64));
        assert_ne!(blocks[0].block(0, 64), blocks[0].block(1, 64));
    }
}
