//! One hosted flow: datagrams between the mesh and a UDP socket that is connected to the target.

use crate::{
    Metrics,
    metrics::Side,
    udp::{Carried, MAX_DATAGRAM},
};
use hesper_sdk::DatagramFlow;
use std::{io, time::Duration};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep_until},
};

/// Datagrams taken from the target at one go, before the dialer's have their turn.
const BATCH: usize = 32;

/// Carries both ways until the flow ends or nothing moves for `idle`; returns why it ended.
pub(super) async fn carry(
    mut flow: DatagramFlow,
    target: UdpSocket,
    service: &str,
    idle: Duration,
    metrics: &Metrics,
) -> String {
    let mut carried = Carried::new(metrics, service, Side::Host);
    let mut until = Instant::now() + idle;
    loop {
        tokio::select! {
            payload = flow.recv() => match payload {
                Ok(Some(payload)) => match target.try_send(&payload) {
                    Ok(_) => carried.received(),
                    // Nobody listens there now (ICMP), or the socket is full: as UDP has it, it is lost.
                    Err(_) => carried.dropped("target"),
                },
                Ok(None) => return "the dialer has ended it".into(),
                Err(error) => return error.to_string(),
            },
            readable = target.readable() => {
                let answered = readable.and_then(|()| answers(&target, &flow, &carried));
                if let Err(error) = answered {
                    return error.to_string();
                }
            }
            () = sleep_until(until) => return format!("nothing moved for {idle:?}"),
        }
        carried.too_slow(flow.dropped());
        until = Instant::now() + idle;
    }
}

/// Sends on what the target has answered. The buffer is on the stack: an idle flow holds none.
fn answers(target: &UdpSocket, flow: &DatagramFlow, carried: &Carried<'_>) -> io::Result<()> {
    let mut buffer = [0; MAX_DATAGRAM];
    for _ in 0..BATCH {
        match target.try_recv(&mut buffer) {
            Ok(len) => carried.sent(flow.send(&buffer[..len])?),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The target's host says that nobody listens there; that may change.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => carried.dropped("target"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
