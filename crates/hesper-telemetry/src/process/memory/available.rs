//! How much memory this process has and may have, from Linux.

use std::{fs, io, path::Path};

/// Bytes that this process has in memory (`VmRSS`).
pub(super) fn used() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    kib(&status, "VmRSS:").ok_or_else(|| io::Error::other("/proc/self/status has no VmRSS"))
}

/// Bytes that this process may have: the machine's memory, or less if its control group or one around it is limited.
///
/// # Errors
/// `/proc/meminfo` cannot be read.
pub(in super::super) fn available() -> io::Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let total = kib(&info, "MemTotal:").ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Ok(groups_limit(&groups, &|path| fs::read_to_string(path).ok()).map_or(total, |limit| limit.min(total)))
}

/// The bytes of a line such as `VmRSS:   1234 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the control groups in `/proc/self/cgroup` and of those around them. In a container the group's path may be that of the
/// host, while its files are at the root.
fn groups_limit(groups: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or("/"));
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let inside = Path::new(path.trim_start_matches('/'));
        let limit = |group: &Path| read(&Path::new(root).join(group).join(file))?.trim().parse::<u64>().ok();
        inside.ancestors().filter_map(limit).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_less_than_there_is() {
        let (used, available) = (used().expect("measured"), available().expect("measured"));
        assert!(used > 100 * 1024 && used < available, "{used} of {available}");
    }

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let files = |wanted: &[(&'static str, &'static str)]| {
            let files = wanted.to_vec();
            move |path: &Path| {
                let file = files.iter().find(|(known, _)| Path::new(known) == path);
                file.map(|(_, text)| (*text).to_owned())
            }
        };
        let two = files(&[
            ("/sys/fs/cgroup/pod/container/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.max", "2000\n"),
        ]);
        assert_eq!(groups_limit("0::/pod/container\n", &two), Some(1000));
        assert_eq!(groups_limit("0::/elsewhere\n", &two), Some(2000), "in a container");
        let one = files(&[("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "3000")]);
        assert_eq!(groups_limit("5:cpu,memory:/docker\n1:name=systemd:/docker\n", &one), Some(3000));
        assert_eq!(groups_limit("", &one), None);
        assert_eq!(groups_limit("0::/\n", &files(&[("/sys/fs/cgroup/memory.max", "max")])), None);
    }

    #[test]
    fn lines_are_read_in_kib() {
        assert_eq!(kib("Name: x\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kib("VmRSS: many kB", "VmRSS:"), None);
        assert_eq!(kib("", "VmRSS:"), None);
    }
}
