//! What is acknowledged is on disk, and goes out when it can: the destination down, the disk full, a segment corrupt.

use crate::ground::{gateway, ledger, plain, settled};
use hesper_integration::{
    Collector, Stack, free_port,
    otlp::{Failure, Load, OtlpSink},
    wait_until,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A collector on a port of its own that sends to the sink.
fn collector(sink: &OtlpSink) -> (Collector, SocketAddr) {
    let port = free_port();
    let config = gateway(&format!("grpc: {{endpoint: '127.0.0.1:{port}'}}"), &plain(sink.grpc()));
    (Collector::new("collector", &config), ([127, 0, 0, 1], port).into())
}

#[test]
fn while_the_destination_is_down_everything_is_taken_and_kept() {
    let mut sink = OtlpSink::start();
    let (collector, port) = collector(&sink);
    let mut collector = collector.start();
    let load = Load::start(port, "shop", 20, 4);
    load.wait_acknowledged(200);
    sink.stop();
    load.wait_acknowledged(load.acknowledged() + 1_000);
    // The queue outlives an orderly end and an end that is none.
    assert!(collector.terminate().success());
    collector.restart();
    load.wait_acknowledged(load.acknowledged() + 1_000);
    collector.kill();
    collector.restart();
    load.wait_acknowledged(load.acknowledged() + 200);
    sink.resume();
    let sent = load.stop();
    let arrived = sink.wait_all(&sent.acknowledged, &sent.unsure, Duration::from_secs(60));
    let row = settled(&collector, "", Stack::PATIENCE);
    assert_eq!((row.accepted, row.delivered, row.dropped.len()), (arrived, arrived, 0), "{row:?}");
    assert!(collector.terminate().success());
    assert_eq!(ledger(&collector)[""], row, "the ledger is there when the collector is not");
}

#[test]
fn a_destination_that_asks_for_patience_gets_it() {
    let sink = OtlpSink::start();
    let (collector, port) = collector(&sink);
    let collector = collector.start();
    sink.fail(Failure::Unavailable(Some(Duration::from_secs(1))));
    let load = Load::start(port, "shop", 20, 2);
    load.wait_acknowledged(400);
    sink.fail(Failure::Slow(Duration::from_millis(300)));
    load.wait_acknowledged(load.acknowledged() + 400);
    sink.fail(Failure::None);
    let sent = load.stop();
    sink.wait_exactly(&sent.acknowledged, &sent.unsure, Duration::from_secs(60));
    drop(collector);
}

/// A file system of its own, and small; gone when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory.path());
        assert!(mount.status().is_ok_and(|status| status.success()), "cannot mount a tmpfs: are you root?");
        Self(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a collector of a test that failed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Sends until nothing is taken any more, then lets the destination take it, and expects that sending goes on.
fn fills_and_drains(collector: Collector, port: SocketAddr, sink: &OtlpSink) {
    let mut collector = collector.start();
    sink.fail(Failure::Unavailable(None));
    let load = Load::start(port, "shop", 200, 4);
    wait_until("the sender is asked to wait", Stack::PATIENCE, || {
        load.last_error()
            .is_some_and(|error| error.starts_with("Unavailable") || error.starts_with("ResourceExhausted"))
    });
    let full = load.acknowledged();
    assert!(full > 0, "something fits");
    assert!(collector.process().ended().is_none(), "it runs on");
    sink.fail(Failure::None);
    load.wait_acknowledged(full + 10_000);
    let sent = load.stop();
    sink.wait_exactly(&sent.acknowledged, &sent.unsure, Duration::from_secs(60));
    assert!(collector.terminate().success());
}

#[test]
fn a_full_queue_asks_the_sender_to_wait_and_drains() {
    let sink = OtlpSink::start();
    let (collector, port) = collector(&sink);
    let config = fs::read_to_string(collector.path("config.yaml")).expect("the configuration");
    collector.configure(&config.replace("create_directory: true", "create_directory: true, max_size_mib: 2"));
    fills_and_drains(collector, port, &sink);
}

#[test]
fn a_full_disk_asks_the_sender_to_wait_and_drains() {
    let (sink, disk) = (OtlpSink::start(), Small::new("3m"));
    let (collector, port) = collector(&sink);
    let config = fs::read_to_string(collector.path("config.yaml")).expect("the configuration");
    let directory = collector.path("queue").display().to_string();
    collector.configure(&config.replace(&directory, &disk.0.path().join("queue").display().to_string()));
    fills_and_drains(collector.forgive("No space left on device"), port, &sink);
}

/// Files that hold records.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "seg") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_corrupt_record_costs_itself_and_nothing_else() {
    let sink = OtlpSink::start();
    let (collector, port) = collector(&sink);
    let mut collector = collector.start();
    sink.fail(Failure::Unavailable(None));
    let load = Load::start(port, "shop", 20, 1);
    load.wait_acknowledged(2_000);
    let sent = load.stop();
    // Orderly, so that the ledger is written down: of a record that cannot be read nobody else knows how much was in it.
    assert!(collector.terminate().success());
    let queue = collector.path("queue");
    let segments = segments(&queue);
    let largest =
        segments.iter().max_by_key(|path| fs::metadata(path).map_or(0, |m| m.len())).expect("a segment");
    let mut bytes = fs::read(largest).expect("read the segment");
    let middle = bytes.iter().rposition(|byte| *byte != 0).expect("bytes") / 2;
    bytes[middle] ^= 0x55;
    fs::write(largest, bytes).expect("write the segment");

    sink.fail(Failure::None);
    collector.restart();
    let sure: BTreeSet<_> = sent.acknowledged.iter().cloned().collect();
    wait_until("all but one record has arrived", Duration::from_secs(60), || {
        sink.items().len() >= sure.len() - 20
    });
    // It goes on, and nothing comes twice.
    let load = Load::start(port, "later", 20, 1);
    load.wait_acknowledged(400);
    let later = load.stop();
    let arrived = sink.counts();
    let (arrived, lost): (Vec<_>, Vec<_>) =
        sent.acknowledged.into_iter().partition(|line| arrived.contains_key(line));
    assert!(lost.len() <= 20, "{} spans are lost, more than one record has", lost.len());
    let all = [arrived, later.acknowledged].concat();
    sink.wait_exactly(&all, &[sent.unsure, later.unsure].concat(), Duration::from_secs(60));
    assert!(!lost.is_empty(), "the damage was in a record");
    let row = settled(&collector, "", Stack::PATIENCE);
    let damaged = BTreeMap::from([("damaged".to_owned(), lost.len() as u64)]);
    assert_eq!((row.delivered, row.dropped), (sink.items().len() as u64, damaged));
    assert!(collector.process().said("the queue is damaged"), "the loss of a record is told");
}
