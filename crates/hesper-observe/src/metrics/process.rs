//! The `process_…` metrics that Prometheus' client libraries have in common, read from `/proc/self` at each scrape.

use super::Collector;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::{fmt, fs, time::SystemTime};

/// `/proc` counts processor time in these; Linux shows user space 100 a second on every platform.
const TICKS_PER_SECOND: f64 = 100.0;

/// The collector; made at the start of the process, whose time it takes as the start time.
#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: since.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let files = fs::read_dir("/proc/self/fd").ok().and_then(|dir| i64::try_from(dir.count()).ok());
        let mut show = |name: &str, help: &str, metric: Option<&dyn EncodeMetric>| match metric {
            Some(metric) => {
                metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
            }
            None => Ok(()),
        };
        let gauge = |value: Option<i64>| value.map(ConstGauge::new);
        let memory = gauge(field(&status, "VmRSS:").map(|kib| kib * 1024));
        show(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            memory.as_ref().map(|m| m as _),
        )?;
        let threads = gauge(field(&status, "Threads:"));
        show("process_threads", "Number of threads.", threads.as_ref().map(|m| m as _))?;
        let files = gauge(files);
        show("process_open_fds", "Number of open file descriptors.", files.as_ref().map(|m| m as _))?;
        let cpu = cpu_seconds(&stat).map(ConstCounter::new);
        show(
            "process_cpu_seconds",
            "User and system CPU time spent in seconds.",
            cpu.as_ref().map(|m| m as _),
        )?;
        let started = ConstGauge::new(self.started);
        show(
            "process_start_time_seconds",
            "Start time of the process since the Unix epoch in seconds.",
            Some(&started),
        )
    }
}

/// The number behind a name in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<i64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time: fields 14 and 15 of `/proc/self/stat`, counted behind the name in brackets (proc(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_by_field_name_and_place() {
        assert_eq!(field("Name:\tx\nVmRSS:\t  812 kB\nThreads:\t3\n", "VmRSS:"), Some(812));
        assert_eq!(field("Name:\tx\n", "VmRSS:"), None);
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 90 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds(""), None);
    }
}
