//! The program from outside: exit codes and what it says about wrong arguments.

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_hesper-bench"));
    // As when it is run by hand: nothing is built first.
    bench.args(arguments).env_remove("CARGO").output().expect("the bench runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wrong_arguments_are_usage_errors_that_name_them() {
    for (arguments, named) in [
        (&["--only", "nothing"][..], "nothing"),
        (&["--rounds", "0"], "--rounds"),
        (&["--mtu", "12"], "between 1280 and 65536"),
        (&["--seconds", "long"], "between 0.05 and 60"),
        (&["--json"], "--json"),
        (&["throughput"], "throughput"),
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(named), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_list_is_printed() {
    let output = bench(&["--list"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("router_memory_per_node"));
}

#[test]
fn a_report_that_cannot_be_written_is_told_before_anything_is_measured() {
    let output = bench(&["--json", "/nonexistent/report.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("/nonexistent/report.json"), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("network:"));
}

/// One real comparison, as short as it can be: the document is there and says what was measured.
#[test]
fn a_short_run_writes_the_document() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("report.json");
    let path = json.to_str().expect("text");
    let quick = ["--quick", "--mtu", "as-is", "--rounds", "1", "--seconds", "0.05", "--json", path];
    let output = Command::new(env!("CARGO_BIN_EXE_hesper-bench"))
        .args(quick)
        .args(["--only", "throughput,latency,direct,quinn"])
        .env_remove("CARGO")
        .env("HESPER_BIN", "/nonexistent/hesper")
        .output()
        .expect("the bench runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(json).expect("the report")).expect("JSON");
    assert_eq!(report["schema"], "hesper-bench/1");
    let rows = report["rows"].as_array().expect("rows");
    let row = |measure: &str, subject: &str| {
        rows.iter().find(|r| r["measure"] == measure && r["subject"] == subject && r["part"] == "")
    };
    for measure in ["throughput_1", "throughput_8", "exchange_open_p50"] {
        let quinn = row(measure, "quinn").unwrap_or_else(|| panic!("no {measure}: {}", text(&output.stderr)));
        assert!(quinn["summary"]["median"].as_f64().is_some_and(|m| m > 0.0), "{quinn}");
        assert!(quinn["of_direct"].is_object() && row(measure, "direct").is_some(), "{quinn}");
    }
}
