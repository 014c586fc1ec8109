//! The plain part: ids on the wire, queues and their bounds.

use super::*;
use crate::memory::{BLOCK, COMMON};
use proptest::prelude::*;

#[test]
fn ids_are_variable_length_integers() {
    // RFC 9000, A.1.
    for (id, wire) in [
        (37, &[0x25][..]),
        (15_293, &[0x7b, 0xbd]),
        (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
        (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]),
    ] {
        assert_eq!(&encode(id, b"")[..], wire);
        let datagram = encode(id, b"payload");
        assert_eq!(decode(&datagram), Some((id, &b"payload"[..])));
        assert_eq!(decode(&wire[..wire.len() - 1]), None, "cut off");
    }
    assert_eq!(decode(&[0x40, 0x25]), Some((37, &b""[..])), "longer than it must be");
}

#[test]
fn payloads_reach_their_flow_in_order_and_no_other() {
    let mut demux = Demux::default();
    demux.open(4);
    demux.open(8);
    for (flow, payload) in [(4, "a"), (8, "x"), (4, "b"), (4, "")] {
        assert_eq!(demux.deliver(&encode(flow, payload.as_bytes())), Ok(flow));
    }
    assert_eq!(demux.deliver(&encode(12, b"stray")), Err(Dropped::NoFlow));
    assert_eq!(demux.deliver(b""), Err(Dropped::Malformed));
    assert_eq!(demux.deliver(&[0xff, 0]), Err(Dropped::Malformed));
    let mut take = |flow| demux.take(flow).map(|p| String::from_utf8_lossy(&p).into_owned());
    assert_eq!(
        [take(4), take(4), take(4), take(4)],
        [Some("a".into()), Some("b".into()), Some("".into()), None]
    );
    assert_eq!((take(8), take(12)), (Some("x".into()), None));
    demux.close(8);
    assert_eq!(demux.deliver(&encode(8, b"late")), Err(Dropped::NoFlow));
    assert_eq!(demux.bytes, 0);
}

#[test]
fn a_flood_is_bounded_by_flow_and_by_connection() {
    let mut demux = Demux::default();
    demux.open(0);
    for _ in 0..FLOW_QUEUE {
        assert_eq!(demux.deliver(&encode(0, b"")), Ok(0));
    }
    assert_eq!(demux.deliver(&encode(0, b"")), Err(Dropped::QueueFull));
    assert_eq!(demux.dropped(0), 1);
    demux.take(0);
    assert_eq!(demux.deliver(&encode(0, b"")), Ok(0), "room again");
    let payload = vec![0; 1200];
    for flow in 1..1000 {
        demux.open(flow);
        for _ in 0..FLOW_QUEUE {
            let _ = demux.deliver(&encode(flow, &payload));
        }
    }
    assert!(demux.bytes <= CONNECTION_QUEUE);
    assert_eq!(demux.deliver(&encode(999, &payload)), Err(Dropped::QueueFull));
    (0..1000).for_each(|flow| demux.close(flow));
    assert_eq!((demux.bytes, demux.flows.len()), (0, 0));
}

#[test]
fn what_waits_on_all_connections_of_a_node_is_bounded_too() {
    let memory = Arc::new(Memory::default());
    let payload = encode(0, &[0; 1200]);
    let mut demuxes = Vec::new();
    let mut held = 0;
    // More than the common amount, if each got all that one connection may hold.
    for _ in 0..2 * COMMON / CONNECTION_QUEUE as u64 {
        let mut demux = Demux::new(&memory);
        (0..20).for_each(|flow| demux.open(flow));
        for flow in 0..20 {
            let payload = encode(flow, &[0; 1200]);
            while demux.deliver(&payload).is_ok() {}
        }
        assert!(demux.bytes as u64 > BLOCK / 2, "each has room for a burst");
        held += demux.bytes as u64;
        demuxes.push(demux);
    }
    assert!(held <= COMMON + demuxes.len() as u64 * BLOCK, "{held}");
    let last = demuxes.last_mut().unwrap();
    assert_eq!(last.deliver(&payload), Err(Dropped::QueueFull));
    assert!(last.dropped(0) > 0, "and counted");
    demuxes.drain(..demuxes.len() - 1);
    assert_eq!(demuxes[0].deliver(&payload), Ok(0), "room again when others have gone");
}

proptest! {
    #[test]
    fn whatever_is_sent_is_read(id in 0_u64..1 << 62, payload in prop::collection::vec(any::<u8>(), 0..64)) {
        let datagram = encode(id, &payload);
        prop_assert_eq!(datagram.len(), id_len(id) + payload.len());
        prop_assert_eq!(decode(&datagram), Some((id, &payload[..])));
    }

    #[test]
    fn garbage_is_read_or_refused(datagram in prop::collection::vec(any::<u8>(), 0..16)) {
        if let Some((id, payload)) = decode(&datagram) {
            prop_assert!(id < 1 << 62 && payload.len() < datagram.len());
        }
    }

    #[test]
    fn what_is_held_is_what_was_counted(steps in prop::collection::vec((0_u64..4, 0_u8..4, 0_usize..2000), 0..200)) {
        let mut demux = Demux::default();
        for (flow, step, len) in steps {
            match step {
                0 => demux.open(flow),
                1 => demux.close(flow),
                2 => drop(demux.take(flow)),
                _ => drop(demux.deliver(&encode(flow, &vec![0; len]))),
            }
            let held: usize = demux.flows.values().flat_map(|q| &q.waiting).map(|p| cost(p)).sum();
            prop_assert_eq!(held, demux.bytes);
        }
    }
}
