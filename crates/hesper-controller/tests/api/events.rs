//! The events: the last ones, and those who follow.

use crate::support::{ADMIN, Harness, MANAGEMENT, code, message, read};
use hesper_observe::events::{EVENTS_KEPT, Event, Kind};
use hesper_pki::key;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Never reached when all is well.
const DEADLINE: Duration = Duration::from_secs(60);

/// A stream of events, line by line.
struct Stream {
    answer: Response,
    buffer: Vec<u8>,
}

impl Stream {
    async fn open(h: &Harness, token: &str, query: &str) -> Self {
        let url = h.url(&format!("{MANAGEMENT}/events?follow=true{query}"));
        let answer = h.client.get(url).bearer_auth(token).send().await.expect("answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        Self { answer, buffer: Vec::new() }
    }

    fn start(&self) -> String {
        self.answer.headers()["hesper-events-start"].to_str().expect("text").to_owned()
    }

    /// The next line that is an event; none = the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                match serde_json::from_slice::<Value>(&line) {
                    Ok(line) if line["event"].is_string() => return Some(line),
                    _ => continue,
                }
            }
            match timeout(DEADLINE, self.answer.chunk()).await.expect("a line, or the end") {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    async fn next_where(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.next().await.expect("the stream goes on");
            if wanted(&line) {
                return line;
            }
        }
    }
}

