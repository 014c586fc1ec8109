//! Files that are written, and what is told.

use crate::support::{again, payload, settings, shipment};
use hesper_collector_config::{Exporter as Settings, exporters};
use hesper_otlp::{Batch, PartialSuccess, Signal, json};
use hesper_telemetry::{
    export::{BuildError, Exporter, Shipment, debug::Debug, file::File},
    process::Messages,
};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

fn file_settings(keys: &str) -> exporters::File {
    match settings("file", &format!("{{{keys}}}")) {
        Settings::File(settings) => settings,
        other => panic!("{other:?}"),
    }
}

fn file(keys: &str) -> Result<Arc<File>, BuildError> {
    File::new("file/test", &file_settings(keys))
}

async fn write(exporter: &File, shipments: &[Shipment]) {
    for shipment in shipments {
        assert_eq!(exporter.export(shipment).await, Ok(PartialSuccess::default()));
    }
}

fn shipments() -> Vec<Shipment> {
    Signal::ALL.map(|signal| shipment(signal, 3, 20)).to_vec()
}

/// A request with one resource for each value, which has one span.
fn of_services(names: &[Option<&str>]) -> Shipment {
    let resource = |name: &Option<&str>| {
        let attributes =
            name.map(|name| format!(r#"{{"key":"service.name","value":{{"stringValue":"{name}"}}}}"#));
        let attributes = attributes.unwrap_or_default();
        format!(
            r#"{{"resource":{{"attributes":[{attributes}]}},"scopeSpans":[{{"spans":[{{"name":"s"}}]}}]}}"#
        )
    };
    let resources: Vec<String> = names.iter().map(resource).collect();
    let text = format!(r#"{{"resourceSpans":[{}]}}"#, resources.join(","));
    let payload = json::decode(Signal::Traces, text.as_bytes()).expect("spans");
    Shipment { batch: Batch { signal: Signal::Traces, payload }, ..shipment(Signal::Traces, names.len(), 8) }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(str::to_owned).collect()
}

fn decoded(signal: Signal, line: &str) -> Messages {
    let payload = json::decode(signal, line.as_bytes()).expect("OTLP/JSON");
    Messages::decode(signal, payload).expect("a request")
}

#[tokio::test]
async fn each_batch_is_a_line_and_in_the_file_when_it_is_delivered() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("data.json");
    let exporter = file(&format!("path: '{}'", path.display())).expect("an exporter");
    for (written, shipment) in shipments().into_iter().enumerate() {
        write(&exporter, std::slice::from_ref(&shipment)).await;
        let lines = lines(&path);
        assert_eq!(lines.len(), written + 1);
        let Batch { signal, payload } = shipment.batch;
        assert_eq!(decoded(signal, &lines[written]), Messages::decode(signal, payload).expect("a request"));
    }
    exporter.shutdown().await;
    again(exporter.export(&shipments()[0]).await);
}

#[tokio::test]
async fn protobuf_and_compressed_batches_have_their_length_before_them() {
    for (keys, zstd, as_json) in [
        ("format: proto", false, false),
        ("format: proto, compression: zstd", true, false),
        ("compression: zstd", true, true),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let exporter = file(&format!("path: '{}', {keys}", path.display())).expect("an exporter");
        write(&exporter, &shipments()).await;
        let mut bytes = &fs::read(&path).expect("a file")[..];
        for Shipment { batch: Batch { signal, payload }, .. } in shipments() {
            let (head, rest) = bytes.split_first_chunk().expect("a length");
            let (record, rest) = rest.split_at(u32::from_be_bytes(*head) as usize);
            let record = if zstd { zstd::decode_all(record).expect("zstd") } else { record.to_vec() };
            let found = if as_json { json::decode(signal, &record).expect("JSON") } else { record.into() };
            assert_eq!(found, payload);
            bytes = rest;
        }
        assert!(bytes.is_empty());
    }
}

#[tokio::test]
async fn a_file_is_begun_anew_or_written_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("data.json");
    for (keys, expected) in [("append: false", 4), ("append: true", 8), ("append: false", 4)] {
        let exporter = file(&format!("path: '{}', {keys}", path.display())).expect("an exporter");
        write(&exporter, &shipments()).await;
        assert_eq!(lines(&path).len(), expected);
        exporter.shutdown().await;
    }
    // As a crash leaves it: the last line cut short.
    let text = fs::read_to_string(&path).expect("a file");
    fs::write(&path, &text[..text.len() - 10]).expect("written");
    let exporter = file(&format!("path: '{}', append: true", path.display())).expect("an exporter");
    write(&exporter, &shipments()[..1]).await;
    let lines = lines(&path);
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0], lines[3]);
}

