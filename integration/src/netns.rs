//! Network namespaces: several hosts on one machine.

use crate::process::run;
use std::{
    ffi::OsStr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

/// One host with its own network: nothing but loopback until it is linked. Deleted when dropped.
pub struct Netns {
    name: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn unique() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn ip<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) {
    let mut command = Command::new("ip");
    let done = run(command.args(args));
    assert_eq!(done.code, 0, "{command:?} failed (namespaces need root): {}", done.stderr);
}

impl Netns {
    /// A new host; `role` is for people who look at `ip netns`.
    ///
    /// # Panics
    /// Without root.
    pub fn new(role: &str) -> Self {
        let name = format!("hsp-{}-{}-{role}", std::process::id(), unique());
        ip(["netns", "add", &name]);
        ip(["-n", &name, "link", "set", "lo", "up"]);
        Self { name }
    }

    /// Joins two hosts by a cable of their own; the addresses of this and the other end. There is no route beyond it.
    pub fn link(&self, other: &Self) -> (String, String) {
        let n = unique();
        let (here, there) =
            (format!("10.{}.{}.1", 64 + n / 256, n % 256), format!("10.{}.{}.2", 64 + n / 256, n % 256));
        let (a, b) = (format!("ve{n}a"), format!("ve{n}b"));
        ip([
            "link",
            "add",
            &a,
            "netns",
            &self.name,
            "type",
            "veth",
            "peer",
            "name",
            &b,
            "netns",
            &other.name,
        ]);
        for (host, device, address) in [(self, &a, &here), (other, &b, &there)] {
            ip(["-n", &host.name, "address", "add", &format!("{address}/24"), "dev", device]);
            ip(["-n", &host.name, "link", "set", device, "up"]);
        }
        (here, there)
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.name]).status());
    }
}
