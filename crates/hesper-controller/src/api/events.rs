//! `GET /events`: the last events, and those that happen while somebody follows.
//!
//! A follower gets newline-delimited JSON. Each line has the event's number; with it and the controller's start id it goes on elsewhere or
//! later, and gets none twice. Who reads too slowly is told how many it missed (`missed`); who does not read at all is left.

use super::{
    call::{Answer, Call, Reply},
    error::ApiError,
};
use crate::{
    auth::{self, Admin},
    state::State,
};
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use hesper_observe::events::{Batch, Begin, EVENTS_KEPT, Event, Filter, Follower, Kind, Recorded};
use http::header;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

/// Followers at a time: each costs a task and a connection.
pub(crate) const FOLLOWERS_MAX: usize = 64;
/// Events of one answer, unless asked for more.
const LIMIT: usize = 500;
/// How often a follower hears something, and its session is looked at.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A follower that takes nothing for so long is left.
const STALL: Duration = Duration::from_secs(30);
/// A stream ends after so long: a connection without a client certificate lives ten minutes, and a stream that ends by itself is not cut
/// in the middle of a line. The follower comes again.
const LIFETIME: Duration = Duration::from_secs(9 * 60);
/// Header of every answer: the controller's start id.
const START: &str = "hesper-events-start";

/// What is asked for.
struct Asked {
    filter: Filter,
    /// Only events of higher numbers.
    since: Option<u64>,
    /// Only events of this time or later.
    from: Option<OffsetDateTime>,
    limit: usize,
    follow: bool,
}

impl Asked {
    fn of(call: &Call, start: &str) -> Result<Self, ApiError> {
        let mut filter = Filter::default();
        for given in call.queries("event") {
            filter.event(given).map_err(|error| invalid("event", given, &error.to_string()))?;
        }
        for given in call.queries("outcome") {
            filter.outcome(given).map_err(|error| invalid("outcome", given, &error.to_string()))?;
        }
        filter.identity = call.query("identity").map(str::to_owned);
        filter.service = call.query("service").map(str::to_owned);
        let follow = match call.query("follow") {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => return Err(invalid("follow", other, "must be true or false")),
        };
        // The numbers of another start say nothing here.
        let other_start = call.query("start").is_some_and(|given| given != start);
        let since = number(call, "since")?.map(|since| if other_start { 0 } else { since });
        let from = number(call, "within")?.map(|seconds| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            let now = OffsetDateTime::now_utc();
            now.checked_sub(time::Duration::seconds(seconds)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        });
        let limit = number(call, "limit")?.map_or(LIMIT, |n| usize::try_from(n).unwrap_or(usize::MAX));
        if !(1..=EVENTS_KEPT).contains(&limit) {
            return Err(invalid("limit", &limit.to_string(), &format!("must be 1 to {EVENTS_KEPT}")));
        }
        Ok(Self { filter, since, from, limit, follow })
    }

    fn fits(&self, recorded: &Recorded) -> bool {
        self.since.is_none_or(|since| recorded.sequence > since)
            && self.from.is_none_or(|from| recorded.event.happened_at() >= from)
            && self.filter.fits(&recorded.event)
    }

    /// The lines of a batch.
    fn lines(&self, batch: &Batch) -> String {
        let mut lines = String::new();
        if let (missed @ 1.., Some(next)) = (batch.missed, batch.events.first()) {
            let event = Event::failure(Kind::Missed).field("count", missed);
            let line = serde_json::to_string(&event).unwrap_or_default();
            lines.push_str(&numbered(&line, next.sequence - 1));
        }
        for recorded in batch.events.iter().filter(|recorded| self.fits(recorded)) {
            lines.push_str(&numbered(&recorded.line, recorded.sequence));
        }
        lines
    }
}

fn number(call: &Call, name: &str) -> Result<Option<u64>, ApiError> {
    let parse = |given: &str| given.parse().map_err(|_| invalid(name, given, "must be a whole number"));
    call.query(name).map(parse).transpose()
}

fn invalid(field: &str, given: &str, reason: &str) -> ApiError {
    ApiError::field(field, json!(given), reason)
}

