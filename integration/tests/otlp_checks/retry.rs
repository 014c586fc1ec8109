//! What is sent again, and when. Checks 36 to 44.

use crate::{
    client::{PROTOBUF, TRACES, TRACES_RPC, block_on, call, proto, spawn},
    data::{ITEMS, names, signals, span},
    ground::{BOTH, Ledger, QUICK, collector, metric, settled, to_grpc, to_http},
    peer::{Peer, Seen, grpc_failure, http, ok, with},
};
use hesper_integration::{Collector, Stack, otlp::RpcStatus, wait_for};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, macros::format_description};
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tonic::Code;

/// Waits that double, without chance.
const DOUBLING: &str =
    "retry_on_failure: {initial_interval: 100ms, multiplier: 2, randomization_factor: 0, max_interval: 60s}";

/// Sends a span of each name, and waits until each is delivered or dropped.
#[track_caller]
fn send(collector: &Collector, names: &[String]) -> Ledger {
    for name in names {
        assert_eq!(proto(collector.told("otlp"), TRACES, &[], span(name)).status, 200);
    }
    settled(collector, names.len() as u64)
}

/// The name of the only span of a request.
fn name(seen: &Seen) -> String {
    names(&seen.message()).remove(0)
}

/// How often the span of each name has come.
fn times(peer: &Peer) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    peer.seen().iter().for_each(|seen| *times.entry(name(seen)).or_default() += 1);
    times
}

/// The times between requests.
fn gaps(peer: &Peer) -> Vec<Duration> {
    let seen = peer.seen();
    seen.windows(2).map(|pair| pair[1].when - pair[0].when).collect()
}

#[test]
fn check_36_http_statuses_that_are_sent_again() {
    let peer = Peer::start(|seen| match seen.before {
        0 => http(name(seen).parse().expect("a status"), PROTOBUF.1, ""),
        _ => ok(seen),
    });
    let collector = collector(BOTH, &[to_http(peer.at, QUICK)]);
    const STATUSES: [u16; 22] = [
        301, 308, 400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 422, 429, 431, 500, 501, 502, 503,
        504, 511,
    ];
    let ledger = send(&collector, &STATUSES.map(|status| status.to_string()));
    let again: Vec<_> = times(&peer).into_iter().filter(|(_, times)| *times > 1).collect();
    assert_eq!(again, ["429", "502", "503", "504"].map(|status| (status.to_owned(), 2)));
    assert_eq!((ledger.delivered, ledger.dropped), (4, 18));
}

