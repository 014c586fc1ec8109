//! The result: one JSON document, and tables of the same for people.
//!
//! # Schema `hesper-bench/1`
//! ```text
//! { "schema": "hesper-bench/1", "begun": RFC 3339, "seconds": run time, "command": [argument, …],
//!   "machine": { kernel, cpu, cores, memory_bytes, tcp_congestion_control, versions: {program: version}, load_at_start, release_build },
//!   "rows": [ { "measure": name (see --list), "unit": text, "higher_is_better": bool, "network": "mtu 1500" | …, "loopback_mtu": bytes,
//!               "subject": name, "part": process or case, "" = the whole,
//!               "values": [[round, value], …], "summary": {n, min, q1, median, q3, max},
//!               "of_direct": summary of value ÷ direct TCP's value of the same round, null where there is none } ],
//!   "skipped": [ { "network", "what", "why" } ],
//!   "aims": [ { "network", "aim": text, "wanted": text, "value": number, "met": bool } ] }
//! ```
//! Fields are only ever added under the same schema name.

use crate::{
    aims::Aim,
    machine::Machine,
    stats::{Summary, ratios},
};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The value of `schema`.
pub(crate) const SCHEMA: &str = "hesper-bench/1";
/// The subject that everything is compared with.
pub(crate) const DIRECT: &str = "direct";

/// Something that is measured.
#[derive(Debug)]
pub(crate) struct Measure {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// Of its values.
    pub(crate) unit: &'static str,
    /// Which way is better?
    pub(crate) higher_is_better: bool,
    /// For people.
    pub(crate) what: &'static str,
}

const fn measure(
    name: &'static str,
    unit: &'static str,
    higher_is_better: bool,
    what: &'static str,
) -> Measure {
    Measure { name, unit, higher_is_better, what }
}

/// Everything that is measured, in the order of the report.
pub(crate) const MEASURES: &[Measure] = &[
    measure("throughput_1", "Gbit/s", true, "one TCP stream"),
    measure("throughput_8", "Gbit/s", true, "eight TCP streams together"),
    measure("cpu_per_gb", "CPU s/GB", false, "CPU time of the tunnel's processes while one stream runs"),
    measure("exchange_open_p50", "µs", false, "64 bytes there and back on an open stream"),
    measure("exchange_open_p99", "µs", false, "the same, 99th percentile"),
    measure("exchange_new_p50", "µs", false, "connect, 64 bytes there and back, close"),
    measure("exchange_new_p99", "µs", false, "the same, 99th percentile"),
    measure("dials_1", "1/s", true, "new connections with one exchange, one at a time"),
    measure("dials_8", "1/s", true, "the same, eight at a time"),
    measure(
        "cold_dial_1",
        "1/s",
        true,
        "first dial of a node: grant, pass, handshake and stream; one at a time",
    ),
    measure("cold_dial_8", "1/s", true, "the same, eight nodes at a time"),
    measure("router_memory_per_node", "KiB", false, "resident memory of the router per attached idle node"),
    measure("node_memory_per_peer", "KiB", false, "resident memory of a hosting node per idle peer"),
    measure("forward_packets", "M/s", true, "packets through the router alone"),
    measure("forward_rate", "Gbit/s", true, "the same in bytes"),
    measure("forward_cpu", "ns", false, "CPU time of the router per packet"),
    measure("policy_one", "ms", false, "an identity loses a role until its node is told"),
    measure("policy_all", "ms", false, "a service appears until the last node is told"),
    measure(
        "reconnect",
        "s",
        false,
        "all nodes back after controller and router were killed and started again",
    ),
    measure(
        "hostile_share",
        "share",
        true,
        "throughput of others beside a hostile peer, as a share of that without",
    ),
    measure("traced_dials", "1/s", true, "new connections by so much tracing, eight at a time"),
    measure("traced_dial_cpu", "µs", false, "CPU time of both tunnels for each of them"),
    measure("traced_throughput", "Gbit/s", true, "one TCP stream by so much tracing"),
    measure("otlp_per_cpu", "k/s", true, "items through a collector per second of its CPU time"),
    measure("otlp_rate", "k/s", true, "items through a collector that has one processor"),
    measure("otlp_memory", "MiB", false, "most resident memory of a collector under load"),
    measure("otlp_idle_memory", "MiB", false, "resident memory of a collector that nobody sends to"),
];