#[tokio::test]
async fn files_are_put_aside_and_the_total_is_bounded() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("data.json");
    let rotation = "rotation: {max_megabytes: 1, max_backups: 100, max_total_megabytes: 3}";
    let exporter = file(&format!("path: '{}', {rotation}", path.display())).expect("an exporter");
    let shipment = shipment(Signal::Logs, 1000, 300);
    for _ in 0..20 {
        write(&exporter, std::slice::from_ref(&shipment)).await;
    }
    let sizes: BTreeMap<String, u64> = fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("a file").len())
        })
        .collect();
    assert!(sizes.len() >= 3 && sizes.contains_key("data.json"), "{sizes:?}");
    assert!(sizes.values().all(|size| *size <= 1 << 20), "{sizes:?}");
    assert!(sizes.values().sum::<u64>() <= 3 << 20, "{sizes:?}");
    for name in sizes.keys() {
        for line in lines(&dir.path().join(name)) {
            decoded(Signal::Logs, &line);
        }
    }
}

#[tokio::test]
async fn each_value_of_an_attribute_has_a_file_and_none_leads_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let keys = format!(
        "path: '{}/data/*.json', create_directory: true, \
         group_by: {{enabled: true, resource_attribute: service.name, max_open_files: 2}}",
        dir.path().display()
    );
    let exporter = file(&keys).expect("an exporter");
    let shipment = of_services(&[Some("shop"), Some("../evil"), None, Some("shop")]);
    write(&exporter, &[shipment.clone(), shipment]).await;
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(dir.path().join("data")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let resources = |line: &String| match decoded(Signal::Traces, line) {
            Messages::Traces(request) => request.resource_spans.len(),
            other => panic!("{other:?}"),
        };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        counts.insert(name, lines(&path).iter().map(resources).collect::<Vec<_>>());
    }
    let expected =
        [("%2E.%2Fevil.json", vec![1, 1]), ("MISSING.json", vec![1, 1]), ("shop.json", vec![2, 2])];
    assert_eq!(counts, expected.map(|(name, counts)| (name.to_owned(), counts)).into());
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_told() {
    let missing = file("path: /nowhere/at/all/data.json").err().expect("no exporter").to_string();
    assert!(missing.contains("file/test") && missing.contains("create_directory"), "{missing}");
    let dir = tempfile::tempdir().expect("a directory");
    let exporter = file(&format!("path: '{}'", dir.path().display())).expect("an exporter");
    assert!(again(exporter.export(&shipments()[0]).await).contains("cannot write"));
}

/// A disk without room: every write fails.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_tried_again() {
    let exporter = file("path: /dev/full, append: true").expect("an exporter");
    assert!(again(exporter.export(&shipments()[0]).await).contains("/dev/full"));
    again(exporter.export(&shipments()[0]).await);
}

#[tokio::test]
async fn what_passes_is_told_on_one_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("told");
    let keys =
        format!("{{verbosity: basic, use_internal_logger: false, output_paths: ['{}']}}", path.display());
    let Settings::Debug(settings) = settings("debug", &keys) else { panic!("no debug exporter") };
    let exporter = Debug::new("debug/test", &settings).expect("an exporter");
    for shipment in shipments() {
        assert_eq!(exporter.export(&shipment).await, Ok(PartialSuccess::default()));
    }
    let expected = [
        "debug/test\tTraces: resource spans: 1, spans: 3",
        "debug/test\tMetrics: resource metrics: 1, metrics: 1, data points: 3",
        "debug/test\tLogs: resource logs: 1, log records: 3",
        "debug/test\tProfiles: resource profiles: 1, profiles: 3",
    ];
    assert_eq!(lines(&path), expected);
    assert!(payload(Signal::Traces, 3, 20).len() > 60);
    let nowhere = Debug::new("x", &exporters::Debug { output_paths: vec!["/nowhere/x".into()], ..settings });
    assert!(nowhere.err().expect("no exporter").to_string().contains("output_paths"));
}
