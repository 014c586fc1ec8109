//! Sending on what was received: one call for a whole run of datagrams where the kernel cuts it up (GSO), one for each where it
//! does not. Whatever cannot be sent is dropped and counted; nothing waits. The call itself is the caller's.

use crate::{drops::DropReason, metrics::Metrics, split, table::Place};
use quinn::udp::{EcnCodepoint, Transmit};
use std::io;

/// The packet is longer than the link's MTU (`errno`).
const EMSGSIZE: i32 = if cfg!(target_os = "linux") { 90 } else { 40 };

/// Datagrams of `stride` bytes each, the last one maybe shorter, that belong together.
#[derive(Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) ecn: Option<EcnCodepoint>,
}

/// One receive call's worth of sending.
pub(crate) struct Sender<'a, S> {
    pub(crate) metrics: &'a Metrics,
    pub(crate) max_segments: usize,
    /// Sends one transmit, or fails at once.
    pub(crate) send: S,
}

impl<S: Fn(&Transmit<'_>) -> io::Result<()>> Sender<'_, S> {
    /// Sends all of it.
    pub(crate) fn run(&self, run: &Batch<'_>, to: Place) {
        for piece in split::pieces(run.bytes.len(), run.stride, self.max_segments) {
            self.piece(&Batch { bytes: &run.bytes[piece], ..*run }, to);
        }
    }

    fn piece(&self, piece: &Batch<'_>, to: Place) {
        let datagrams = piece.bytes.len().div_ceil(piece.stride.max(1));
        let transmit = Transmit {
            destination: to.address,
            ecn: piece.ecn,
            contents: piece.bytes,
            segment_size: (piece.bytes.len() > piece.stride).then_some(piece.stride),
            src_ip: to.local_ip,
        };
        let reason = match (self.send)(&transmit) {
            Ok(()) => {
                self.metrics.packets.inc_by(datagrams as u64);
                self.metrics.bytes.inc_by(piece.bytes.len() as u64);
                return;
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => DropReason::SocketFull,
            Err(_) if datagrams > 1 => {
                for single in piece.bytes.chunks(piece.stride) {
                    self.piece(&Batch { bytes: single, ..*piece }, to);
                }
                return;
            }
            Err(e) if e.raw_os_error() == Some(EMSGSIZE) => DropReason::TooBig,
            Err(error) => {
                tracing::debug!(%error, "a packet could not be forwarded");
                DropReason::SendFailed
            }
        };
        self.metrics.dropped(reason, datagrams);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_observe::metrics::Registry;
    use std::{cell::RefCell, net::SocketAddr};

    /// The datagrams that `send` let through, and the metrics' page.
    fn run(
        stride: usize,
        len: usize,
        fault: impl Fn(&Transmit<'_>) -> Option<io::Error>,
    ) -> (Vec<usize>, String) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry);
        let sent = RefCell::new(Vec::new());
        let send = |transmit: &Transmit<'_>| match fault(transmit) {
            Some(error) => Err(error),
            None => {
                let chunks = transmit.contents.chunks(transmit.segment_size.unwrap_or(usize::MAX));
                sent.borrow_mut().extend(chunks.map(<[u8]>::len));
                Ok(())
            }
        };
        let bytes = vec![7; len];
        let to = Place { address: SocketAddr::from(([192, 0, 2, 1], 1)), local_ip: None };
        Sender { metrics: &metrics, max_segments: 4, send }
            .run(&Batch { bytes: &bytes, stride, ecn: None }, to);
        (sent.into_inner(), registry.encode())
    }

    fn counted(page: &str, name: &str) -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |n| n.parse().unwrap())
    }

    const SENT: &str = "hesper_router_packets_forwarded_total";

    fn dropped(page: &str, reason: &str) -> u64 {
        counted(page, &format!("hesper_router_packets_dropped_total{{reason=\"{reason}\"}}"))
    }

    #[test]
    fn without_segmentation_each_datagram_goes_on_its_own() {
        for errno in [5, 22, 95] {
            let (sent, page) = run(100, 950, |t| t.segment_size.map(|_| io::Error::from_raw_os_error(errno)));
            assert_eq!(sent, [100, 100, 100, 100, 100, 100, 100, 100, 100, 50], "errno {errno}");
            assert_eq!((counted(&page, SENT), dropped(&page, "send_failed")), (10, 0));
        }
        let (sent, page) = run(100, 950, |_| None);
        assert_eq!((sent.len(), counted(&page, SENT)), (10, 10));
        assert_eq!(counted(&page, "hesper_router_bytes_forwarded_total"), 950);
    }

    #[test]
    fn a_full_socket_drops_and_counts_and_never_tries_again() {
        let calls = RefCell::new(0);
        let (sent, page) = run(100, 950, |_| {
            *calls.borrow_mut() += 1;
            (*calls.borrow() == 2).then(|| io::ErrorKind::WouldBlock.into())
        });
        assert_eq!((sent.len(), calls.into_inner()), (6, 3), "the second of three pieces of four");
        assert_eq!((counted(&page, SENT), dropped(&page, "socket_full")), (6, 4));
    }

    #[test]
    fn what_is_too_long_for_the_way_is_dropped_alone() {
        let too_long = |t: &Transmit<'_>| {
            let longest = t.segment_size.unwrap_or(t.contents.len());
            (longest > 60).then(|| io::Error::from_raw_os_error(EMSGSIZE))
        };
        let (sent, page) = run(100, 950, too_long);
        assert_eq!((sent, dropped(&page, "too_big")), (vec![50], 9));
    }
}