/// One measured thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Name of the [`Measure`].
    pub(crate) measure: String,
    /// Of `values` and `summary`.
    pub(crate) unit: String,
    /// Which way is better?
    pub(crate) higher_is_better: bool,
    /// In which network.
    pub(crate) network: String,
    /// MTU of loopback there.
    pub(crate) loopback_mtu: u32,
    /// What was measured.
    pub(crate) subject: String,
    /// A process or case of it; empty = the whole.
    pub(crate) part: String,
    /// By round.
    pub(crate) values: Vec<(usize, f64)>,
    /// Of `values`.
    pub(crate) summary: Summary,
    /// Of the values divided by direct TCP's of the same round.
    pub(crate) of_direct: Option<Summary>,
}

/// What was not measured, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    /// In which network.
    pub(crate) network: String,
    /// A subject or benchmark.
    pub(crate) what: String,
    /// Why, and what to do about it.
    pub(crate) why: String,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// When the run began.
    pub(crate) begun: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Its arguments.
    pub(crate) command: Vec<String>,
    /// Where.
    pub(crate) machine: Machine,
    /// The figures.
    pub(crate) rows: Vec<Row>,
    /// What is missing.
    pub(crate) skipped: Vec<Skipped>,
    /// How the figures stand to what is wanted.
    pub(crate) aims: Vec<Aim>,
}

/// Collects the figures of one network.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    network: String,
    loopback_mtu: u32,
    series: Vec<Series>,
    skipped: Vec<Skipped>,
}

#[derive(Debug)]
struct Series {
    measure: &'static Measure,
    subject: String,
    part: String,
    values: Vec<(usize, f64)>,
}

impl Recorder {
    /// Nothing yet.
    pub(crate) fn new(network: &str, loopback_mtu: u32) -> Self {
        Self { network: network.to_owned(), loopback_mtu, ..Self::default() }
    }

    /// Adds a value. A measure that is not in [`MEASURES`] is a mistake of the bench and is told as such.
    pub(crate) fn add(&mut self, measure: &str, subject: &str, part: &str, round: usize, value: f64) {
        let Some(measure) = MEASURES.iter().find(|m| m.name == measure) else {
            return self.skip(measure, "the bench does not know this measure");
        };
        let same = |s: &&mut Series| s.measure.name == measure.name && s.subject == subject && s.part == part;
        match self.series.iter_mut().find(same) {
            Some(series) => series.values.push((round, value)),
            None => self.series.push(Series {
                measure,
                subject: subject.to_owned(),
                part: part.to_owned(),
                values: vec![(round, value)],
            }),
        }
    }

    /// Notes that something could not be measured.
    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        eprintln!("skipped: {what}: {why}");
        self.skipped.push(Skipped {
            network: self.network.clone(),
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }

    /// The rows, in the order of [`MEASURES`], and what was skipped.
    pub(crate) fn finish(self) -> (Vec<Row>, Vec<Skipped>) {
        let place = |s: &Series| MEASURES.iter().position(|m| m.name == s.measure.name);
        let mut order: Vec<&Series> = self.series.iter().collect();
        order.sort_by_key(|s| place(s));
        let rows = order.into_iter().filter_map(|series| self.row(series)).collect();
        (rows, self.skipped)
    }

    fn row(&self, series: &Series) -> Option<Row> {
        let Series { measure, subject, part, values } = series;
        let plain: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
        let direct = self
            .series
            .iter()
            .find(|s| s.measure.name == measure.name && s.subject == DIRECT && s.part == *part);
        let of_direct = direct.map(|direct| ratios(values, &direct.values));
        Some(Row {
            measure: measure.name.to_owned(),
            unit: measure.unit.to_owned(),
            higher_is_better: measure.higher_is_better,
            network: self.network.clone(),
            loopback_mtu: self.loopback_mtu,
            subject: subject.clone(),
            part: part.clone(),
            values: values.clone(),
            summary: Summary::of(&plain)?,
            of_direct: of_direct.as_deref().and_then(Summary::of),
        })
    }
}

impl Report {
    /// Everything as text.
    pub(crate) fn text(&self) -> String {
        let Machine { kernel, cpu, cores, load_at_start, release_build, .. } = &self.machine;
        let mut text = format!("Linux {kernel}, {cpu}, {cores} cores, load {load_at_start} at the start\n");
        if !release_build {
            text.push_str("NOT an optimised build: these figures mean nothing\n");
        }
        let mut networks: Vec<&str> = self.rows.iter().map(|row| row.network.as_str()).collect();
        networks.dedup();
        for network in networks {
            let _ = write!(text, "\n{network}\n{}\n", self.table(network));
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "skipped ({}): {}: {}", skipped.network, skipped.what, skipped.why);
        }
        if !self.aims.is_empty() {
            let _ = write!(text, "\n{}\n", Aim::table(&self.aims));
        }
        text
    }

