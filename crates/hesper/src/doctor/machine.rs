//! This computer: what the kernel grants to sockets and files.

use super::report::Report;
use anyhow::Result;
use rustix::process::{Resource, getrlimit};
use std::{fs, path::Path};

/// Bytes that a UDP socket wants for what comes and goes while the process is not scheduled.
const SOCKET_BUFFER: u64 = 4 << 20;
/// With less than this packets are lost in ordinary bursts.
const LEAST_BUFFER: u64 = 1 << 20;
/// Each stream of a tunneler is a file or two.
const OPEN_FILES: u64 = 65_536;
/// Not enough for anything but a command.
const LEAST_FILES: u64 = 1_024;

/// Looks at the limits.
///
/// # Errors
/// Nothing can be told.
pub(super) fn check(report: &mut Report) -> Result<()> {
    for (name, path) in [
        ("UDP receive buffer", "/proc/sys/net/core/rmem_max"),
        ("UDP send buffer", "/proc/sys/net/core/wmem_max"),
    ] {
        // Other systems than Linux have none of these, and larger defaults.
        if let Some(max) = number(Path::new(path)) {
            let key = path.trim_start_matches("/proc/sys/").replace('/', ".");
            let (found, next) = (format!("{max} bytes at most"), format!("sysctl -w {key}={SOCKET_BUFFER}"));
            match max {
                SOCKET_BUFFER.. => report.ok(name, found)?,
                LEAST_BUFFER.. => report.warn(name, found, format!("for fast transfers: {next}"))?,
                _ => report.warn(name, found, format!("bursts may lose packets: {next}"))?,
            }
        }
    }
    let limit = getrlimit(Resource::Nofile).maximum;
    let found = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("{limit} at most"));
    match limit {
        Some(..LEAST_FILES) => {
            report.fail("open files", found, "raise the hard limit: ulimit -Hn, LimitNOFILE=")
        }
        Some(LEAST_FILES..OPEN_FILES) => {
            report.warn("open files", found, format!("for many streams: LimitNOFILE={OPEN_FILES}"))
        }
        _ => report.ok("open files", found),
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
