//! The SQLite engine: the conformance suite, then what only a file can get wrong.

mod conformance;

use conformance::{Engine, contents, done};
use hesper_store::{Store, StoreError, Txn, open_sqlite};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temporary directory") }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("hesper.db")
    }
}

impl Engine for File {
    fn open(&self) -> Arc<dyn Store> {
        open_sqlite(self.path()).expect("open")
    }
}

conformance!(File::new());

#[tokio::test]
async fn all_files_are_private() {
    let file = File::new();
    fs::write(file.path(), "").expect("an empty file that anyone may read");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).expect("mode");
    let store = file.open();
    done(&*store, Txn::new().put("k", "v")).await;
    let mut names = Vec::new();
    for entry in fs::read_dir(file.dir.path()).expect("list") {
        let entry = entry.expect("entry");
        assert_eq!(entry.metadata().expect("metadata").permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.push(entry.file_name());
    }
    names.sort();
    assert_eq!(names, ["hesper.db", "hesper.db-wal"]);
    store.close().await;
    assert_eq!(fs::read_dir(file.dir.path()).expect("list").count(), 1, "a clean stop leaves no log");
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name() {
    let file = File::new();
    let first = file.open();
    let refused = open_sqlite(file.path()).err().expect("in use");
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused:?}");
    assert!(refused.to_string().contains("hesper.db is in use by another process"), "{refused}");
    done(&*first, Txn::new().put("k", "v")).await;
    first.close().await;
    assert_eq!(contents(&*file.open()).await.len(), 1);
}

#[tokio::test]
async fn a_newer_layout_is_refused() {
    let file = File::new();
    file.open().close().await;
    let raw = rusqlite::Connection::open(file.path()).expect("open");
    raw.pragma_update(None, "user_version", 99).expect("layout");
    drop(raw);
    assert!(matches!(open_sqlite(file.path()), Err(StoreError::Layout { found: 99, known: 1, .. })));
}

#[test]
fn what_is_no_store_is_not_touched() {
    let file = File::new();
    fs::write(file.path(), "my shopping list, 30 lines of it\n".repeat(100)).expect("write");
    let refused = open_sqlite(file.path()).err().expect("no store");
    assert!(matches!(refused, StoreError::Open { .. }), "{refused:?}");
    assert!(fs::read_to_string(file.path()).expect("read").starts_with("my shopping list"));
    let nowhere = open_sqlite(file.dir.path().join("missing/hesper.db")).err().expect("no directory");
    assert!(matches!(nowhere, StoreError::Open { .. }), "{nowhere:?}");
}

/// The variable by which the test below tells its child which file to write.
const CHILD_FILE: &str = "HESPER_STORE_TEST_FILE";

/// The child of the test below: says each revision only after it was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by kill_9_loses_nothing_that_was_answered"]
async fn endless_writer() {
    let Some(path) = std::env::var_os(CHILD_FILE) else { return };
    let store = open_sqlite(PathBuf::from(path)).expect("open");
    let mut n = store.snapshot().await.expect("snapshot").revision;
    loop {
        n += 1;
        // Two keys in one commit: both or none must survive.
        let txn =
            Txn::new().put(format!("left/{n}"), n.to_string()).put(format!("right/{n}"), vec![b'x'; 3000]);
        println!("\nanswered {}", done(&*store, txn).await);
    }
}

/// Runs the child, lets it commit `count` times, kills it in the middle of the next, returns the last answered revision.
fn write_and_kill(file: &File, count: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "endless_writer", "--ignored", "--nocapture"])
        .env(CHILD_FILE, file.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start the child");
    let lines = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
    let mut answered = lines.filter_map(|line| line.strip_prefix("answered ").and_then(|n| n.parse().ok()));
    let last = answered.by_ref().nth(count).expect("the child commits");
    child.kill().expect("kill");
    child.wait().expect("reap");
    answered.last().unwrap_or(last)
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_answered() {
    let file = File::new();
    for round in 0..4 {
        let answered = write_and_kill(&file, 10 + 40 * round);
        let store = file.open();
        let snapshot = store.snapshot().await.expect("snapshot");
        assert!(snapshot.revision >= answered, "answered {answered}, found {}", snapshot.revision);
        assert!(snapshot.revision <= answered + 1, "one commit was under way at most");
        assert_eq!(snapshot.objects.len() as u64, 2 * snapshot.revision, "both halves of each commit");
        let mut watch = store.watch(0);
        for revision in 1..=snapshot.revision {
            let (at, changes) = watch.next_commit().await.expect("history");
            assert_eq!((at, changes.len()), (revision, 2));
        }
        store.close().await;
    }
}

#[tokio::test]
async fn damage_is_found_after_an_unclean_stop() {
    let file = File::new();
    write_and_kill(&file, 400);
    // The log that the crash left is what makes the next opening look; the damage is in the pages already written back.
    let database = fs::OpenOptions::new().write(true).open(file.path()).expect("open");
    let length = database.metadata().expect("metadata").len();
    assert!(length > 100_000, "some pages were written back: {length}");
    for page in (length / 3 / 4096)..(length / 2 / 4096) {
        database.write_all_at(&[0xAA; 512], page * 4096).expect("damage");
    }
    drop(database);
    let refused = open_sqlite(file.path()).err().expect("damaged");
    assert!(matches!(refused, StoreError::Damaged { .. } | StoreError::Open { .. }), "{refused:?}");
}
