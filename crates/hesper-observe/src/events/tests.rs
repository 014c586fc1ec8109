use super::*;
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::Duration,
};
use tokio::time::timeout;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("audit file");
    text.lines().filter(|l| !l.is_empty()).filter_map(|l| serde_json::from_str(l).ok()).collect()
}

fn denial() -> Denial {
    Denial { identity: Named::unknown(), service: Named::name("edge-management"), rule: "wrong".into() }
}

#[test]
fn an_event_is_one_line_of_json_in_a_private_file() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    let at = time::macros::datetime!(2026-03-04 05:06:07 UTC);
    let events = Events::open(&path, Retention::default()).expect("open");
    let denial = Denial {
        identity: Named::new("n1", "node"),
        service: Named::new("s1", "s"),
        rule: "no policy".into(),
    };
    events.record(Event::denied(Kind::Dial, denial).at(at).actor("n1").field("event", "x\ny"));
    events.record(Event::success(Kind::Login));
    let found = lines(&path);
    let expected = serde_json::json!({
        "timestamp": "2026-03-04T05:06:07Z", "namespace": "circuit", "event": "dial", "outcome": "denied", "actor": "n1",
        "identity": "node", "identityId": "n1", "service": "s", "serviceId": "s1", "rule": "no policy", "event_": "x\ny",
    });
    assert_eq!(found[0], expected);
    assert_eq!(found.len(), 2);
    assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
}

#[test]
fn reopening_appends_and_repairs_a_torn_last_line() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    fs::write(&path, "{\"event\":\"login\"}\n{\"event\":\"di").expect("write");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("mode");
    Events::open(&path, Retention::default()).expect("open").record(Event::success(Kind::Bind));
    let events: Vec<_> = lines(&path).into_iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["login", "bind"]);
    assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
}

/// Takes a few bytes, then has no room, then recovers.
struct FullOnce(Vec<u8>, u32);

impl io::Write for FullOnce {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += 1;
        let take = match self.1 {
            1 => 5,
            2 => return Err(io::ErrorKind::StorageFull.into()),
            _ => bytes.len(),
        };
        self.0.extend_from_slice(&bytes[..take]);
        Ok(take)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_a_full_disk_the_next_line_is_whole() {
    let mut out = FullOnce(Vec::new(), 0);
    let mut keeper = Keeper::to(&mut out);
    assert!(keeper.write(r#"{"event":"login"}"#).is_err());
    keeper.write(r#"{"event":"bind"}"#).expect("room again");
    let text = String::from_utf8(out.0).expect("utf-8");
    let whole: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    assert_eq!(whole, [serde_json::json!({ "event": "bind" })], "{text}");
}

#[test]
fn what_cannot_be_written_is_counted_and_followed_all_the_same() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    // Open for reading only: it takes nothing, ever.
    let events = Events::to(Some(Keeper::to(fs::File::open(file.path()).expect("open"))));
    let registry = Registry::new();
    events.register(&registry);
    let mut follower = events.subscribe(Begin::Now);
    events.record(Event::denied(Kind::Login, denial()));
    let batch = follower.ready().expect("told");
    assert_eq!((batch.missed, batch.events[0].sequence, events.last()), (0, 1, 1));
    let metrics = registry.encode();
    for line in [
        "hesper_event_write_failures_total 1",
        r#"hesper_events_total{event="login",outcome="denied"} 1"#,
        "hesper_event_followers 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_told_how_many_it_missed_and_holds_nobody_up() {
    let events = Events::unkept();
    let registry = Registry::new();
    events.register(&registry);
    let mut slow = events.subscribe(Begin::Now);
    let mut quick = events.subscribe(Begin::Now);
    let all = EVENTS_KEPT as u64 + 100;
    for n in 0..all {
        events.record(Event::success(Kind::Dial).field("n", n));
        let batch = quick.next().await;
        assert_eq!((batch.missed, batch.events.len(), batch.events[0].sequence), (0, 1, n + 1));
    }
    let first = slow.next().await;
    assert_eq!((first.missed, first.events.len(), first.events[0].sequence), (100, BATCH_MAX, 101));
    let mut seen = first.events.len();
    while let Some(batch) = slow.ready() {
        assert_eq!(batch.missed, 0, "told once");
        seen += batch.events.len();
    }
    assert_eq!((seen, slow.seen()), (EVENTS_KEPT, all));
    assert!(registry.encode().contains("hesper_events_missed_total 100"));
    drop((slow, quick));
    assert!(registry.encode().contains("hesper_event_followers 0"));
}

#[tokio::test]
async fn a_follower_is_woken_by_what_happens_and_begins_where_it_wants() {
    let events = Events::unkept();
    (0..3).for_each(|_| events.record(Event::success(Kind::Attach)));
    let numbers = |batch: Option<Batch>| {
        batch.map(|batch| batch.events.iter().map(|r| r.sequence).collect::<Vec<_>>()).unwrap_or_default()
    };
    for (begin, expected) in [
        (Begin::Oldest, vec![1, 2, 3]),
        (Begin::Now, vec![]),
        (Begin::After(2), vec![3]),
        (Begin::After(99), vec![]),
    ] {
        assert_eq!(numbers(events.subscribe(begin).ready()), expected, "{begin:?}");
    }
    let mut follower = events.subscribe(Begin::Now);
    let waiting = tokio::spawn(async move { follower.next().await });
    tokio::task::yield_now().await;
    events.record(Event::success(Kind::Detach));
    let batch = timeout(Duration::from_secs(20), waiting).await.expect("woken").expect("no panic");
    assert_eq!(numbers(Some(batch)), [4]);
    let (found, last) = events.newest(2, |recorded| recorded.event.kind() == Kind::Attach);
    assert_eq!((found.iter().map(|r| r.sequence).collect::<Vec<_>>(), last), (vec![2, 3], 4));
}

/// Numbers, lines of the file and what is followed have one order, whoever records.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_file_and_the_numbers_have_the_same_order() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("audit.jsonl");
    let events = Events::open(&path, Retention::default()).expect("open");
    let mut follower = events.subscribe(Begin::Now);
    let writers = (0..4u64).map(|writer| {
        let events = events.clone();
        tokio::spawn(async move {
            (0..200u64)
                .for_each(|n| events.record(Event::success(Kind::Dial).field("n", writer * 1_000 + n)));
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let mut followed = Vec::new();
    while let Some(batch) = follower.ready() {
        followed.extend(batch.events.iter().map(|recorded| recorded.line.clone()));
    }
    let text = fs::read_to_string(&path).expect("the file");
    assert_eq!(followed.len(), 800);
    assert_eq!(text.lines().collect::<Vec<_>>(), followed);
}