#[test]
fn check_37_grpc_codes_that_are_sent_again() {
    let peer = Peer::start(|seen| match seen.before {
        0 => grpc_failure(RpcStatus::new(name(seen).parse::<i32>().expect("a code").into(), "as asked")),
        _ => ok(seen),
    });
    let collector = collector(BOTH, &[to_grpc(peer.at, QUICK)]);
    let codes: Vec<_> = (1..17).map(|code: i32| code.to_string()).collect();
    let ledger = send(&collector, &codes);
    let again = times(&peer).into_iter().filter(|(_, times)| *times == 2).map(|(code, _)| code);
    let again: BTreeSet<_> =
        again.map(|code| format!("{:?}", Code::from_i32(code.parse().expect("a code")))).collect();
    let expected = ["Aborted", "Cancelled", "DataLoss", "DeadlineExceeded", "OutOfRange", "Unavailable"];
    assert_eq!(again.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!((ledger.delivered, ledger.dropped), (6, 10));
}

#[test]
fn check_38_exhausted_is_sent_again_only_with_retry_info() {
    let peer = Peer::start(|seen| {
        let status = |code| RpcStatus::new(code, "as asked");
        let hint = Duration::from_millis(30);
        match (&*name(seen), seen.before) {
            ("exhausted", 0) => grpc_failure(status(Code::ResourceExhausted)),
            ("with a hint", 0) => grpc_failure(status(Code::ResourceExhausted).with_retry(hint)),
            ("denied with a hint", 0) => grpc_failure(status(Code::PermissionDenied).with_retry(hint)),
            _ => ok(seen),
        }
    });
    let collector = collector(BOTH, &[to_grpc(peer.at, QUICK)]);
    let ledger = send(&collector, &["exhausted", "with a hint", "denied with a hint"].map(str::to_owned));
    let expected = [("denied with a hint", 1), ("exhausted", 1), ("with a hint", 2)];
    assert_eq!(times(&peer), expected.map(|(name, times)| (name.to_owned(), times)).into());
    assert_eq!((ledger.delivered, ledger.dropped), (1, 2));
}

#[test]
fn check_39_what_is_refused_for_good_is_dropped_and_counted() {
    let peer = Peer::start(|seen| match seen.is_grpc() {
        true => grpc_failure(RpcStatus::new(Code::InvalidArgument, "not this")),
        false => http(400, "text/plain", "not this"),
    });
    let mut collector = collector(BOTH, &[to_grpc(peer.at, QUICK), to_http(peer.at, QUICK)]);
    let body = signals()[0].request.clone();
    let items = ITEMS as u64;
    assert_eq!(proto(collector.told("otlp"), TRACES, &[], body).status, 200);
    assert_eq!(settled(&collector, 2 * items).dropped, 2 * items);
    peer.wait(2);
    let count = |name: &str, labels: &str| metric(&collector, name, labels).expect("metrics");
    for exporter in ["otlp_grpc", "otlp_http"] {
        let labels = format!("exporter=\"{exporter}\"");
        assert_eq!(count("otelcol_exporter_send_failed_spans_total", &labels), items);
        assert_eq!(count("otelcol_exporter_sent_spans_total", &labels), 0);
        assert_eq!(count("hesper_exporter_retries_total", &labels), 0);
    }
    assert_eq!(count("hesper_ledger_dropped_items_total", "reason=\"rejected\""), 2 * items);
    let told = |line: &&String| line.contains("dropped:") && line.contains("not this");
    assert_eq!(collector.process().lines().iter().filter(told).count(), 2, "with the reason");
}

/// The queue holds one request, and that one is under way.
#[test]
fn check_40_a_full_gateway_says_when_to_come_again() {
    let peer = Peer::taking();
    peer.hold();
    let collector = collector(BOTH, &[to_http(peer.at, "timeout: 60s, sending_queue: {queue_size: 1}")]);
    let at = collector.told("otlp");
    assert_eq!(proto(at, TRACES, &[], span("a")).status, 200);
    let reply = proto(at, TRACES, &[], span("b"));
    let failure = reply.failure();
    assert_eq!((reply.status, failure.code()), (503, Code::Unavailable), "{reply:?}");
    let seconds: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!(seconds > 0 && failure.retry_delay() == Some(Duration::from_secs(seconds)), "{reply:?}");
    // The helper reads it from grpc-status-details-bin, where gRPC has it.
    let status = call(at, TRACES_RPC, &span("b"));
    assert_eq!((status.code(), status.retry_delay()), (Code::Unavailable, failure.retry_delay()));
    peer.release();
    assert_eq!(settled(&collector, 1).delivered, 1);
    assert_eq!(call(at, TRACES_RPC, &span("b")).code(), Code::Ok, "there is room again");
}

#[test]
fn check_41_retry_info_is_the_least_and_the_rest_grows_from_it() {
    const HINT: Duration = Duration::from_millis(400);
    let peer = Peer::start(|seen| {
        let status = RpcStatus::new(Code::Unavailable, "as asked");
        match seen.before {
            0 => grpc_failure(status.with_retry(HINT)),
            1 => grpc_failure(status),
            _ => ok(seen),
        }
    });
    let collector = collector(BOTH, &[to_grpc(peer.at, DOUBLING)]);
    assert_eq!(send(&collector, &["a".to_owned()]).delivered, 1);
    let gaps = gaps(&peer);
    assert_eq!(gaps.len(), 2);
    assert!(gaps[0] >= HINT && gaps[1] >= 2 * HINT, "{gaps:?}");
}

/// So many whole seconds after a time, as whole seconds.
fn later(date: SystemTime, seconds: i64) -> OffsetDateTime {
    let date = OffsetDateTime::from(date) + time::Duration::seconds(seconds);
    date.replace_nanosecond(0).expect("a date")
}

#[test]
fn check_42_retry_after_comes_as_seconds_and_as_a_date() {
    let busy = |status, after: &str| with(http(status, PROTOBUF.1, ""), "retry-after", after);
    let seconds = Peer::start(move |seen| if seen.before == 0 { busy(503, "1") } else { ok(seen) });
    let date = Peer::start(move |seen| {
        let form = format_description!(
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        );
        let text = later(seen.date, 2).format(form).expect("a date");
        if seen.before == 0 { busy(429, &text) } else { ok(seen) }
    });
    let both = [to_http(seconds.at, QUICK), to_http(date.at, QUICK).replace("otlp_http", "otlp_http/date")];
    let collector = collector(BOTH, &both);
    assert_eq!(proto(collector.told("otlp"), TRACES, &[], span("a")).status, 200);
    assert_eq!(settled(&collector, 2).delivered, 2);
    seconds.wait(2);
    assert!(gaps(&seconds)[0] >= Duration::from_secs(1), "{:?}", gaps(&seconds));
    let seen = date.wait(2);
    assert!(OffsetDateTime::from(seen[1].date) >= later(seen[0].date, 2), "{seen:?}");
}

/// Waits without a hint, as the log tells them: `wait=1.5s`.
fn waits(lines: &[String]) -> Vec<Duration> {
    let told = lines.iter().filter(|line| line.contains("not delivered, tried again later"));
    let texts = told.filter_map(|line| line.split("wait=").nth(1)?.split_whitespace().next());
    let read = |text: &str| {
        let (number, unit) =
            if let Some(ms) = text.strip_suffix("ms") { (ms, 1e-3) } else { (text.strip_suffix('s')?, 1.0) };
        Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * unit))
    };
    texts.map(|text| read(text).unwrap_or_else(|| panic!("{text} is no wait"))).collect()
}

