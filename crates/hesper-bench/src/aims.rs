//! What is wanted of the figures, and how they stand to it. Pure; nothing here fails a run.

use crate::report::{DIRECT, Row, figure};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::{Deserialize, Serialize};

/// One aim, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aim {
    /// In which network.
    pub(crate) network: String,
    /// What is looked at.
    pub(crate) aim: String,
    /// At least or at most what.
    pub(crate) wanted: String,
    /// What was measured.
    pub(crate) value: f64,
    /// Whether that is good enough.
    pub(crate) met: bool,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// How a value is found among the rows of one network.
enum Source {
    /// Median of a row of Hesper, of this part.
    Median(&'static str, &'static str),
    /// Median of the ratio to direct TCP.
    OfDirect(&'static str),
    /// Median of one row as a share of another's: (measure, subject, part) each.
    Share([(&'static str, &'static str, &'static str); 2]),
    /// Hesper's median as a multiple of the best other subject's, of the part where that is least.
    WorstLead(&'static str),
}

use Bound::{AtLeast, AtMost};
use Source::{Median, OfDirect, Share, WorstLead};

const HESPER: &str = "hesper";

/// Of the pair of tunnels that does not trace.
const fn traced(measure: &'static str, part: &'static str) -> Source {
    Share([(measure, HESPER, part), (measure, HESPER, "off")])
}

/// The aims; those of one MTU only are marked with it.
const AIMS: &[(&str, Option<u32>, Source, Bound)] = &[
    ("one stream, of direct TCP, at MTU 1500", Some(1500), OfDirect("throughput_1"), AtLeast(0.25)),
    ("one stream, of direct TCP, at jumbo MTU", Some(9000), OfDirect("throughput_1"), AtLeast(0.40)),
    (
        "one stream, of the plain quinn tunnel",
        None,
        Share([("throughput_1", HESPER, ""), ("throughput_1", "quinn", "")]),
        AtLeast(0.9),
    ),
    (
        "the router's share of the CPU",
        None,
        Share([("cpu_per_gb", HESPER, "router"), ("cpu_per_gb", HESPER, "")]),
        AtMost(0.15),
    ),
    (
        "eight streams, of one",
        None,
        Share([("throughput_8", HESPER, ""), ("throughput_1", HESPER, "")]),
        AtLeast(0.95),
    ),
    ("64-byte exchange at p50, of direct TCP", None, OfDirect("exchange_open_p50"), AtMost(1.7)),
    ("new connections per second, one at a time", None, Median("dials_1", ""), AtLeast(4_000.0)),
    ("new connections per second, eight at a time", None, Median("dials_8", ""), AtLeast(10_000.0)),
    ("router memory per idle node, KiB", None, Median("router_memory_per_node", ""), AtMost(20.0)),
    ("node memory per idle peer, KiB", None, Median("node_memory_per_peer", ""), AtMost(100.0)),
    (
        "policy change to effect at 10,000 identities, one, ms",
        None,
        Median("policy_one", "10000"),
        AtMost(1_000.0),
    ),
    (
        "policy change to effect at 10,000 identities, all, ms",
        None,
        Median("policy_all", "10000"),
        AtMost(1_000.0),
    ),
    ("1,000 nodes back after a full restart, s", None, Median("reconnect", "1000"), AtMost(10.0)),
    ("others beside a peer that reads nothing", None, Median("hostile_share", "reads nothing"), AtLeast(0.9)),
    ("others beside a peer that floods", None, Median("hostile_share", "floods"), AtLeast(0.9)),
    (
        "OTLP items per CPU second, of the best other collector, worst case",
        None,
        WorstLead("otlp_per_cpu"),
        AtLeast(1.0),
    ),
    (
        "OTLP items per second, of the best other collector, worst case",
        None,
        WorstLead("otlp_rate"),
        AtLeast(1.0),
    ),
    ("memory of an overloaded collector, MiB", None, Median("otlp_memory", "overload"), AtMost(200.0)),
    ("memory of an idle collector, MiB", None, Median("otlp_idle_memory", "spans"), AtMost(14.0)),
    ("dials with tracing at rate 0, of those without", None, traced("traced_dials", "0"), AtLeast(0.99)),
    ("dials with tracing at 1 %, of those without", None, traced("traced_dials", "1 %"), AtLeast(0.97)),
    (
        "a stream with tracing at rate 0, of one without",
        None,
        traced("traced_throughput", "0"),
        AtLeast(0.99),
    ),
    ("a stream with tracing at 1 %, of one without", None, traced("traced_throughput", "1 %"), AtLeast(0.97)),
    (
        "others beside handshakes that are never finished",
        None,
        Median("hostile_share", "half handshakes"),
        AtLeast(0.9),
    ),
];

/// The aims of each network, as far as it was measured.
pub(crate) fn judge(rows: &[Row]) -> Vec<Aim> {
    let mut networks: Vec<(&str, u32)> = rows.iter().map(|r| (r.network.as_str(), r.loopback_mtu)).collect();
    networks.dedup();
    let mut aims = Vec::new();
    for (network, mtu) in networks {
        let here: Vec<&Row> = rows.iter().filter(|r| r.network == network).collect();
        for (aim, _, source, bound) in AIMS.iter().filter(|(_, only, ..)| only.is_none_or(|m| m == mtu)) {
            let Some(value) = find(source, &here) else { continue };
            let (wanted, met) = match *bound {
                AtLeast(least) => (format!("≥ {}", figure(least)), value >= least),
                AtMost(most) => (format!("≤ {}", figure(most)), value <= most),
            };
            aims.push(Aim { network: network.to_owned(), aim: (*aim).to_owned(), wanted, value, met });
        }
    }
    aims
}

fn find(source: &Source, rows: &[&Row]) -> Option<f64> {
    let row = |measure: &str, subject: &str, part: &str| {
        rows.iter().find(|r| r.measure == measure && r.subject == subject && r.part == part)
    };
    match source {
        Median(measure, part) => Some(row(measure, HESPER, part)?.summary.median),
        OfDirect(measure) => {
            row(measure, DIRECT, "")?;
            Some(row(measure, HESPER, "")?.of_direct?.median)
        }
        WorstLead(measure) => {
            let of = |row: &&&Row| row.measure == *measure && row.subject == HESPER;
            let lead = |own: &&Row| {
                let same =
                    |row: &&&Row| row.measure == *measure && row.part == own.part && row.subject != HESPER;
                let best = rows.iter().filter(same).map(|row| row.summary.median).fold(0.0, f64::max);
                (best > 0.0).then(|| own.summary.median / best)
            };
            rows.iter().filter(of).filter_map(lead).min_by(f64::total_cmp)
        }
        Share([(m, s, p), (of_m, of_s, of_p)]) => {
            let of = row(of_m, of_s, of_p)?.summary.median;
            (of != 0.0).then_some(row(m, s, p)?.summary.median / of)
        }
    }
}

impl Aim {
    /// For people.
    pub(crate) fn table(aims: &[Self]) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(["aim", "network", "wanted", "measured", "met"]);
        for aim in aims {
            let met = if aim.met { "yes" } else { "NO" };
            table.add_row([&aim.aim, &aim.network, &aim.wanted, &figure(aim.value), met]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Recorder;

    fn met(rows: &[Row], aim: &str) -> Option<(f64, bool)> {
        let aim = judge(rows).into_iter().find(|a| a.aim.starts_with(aim))?;
        Some((aim.value, aim.met))
    }

    #[test]
    fn values_are_found_and_judged() {
        let mut recorder = Recorder::new("mtu 1500", 1500);
        for (subject, value) in [("direct", 20.0), ("quinn", 6.0), ("hesper", 4.0)] {
            recorder.add("throughput_1", subject, "", 0, value);
        }
        recorder.add("throughput_8", "hesper", "", 0, 3.9);
        recorder.add("cpu_per_gb", "hesper", "", 0, 2.0);
        recorder.add("cpu_per_gb", "hesper", "router", 0, 0.2);
        recorder.add("policy_one", "hesper", "1000", 0, 5.0);
        let (rows, _) = recorder.finish();
        assert_eq!(met(&rows, "one stream, of direct TCP, at MTU 1500"), Some((0.2, false)));
        assert_eq!(met(&rows, "one stream, of direct TCP, at jumbo"), None, "another network's");
        assert_eq!(met(&rows, "one stream, of the plain").map(|(_, met)| met), Some(false));
        assert_eq!(met(&rows, "the router's share"), Some((0.1, true)));
        assert_eq!(met(&rows, "eight streams").map(|(_, met)| met), Some(true));
        assert_eq!(met(&rows, "policy change"), None, "only of ten thousand");
    }

    #[test]
    fn a_lead_is_as_good_as_where_it_is_least() {
        let mut recorder = Recorder::new("as is", 65536);
        for (part, values) in [("spans", [6.0, 2.0, 3.0]), ("points", [4.0, 5.0, 1.0])] {
            for (subject, value) in ["hesper", "otelcol", "rotel"].into_iter().zip(values) {
                recorder.add("otlp_rate", subject, part, 0, value);
            }
        }
        recorder.add("otlp_rate", "hesper", "nobody else", 0, 0.1);
        let (rows, _) = recorder.finish();
        assert_eq!(met(&rows, "OTLP items per second"), Some((0.8, false)));
    }

    #[test]
    fn every_aim_names_a_measure() {
        for (aim, _, source, _) in AIMS {
            let measures = match source {
                Median(m, _) | OfDirect(m) | WorstLead(m) => vec![*m],
                Share([(a, ..), (b, ..)]) => vec![*a, *b],
            };
            for measure in measures {
                assert!(crate::report::MEASURES.iter().any(|m| m.name == measure), "{aim}: {measure}");
            }
        }
    }
}
