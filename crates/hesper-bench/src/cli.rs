//! The command line.

use crate::{
    measures::{BENCHMARKS, Effort},
    network::{self, Network},
    report::{DIRECT, MEASURES},
    subjects::SUBJECTS,
};
use clap::Parser;
use std::{fmt::Write as _, path::PathBuf};

/// Measure the mesh: against direct TCP, against a tunnel without a router, and against other tunnels.
#[derive(Clone, Debug, Parser)]
#[command(name = "hesper-bench", version)]
pub(crate) struct Options {
    /// A look in about a minute; not for figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Only these benchmarks and subjects (see --list)
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = known)]
    pub(crate) only: Vec<String>,
    /// Say what can be measured, and of what
    #[arg(long)]
    pub(crate) list: bool,
    /// How often each comparison is repeated
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: Option<u16>,
    /// Length of one measurement in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Nodes or identities where many are measured (memory, reconnect, policy)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) nodes: Option<u32>,
    /// MTU of loopback in a network namespace, or as-is; several by comma [default: 1500,9000,as-is with root, else as-is]
    #[arg(long, value_name = "MTU", value_delimiter = ',')]
    pub(crate) mtu: Vec<Network>,
}

fn known(name: &str) -> Result<String, String> {
    let mut names = BENCHMARKS.iter().map(|b| b.name).chain(SUBJECTS.iter().map(|(name, _)| *name));
    match names.find(|known| *known == name) {
        Some(_) => Ok(name.to_owned()),
        None => Err("no benchmark or subject has this name; see --list".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number between 0.05 and 60".to_owned()),
    }
}

impl Options {
    /// The benchmarks to run.
    pub(crate) fn benchmarks(&self) -> Vec<&'static str> {
        let all = BENCHMARKS.iter().map(|b| b.name);
        let chosen: Vec<_> = all.clone().filter(|name| self.only.iter().any(|o| o == name)).collect();
        match chosen.is_empty() {
            false => chosen,
            // Only subjects were named: those are compared.
            true if !self.only.is_empty() => {
                BENCHMARKS.iter().filter(|b| b.compares).map(|b| b.name).collect()
            }
            true => all.collect(),
        }
    }

    /// The subjects to compare; direct TCP is always one of them.
    pub(crate) fn subjects(&self) -> Vec<&'static str> {
        let all = SUBJECTS.iter().map(|(name, _)| *name);
        let chosen = |name: &&str| self.only.iter().any(|o| o == name);
        match all.clone().any(|name| chosen(&name)) {
            true => all.filter(|name| *name == DIRECT || chosen(name)).collect(),
            false => all.collect(),
        }
    }

    /// The networks to measure in.
    pub(crate) fn networks(&self) -> Vec<Network> {
        match (self.mtu.is_empty(), self.quick) {
            (false, _) => self.mtu.clone(),
            (true, _) if !network::namespaces() => vec![Network::AsIs],
            (true, true) => vec![Network::Mtu(1500)],
            (true, false) => vec![Network::Mtu(1500), Network::Mtu(9000), Network::AsIs],
        }
    }

    /// How much is measured.
    pub(crate) fn effort(&self) -> Effort {
        let mut base = if self.quick { Effort::quick() } else { Effort::full() };
        if let Some(nodes) = self.nodes {
            let nodes = nodes as usize;
            (base.memory_nodes, base.reconnect_nodes) = (nodes, nodes);
            base.policy_identities = vec![nodes];
        }
        Effort {
            rounds: self.rounds.map_or(base.rounds, usize::from),
            seconds: self.seconds.unwrap_or(base.seconds),
            ..base
        }
    }
}

/// The text of `--list`.
pub(crate) fn list() -> String {
    let mut text = "Benchmarks:\n".to_owned();
    for benchmark in BENCHMARKS {
        let _ = writeln!(text, "  {:<16}{}", benchmark.name, benchmark.what);
    }
    text.push_str("\nSubjects (what is missing is skipped):\n");
    for (name, how) in SUBJECTS {
        let _ = writeln!(text, "  {name:<16}{how}");
    }
    text.push_str("\nMeasures in the report:\n");
    for measure in MEASURES {
        let _ = writeln!(text, "  {:<24}{:<9}{}", measure.name, measure.unit, measure.what);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["hesper-bench"], arguments].concat())
    }

    #[test]
    fn what_is_named_is_measured() {
        let only = |text: &str| options(&["--only", text]).unwrap();
        assert_eq!(only("memory,cold").benchmarks(), ["cold", "memory"]);
        assert_eq!(only("memory").subjects().len(), SUBJECTS.len());
        assert_eq!(only("hesper,quinn").subjects(), ["direct", "quinn", "hesper"]);
        assert_eq!(only("hesper").benchmarks(), ["throughput", "latency", "dials"]);
        assert_eq!(only("hesper,dials").benchmarks(), ["dials"]);
        assert_eq!(options(&[]).unwrap().benchmarks().len(), BENCHMARKS.len());
    }

    #[test]
    fn effort_can_be_chosen() {
        let chosen = options(&["--quick", "--rounds", "7", "--seconds", "0.1"]).unwrap().effort();
        assert_eq!(
            (chosen.rounds, chosen.seconds, chosen.memory_nodes),
            (7, 0.1, Effort::quick().memory_nodes)
        );
        let chosen = options(&["--nodes", "50"]).unwrap().effort();
        assert_eq!((chosen.memory_nodes, chosen.reconnect_nodes), (50, 50));
        assert_eq!(chosen.policy_identities, [50]);
        assert_eq!(
            options(&["--mtu", "9000,as-is"]).unwrap().networks(),
            [Network::Mtu(9000), Network::AsIs]
        );
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        let wrong: [&[&str]; 8] = [
            &["--nodes", "1"],
            &["--only", "nothing"],
            &["--rounds", "0"],
            &["--seconds", "nan"],
            &["--mtu", "12"],
            &["--json"],
            &["extra"],
            &["--unknown"],
        ];
        for arguments in wrong {
            assert_eq!(options(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn the_list_names_everything() {
        let list = list();
        for name in ["throughput", "direct", "wireguard-go", "policy_all"] {
            assert!(list.contains(name), "{name}");
        }
    }
}
