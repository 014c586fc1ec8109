//! A cut transfer is never taken for a whole one: TCP sees a reset, and no end before it.

use super::{LONG, Pair, tcp_pair};
use hesper_overlay::stream::{Stream, StreamError, StreamHandle};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

/// A TCP client and a TCP server that are joined by a stream, in the middle of a transfer each way.
struct Joined {
    pair: Pair,
    client: TcpStream,
    server: TcpStream,
    dialer: (StreamHandle, JoinHandle<io::Result<()>>),
    host: (StreamHandle, JoinHandle<io::Result<()>>),
}

fn splice(stream: Stream, tcp: TcpStream) -> (StreamHandle, JoinHandle<io::Result<()>>) {
    (stream.handle(), tokio::spawn(async { stream.splice_tcp(tcp).await.map(drop) }))
}

impl Joined {
    async fn new() -> Self {
        let mut pair = Pair::new().await;
        let (a, b) = pair.stream().await;
        let (mut client, a_tcp) = tcp_pair().await;
        let (mut server, b_tcp) = tcp_pair().await;
        let (dialer, host) = (splice(a, a_tcp), splice(b, b_tcp));
        client.write_all(b"half").await.unwrap();
        server.write_all(b"half").await.unwrap();
        Self { pair, client, server, dialer, host }
    }
}

/// Reads to the end, which has to be a reset.
async fn assert_cut(what: &str, mut tcp: TcpStream) {
    let mut text = Vec::new();
    let end = timeout(LONG, tcp.read_to_end(&mut text)).await.expect(what).expect_err(what);
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "{what}: {end}");
    assert!(b"half".starts_with(&text[..]), "{what}: {text:?}");
}

#[tokio::test]
async fn whatever_ends_a_stream_before_its_end_is_a_reset_at_both_ends() {
    type Cut = fn(&Joined);
    let cuts: [(&str, Cut); 11] = [
        ("revoked at the host", |j| j.host.0.end(StreamError::Revoked)),
        ("revoked at the dialer", |j| j.dialer.0.end(StreamError::Revoked)),
        ("expired at the host", |j| j.host.0.end(StreamError::Expired)),
        ("expired at the dialer", |j| j.dialer.0.end(StreamError::Expired)),
        ("idle at the host", |j| j.host.0.end(StreamError::Idle)),
        ("idle at the dialer", |j| j.dialer.0.end(StreamError::Idle)),
        ("aborted at the host", |j| j.host.0.end(StreamError::Aborted)),
        ("aborted at the dialer", |j| j.dialer.0.end(StreamError::Aborted)),
        ("dropped at the host", |j| j.host.1.abort()),
        ("dropped at the dialer", |j| j.dialer.1.abort()),
        ("all revoked", |j| j.pair.b.node.revoke_all()),
    ];
    for (what, cut) in cuts {
        let mut joined = Joined::new().await;
        for tcp in [&mut joined.client, &mut joined.server] {
            let mut half = [0; 4];
            timeout(LONG, tcp.read_exact(&mut half)).await.expect(what).unwrap();
        }
        cut(&joined);
        tokio::join!(assert_cut(what, joined.client), assert_cut(what, joined.server));
    }
}

#[tokio::test]
async fn a_peer_that_is_lost_is_a_reset_at_both_ends() {
    let joined = Joined::new().await;
    joined.pair.b.node.close().await;
    tokio::join!(assert_cut("client", joined.client), assert_cut("server", joined.server));
}

#[tokio::test]
async fn a_reset_goes_through_as_one() {
    let Joined { pair, client, server, dialer, host } = Joined::new().await;
    server.set_zero_linger().unwrap();
    drop(server);
    assert_cut("the server's", client).await;
    assert!(dialer.1.await.unwrap().is_err() && host.1.await.unwrap().is_err());
    drop(pair);
}

#[tokio::test]
async fn a_direction_that_has_ended_does_not_hide_that_the_other_is_cut() {
    let mut joined = Joined::new().await;
    joined.client.shutdown().await.unwrap();
    let mut whole = String::new();
    timeout(LONG, joined.server.read_to_string(&mut whole)).await.unwrap().unwrap();
    assert_eq!(whole, "half", "this direction is whole");
    joined.host.0.end(StreamError::Revoked);
    assert_cut("the other is not", joined.client).await;
}

#[tokio::test]
async fn a_whole_transfer_ends_by_no_reset_and_begins_with_what_was_read_before() {
    let mut pair = Pair::new().await;
    let (a, mut b) = pair.stream().await;
    let (mut client, a_tcp) = tcp_pair().await;
    let spliced = tokio::spawn(a.splice_tcp_after("head ".into(), a_tcp));
    client.write_all(b"rest").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    b.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "head rest");
    // More than the kernel takes at once: the end waits until it has been read.
    let answer = vec![7; 4 << 20];
    let (written, read) = tokio::join!(
        async {
            b.write_all(&answer).await.unwrap();
            b.shutdown().await
        },
        async {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.map(|_| read)
        }
    );
    written.unwrap();
    assert!(read.unwrap() == answer);
    let copied = spliced.await.unwrap().unwrap();
    assert_eq!((copied.sent, copied.received), (9, 4 << 20));
}
