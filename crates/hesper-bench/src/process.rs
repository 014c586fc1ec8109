//! Programs that run beside the bench: started so that none outlives it, and what they cost.
//!
//! Each is started through this same executable (`__exec`), which asks the kernel to kill it when its parent dies, then becomes
//! the program. So nothing stays behind even when the bench itself is killed.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a program may take to become ready.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_millis(10);
/// Clock ticks per second in `/proc/PID/stat`: fixed by the kernel's interface (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;
/// Lines shown of a program that failed.
const TAIL: usize = 15;

/// Becomes the program in `arguments`, after asking to be killed together with the parent.
pub(crate) fn exec(arguments: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot tie the program to its parent")?;
    let [program, rest @ ..] = arguments else { bail!("no program is named") };
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot start {}", Path::new(program).display()))
}

/// A command whose program dies with this process. Must be spawned by the main thread, which lives longest.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.arg("__exec").arg(program);
    Ok(command)
}

/// A command that runs this program in one of its hidden roles.
pub(crate) fn role(name: &str) -> Result<Command> {
    let mut command = command(std::env::current_exe().context("the path of this program")?)?;
    command.arg(name);
    Ok(command)
}

/// A running program; killed when dropped.
pub(crate) struct Program {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts it.
    pub(crate) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        follow(child.stdout.take(), lines.clone());
        follow(child.stderr.take(), lines.clone());
        Ok(Self { name, child, lines })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first line from which `find` takes something.
    pub(crate) async fn line<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let begun = Instant::now();
        loop {
            let ended = self.child.try_wait()?.is_some();
            if let Some(found) = self.lines().iter().find_map(|line| find(line)) {
                return Ok(found);
            }
            if ended || begun.elapsed() > PATIENCE {
                bail!("{} did not become ready:\n{}", self.name, self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something takes TCP connections at this address.
    pub(crate) async fn listens(&mut self, at: std::net::SocketAddr) -> Result<()> {
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(at).await.is_err() {
            if self.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                bail!("{} does not listen on {at}:\n{}", self.name, self.tail());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn terminate(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > PATIENCE {
                bail!("{} does not end", self.name);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps the last lines: a chatty program must not fill the memory.
fn follow(pipe: Option<impl Read + Send + 'static>, lines: Arc<Mutex<Vec<String>>>) {
    const MOST: usize = 2_000;
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() >= MOST {
                lines.drain(..MOST / 2);
            }
            lines.push(line);
        }
    });
}

/// Runs a command to its end; its standard output, or what it complained about.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!("{shown} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program of the system, on PATH or where Debian keeps those of root.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// CPU seconds that a process and all that descend from it have used so far.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stats: Vec<Stat> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect();
    let mut family = vec![pid];
    loop {
        let more: Vec<u32> = stats
            .iter()
            .filter(|s| family.contains(&s.parent) && !family.contains(&s.pid))
            .map(|s| s.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        family.extend(more);
    }
    let ticks: u64 = stats.iter().filter(|s| family.contains(&s.pid)).map(|s| s.ticks).sum();
    ticks as f64 / TICKS_PER_SECOND
}

/// Resident memory of a process, bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.split_whitespace().next().and_then(|kib| kib.parse().ok()).context("no number")?;
    Ok(kib * 1024)
}

/// One line of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// Its own and those of children that have ended.
    ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        let pid = text.split_whitespace().next()?.parse().ok()?;
        // The name is in parentheses and may contain anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        let ticks = (14..=17).map(number).sum::<Option<u64>>()?;
        Some(Self { pid, parent: u32::try_from(number(4)?).ok()?, ticks })
    }
}

/// As many open files as the system lets us have.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let text = "42 (a ) b) S 7 42 42 0 -1 4194560 100 0 0 0 11 22 3 4 20 0 1 0 100 0 0";
        assert_eq!(Stat::parse(text), Some(Stat { pid: 42, parent: 7, ticks: 40 }));
        assert_eq!(Stat::parse("nonsense"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(0);
        }
        assert!(cpu_seconds(std::process::id()) > 0.0);
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
