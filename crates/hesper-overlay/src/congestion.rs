//! Congestion control for peer connections: QUIC's usual one, with room that a full window does not take away.
//!
//! When a router swallows everything, the window is full of packets that nobody will acknowledge, and QUIC sends nothing more until its timer
//! fires, later each time. Probes, and the word that another router is used now, must not wait for that: whoever needs them makes room for a few
//! packets. The next acknowledgement takes the room away.

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Packets that one request makes room for: the word itself, and with it some of what was lost.
const PACKETS: u64 = 4;
/// Most room at any time, in packets: a peer that is asked for seconds is not flooded.
const MAX_PACKETS: u64 = 64;

/// The room of one connection.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: AtomicU64,
    mtu: AtomicU64,
}

impl Room {
    /// The room of a connection that was made with [`Roomy`].
    pub(crate) fn of(connection: &quinn::Connection) -> Option<Arc<Self>> {
        let controller = connection.congestion_state().into_any().downcast::<WithRoom>().ok()?;
        Some(controller.room.clone())
    }

    /// Makes room for a few more packets.
    pub(crate) fn make(&self) {
        let mtu = self.mtu.load(Relaxed);
        let bytes = self.bytes.load(Relaxed) + PACKETS * mtu;
        self.bytes.store(bytes.min(MAX_PACKETS * mtu), Relaxed);
    }
}

/// Makes the controllers.
#[derive(Debug, Default)]
pub(crate) struct Roomy(Arc<CubicConfig>);

impl ControllerFactory for Roomy {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let room = Room { bytes: AtomicU64::new(0), mtu: AtomicU64::new(current_mtu.into()) };
        Box::new(WithRoom { inner: self.0.clone().build(now, current_mtu), room: Arc::new(room) })
    }
}

struct WithRoom {
    inner: Box<dyn Controller>,
    room: Arc<Room>,
}

impl Controller for WithRoom {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.room.bytes.store(0, Relaxed);
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.room.mtu.store(new_mtu.into(), Relaxed);
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.inner.window() + self.room.bytes.load(Relaxed)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), room: self.room.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_for_a_few_packets_and_shared_with_copies() {
        let controller = Arc::new(Roomy::default()).build(Instant::now(), 1400);
        let window = controller.window();
        let copy = controller.clone_box().into_any().downcast::<WithRoom>().unwrap();
        copy.room.make();
        assert_eq!(controller.window(), window + PACKETS * 1400);
        (0..100).for_each(|_| copy.room.make());
        assert_eq!(controller.window(), window + MAX_PACKETS * 1400);
    }
}
