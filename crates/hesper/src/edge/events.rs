//! The events of a controller: the last ones, and those that follow, across its restarts.

use crate::{
    api_client::{Action, Lines, NoStream, Session},
    one_line, output,
};
use anyhow::Result;
use serde_json::{Map, Value};
use std::{io, time::Duration};
use tokio::time::sleep;

/// Wait before the controller is asked again, and the longest.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The controller's start id, in each answer that goes on.
const START: &str = "hesper-events-start";
/// Fields that have a column, or that say nothing to people.
const IN_COLUMNS: [&str; 13] = [
    "timestamp",
    "namespace",
    "event",
    "outcome",
    "actor",
    "identity",
    "identityId",
    "service",
    "serviceId",
    "rule",
    "reason",
    "sequence",
    "path",
];

/// Which events to show, and how.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Conditions of the API: `event`, `outcome`, `identity`, `service`.
    pub(crate) filter: Vec<(&'static str, String)>,
    /// Only of the last so many seconds.
    pub(crate) within: Option<u64>,
    /// At most so many of the past.
    pub(crate) last: usize,
    /// As JSON, one object per line.
    pub(crate) json: bool,
}

/// Where somebody stands who has seen some.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Place {
    start: String,
    seen: u64,
}

/// Shows the last ones, and those that follow if wanted.
///
/// # Errors
/// The controller refused, or it cannot be reached at the begin; what is shown cannot be written.
pub(crate) async fn show(session: &Session, shown: &Shown, follow: bool) -> Result<()> {
    let mut query: Vec<(&str, String)> = shown.filter.clone();
    query.push(("limit", shown.last.max(1).to_string()));
    query.extend(shown.within.map(|seconds| ("within", seconds.to_string())));
    let answer = session.get(Action::Listing, "events", &borrowed(&query)).await?;
    let events = answer.get("data").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for event in events.iter().take(shown.last) {
        print(event, shown.json)?;
    }
    let start = answer.pointer("/meta/start").and_then(Value::as_str).unwrap_or_default().to_owned();
    let seen = answer.pointer("/meta/last").and_then(Value::as_u64).unwrap_or_default();
    if follow { self::follow(session, shown, Place { start, seen }).await } else { Ok(()) }
}

/// Goes on until the controller refuses.
async fn follow(session: &Session, shown: &Shown, mut place: Place) -> Result<()> {
    let (mut wait, mut lost) = (RETRY, false);
    loop {
        let mut query = shown.filter.clone();
        query.push(("follow", "true".to_owned()));
        query.push(("since", place.seen.to_string()));
        query.push(("start", place.start.clone()));
        match session.lines("events", &borrowed(&query)).await {
            Ok(mut lines) => {
                let restarted = place.begin(lines.header(START).unwrap_or_default());
                if restarted {
                    eprintln!("INFO    the controller was restarted; following its events again");
                } else if lost {
                    eprintln!("INFO    the controller answers again; following its events");
                }
                (wait, lost) = (RETRY, false);
                read(&mut lines, &mut place, shown.json).await?;
            }
            Err(NoStream::Refused(error)) => return Err(error),
            Err(NoStream::Unreachable(error)) => {
                if !std::mem::replace(&mut lost, true) {
                    eprintln!("WARN    {}; trying again", one_line(&format!("{error:#}")));
                }
                sleep(wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
}

/// Prints events until the answer ends.
async fn read(lines: &mut Lines, place: &mut Place, json: bool) -> io::Result<()> {
    while let Some(line) = lines.next().await {
        let Ok(line) = serde_json::from_slice::<Value>(&line) else { continue };
        if place.takes(&line) {
            print(&line, json)?;
        }
    }
    Ok(())
}

impl Place {
    /// An answer of this start begins. True when it is another one than before.
    fn begin(&mut self, start: &str) -> bool {
        if self.start == start {
            return false;
        }
        *self = Self { start: start.to_owned(), seen: 0 };
        true
    }

    /// Notes how far it is. True: it is an event, and a new one.
    fn takes(&mut self, line: &Value) -> bool {
        let Some(sequence) = line.get("sequence").and_then(Value::as_u64) else { return false };
        let new = sequence > self.seen;
        self.seen = self.seen.max(sequence);
        new && line.get("event").is_some_and(Value::is_string)
    }
}

fn print(event: &Value, json: bool) -> io::Result<()> {
    if json { output::line(event) } else { output::line(told(event)) }
}

/// Time, event, outcome, who, service, and the rule or what else there is to say.
fn told(event: &Value) -> String {
    let text = |name: &str| output::cell(event.get(name));
    let first = |names: &[&str]| {
        let found = names.iter().map(|name| text(name)).find(|text| !text.is_empty());
        found.unwrap_or_else(|| "-".to_owned())
    };
    let why = Some(first(&["rule", "reason"])).filter(|why| why != "-").unwrap_or_else(|| further(event));
    let line = format!(
        "{}  {:<18}  {:<7}  {:<20}  {:<20}  {why}",
        text("timestamp"),
        text("event"),
        text("outcome"),
        first(&["identity", "identityId", "actor", "remote"]),
        first(&["service", "serviceId"]),
    );
    one_line(&line).trim_end().to_owned()
}

fn further(event: &Value) -> String {
    let none = Map::new();
    let fields = event.as_object().unwrap_or(&none).iter();
    let fields = fields.filter(|(name, value)| !IN_COLUMNS.contains(&name.as_str()) && !value.is_null());
    fields.map(|(name, value)| format!("{name}={}", output::cell(Some(value)))).collect::<Vec<_>>().join(" ")
}

fn borrowed<'a>(query: &'a [(&'a str, String)]) -> Vec<(&'a str, &'a str)> {
    query.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_has_time_event_outcome_who_service_and_rule() {
        let denied = json!({
            "timestamp": "2026-03-04T05:06:07Z", "namespace": "circuit", "event": "dial", "outcome": "denied", "actor": "i1",
            "identity": "alice", "identityId": "i1", "service": "web", "serviceId": "s1", "rule": "no policy\u{1b}[2J", "sequence": 3,
        });
        let columns: Vec<_> =
            told(&denied).split("  ").map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect();
        assert_eq!(
            columns,
            ["2026-03-04T05:06:07Z", "dial", "denied", "alice", "web", r"no policy\u{1b}[2J"]
        );
        let changed = json!({ "timestamp": "t", "event": "change", "outcome": "success", "actor": "admin",
            "operation": "create", "entityType": "service", "name": null, "sequence": 1 });
        let line = told(&changed);
        assert!(
            line.contains("  admin  ") && line.ends_with("  entityType=service operation=create"),
            "{line}"
        );
        let stranger = json!({ "timestamp": "t", "event": "login", "outcome": "denied", "identity": null, "remote": "::1", "rule": "wrong" });
        assert!(told(&stranger).contains("  ::1  "));
    }

    #[test]
    fn none_is_shown_twice_and_a_restart_begins_anew() {
        let mut place = Place { start: "a".into(), seen: 4 };
        let event = |sequence: u64| json!({ "event": "dial", "sequence": sequence });
        assert!(!place.begin("a"));
        assert_eq!([4, 5, 5, 6].map(|n| place.takes(&event(n))), [false, true, false, true]);
        assert!(!place.takes(&json!({ "sequence": 9 })) && !place.takes(&json!({})));
        assert_eq!(place.seen, 9, "what the filter left out is behind it, too");
        assert!(place.begin("b"));
        assert!(place.takes(&event(1)));
    }
}
