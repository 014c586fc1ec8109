//! Ports for servers that must come back on the same one.

use std::{
    env,
    fs::{self, File},
    net::{TcpListener, UdpSocket},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

/// Below the range from which the system takes ports for outgoing connections, which could otherwise take ours between
/// two starts.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A locked file for each port of ours: also while a port is free for a moment, no test process next to this one takes it.
static OURS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that nobody uses now, for TCP and UDP, different at each call. Test processes start at different places.
///
/// # Panics
/// When none of the range is free.
pub fn free_port() -> u16 {
    let start = u16::try_from(process::id() % u32::from(COUNT) / 100 * 100).unwrap_or_default();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (start + step) % COUNT;
        let free = TcpListener::bind(("0.0.0.0", port)).is_ok() && UdpSocket::bind(("0.0.0.0", port)).is_ok();
        if free && claim(port) {
            return port;
        }
    }
    panic!("no port between {FIRST} and {} is free", FIRST + COUNT)
}

/// Makes the port ours until this process ends.
fn claim(port: u16) -> bool {
    let directory = env::temp_dir().join("hesper-test-ports");
    fs::create_dir_all(&directory).expect("a directory for locks");
    let file = File::create(directory.join(port.to_string())).expect("a file to lock");
    let locked = file.try_lock().is_ok();
    if locked {
        OURS.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }
    locked
}
