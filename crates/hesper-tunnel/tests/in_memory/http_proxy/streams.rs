//! Bodies, tunnels and connections: what is passed on as it comes, and what ends with what.

use super::{World, head, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn bodies_are_streamed_both_ways() {
    const CHUNKS: usize = 64;
    const CHUNK: usize = 256 * 1024;
    let world = World::new().await;
    let mut targets = world.target();
    let target = tokio::spawn(async move {
        let mut stream = targets.recv().await.expect("a stream");
        let head = head(&mut stream).await;
        let mut received = vec![0; CHUNK * CHUNKS];
        stream.read_exact(&mut received).await.expect("the request's body");
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CHUNK * CHUNKS).as_bytes())
            .await
            .expect("head");
        for _ in 0..CHUNKS {
            stream.write_all(&vec![b'y'; CHUNK]).await.expect("the answer's body");
        }
        head
    });
    let mut tcp = world.connect().await;
    let request = format!(
        "POST http://metrics/write HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        CHUNK * CHUNKS
    );
    tcp.write_all(request.as_bytes()).await.expect("send");
    for _ in 0..CHUNKS {
        tcp.write_all(&vec![b'x'; CHUNK]).await.expect("body");
    }
    head(&mut tcp).await;
    let mut answer = vec![0; CHUNK * CHUNKS];
    tcp.read_exact(&mut answer).await.expect("answer");
    assert!(answer.iter().all(|b| *b == b'y'));
    assert!(target.await.expect("target").starts_with("POST /write HTTP/1.1\r\n"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_stream() {
    let world = World::new().await;
    let mut targets = world.target();
    let mut tcp = world.connect().await;
    tcp.write_all(b"GET http://metrics/ HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
    let mut stream = targets.recv().await.expect("a stream");
    head(&mut stream).await;
    drop(tcp);
    assert_eq!(stream.read(&mut [0; 1]).await.expect("end"), 0);
    // Also in the middle of an answer.
    let mut tcp = world.connect().await;
    tcp.write_all(b"GET http://metrics/ HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
    let mut stream = targets.recv().await.expect("a stream");
    head(&mut stream).await;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        .await
        .expect("begin");
    head(&mut tcp).await;
    drop(tcp);
    let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
    while stream.write_all(&chunk).await.is_ok() {}
}

#[tokio::test]
async fn connect_is_a_tunnel() {
    let world = World::new().await;
    let mut targets = world.target();
    let mut tcp = world.connect().await;
    // What follows the head at once is part of the tunnel.
    tcp.write_all(b"CONNECT node-1.metrics.hesper:443 HTTP/1.1\r\nHost: x\r\n\r\nhello").await.expect("send");
    assert!(head(&mut tcp).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let mut stream = targets.recv().await.expect("a stream");
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.expect("hello");
    assert_eq!(&hello, b"hello");
    stream.write_all(b"world").await.expect("send");
    stream.shutdown().await.expect("half-close");
    let mut rest = String::new();
    tcp.read_to_string(&mut rest).await.expect("world");
    assert_eq!(rest, "world");
    tcp.write_all(b"more").await.expect("the other way is still open");
    tcp.shutdown().await.expect("half-close");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("more");
    assert_eq!(rest, "more");
    assert_eq!(
        status(&world.exchange("CONNECT metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await),
        "400"
    );
    assert_eq!(
        status(&world.exchange("CONNECT nothing:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await),
        "404"
    );
}

#[tokio::test]
async fn two_requests_use_one_connection() {
    let world = World::new().await;
    let mut targets = world.target();
    let target = tokio::spawn(async move {
        for _ in 0..2 {
            let mut stream = targets.recv().await.expect("a stream");
            head(&mut stream).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
                .await
                .expect("answer");
        }
    });
    let mut tcp = world.connect().await;
    for _ in 0..2 {
        tcp.write_all(b"GET http://metrics/ HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
        assert!(head(&mut tcp).await.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(tcp.read_u8().await.expect("body"), b'x');
    }
    target.await.expect("target");
}
