//! The end of a test that hangs: without it, one task that never gives way costs the whole run, and nobody learns which.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// Longest life of one stack: several times what the slowest test takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The same when the tests were asked to take long (`HESPER_TEST_LONG`, `HESPER_FAILOVER_BYTES`).
const LONG_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);
/// What says so.
const LONG: [&str; 2] = ["HESPER_TEST_LONG", "HESPER_FAILOVER_BYTES"];

/// The last lines of a process.
pub(crate) type Tail = Box<dyn Fn() -> Vec<String> + Send>;

/// Processes that a hanging test would leave behind, by id.
static RUNNING: Mutex<BTreeMap<u32, (String, Tail)>> = Mutex::new(BTreeMap::new());

fn running() -> MutexGuard<'static, BTreeMap<u32, (String, Tail)>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process runs.
pub(crate) fn started(pid: u32, name: &str, tail: Tail) {
    running().insert(pid, (name.to_owned(), tail));
}

/// It is no more.
pub(crate) fn ended(pid: u32) {
    running().remove(&pid);
}

/// Ends the whole test program when it is not dropped in time; the lines of its processes are printed, and they are killed.
pub(crate) struct Watchdog {
    /// Its end tells that the test is over.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let limit = if LONG.iter().any(|name| std::env::var_os(name).is_some()) { LONG_LIMIT } else { LIMIT };
        Self::within(limit, move |test| {
            report(test, limit);
            std::process::exit(101)
        })
    }

    fn within(limit: Duration, end: impl FnOnce(&str) + Send + 'static) -> Self {
        let (alive, over) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                end(&test);
            }
        });
        Self { _alive: alive }
    }
}

/// Not by `println!`, which a test's output goes through: that of a test that never ends is never shown.
fn report(test: &str, limit: Duration) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{test} hangs: it is not over after {limit:?}");
    for (pid, (name, tail)) in running().iter() {
        let _ = writeln!(out, "--- the last lines of {name}:\n{}", tail().join("\n"));
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_hangs_is_ended() {
        let (ended, hung) = mpsc::channel();
        let over = Watchdog::within(Duration::from_secs(3600), |_| panic!("it was over"));
        drop(over);
        let _hangs = Watchdog::within(Duration::from_millis(1), move |_| ended.send(()).expect("a reader"));
        hung.recv_timeout(Duration::from_secs(60)).expect("it is ended");
    }
}