/// A JSON object with the number in it, as a line.
fn numbered(object: &str, sequence: u64) -> String {
    let open = object.strip_suffix('}').unwrap_or(object);
    format!("{open},\"sequence\":{sequence}}}\n")
}

/// `GET /events`
pub(super) fn list(state: Arc<State>, call: Call) -> Reply {
    Box::pin(async move {
        let asked = Asked::of(&call, state.events.start())?;
        if asked.follow { follow(state, call, asked) } else { Ok(last(&state, &asked)) }
    })
}

fn last(state: &State, asked: &Asked) -> Answer {
    let (found, last) = state.events.newest(asked.limit, |recorded| asked.fits(recorded));
    let item = |recorded: &Arc<Recorded>| {
        let mut item = serde_json::from_str(&recorded.line).unwrap_or(Value::Null);
        item["sequence"] = json!(recorded.sequence);
        item
    };
    let meta = json!({ "start": state.events.start(), "last": last });
    Answer::list(found.iter().map(item).collect(), meta)
}

fn follow(state: Arc<State>, call: Call, asked: Asked) -> Result<Answer, ApiError> {
    let (Some(admin), Some(token)) = (call.admin, call.bearer) else {
        return Err(ApiError::unauthorized("log in first"));
    };
    let Ok(place) = state.followers.clone().try_acquire_owned() else {
        let message = format!("{FOLLOWERS_MAX} follow the events already: try again later");
        return Err(ApiError::too_many(message, HEARTBEAT.as_secs()));
    };
    let follower = state.events.subscribe(asked.since.map_or(Begin::Now, Begin::After));
    // One: what waits longer waits in the ring.
    let (to, from) = mpsc::channel(1);
    let start = state.events.start().to_owned();
    let stream = Stream { state, admin, token, asked, follower, to, _place: place };
    tokio::spawn(stream.run());
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/x-ndjson".to_owned()),
        (header::CACHE_CONTROL.as_str(), "no-store".to_owned()),
        (START, start),
    ];
    let response: Response = (headers, Body::from_stream(ReceiverStream::new(from))).into_response();
    Ok(Answer::ready(response))
}

/// One follower.
struct Stream {
    state: Arc<State>,
    admin: Admin,
    token: String,
    asked: Asked,
    follower: Follower,
    to: mpsc::Sender<Result<Bytes, Infallible>>,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// Until the client is gone or does not read, its session ends, the controller stops, or the time is over.
    async fn run(mut self) {
        let until = Instant::now() + LIFETIME;
        let (mut model, mut logouts) = (self.state.subscribe(), self.state.auth.logouts.subscribe());
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What the client knows to be behind it.
        let mut told = self.follower.seen();
        loop {
            let lines = tokio::select! {
                biased;
                () = self.state.control.stopping() => return,
                () = self.to.closed() => return,
                () = sleep_until(until) => return,
                _ = model.changed() => match auth::administrator(&self.state, &self.admin.id) {
                    Ok(_) => continue,
                    Err(_) => return,
                },
                _ = logouts.changed() => if self.is_live().await { continue } else { return },
                _ = heartbeat.tick() => if self.is_live().await { self.heartbeat(told) } else { return },
                batch = self.follower.next() => self.asked.lines(&batch),
            };
            if lines.is_empty() {
                continue;
            }
            told = self.follower.seen();
            if !matches!(timeout(STALL, self.to.send(Ok(lines.into()))).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// A blank line, or how far everything was seen when the filter has left out what came last.
    fn heartbeat(&self, told: u64) -> String {
        let seen = self.follower.seen();
        if seen == told { "\n".to_owned() } else { format!("{{\"sequence\":{seen}}}\n") }
    }

    /// Is the session still good? To follow is to use it.
    async fn is_live(&self) -> bool {
        let asked = auth::admin(&self.state, Some(&self.token));
        matches!(timeout(STALL, asked).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_put_into_the_object() {
        let line = numbered(r#"{"event":"dial"}"#, 7);
        assert_eq!(line, "{\"event\":\"dial\",\"sequence\":7}\n");
    }
}
