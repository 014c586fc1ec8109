//! What a scraper gets: the target's answer, an error with its reason, or what the proxy serves itself.

use super::{World, head, status};
use crate::mesh::Answer;
use hesper_sdk::DialError;
use std::{sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_scrape_reaches_the_target_and_comes_back_untouched() {
    let world = World::new().await;
    let mut targets = world.target();
    let request = "GET http://node-1.metrics.hesper:80/metrics?a=b%20c HTTP/1.1\r\nHost: something.else\r\nUser-Agent: Prometheus/3\r\n\
        Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\
        Proxy-Authorization: Basic eA==\r\nX-Hop: 1\r\nConnection: close, X-Hop\r\n\r\n";
    let target = tokio::spawn(async move {
        let mut stream = targets.recv().await.expect("a stream");
        let head = head(&mut stream).await;
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0\r\nContent-Encoding: gzip\r\n\
                  Content-Length: 4\r\nKeep-Alive: timeout=1\r\n\r\n\x1f\x8b\x01\x02",
            )
            .await
            .expect("answer");
        head
    });
    let mut tcp = world.connect().await;
    tcp.write_all(request.as_bytes()).await.expect("send");
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.expect("answer");
    assert!(answer.ends_with(b"\r\n\r\n\x1f\x8b\x01\x02"), "{answer:?}");
    let text = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(text.starts_with("http/1.1 200 ok\r\n"), "{text}");
    assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0\r\n"), "{text}");
    assert!(text.contains("content-encoding: gzip\r\n") && text.contains("via: 1.1 hesper\r\n"), "{text}");
    assert!(!text.contains("keep-alive:"), "{text}");
    let asked = target.await.expect("target");
    assert!(asked.starts_with("GET /metrics?a=b%20c HTTP/1.1\r\n"), "{asked}");
    let asked = asked.to_lowercase();
    assert!(
        asked.contains("host: node-1.metrics.hesper:80\r\n") && !asked.contains("something.else"),
        "{asked}"
    );
    assert!(
        asked.contains("accept-encoding: gzip\r\n")
            && asked.contains("x-prometheus-scrape-timeout-seconds: 10"),
        "{asked}"
    );
    assert!(!asked.contains("proxy-authorization") && !asked.contains("x-hop"), "{asked}");
    let (service, options) = world.dialed().remove(0);
    assert_eq!((service.as_str(), options.instance.as_deref()), ("metrics", Some("node-1")));
    assert!(options.timeout <= Duration::from_millis(9_500), "{:?}", options.timeout);
    assert!(options.app_data.contains(r#""dst_hostname":"node-1.metrics.hesper""#), "{}", options.app_data);
}

#[tokio::test]
async fn failures_are_told_apart_with_the_reason_in_the_body() {
    let world = World::new().await;
    let message = |m: &str| m.to_owned();
    for (error, expected, word) in [
        (DialError::Denied { message: message("no Dial policy") }, "403", "denied"),
        (DialError::NoTerminators { message: message("nobody hosts it") }, "503", "no-terminators"),
        (DialError::NoRoute { message: message("no common router") }, "502", "no-route"),
        (DialError::Refused { message: message("cannot connect to the target") }, "502", "refused"),
        (DialError::Unavailable { message: message("no controller") }, "503", "unavailable"),
    ] {
        world.set("metrics", Answer::Error(error.clone()));
        let answer = world.get("http://metrics/metrics", "").await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains(&format!("x-hesper-error: {word}\r\n")), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{error}\n")), "{answer}");
    }
    let answer = world.get("http://mine/metrics", "").await;
    assert_eq!(status(&answer), "403", "{answer}");
    let answer = world.get("http://prometheus.io/metrics", "").await;
    assert_eq!(status(&answer), "404", "{answer}");
    assert!(answer.contains("no service 'prometheus.io' (port 80) that this identity may dial"), "{answer}");
    let answer = world.get("https://metrics/metrics", "").await;
    assert_eq!(status(&answer), "400", "{answer}");
    let text = world.get("/metrics", "").await;
    assert!(
        text.contains(r#"hesper_tunnel_http_requests_total{kind="forward",outcome="denied"} 2"#),
        "{text}"
    );
}

#[tokio::test]
async fn the_scrapers_deadline_is_kept_before_and_after_the_dial() {
    let world = World::new().await;
    let deadline = "X-Prometheus-Scrape-Timeout-Seconds: 0.2\r\n";
    world.set("metrics", Answer::Never);
    let answer = world.get("http://metrics/metrics", deadline).await;
    assert_eq!(status(&answer), "504", "{answer}");
    // Dialed, but silent.
    let mut targets = world.target();
    let answer = world.get("http://metrics/metrics", deadline).await;
    assert_eq!(status(&answer), "504", "{answer}");
    assert!(answer.ends_with("'metrics' did not answer in time\n"), "{answer}");
    drop(targets.recv().await);
    let deadline = "X-Prometheus-Scrape-Timeout-Seconds: 2\r\n";
    // Begun, but never finished: the answer is cut, so that it is not taken for whole.
    let target = tokio::spawn(async move {
        let mut stream = targets.recv().await.expect("a stream");
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.expect("answer");
        stream.read_u8().await.expect_err("the proxy gives up")
    });
    let mut tcp = world.connect().await;
    tcp.write_all(format!("GET http://metrics/ HTTP/1.1\r\nHost: x\r\n{deadline}\r\n").as_bytes())
        .await
        .expect("send");
    let mut answer = Vec::new();
    let _cut = tcp.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.ends_with(b"half"), "{answer:?}");
    target.await.expect("target");
}

#[tokio::test]
async fn a_target_that_breaks_off_is_502() {
    let world = World::new().await;
    let mut targets = world.target();
    let target = tokio::spawn(async move {
        drop(targets.recv().await);
        drop(targets.recv().await);
        let mut stream = targets.recv().await.expect("a stream");
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.expect("answer");
        stream
    });
    for _ in 0..2 {
        let answer = world.get("http://metrics/metrics", "").await;
        assert_eq!(status(&answer), "502", "{answer}");
        assert!(
            answer.contains("x-hesper-error: target\r\n")
                && answer.contains("'metrics' gave no usable answer"),
            "{answer}"
        );
    }
    target.await.expect("target");
}

#[tokio::test]
async fn a_scrape_whose_host_is_lost_before_it_answered_is_asked_of_another() {
    let world = World::new().await;
    let mut targets = world.target();
    let target = tokio::spawn(async move {
        let mut lost = targets.recv().await.expect("a stream");
        let asked = head(&mut lost).await;
        drop(lost);
        let mut other = targets.recv().await.expect("another stream");
        assert_eq!(head(&mut other).await, asked);
        other.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nup").await.expect("answer");
        // Not what changes something, nor what was answered in part.
        drop(targets.recv().await);
        let mut partly = targets.recv().await.expect("a stream");
        head(&mut partly).await;
        partly.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.expect("answer");
        drop(partly);
        assert!(targets.try_recv().is_err());
    });
    let answer = world.get("http://metrics/metrics", "").await;
    assert!(status(&answer) == "200" && answer.ends_with("up"), "{answer}");
    let post = world.exchange("POST http://metrics/metrics HTTP/1.1\r\nHost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&post), "502", "{post}");
    let mut tcp = world.connect().await;
    tcp.write_all(b"GET http://metrics/ HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
    let mut answer = Vec::new();
    let _cut = tcp.read_to_end(&mut answer).await;
    assert!(answer.ends_with(b"half"), "{answer:?}");
    target.await.expect("target");
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_whole() {
    let world = World::new().await;
    for (version, framing, sent) in [
        ("1.1", "content-length: 9", "half"),
        ("1.1", "transfer-encoding: chunked", "4\r\nhalf\r\n"),
        // To this client the end of the connection is the end of the answer.
        ("1.0", "transfer-encoding: chunked", "4\r\nhalf\r\n"),
    ] {
        let mut targets = world.target();
        let mut tcp = world.connect().await;
        let request = format!("GET http://metrics/ HTTP/{version}\r\nHost: x\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.expect("send");
        let mut stream = targets.recv().await.expect("a stream");
        head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{sent}");
        stream.write_all(answer.as_bytes()).await.expect("answer");
        let mut read = head(&mut tcp).await.into_bytes();
        while !read.ends_with(b"half") && !read.ends_with(b"half\r\n") {
            read.push(tcp.read_u8().await.expect("half of it"));
        }
        drop(stream);
        let end = tcp.read_to_end(&mut read).await.expect_err("cut");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset, "{version} {framing}: {end}");
        let text = String::from_utf8(read).expect("text");
        assert!(!text.contains("0\r\n\r\n"), "no last chunk: {text:?}");
    }
}

#[tokio::test]
async fn discovery_health_and_metrics_are_served_by_the_proxy_itself() {
    let world = World::new().await;
    let answer = world.get("/sd?role=%23scrape", "").await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.contains(r#"[{"targets":["node-1.metrics.hesper:80"],"labels":{"#), "{answer}");
    // Also when the scraper sends it through the proxy.
    assert!(world.get(&format!("http://{}/sd", world.addr), "").await.contains("node-1.metrics.hesper:80"));
    assert!(world.get("/sd?role=%23nothing", "").await.ends_with("\r\n\r\n[]"));
    assert_eq!(status(&world.get("/sd?rol=x", "").await), "400");
    assert!(world.get("/healthz", "").await.ends_with("\r\n\r\nok\n"));
    assert_eq!(status(&world.get("/", "").await), "404");
    assert_eq!(
        status(&world.exchange("POST /sd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await),
        "405"
    );
    world.known.send_replace(Arc::default());
    let answer = world.get("/healthz", "").await;
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.ends_with("the controller has not answered yet\n"), "{answer}");
    assert!(world.get("/sd", "").await.ends_with("\r\n\r\n[]"));
}
