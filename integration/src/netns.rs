//! Network namespaces: machines of their own, as far as the network goes. Needs root.

use crate::{
    binaries,
    output::{Output, run},
    wait_until,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::AsFd,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU8, AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// `ip` itself is quick; a loaded machine is not.
const IP: Duration = Duration::from_secs(30);

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn unique() -> String {
    format!("{:x}-{:x}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[track_caller]
fn ip(arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries::installed("ip", "iproute2"));
    command.args(arguments);
    run(command, "", IP)
}

/// A network namespace with loopback up; gone when dropped.
pub struct Netns {
    name: String,
    /// Interfaces made in it.
    joined: AtomicU8,
}

impl Netns {
    /// A namespace that reaches nothing yet. `label` helps to read the name.
    ///
    /// # Panics
    /// Without root.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        let name = format!("hesper-{}-{label}", unique());
        let made = ip(&["netns", "add", &name]);
        assert!(made.code == 0, "no network namespace (are you root?): {}", made.stderr);
        let netns = Self { name, joined: AtomicU8::new(0) };
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command to be run inside.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        command_in(&self.name, program.as_ref())
    }

    /// This command, inside.
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = self.command(command.get_program());
        wrapped.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        wrapped
    }

    /// From now on programs that are started inside know these names, and none but these: `[("my-jaeger", address)]`.
    ///
    /// # Panics
    /// Without root.
    pub fn hosts(&self, hosts: &[(&str, Ipv4Addr)]) {
        let mut text = "127.0.0.1 localhost\n".to_owned();
        hosts.iter().for_each(|(name, address)| text += &format!("{address} {name}\n"));
        // ip-netns(8) puts what is here in the place of /etc/hosts.
        let directory = self.configuration();
        fs::create_dir_all(&directory).expect("a directory for the namespace");
        fs::write(directory.join("hosts"), text).expect("write the names");
    }

    fn configuration(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    /// Runs a command inside to its end.
    ///
    /// # Panics
    /// When it cannot be started or does not end.
    #[track_caller]
    pub fn run<const N: usize>(&self, words: [&str; N]) -> Output {
        let [program, arguments @ ..] = words.as_slice() else { panic!("no command") };
        let mut command = self.command(program);
        command.args(arguments);
        run(command, "", IP)
    }

    /// Runs a closure whose sockets are of this namespace, in a thread of its own.
    ///
    /// # Panics
    /// Without root, or when the closure does.
    #[track_caller]
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            enter(&self.name);
            work()
        };
        thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Changes its network.
    ///
    /// # Panics
    /// When `ip` refuses.
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat()).ok();
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Takes its interfaces along. What still runs inside keeps it alive until it ends, unreachable.
        let _ = ip(&["netns", "del", &self.name]);
        let _ = fs::remove_dir_all(self.configuration());
    }
}

/// Moves this thread into the namespace of this name: its sockets are of that network from now on.
#[track_caller]
pub(crate) fn enter(name: &str) {
    let path = Path::new("/run/netns").join(name);
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("enter the namespace");
}

/// A command to be run in the namespace of this name.
pub(crate) fn command_in(name: &str, program: &Path) -> Command {
    let mut command = Command::new(binaries::installed("ip", "iproute2"));
    command.args(["netns", "exec", name]).arg(program);
    command
}

/// A bridge, in a namespace of its own, that namespaces join: one network segment that leads nowhere else.
pub struct Lan {
    bridge: Netns,
    /// Third byte of its addresses.
    number: u8,
    hosts: AtomicU8,
}

impl Lan {
    /// An empty segment, `10.77.N.0/24` with an N of its own.
    ///
    /// # Panics
    /// Without root.
    #[track_caller]
    pub fn new() -> Self {
        static LANS: AtomicU8 = AtomicU8::new(1);
        let bridge = Netns::new("lan");
        bridge.ip(&["link", "add", "br0", "type", "bridge"]);
        bridge.ip(&["link", "set", "br0", "up"]);
        Self { bridge, number: LANS.fetch_add(1, Ordering::Relaxed), hosts: AtomicU8::new(1) }
    }

    /// A new namespace with one interface on this segment, and its address.
    ///
    /// # Panics
    /// When `ip` refuses.
    #[track_caller]
    pub fn host(&self, label: &str) -> (Netns, Ipv4Addr) {
        let netns = Netns::new(label);
        let address = self.join(&netns);
        (netns, address)
    }

    /// Gives `netns` one (more) interface, on this segment; it does not forward between its interfaces.
    ///
    /// # Panics
    /// When `ip` refuses.
    #[track_caller]
    pub fn join(&self, netns: &Netns) -> Ipv4Addr {
        let host = self.hosts.fetch_add(1, Ordering::Relaxed);
        let address = Ipv4Addr::new(10, 77, self.number, host);
        let inside = format!("eth{}", netns.joined.fetch_add(1, Ordering::Relaxed));
        let outside = port(address);
        // Made inside the bridge's namespace, with the other end put into the host's: nothing to clean up here.
        let pair = ["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", netns.name()];
        self.bridge.ip(&pair);
        self.bridge.ip(&["link", "set", &outside, "master", "br0", "up"]);
        netns.ip(&["addr", "add", &format!("{address}/24"), "dev", &inside]);
        netns.ip(&["link", "set", &inside, "up"]);
        wait_until("the interface is up", IP, || {
            netns.run(["cat", &format!("/sys/class/net/{inside}/operstate")]).stdout.trim() == "up"
        });
        address
    }

    /// Nothing comes from or to the interface with this address any more; its owner is not told.
    ///
    /// # Panics
    /// When `ip` refuses.
    #[track_caller]
    pub fn cut(&self, address: Ipv4Addr) {
        self.bridge.ip(&["link", "set", "dev", &port(address), "nomaster"]);
    }

    /// All is well again.
    ///
    /// # Panics
    /// When `ip` refuses.
    #[track_caller]
    pub fn heal(&self, address: Ipv4Addr) {
        self.bridge.ip(&["link", "set", "dev", &port(address), "master", "br0"]);
    }
}

/// The bridge's end of the interface with this address.
fn port(address: Ipv4Addr) -> String {
    format!("port{}", address.octets()[3])
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Process, http, sockets};

    #[test]
    fn hosts_of_one_segment_meet_and_others_do_not() {
        let (here, there) = (Lan::new(), Lan::new());
        let (server, address) = here.host("server");
        let (near, _) = here.host("near");
        let (far, _) = there.host("far");
        let mut command = server.command(binaries::installed("python3", "python3"));
        command.args(["-u", "-m", "http.server", "8000", "--directory", "/proc/self/fdinfo"]);
        let _listening = Process::foreign("http.server", command);
        let url = format!("http://{address}:8000/");
        wait_until("it serves", IP, || {
            http::get_in(Some(&near), &url).is_ok_and(|answer| answer.status == 200)
        });
        assert!(http::get_in(Some(&far), &url).is_err(), "no route");
        let found = sockets::of_namespace(&server);
        assert_eq!(found.iter().filter(|socket| socket.listens_outside_loopback()).count(), 1, "{found:?}");
        assert!(sockets::of_namespace(&near).iter().all(|socket| !socket.open));
    }
}
