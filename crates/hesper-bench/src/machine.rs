//! The facts of the machine without which a figure means nothing.

use serde::{Deserialize, Serialize};
use std::{fs, path::Path, process::Command};

/// Where and with what it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// `uname -r`.
    pub(crate) kernel: String,
    /// Model name of the first processor.
    pub(crate) cpu: String,
    /// Processors that may be used.
    pub(crate) cores: usize,
    /// Bytes of memory.
    pub(crate) memory_bytes: u64,
    /// Default congestion control of TCP.
    pub(crate) tcp_congestion_control: String,
    /// Versions of what was measured, by program.
    pub(crate) versions: std::collections::BTreeMap<String, String>,
    /// Load of the last minute when the measuring began: near zero, or the figures are noise.
    pub(crate) load_at_start: f64,
    /// An optimised build?
    pub(crate) release_build: bool,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn look() -> Self {
        let proc = |name: &str| fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
        let memory = field(&proc("meminfo"), "MemTotal")
            .split_whitespace()
            .next()
            .and_then(|kb| kb.parse::<u64>().ok());
        let mut versions = std::collections::BTreeMap::new();
        versions.insert("hesper".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Self {
            kernel: proc("sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&proc("cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory.unwrap_or_default() * 1024,
            tcp_congestion_control: proc("sys/net/ipv4/tcp_congestion_control").trim().to_owned(),
            versions,
            load_at_start: proc("loadavg")
                .split_whitespace()
                .next()
                .and_then(|l| l.parse().ok())
                .unwrap_or_default(),
            release_build: !cfg!(debug_assertions),
        }
    }
}

/// The MTU of loopback in the namespace of this process. `/sys` shows the namespace in which it was mounted, so `ip` is asked.
pub(crate) fn loopback_mtu() -> u32 {
    let shown = Command::new("ip").args(["-o", "link", "show", "dev", "lo"]).output();
    let shown = shown.map(|shown| String::from_utf8_lossy(&shown.stdout).into_owned()).unwrap_or_default();
    let told = shown.split_whitespace().skip_while(|word| *word != "mtu").nth(1).map(str::to_owned);
    let told = told.or_else(|| fs::read_to_string("/sys/class/net/lo/mtu").ok());
    told.and_then(|mtu| mtu.trim().parse().ok()).unwrap_or_default()
}

/// The value in the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 106\nmodel name\t: Some CPU @ 2 GHz\nmodel name\t: Another\n";
        assert_eq!(field(text, "model name"), "Some CPU @ 2 GHz");
        assert_eq!(field(text, "name"), "");
    }

    #[test]
    fn this_machine_has_facts() {
        let machine = Machine::look();
        assert!(machine.cores > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty(), "{machine:?}");
    }
}
