//! Streams: where they come in, and how they are opened.

mod certs;
mod tcp;
mod tls;
mod unix;

use hesper_collector_config::{Address, Endpoint};
use hesper_telemetry::net::{Arrival, BoxIo, Incoming, Peer};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Nothing here takes that long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(20);

fn underlay(text: &str) -> Address {
    match Endpoint::parse(text) {
        Ok(Endpoint::Underlay(address)) => address,
        other => panic!("{text}: {other:?}"),
    }
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::parse(text).expect(text)
}

async fn next(incoming: &mut dyn Incoming) -> Arrival {
    timeout(DEADLINE, incoming.next()).await.expect("somebody comes").expect("there is more")
}

async fn accept(incoming: &mut dyn Incoming) -> (BoxIo, Peer) {
    timeout(DEADLINE, next(incoming).await.ready).await.expect("in time").expect("ready")
}

/// Sends a few bytes from one end and checks that the other has them.
async fn talk(from: &mut BoxIo, to: &mut BoxIo) {
    from.write_all(b"spans").await.expect("written");
    from.flush().await.expect("flushed");
    let mut got = [0; 5];
    timeout(DEADLINE, to.read_exact(&mut got)).await.expect("in time").expect("read");
    assert_eq!(&got, b"spans");
}
