//! A local UDP listener: what one client address sends is one flow to the service, and what comes back goes to that address.
//!
//! Nothing waits for long: while a flow is being dialed a few datagrams are kept, beyond that, and whatever the flow cannot carry, they
//! are dropped and counted by reason. A flow ends when nothing has moved for a while, with its grant, or with the hosting side's.

use super::{Dialed, asked};
use crate::{
    Dialer, Metrics,
    dialer::Flow,
    http::dial_word,
    metrics::{Held, Side},
    udp::{self, Carried},
};
use bytes::Bytes;
use hesper_model::config::Protocol;
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::UdpSocket,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// Client addresses of one listener served at once. Half of what one hosting node takes from this one, so that other services still
/// find room.
const MAX_CLIENTS: usize = 2048;
/// Datagrams of one client that may wait while its flow is dialed.
const CLIENT_QUEUE: usize = 64;
/// Bytes of all clients of one listener that may wait.
const LISTENER_QUEUE: usize = 8 << 20;
/// After a dial failed, datagrams of that client are dropped for so long: each would be another dial.
const HOLD_DOWN: Duration = Duration::from_secs(1);
/// After a receive that failed, so as not to spin.
const PAUSE: Duration = Duration::from_millis(100);

/// A datagram that waits, and its share of [`LISTENER_QUEUE`].
type Waiting = (Bytes, OwnedSemaphorePermit);

/// Who is being served. A number tells the successive flows of one client apart.
#[derive(Default)]
struct Clients {
    open: HashMap<SocketAddr, (u64, mpsc::Sender<Waiting>)>,
    next: u64,
}

impl Clients {
    fn ended(&mut self, client: SocketAddr, number: u64) {
        if self.open.get(&client).is_some_and(|(n, _)| *n == number) {
            self.open.remove(&client);
        }
    }
}

/// Receives until dropped; flows end with it.
pub(super) async fn listen<D: Dialer>(dialer: D, dialed: Dialed, socket: UdpSocket, metrics: Metrics) {
    let socket = Arc::new(socket);
    let room = Arc::new(Semaphore::new(LISTENER_QUEUE));
    let mut clients = Clients::default();
    let mut flows = JoinSet::new();
    let mut buffer = vec![0; udp::MAX_DATAGRAM];
    let dropped = |reason| metrics.dropped(&dialed.service, Side::Proxy, reason, 1);
    loop {
        let (len, client) = tokio::select! {
            Some(ended) = flows.join_next() => {
                // One that panicked leaves a closed queue, which is as good.
                if let Ok((client, number)) = ended {
                    clients.ended(client, number);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(service = %dialed.service, %error, "a listener could not receive a datagram");
                    sleep(PAUSE).await;
                    continue;
                }
            },
        };
        let share = u32::try_from(len.max(1)).unwrap_or(u32::MAX);
        let Ok(share) = Arc::clone(&room).try_acquire_many_owned(share) else {
            dropped("queue-full");
            continue;
        };
        let mut waiting = (Bytes::copy_from_slice(&buffer[..len]), share);
        if let Some((_, queue)) = clients.open.get(&client) {
            match queue.try_send(waiting) {
                Ok(()) => continue,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    dropped("queue-full");
                    continue;
                }
                // It has just ended: this datagram begins the next one.
                Err(mpsc::error::TrySendError::Closed(back)) => waiting = back,
            }
        } else if clients.open.len() >= MAX_CLIENTS {
            dropped("too-many-clients");
            continue;
        }
        let (sender, queue) = mpsc::channel(CLIENT_QUEUE);
        // The queue is empty: there is room.
        let _ = sender.try_send(waiting);
        clients.next += 1;
        clients.open.insert(client, (clients.next, sender));
        let (number, serving) =
            (clients.next, Serving { socket: socket.clone(), client, metrics: metrics.clone() });
        let (dialer, dialed) = (dialer.clone(), dialed.clone());
        flows.spawn(async move {
            serving.run(dialer, dialed, queue).await;
            (client, number)
        });
    }
}

/// One client.
struct Serving {
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    metrics: Metrics,
}

impl Serving {
    async fn run<D: Dialer>(self, dialer: D, dialed: Dialed, queue: mpsc::Receiver<Waiting>) {
        let (service, client) = (&dialed.service, self.client);
        let _held = Held::new(&self.metrics.proxied_open);
        let asked = asked(service, self.socket.local_addr().ok(), client, Protocol::Udp);
        match dialer.dial_datagrams(service, dialed.options(&asked)).await {
            Ok(flow) => {
                self.metrics.proxied(service, "ok");
                let idle = dialer.max_idle(service).unwrap_or(udp::IDLE);
                let end = self.carry(service, flow, queue, idle).await;
                tracing::debug!(%service, %client, end, "a flow ended");
            }
            Err(error) => {
                self.metrics.proxied(service, dial_word(&error));
                tracing::warn!(%service, %client, reason = %error, "a flow was refused");
                sleep(HOLD_DOWN).await;
                self.metrics.dropped(service, Side::Proxy, "refused", queue.len() as u64);
            }
        }
    }

    async fn carry(
        &self,
        service: &str,
        mut flow: impl Flow,
        mut queue: mpsc::Receiver<Waiting>,
        idle: Duration,
    ) -> String {
        let mut carried = Carried::new(&self.metrics, service, Side::Proxy);
        let mut until = Instant::now() + idle;
        loop {
            tokio::select! {
                waiting = queue.recv() => match waiting {
                    Some((payload, _)) => match flow.send(&payload) {
                        Ok(sent) => carried.sent(sent),
                        Err(error) => return error.to_string(),
                    },
                    None => return "the listener is gone".into(),
                },
                reply = flow.recv() => match reply {
                    Ok(Some(payload)) => match self.socket.try_send_to(&payload, self.client) {
                        Ok(_) => carried.received(),
                        Err(_) => carried.dropped("client"),
                    },
                    Ok(None) => return "the hosting side has ended it".into(),
                    Err(error) => return error.to_string(),
                },
                () = sleep_until(until) => return format!("nothing moved for {idle:?}"),
            }
            carried.too_slow(flow.dropped());
            until = Instant::now() + idle;
        }
    }
}
