//! A running program, its lines, and the rule that ours log no ERROR.

use crate::{http, output::shown, watchdog};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Lines printed of each process when a test fails.
const TAIL: usize = 120;
/// How long the last lines of an ended process may take to arrive.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A running program; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
    /// Whether its ERROR lines fail the test.
    ours: bool,
    forgiven: Vec<String>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    /// Output streams that are still open.
    open: usize,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last lines.
    fn last(&self) -> Vec<String> {
        let lines = self.lines();
        lines.all[lines.all.len().saturating_sub(TAIL)..].to_vec()
    }

    fn follow(self: &Arc<Self>, pipe: Option<impl Read + Send + 'static>) {
        let Some(pipe) = pipe else { return };
        self.lines().open += 1;
        let log = self.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                log.lines().all.push(text);
                log.changed.notify_all();
            }
            log.lines().open -= 1;
            log.changed.notify_all();
        });
    }
}

impl Process {
    /// Starts one of our programs: an ERROR line or a panic of it fails the test.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn ours(name: &str, command: Command) -> Self {
        Self::start(name, command, true)
    }

    /// Starts a program of others.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn foreign(name: &str, command: Command) -> Self {
        Self::start(name, command, false)
    }

    #[track_caller]
    fn start(name: &str, mut command: Command, ours: bool) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", shown(&command)));
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take());
        log.follow(child.stderr.take());
        let tail = log.clone();
        watchdog::started(child.id(), name, Box::new(move || tail.last()));
        Self { name: name.to_owned(), child, log, ours, forgiven: Vec::new() }
    }

    /// An ERROR line that contains `part` is expected and does not fail the test.
    #[must_use]
    pub fn forgive(mut self, part: &str) -> Self {
        self.forgiven.push(part.to_owned());
        self
    }

    /// Bytes of memory that it has in use (VmRSS of proc_pid_status(5)).
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn memory(&self) -> u64 {
        self.memory_of("VmRSS:")
    }

    /// Bytes of memory that it ever had in use at most (VmHWM of proc_pid_status(5)).
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn memory_peak(&self) -> u64 {
        self.memory_of("VmHWM:")
    }

    #[track_caller]
    fn memory_of(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{} is not running", self.name)) << 10
    }

    /// The sum of this metric's samples whose labels contain `labels`, from the address that it logged as `metrics at URL`.
    ///
    /// # Errors
    /// It cannot be scraped.
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64, String> {
        let lines = self.lines();
        let url = lines.iter().find_map(|line| Some(line.split_once("metrics at ")?.1.trim().to_owned()));
        let page = http::get(&url.ok_or("no metrics")?)?.body;
        Ok(http::sum(&page, name, labels))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines of both outputs so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines().all.clone()
    }

    /// Whether some line contains `part`.
    pub fn said(&self, part: &str) -> bool {
        self.log.lines().all.iter().any(|line| line.contains(part))
    }

    /// Waits for the first line from which `find` takes something, of those said before or later.
    ///
    /// # Panics
    /// When the program ends without it, or it does not come `within` that time.
    #[track_caller]
    pub fn wait_for_line<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let started = Instant::now();
        let mut seen = 0;
        let log = self.log.clone();
        let mut lines = log.lines();
        loop {
            let found = lines.all[seen..].iter().find_map(|line| find(line));
            seen = lines.all.len();
            if let Some(value) = found {
                return value;
            }
            assert!(lines.open > 0, "{} ended before {what}", self.name);
            let left = within.checked_sub(started.elapsed());
            let left = left.unwrap_or_else(|| panic!("{} did not say in {within:?}: {what}", self.name));
            lines = log.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The address that it told for `name` when it was ready: `ready … NAME=ADDRESS …`.
    ///
    /// # Panics
    /// When it did not tell any.
    #[track_caller]
    pub fn told(&self, name: &str) -> SocketAddr {
        let lines = self.lines();
        let ready =
            lines.iter().filter_map(|line| line.strip_prefix("ready ")).flat_map(str::split_whitespace);
        let address = ready.filter_map(|word| word.rsplit_once('=')).find(|(told, _)| *told == name);
        let address = address.and_then(|(_, address)| address.parse().ok());
        address.unwrap_or_else(|| panic!("{} told no address of {name}: {lines:?}", self.name))
    }

    /// Its exit status if it has ended.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for the child")
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        watchdog::ended(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.await_last_lines();
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Panics
    /// When it is not gone `within` that time.
    #[track_caller]
    pub fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                watchdog::ended(self.child.id());
                self.await_last_lines();
                return status;
            }
            assert!(started.elapsed() < within, "{} did not end in {within:?} after SIGTERM", self.name);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGSTOP: alive, but does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT, after [`freeze`](Self::freeze).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("signal the child");
    }

    fn await_last_lines(&self) {
        let open = |lines: &mut Lines| lines.open > 0;
        drop(self.log.changed.wait_timeout_while(self.log.lines(), LAST_LINES, open));
    }

    fn faults(&self) -> Vec<String> {
        let forgiven = |line: &str| self.forgiven.iter().any(|part| line.contains(part));
        self.lines().into_iter().filter(|line| is_fault(line) && !forgiven(line)).collect()
    }
}

