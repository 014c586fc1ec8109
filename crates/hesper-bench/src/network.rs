//! In which network it is measured: a namespace of its own with this MTU on loopback, or the network as it is.
//!
//! A namespace is entered by starting this program again below `unshare`; the part of the report comes back in a file. It has
//! loopback only: nothing in it reaches another machine.

use crate::process::{command, installed, output};
use anyhow::{Context, Result};
use std::{ffi::OsString, fmt, path::Path, str::FromStr};

/// Set inside a namespace of the bench's own: the MTU.
pub(crate) const INSIDE: &str = "HESPER_BENCH_INSIDE";

/// A network to measure in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// A namespace with this MTU on loopback.
    Mtu(u32),
    /// The network that the bench was started in.
    AsIs,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "as-is" => Ok(Self::AsIs),
            // QUIC needs 1280; loopback cannot do more than 65536.
            Ok(mtu @ 1_280..=65_536) => Ok(Self::Mtu(mtu)),
            _ => Err("an MTU between 1280 and 65536, or as-is".to_owned()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(mtu) => write!(f, "mtu {mtu}"),
            Self::AsIs => f.write_str("as is"),
        }
    }
}

/// Can namespaces be made here?
pub(crate) fn namespaces() -> bool {
    let try_it = || {
        let mut unshare = command(installed("unshare")?).ok()?;
        unshare.args(["--net", "true"]);
        output(unshare).ok()
    };
    try_it().is_some() && installed("ip").is_some()
}

/// Runs this program with `arguments` in a namespace with this MTU, its part of the report going to `result`.
pub(crate) fn run_inside(mtu: u32, arguments: &[OsString], result: &Path) -> Result<()> {
    let mut unshare = command(installed("unshare").context("unshare is not installed")?)?;
    unshare.arg("--net").arg(std::env::current_exe()?).arg("__inside").arg(result).args(arguments);
    let status = unshare.env(INSIDE, mtu.to_string()).status()?;
    anyhow::ensure!(status.success(), "the measurement at MTU {mtu} failed");
    Ok(())
}

/// Inside, before anything else: loopback up, and ports that come back soon, for thousands of connections per second.
pub(crate) fn set_up() -> Result<()> {
    let Some(mtu) = std::env::var_os(INSIDE).and_then(|mtu| mtu.into_string().ok()) else { return Ok(()) };
    let mut ip = command(installed("ip").context("ip is not installed")?)?;
    ip.args(["link", "set", "lo", "mtu", &mtu, "up"]);
    output(ip)?;
    for (setting, value) in [("ip_local_port_range", "10000 65535"), ("tcp_tw_reuse", "1")] {
        // Only a comfort: without it very long runs may run out of ports.
        let _ = std::fs::write(Path::new("/proc/sys/net/ipv4").join(setting), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_shown() {
        assert_eq!("1500".parse(), Ok(Network::Mtu(1500)));
        assert_eq!("as-is".parse(), Ok(Network::AsIs));
        for wrong in ["", "100", "70000", "jumbo", "-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!(
            (Network::Mtu(9000).to_string(), Network::AsIs.to_string()),
            ("mtu 9000".into(), "as is".into())
        );
    }
}