#[test]
fn check_43_without_a_hint_waits_grow_and_hang_on_chance() {
    let peer = Peer::start(|seen| if seen.before < 3 { http(503, PROTOBUF.1, "") } else { ok(seen) });
    let doubling = collector(BOTH, &[to_http(peer.at, DOUBLING)]);
    assert_eq!(send(&doubling, &["a".to_owned()]).delivered, 1);
    let gaps = gaps(&peer);
    assert_eq!(gaps.len(), 3);
    let least = [100, 200, 400].map(Duration::from_millis);
    assert!(gaps.iter().zip(least).all(|(gap, least)| *gap >= least), "{gaps:?}");

    // Nobody is there: many exporters that fail at once do not come again at once.
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let retry = "retry_on_failure: {initial_interval: 60s}";
    let exporters: Vec<_> = (0..6)
        .map(|number| match number % 2 {
            0 => to_http(nobody, retry).replace("otlp_http", &format!("otlp_http/{number}")),
            _ => to_grpc(nobody, retry).replace("otlp_grpc", &format!("otlp_grpc/{number}")),
        })
        .collect();
    let mut lost = collector(BOTH, &exporters);
    assert_eq!(proto(lost.told("otlp"), TRACES, &[], span("a")).status, 200);
    let waits = wait_for("every exporter tells how long it waits", Stack::PATIENCE, || {
        let waits = waits(&lost.process().lines());
        if waits.len() == exporters.len() { Ok(waits) } else { Err(format!("{waits:?}")) }
    });
    let span = Duration::from_secs(15)..=Duration::from_secs(45);
    assert!(
        waits.iter().all(|wait| span.contains(wait)),
        "half to one and a half of the longest, 30 s: {waits:?}"
    );
    assert_eq!(waits.iter().collect::<BTreeSet<_>>().len(), waits.len(), "{waits:?}");
}

/// A way to a peer on which the first connection ends when the marker has come, without an answer.
async fn cutting(marker: &'static [u8], to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    spawn(async move {
        let (mut first, _) = listener.accept().await.expect("a connection");
        let mut come = Vec::new();
        while !come.windows(marker.len()).any(|window| window == marker) {
            assert!(first.read_buf(&mut come).await.expect("a connection") > 0, "the request comes");
        }
        drop(first);
        while let Ok((mut next, _)) = listener.accept().await {
            spawn(async move {
                let mut peer = TcpStream::connect(to).await.expect("the peer");
                // Whoever goes away first.
                let _ = copy_bidirectional(&mut next, &mut peer).await;
            });
        }
    });
    at
}

#[test]
fn check_44_a_connection_that_ends_without_an_answer_is_tried_again() {
    const MARKER: &str = "a span whose name is known on the way";
    let peer = Peer::taking();
    let way = || block_on(cutting(MARKER.as_bytes(), peer.at));
    let collector = collector(BOTH, &[to_http(way(), QUICK), to_grpc(way(), QUICK)]);
    assert_eq!(proto(collector.told("otlp"), TRACES, &[], span(MARKER)).status, 200);
    let ledger = settled(&collector, 2);
    assert_eq!((ledger.delivered, ledger.dropped), (2, 0));
    peer.wait(2);
    assert_eq!(metric(&collector, "hesper_exporter_retries_total", ""), Ok(2), "one for each exporter");
}
