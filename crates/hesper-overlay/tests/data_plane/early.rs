//! What a TCP client sends while its dial is not yet answered: it arrives once, at one host, or the client sees a reset.

use super::*;
use hesper_overlay::early::{EarlyTcp, MAX_EARLY};

/// A client that has sent `first`, and its connection on our side.
async fn client(first: &[u8]) -> (TcpStream, EarlyTcp) {
    let (mut client, tcp) = tcp_pair().await;
    client.write_all(first).await.unwrap();
    tcp.readable().await.unwrap();
    (client, EarlyTcp::new(tcp))
}

impl Pair {
    /// Dials for a client; `answer` is what the hosting side does with it.
    async fn open_early<T>(
        &mut self,
        peer: &Peer,
        tcp: &mut EarlyTcp,
        answer: impl AsyncFnOnce(Arrival) -> T,
    ) -> (Result<Stream, OpenError>, T) {
        let (header, _) = self.header(300);
        let arrives = async { answer(self.arrivals.recv().await.unwrap()).await };
        let both = async { tokio::join!(peer.open_early(header, Box::new(()), LONG, tcp), arrives) };
        timeout(LONG, both).await.unwrap()
    }
}

async fn yes(arrival: Arrival) -> Stream {
    arrival.accept().await.unwrap()
}

#[tokio::test]
async fn they_go_along_with_the_dial_and_arrive_once_and_in_order() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (mut client, mut tcp) = client(b"one ").await;
    let (opened, mut host) = pair
        .open_early(&peer, &mut tcp, async |arrival| {
            client.write_all(b"two ").await.unwrap();
            yes(arrival).await
        })
        .await;
    assert!(tcp.sent() >= 4, "they waited for the answer");
    let spliced = tokio::spawn(opened.unwrap().splice_tcp_early(tcp));
    client.write_all(b"three").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    host.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one two three");
    host.write_all(b"answer").await.unwrap();
    host.shutdown().await.unwrap();
    text.clear();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
    let copied = spliced.await.unwrap().unwrap();
    assert_eq!((copied.sent, copied.received), (13, 6));
}

#[tokio::test]
async fn a_client_that_has_finished_is_whole_and_one_that_was_reset_is_not() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    for whole in [true, false] {
        let (mut client, mut tcp) = client(b"all").await;
        let (opened, mut host) = pair
            .open_early(&peer, &mut tcp, async |arrival| {
                if whole {
                    client.shutdown().await.unwrap();
                } else {
                    client.set_zero_linger().unwrap();
                    drop(client);
                }
                yes(arrival).await
            })
            .await;
        let spliced = tokio::spawn(opened.unwrap().splice_tcp_early(tcp));
        let mut text = String::new();
        let end = timeout(LONG, host.read_to_string(&mut text)).await.unwrap();
        if whole {
            assert_eq!((end.unwrap(), text.as_str()), (3, "all"));
            host.shutdown().await.unwrap();
            assert_eq!(spliced.await.unwrap().unwrap().sent, 3);
        } else {
            assert!(matches!(typed(&end.unwrap_err()), StreamError::Aborted));
            assert!(spliced.await.unwrap().is_err());
        }
    }
}

#[tokio::test]
async fn after_a_no_another_host_gets_all_of_them() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (mut client, mut tcp) = client(b"question").await;
    // One says why, one just goes away: neither has handed them to anybody.
    let (refused, ()) = pair.open_early(&peer, &mut tcp, async |a| a.refuse("not here").await).await;
    assert_eq!((refusal(refused).1.as_str(), tcp.sent()), ("not here", 0));
    let (refused, ()) = pair.open_early(&peer, &mut tcp, async |arrival| drop(arrival)).await;
    assert!(refused.is_err() && tcp.sent() == 0, "{refused:?}");
    let (opened, mut host) = pair.open_early(&peer, &mut tcp, yes).await;
    assert_eq!(tcp.sent(), 8, "sent anew");
    let spliced = tokio::spawn(opened.unwrap().splice_tcp_early(tcp));
    client.shutdown().await.unwrap();
    let mut text = String::new();
    host.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "question");
    drop(host);
    assert_eq!(spliced.await.unwrap().unwrap().sent, 8);
}

#[tokio::test]
async fn no_more_go_along_than_a_host_is_to_keep() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (client, mut tcp) = client(b"x").await;
    let (mut read, mut write) = client.into_split();
    let sender = tokio::spawn(async move {
        write.write_all(&vec![b'x'; 4 << 20]).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let (opened, mut host) = pair
        .open_early(&peer, &mut tcp, async |arrival| {
            // More than enough time for the first bytes; the bound holds however long the program takes.
            tokio::time::sleep(Duration::from_millis(200)).await;
            yes(arrival).await
        })
        .await;
    assert!((1..=MAX_EARLY).contains(&tcp.sent()), "{}", tcp.sent());
    let spliced = tokio::spawn(opened.unwrap().splice_tcp_early(tcp));
    let mut got = Vec::new();
    host.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), (4 << 20) + 1);
    host.shutdown().await.unwrap();
    assert_eq!(read.read(&mut [0; 1]).await.unwrap(), 0);
    sender.await.unwrap();
    assert_eq!(spliced.await.unwrap().unwrap().sent, (4 << 20) + 1);
}

#[tokio::test]
async fn when_the_host_is_lost_nobody_else_gets_them_and_the_client_sees_a_reset() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (mut client, mut tcp) = client(b"pay 5").await;
    let (header, _) = pair.header(300);
    let dies = async {
        let _arrival = pair.arrivals.recv().await.unwrap();
        pair.b.node.close().await;
    };
    let (lost, ()) = tokio::join!(peer.open_early(header, Box::new(()), LONG, &mut tcp), dies);
    assert!(matches!(lost, Err(OpenError::Lost(_))), "{lost:?}");
    assert_eq!(tcp.sent(), 5, "who dialed is told that they may have been used");
    drop(tcp);
    let end = timeout(LONG, client.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_silent_host_is_waited_for_only_by_those_who_cannot_try_another() {
    let pair = Pair::new().await;
    let peer = pair.peer().await;
    pair.relay.table.mute.store(true, Relaxed);
    let (header, _) = pair.header(300);
    let (_quiet, tcp) = tcp_pair().await;
    let mut nothing_sent = EarlyTcp::new(tcp);
    let (_client, mut sent) = client(b"pay 5").await;
    let (quiet, at_stake) = tokio::join!(
        peer.open_early(header.clone(), Box::new(()), LONG, &mut nothing_sent),
        peer.open_early(header, Box::new(()), LONG, &mut sent),
    );
    assert!(matches!(quiet, Err(OpenError::Silent)) && nothing_sent.sent() == 0, "{quiet:?}");
    assert!(matches!(at_stake, Err(OpenError::Lost(_))) && sent.sent() == 5, "{at_stake:?}");
}

#[tokio::test]
async fn a_dial_that_is_given_up_is_no_whole_request() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (_client, mut tcp) = client(b"half of it").await;
    let (header, _) = pair.header(300);
    let arrival = tokio::select! {
        arrival = pair.arrivals.recv() => arrival.unwrap(),
        opened = peer.open_early(header, Box::new(()), LONG, &mut tcp) => panic!("{opened:?}"),
    };
    let mut text = String::new();
    // Either the answer finds nobody, or the reading does.
    if let Ok(mut host) = arrival.accept().await {
        let end = timeout(LONG, host.read_to_string(&mut text)).await.unwrap().unwrap_err();
        assert!(matches!(typed(&end), StreamError::Aborted), "{end}");
    }
}