/// An ERROR line of `tracing` (text or JSON), or a panic.
fn is_fault(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let stamped = words.next().is_some_and(|time| time.ends_with('Z') && time.contains('T'));
    (stamped && words.next() == Some("ERROR"))
        || line.contains(r#""level":"ERROR""#)
        || (line.starts_with("thread '") && line.contains("panicked at"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let faults = if self.ours { self.faults() } else { Vec::new() };
        if thread::panicking() || !faults.is_empty() {
            println!("--- the last lines of {}:\n{}", self.name, self.log.last().join("\n"));
        }
        if !thread::panicking() {
            assert!(faults.is_empty(), "{} logged errors:\n{}", self.name, faults.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_line_is_found_whether_it_came_before_or_after() {
        let mut process = Process::foreign("sh", shell("echo one >&2; echo ready=7 >&2; sleep 60"));
        for _ in 0..2 {
            let port = process.wait_for_line("it is ready", Duration::from_secs(20), |line| {
                line.strip_prefix("ready=").and_then(|port| port.parse::<u16>().ok())
            });
            assert_eq!(port, 7);
        }
        assert!(process.said("on") && !process.said("two") && process.ended().is_none());
    }

    #[test]
    #[should_panic(expected = "ended before it is ready")]
    fn a_program_that_ends_early_is_told_at_once() {
        Process::foreign("sh", shell("exit 3"))
            .wait_for_line("it is ready", Duration::from_secs(60), |_| None::<()>);
    }

    #[test]
    #[should_panic(expected = "sh logged errors:\n2026-01-01T00:00:00Z ERROR hesper: broken")]
    fn an_error_line_of_ours_fails_the_test() {
        let mut process = Process::ours("sh", shell("echo '2026-01-01T00:00:00Z ERROR hesper: broken' >&2"));
        crate::wait_until("it has ended", Duration::from_secs(20), || process.ended().is_some());
    }

    #[test]
    fn an_expected_error_and_a_word_in_a_message_do_not() {
        let script = "echo '2026-01-01T00:00:00Z ERROR hesper: disk full'; echo '2026-01-01T00:00:00Z  INFO a: no ERROR'";
        let mut process = Process::ours("sh", shell(script)).forgive("disk full");
        crate::wait_until("it has ended", Duration::from_secs(20), || process.ended().is_some());
    }

    #[test]
    fn faults_are_told_from_other_lines() {
        assert!(is_fault("2026-11-22T08:04:29.123456Z ERROR hesper_router: x"));
        assert!(is_fault(r#"{"timestamp":"2026","level":"ERROR","message":"x"}"#));
        assert!(is_fault("thread 'tokio-rt-worker' (12) panicked at crates/x.rs:1:2:"));
        assert!(!is_fault("2026-11-22T08:04:29.123456Z  WARN hesper_router: ERROR"));
        assert!(!is_fault("the ERROR count is 0"));
    }

    #[test]
    fn signals_reach_it() {
        let mut process = Process::foreign(
            "sh",
            shell("trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"),
        );
        process.wait_for_line("it is up", Duration::from_secs(20), |line| (line == "up").then_some(()));
        process.freeze();
        process.thaw();
        assert_eq!(process.terminate(Duration::from_secs(20)).code(), Some(5));
        assert!(process.said("bye"));
    }
}