    fn table(&self, network: &str) -> Table {
        let mut table = Table::new();
        table.load_preset(ASCII_MARKDOWN);
        table.set_header(["measure", "subject", "unit", "median", "min", "max", "n", "× direct"]);
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in self.rows.iter().filter(|row| row.network == network) {
            let Summary { n, min, median, max, .. } = row.summary;
            let subject = if row.part.is_empty() {
                row.subject.clone()
            } else {
                format!("{}: {}", row.subject, row.part)
            };
            let of_direct = row.of_direct.map(|s| figure(s.median)).unwrap_or_default();
            table.add_row([
                row.measure.clone(),
                subject,
                row.unit.clone(),
                figure(median),
                figure(min),
                figure(max),
                n.to_string(),
                of_direct,
            ]);
        }
        table
    }
}

/// Three significant digits, no exponent.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn report() -> Report {
        let mut recorder = Recorder::new("mtu 1500", 1500);
        for round in 0..3 {
            recorder.add("exchange_open_p50", "hesper", "", round, 30.0);
            recorder.add("throughput_1", "direct", "", round, 10.0 + round as f64);
            recorder.add("throughput_1", "hesper", "", round, 5.0);
        }
        recorder.skip("rathole", "not installed: cargo install rathole");
        recorder.add("no such measure", "hesper", "", 0, 1.0);
        let (rows, skipped) = recorder.finish();
        let aims = crate::aims::judge(&rows);
        Report {
            schema: SCHEMA.to_owned(),
            begun: "2026-01-01T00:00:00Z".to_owned(),
            seconds: 1.5,
            command: vec!["--quick".to_owned()],
            machine: Machine::default(),
            rows,
            skipped,
            aims,
        }
    }

    #[test]
    fn the_document_has_the_fields_of_the_schema() {
        let value = serde_json::to_value(report()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let sorted = |list: &[&str]| {
            let mut list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            list.sort();
            list
        };
        let mut top = keys(&value);
        top.sort();
        assert_eq!(
            top,
            sorted(&["schema", "begun", "seconds", "command", "machine", "rows", "skipped", "aims"])
        );
        assert_eq!(value["schema"], "hesper-bench/1");
        let row = &value["rows"][1];
        assert_eq!(
            (&row["measure"], &row["subject"], &row["unit"]),
            (&json!("throughput_1"), &json!("hesper"), &json!("Gbit/s"))
        );
        assert_eq!(row["values"], json!([[0, 5.0], [1, 5.0], [2, 5.0]]));
        assert_eq!(row["summary"]["median"], 5.0);
        assert_eq!(row["of_direct"]["max"], 0.5);
        assert_eq!(value["rows"][2]["of_direct"], Value::Null, "direct was not measured there");
        let mut fields = keys(row);
        fields.sort();
        let expected = [
            "measure",
            "unit",
            "higher_is_better",
            "network",
            "loopback_mtu",
            "subject",
            "part",
            "values",
            "summary",
            "of_direct",
        ];
        assert_eq!(fields, sorted(&expected));
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let text = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report());
    }

    #[test]
    fn rows_follow_the_list_and_unknown_measures_are_told() {
        let report = report();
        let order: Vec<&str> = report.rows.iter().map(|r| r.measure.as_str()).collect();
        assert_eq!(order, ["throughput_1", "throughput_1", "exchange_open_p50"]);
        assert!(report.skipped.iter().any(|s| s.what == "no such measure"));
        let text = report.text();
        assert!(text.contains("rathole: not installed") && text.contains("throughput_1"), "{text}");
    }

    #[test]
    fn names_are_unique() {
        for (i, measure) in MEASURES.iter().enumerate() {
            assert!(MEASURES[..i].iter().all(|other| other.name != measure.name), "{}", measure.name);
        }
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!([0.1234, 1.234, 12.34, 1234.0].map(figure), ["0.123", "1.23", "12.3", "1234"]);
    }
}