async fn events(h: &Harness, query: &str) -> (Vec<Value>, Value) {
    let (status, answer) = h.request(Method::GET, &format!("/events?{query}"), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    (answer["data"].as_array().expect("a list").clone(), answer["meta"].clone())
}

#[tokio::test]
async fn each_refusal_names_identity_service_and_rule() {
    let h = Harness::start().await;
    let authenticate = async |username: &str, password: &str| {
        let body = json!({ "username": username, "password": password });
        let url = h.url(&format!("{MANAGEMENT}/authenticate"));
        read(h.client.post(url).json(&body).send().await.expect("answer")).await.1
    };
    let (first, second) = (key::generate().expect("key"), key::generate().expect("key"));
    let made = h.create("identities", json!({ "name": "node" })).await;
    let jwt = made["enrollment"]["jwt"].as_str().expect("jwt").to_owned();
    assert_eq!(h.redeem(&jwt, &first).await.0, StatusCode::OK);
    let admin = h.get("/identities?filter=isAdmin=true").await[0].clone();
    let refusals = [
        (
            "login",
            authenticate(ADMIN, "wrong").await,
            admin["name"].clone(),
            admin["id"].clone(),
            "edge-management",
        ),
        ("login", authenticate("a password?", "x").await, Value::Null, Value::Null, "edge-management"),
        ("enrollment", h.redeem(&jwt, &second).await.1, json!("node"), made["id"].clone(), "edge-client"),
        ("enrollment", h.redeem("nonsense", &second).await.1, Value::Null, Value::Null, "edge-client"),
        (
            "change",
            h.delete("/services/none").await.1,
            admin["name"].clone(),
            admin["id"].clone(),
            "edge-management",
        ),
    ];
    let (told, _) = events(&h, "outcome=denied").await;
    assert_eq!(told.len(), refusals.len(), "{told:?}");
    for ((event, answer, name, id, service), told) in refusals.into_iter().zip(told) {
        assert_eq!(told["event"], event, "{told}");
        assert_eq!((&told["identity"], &told["identityId"]), (&name, &id), "{told}");
        assert_eq!((&told["service"], &told["serviceId"]), (&json!(service), &Value::Null), "{told}");
        assert_eq!(
            (told["rule"].as_str(), told["code"].as_str()),
            (Some(message(&answer)), Some(code(&answer)))
        );
        assert!(!told.to_string().contains("a password?"), "what was typed may be a password: {told}");
    }
}

#[tokio::test]
async fn the_last_events_are_filtered_and_bad_questions_refused() {
    let h = Harness::start().await;
    let id = h.create_id("services", json!({ "name": "web" })).await;
    h.delete("/services/none").await;
    let (all, meta) = events(&h, "").await;
    let sequences: Vec<_> = all.iter().map(|e| e["sequence"].as_u64().expect("a number")).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(meta, json!({ "start": h.running().events().start(), "last": all.len() }));
    let last = sequences.len() as u64;
    for (query, count) in [
        ("event=change&outcome=success".to_owned(), 1),
        ("event=entityChange".to_owned(), 2),
        ("event=change&event=login".to_owned(), 3),
        ("identity=Default%20Admin&event=change".to_owned(), 2),
        ("identity=nobody".to_owned(), 0),
        ("service=edge-management&outcome=denied".to_owned(), 1),
        (format!("since={}", last - 1), 1),
        (format!("since={last}"), 0),
        (format!("since={last}&start=another"), all.len()),
        ("within=3600".to_owned(), all.len()),
        ("limit=1".to_owned(), 1),
    ] {
        assert_eq!(events(&h, &query).await.0.len(), count, "{query}");
    }
    let (found, _) = events(&h, "event=change&outcome=success").await;
    assert_eq!((&found[0]["entityId"], &found[0]["name"]), (&json!(id), &json!("web")));
    for (query, text) in [
        ("event=dail", "there is no event 'dail'"),
        ("outcome=ok", "use success, denied or failure"),
        ("since=x", "whole number"),
        ("within=-1", "whole number"),
        ("limit=0", "1 to 4096"),
        ("follow=yes", "true or false"),
    ] {
        let (status, answer) = h.request(Method::GET, &format!("/events?{query}"), None).await;
        assert_eq!((status, code(&answer)), (StatusCode::BAD_REQUEST, "INVALID_FIELD"), "{query}");
        assert!(message(&answer).contains(text), "{answer}");
    }
}

#[tokio::test]
async fn a_follower_goes_on_after_a_restart_without_losing_or_repeating_any() {
    let mut h = Harness::start().await;
    let mut stream = Stream::open(&h, &h.token, "&event=change").await;
    h.create_id("services", json!({ "name": "one" })).await;
    let one = stream.next().await.expect("told");
    assert_eq!((&one["name"], &one["event"]), (&json!("one"), &json!("change")));
    let (start, seen) = (stream.start(), one["sequence"].as_u64().expect("a number"));
    h.create_id("services", json!({ "name": "two" })).await;
    drop(stream);
    let mut stream = Stream::open(&h, &h.token, &format!("&event=change&since={seen}&start={start}")).await;
    assert_eq!(stream.next().await.expect("told")["name"], "two");

    let token = h.token.clone();
    let stop = async {
        h.stop().await;
        assert_eq!(stream.next().await, None, "the stream ends with the controller");
    };
    timeout(DEADLINE, stop).await.expect("a follower does not keep the controller from stopping");
    h.resume().await;
    h.create_id("services", json!({ "name": "three" })).await;
    let mut stream = Stream::open(&h, &token, &format!("&event=change&since=999&start={start}")).await;
    assert_ne!(stream.start(), start);
    assert_eq!(stream.next().await.expect("told")["name"], "three");
}

#[tokio::test]
async fn a_stream_ends_with_the_session_and_with_the_right() {
    let h = Harness::start().await;
    let id = h.create_id("identities", json!({ "name": "other", "isAdmin": true })).await;
    let password = json!({ "username": "other", "password": "other" });
    h.request(Method::PUT, &format!("/identities/{id}/password"), Some(&password)).await;

    let token = h.login("other", "other").await;
    let mut stream = Stream::open(&h, &token, "").await;
    let url = h.url(&format!("{MANAGEMENT}/current-api-session"));
    let logout = h.client.delete(url).bearer_auth(&token).send().await.expect("answer");
    assert_eq!(logout.status(), StatusCode::OK);
    while stream.next().await.is_some() {}

    let token = h.login("other", "other").await;
    let mut stream = Stream::open(&h, &token, "").await;
    h.request(Method::PATCH, &format!("/identities/{id}"), Some(&json!({ "isAdmin": false }))).await;
    while stream.next().await.is_some() {}
    let url = h.url(&format!("{MANAGEMENT}/events?follow=true"));
    let refused = h.client.get(url).bearer_auth(&token).send().await.expect("answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_does_not_read_holds_nobody_up_and_is_told_what_it_missed() {
    let h = Harness::start().await;
    let mut slow = Stream::open(&h, &h.token, "&event=dial&event=missed").await;
    let mut quick = Stream::open(&h, &h.token, "&event=bind").await;
    // More than the ring and all buffers on the way take.
    let all = 8 * EVENTS_KEPT as u64;
    let record = |kind, n: u64| {
        let event = Event::success(kind).field("n", n).field("pad", "x".repeat(1_000));
        h.running().events().record(event);
    };
    (0..all).for_each(|n| record(Kind::Dial, n));
    record(Kind::Bind, 0);
    assert_eq!(quick.next_where(|line| line["event"] == "bind").await["n"], 0);
    let (mut seen, mut missed) = (0, 0);
    loop {
        let line = slow.next().await.expect("the stream goes on");
        if line["event"] == "missed" {
            assert_eq!((&line["namespace"], &line["outcome"]), (&json!("events"), &json!("failure")));
            missed += line["count"].as_u64().expect("a count");
            continue;
        }
        let n = line["n"].as_u64().expect("a number");
        assert_eq!(n, seen + missed, "in order, and what is missing is told: {line}");
        seen += 1;
        if n == all - 1 {
            break;
        }
    }
    assert!(missed > 0 && seen + missed == all, "{seen} seen, {missed} missed");
    let metrics = h.client.get(h.url("/metrics")).send().await.expect("answer").text().await.expect("text");
    let counted =
        metrics.lines().find_map(|l| l.strip_prefix("hesper_events_missed_total ")).expect("counted");
    assert!(counted.parse::<u64>().is_ok_and(|counted| counted >= missed), "{counted}");
}

#[tokio::test]
async fn no_more_follow_than_there_are_places() {
    let h = Harness::start().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Stream::open(&h, &h.token, "").await);
    }
    let url = h.url(&format!("{MANAGEMENT}/events?follow=true"));
    let one_more = async || h.client.get(url.clone()).bearer_auth(&h.token).send().await.expect("answer");
    let (status, answer) = read(one_more().await).await;
    assert_eq!((status, code(&answer)), (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"), "{answer}");
    streams.clear();
    let free = async {
        while one_more().await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, free).await.expect("who leaves makes room");
}
