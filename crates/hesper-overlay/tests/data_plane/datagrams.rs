//! Flows of datagrams between two nodes.

use super::*;
use hesper_overlay::{
    datagram::{DatagramFlow, FLOW_QUEUE, Sent},
    transport,
};

impl Pair {
    /// A flow, seen from both sides, and the id of its grant.
    async fn flow(&mut self, peer: &Peer) -> (DatagramFlow, DatagramFlow, String) {
        let (header, jti) = self.header(300);
        let (a, b) = self.open(peer, DialHeader { datagrams: true, ..header }).await;
        assert!(a.is_datagrams() && b.is_datagrams());
        (a.into_datagrams().unwrap(), b.into_datagrams().unwrap(), jti)
    }
}

async fn recv(flow: &mut DatagramFlow) -> Result<Option<bytes::Bytes>, StreamError> {
    timeout(LONG, flow.recv()).await.expect("in time")
}

/// What is sent until some of it arrives.
async fn exchange(from: &DatagramFlow, to: &mut DatagramFlow, payload: &[u8]) {
    loop {
        assert_eq!(from.send(payload).unwrap(), Sent::Yes);
        if let Ok(got) = timeout(Duration::from_secs(1), to.recv()).await {
            assert_eq!(got.unwrap().unwrap(), payload);
            return;
        }
    }
}

#[tokio::test]
async fn datagrams_flow_both_ways_and_flows_do_not_mix() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let mut flows = Vec::new();
    for _ in 0..20 {
        flows.push(pair.flow(&peer).await);
    }
    for (n, (a, b, _)) in flows.iter_mut().enumerate() {
        exchange(a, b, format!("to {n}").as_bytes()).await;
        exchange(b, a, format!("from {n}").as_bytes()).await;
        exchange(a, b, b"").await;
    }
    let (a, mut b, _) = flows.pop().unwrap();
    assert_eq!((a.peer().as_str(), b.peer().as_str()), ("bob", "alice"));
    a.send(b"last words").unwrap();
    assert_eq!(recv(&mut b).await.unwrap().unwrap(), "last words");
    drop(a);
    assert_eq!(recv(&mut b).await.unwrap(), None, "the dialer has ended it");
    drop((b, flows));
    // An ordinary stream on the same connection is none.
    let (header, _) = pair.header(300);
    let (stream, _other) = pair.open(&peer, header).await;
    assert!(stream.into_datagrams().is_err());
}

#[tokio::test]
async fn what_is_too_long_is_dropped_and_what_floods_is_bounded() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (a, mut b, _) = pair.flow(&peer).await;
    let max = a.max_len();
    assert!(max > 1000, "{max}");
    exchange(&a, &mut b, &vec![7; max.min(1100)]).await;
    assert_eq!(a.send(&vec![0; 65_000]).unwrap(), Sent::TooLong { max: a.max_len() });
    // Faster than anything can carry it.
    let mut congested = 0;
    for _ in 0..20_000 {
        congested += u32::from(a.send(&[1; 1000]).unwrap() == Sent::Congested);
    }
    assert!(congested > 0, "nothing waits in memory beyond {}", transport::DATAGRAM_SEND_BUFFER);
    // Nobody reads: the queue of the flow fills, and no further.
    timeout(LONG, async {
        while b.dropped() == 0 {
            a.send(&[1; 100]).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("dropped");
    assert!(pair.b.node.counters().datagrams.queue_full.load(Relaxed) >= b.dropped());
    let mut kept = 0;
    while let Ok(Ok(Some(_))) = timeout(Duration::from_millis(200), b.recv()).await {
        kept += 1;
        assert!(kept <= 20_000, "no end");
    }
    assert!(kept >= FLOW_QUEUE, "{kept}");
    // And it still works, as do streams beside it.
    exchange(&a, &mut b, b"after the flood").await;
    let (header, _) = pair.header(300);
    let (mut c, mut d) = pair.open(&peer, header).await;
    c.write_all(b"ok").await.unwrap();
    let mut buf = [0; 2];
    d.read_exact(&mut buf).await.unwrap();
}

#[tokio::test]
async fn a_flow_ends_with_its_grant_on_both_sides_and_no_other_does() {
    let mut pair = Pair::new().await;
    let peer = pair.peer().await;
    let (mut a, mut b, jti) = pair.flow(&peer).await;
    let (c, mut d, _) = pair.flow(&peer).await;
    exchange(&a, &mut b, b"allowed").await;
    a.send(b"in the queue when it ends").unwrap();
    pair.b.node.revoke(&[jti]);
    assert!(matches!(recv(&mut b).await, Err(StreamError::Revoked)));
    assert!(matches!(b.send(b"x"), Err(StreamError::Revoked)));
    assert!(matches!(recv(&mut a).await, Err(StreamError::Revoked)));
    exchange(&c, &mut d, b"still here").await;
    // What goes on being sent for a flow that one side has dropped reaches nobody.
    drop(d);
    let lost = &pair.b.node.counters().datagrams.no_flow;
    timeout(LONG, async {
        while lost.load(Relaxed) == 0 {
            let _ = c.send(b"into the void");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("counted");
}

#[tokio::test]
async fn a_flow_that_is_not_granted_is_refused_like_a_stream() {
    let pair = Pair::new().await;
    let peer = pair.peer().await;
    let (header, _) = pair.header(300);
    let bad = DialHeader { datagrams: true, grant: "x.y.z".into(), ..header };
    let (code, _) = refusal(peer.open(bad, Box::new(()), LONG).await);
    assert_eq!(code, code::INVALID_GRANT);
}
