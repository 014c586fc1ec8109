//! Audit events: who did what, when, and whether it was allowed.
//!
//! One JSON object per line, appended to a file that only its owner can read: `timestamp` (RFC 3339, UTC), `event`,
//! `outcome`, `actor` where known, then the fields of the event. Lines are written whole and at once.

use crate::metrics::{Counter, Family, Registry};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A one-time token was redeemed, or not.
    Enrollment,
    /// An administrator logged in, or not.
    Login,
    /// Something was created, changed or deleted through the management API.
    Change,
    /// A grant to dial a service was asked for.
    Dial,
    /// A service was to be bound.
    Bind,
    /// A node or router opened its session.
    Attach,
    /// A certificate was renewed.
    Renew,
    /// Telemetry was sent to a gateway.
    Send,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Enrollment => "enrollment",
            Kind::Login => "login",
            Kind::Change => "change",
            Kind::Dial => "dial",
            Kind::Bind => "bind",
            Kind::Attach => "attach",
            Kind::Renew => "renew",
            Kind::Send => "send",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Allowed, and done.
    Success,
    /// Refused: by policy, by a wrong password, by a used token.
    Denied,
    /// Allowed, but it failed.
    Failure,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Denied => "denied",
            Outcome::Failure => "failure",
        }
    }
}

/// One event. Never put a secret into a field.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    timestamp: String,
    event: Kind,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl Event {
    /// Something that happened at `at`.
    pub fn new(at: OffsetDateTime, event: Kind, outcome: Outcome) -> Self {
        // Formatting fails only for years outside 0..=9999.
        let timestamp = at.format(&Rfc3339).unwrap_or_else(|_| at.unix_timestamp().to_string());
        Self { timestamp, event, outcome, actor: None, fields: Map::new() }
    }

    /// Something that happens now.
    pub fn now(event: Kind, outcome: Outcome) -> Self {
        Self::new(OffsetDateTime::now_utc(), event, outcome)
    }

    /// Who did it: an identity id, an administrator's name, an address.
    #[must_use]
    pub fn actor(mut self, who: impl Into<String>) -> Self {
        self.actor = Some(who.into());
        self
    }

    /// One more fact. The names `timestamp`, `event`, `outcome` and `actor` are taken: a field of such a name is kept
    /// under the name with a `_` behind it.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        let taken = ["timestamp", "event", "outcome", "actor"].contains(&name);
        self.fields.insert(if taken { format!("{name}_") } else { name.to_owned() }, value.into());
        self
    }
}

/// Where audit events go. Clones share the file.
#[derive(Clone, Default)]
pub struct Audit {
    log: Option<Arc<Mutex<Log>>>,
    counters: Counters,
}

#[derive(Clone, Default)]
struct Counters {
    events: Family<Vec<(&'static str, &'static str)>, Counter>,
    write_failures: Counter,
}

struct Log {
    out: Box<dyn Write + Send>,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
}

impl Audit {
    /// Appends to the file `path`, which is created if missing and made private (0600).
    ///
    /// # Errors
    /// The file cannot be opened for appending, or its mode cannot be set.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let torn = !ends_with_newline(path, &file)?;
        Ok(Self::to(Box::new(file), torn))
    }

    /// Counts events, keeps none.
    pub fn disabled() -> Self {
        Self::default()
    }

    fn to(out: Box<dyn Write + Send>, torn: bool) -> Self {
        Self { log: Some(Arc::new(Mutex::new(Log { out, torn }))), counters: Counters::default() }
    }

    /// Makes the counts visible in `registry`: `hesper_audit_events_total`, `hesper_audit_write_failures_total`.
    pub fn register(&self, registry: &Registry) {
        registry.register("audit_events", "Audit events by kind and outcome", self.counters.events.clone());
        registry.register(
            "audit_write_failures",
            "Audit events that could not be written to the audit file",
            self.counters.write_failures.clone(),
        );
    }

    /// Writes the event. One that cannot be written is counted and logged as an ERROR; the caller goes on.
    pub fn record(&self, event: &Event) {
        let labels = vec![("event", event.event.name()), ("outcome", event.outcome.name())];
        self.counters.events.get_or_create(&labels).inc();
        let Some(log) = &self.log else { return };
        let written = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.append(event)
        };
        if let Err(fault) = written {
            self.counters.write_failures.inc();
            let kind = event.event.name();
            tracing::error!(%fault, event = kind, "an audit event could not be written: make room for the audit file");
        }
    }
}

impl Log {
    fn append(&mut self, event: &Event) -> io::Result<()> {
        let mut line = Vec::with_capacity(256);
        if self.torn {
            // Ends the piece of a line that the failed write may have left.
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, event)?;
        line.push(b'\n');
        self.torn = true;
        self.out.write_all(&line)?;
        self.out.flush()?;
        self.torn = false;
        Ok(())
    }
}

/// Whether the next line can start right away: the file is empty or its last byte ends a line.
fn ends_with_newline(path: &Path, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(true);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).expect("audit file");
        text.lines().filter(|l| !l.is_empty()).filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    #[test]
    fn an_event_is_one_line_of_json_in_a_private_file() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("audit.jsonl");
        let at = time::macros::datetime!(2026-03-04 05:06:07 UTC);
        let audit = Audit::open(&path).expect("open");
        let event = Event::new(at, Kind::Dial, Outcome::Denied)
            .actor("n1")
            .field("service", "s1")
            .field("event", "x\ny");
        audit.record(&event);
        audit.record(&Event::now(Kind::Login, Outcome::Success));
        let found = lines(&path);
        let expected = serde_json::json!({
            "timestamp": "2026-03-04T05:06:07Z", "event": "dial", "outcome": "denied", "actor": "n1",
            "service": "s1", "event_": "x\ny",
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
        Audit::open(&path).expect("open").record(&Event::now(Kind::Bind, Outcome::Success));
        let events: Vec<_> = lines(&path).into_iter().map(|line| line["event"].clone()).collect();
        assert_eq!(events, ["login", "bind"]);
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
    }

    /// Takes a few bytes, then has no room, then recovers.
    struct FullOnce(Arc<Mutex<Vec<u8>>>, u32);
    impl Write for FullOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            let take = match self.1 {
                1 => 5,
                2 => return Err(io::ErrorKind::StorageFull.into()),
                _ => bytes.len(),
            };
            self.0.lock().expect("lock").extend_from_slice(&bytes[..take]);
            Ok(take)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_counted_and_the_next_event_is_whole() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let audit = Audit::to(Box::new(FullOnce(written.clone(), 0)), false);
        let registry = Registry::new();
        audit.register(&registry);
        audit.record(&Event::now(Kind::Login, Outcome::Denied));
        audit.record(&Event::now(Kind::Bind, Outcome::Success));
        let text = String::from_utf8(written.lock().expect("lock").clone()).expect("utf-8");
        let whole: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        assert_eq!(whole.len(), 1, "{text}");
        assert_eq!(whole[0]["event"], "bind");
        let metrics = registry.encode();
        assert!(metrics.contains("hesper_audit_write_failures_total 1"), "{metrics}");
        assert!(
            metrics.contains(r#"hesper_audit_events_total{event="login",outcome="denied"} 1"#),
            "{metrics}"
        );
    }

    #[test]
    fn disabled_still_counts() {
        let (audit, registry) = (Audit::disabled(), Registry::new());
        audit.register(&registry);
        audit.record(&Event::now(Kind::Renew, Outcome::Failure));
        assert!(
            registry.encode().contains(r#"hesper_audit_events_total{event="renew",outcome="failure"} 1"#)
        );
    }
}
