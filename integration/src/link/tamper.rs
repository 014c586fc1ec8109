//! Ready-made evil for [`Link::tamper`](super::Link::tamper), and what a tamperer knows. Write a closure in place when none fits.

use super::{Packet, Way};
use hesper_model::id::Tag;
use hesper_overlay::header::{self, Dcid};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{HashMap, VecDeque};

/// Datagrams that a replaying tamperer remembers.
const REMEMBERED: usize = 1024;
/// Of the first byte of a packet: a handshake's, whose sender names itself.
const LONG_HEADER: u8 = 0x80;

/// What the handshakes told: whose tag is whose.
#[derive(Clone, Debug, Default)]
pub(super) struct Tags {
    clients: HashMap<Tag, usize>,
    router: Option<Tag>,
}

impl Tags {
    pub(super) fn learn(&mut self, packet: &Packet) {
        if packet.bytes.first().is_none_or(|first| first & LONG_HEADER == 0) {
            return;
        }
        let Some(tag) = header::parse(&packet.bytes).and_then(|header| header.scid_tag) else { return };
        match packet.way {
            Way::ToRouter => drop(self.clients.insert(tag, packet.client)),
            // The first to answer anybody is the router itself, to somebody who attaches.
            Way::ToClient => drop(self.router.get_or_insert(tag)),
        }
    }

    pub(super) fn of_client(&self, client: usize) -> Vec<Tag> {
        self.clients.iter().filter(|(_, number)| **number == client).map(|(tag, _)| *tag).collect()
    }
}

/// Where a tamperer puts what goes on.
#[derive(Debug)]
pub struct Out<'a> {
    pub(super) packets: &'a mut Vec<Packet>,
    pub(super) tags: &'a Tags,
}

impl Out<'_> {
    /// This goes on, after what was pushed before.
    pub fn push(&mut self, packet: Packet) {
        self.packets.push(packet);
    }

    /// The client to whose tag a datagram is addressed.
    pub fn client_named_by(&self, packet: &Packet) -> Option<usize> {
        match header::parse(&packet.bytes)?.dcid {
            Dcid::Tag(tag) => self.tags.clients.get(&tag).copied(),
            Dcid::Knock(_) => None,
        }
    }

    /// Is a datagram addressed to the router itself, by its tag or with a knock?
    pub fn names_router(&self, packet: &Packet) -> bool {
        match header::parse(&packet.bytes).map(|header| header.dcid) {
            Some(Dcid::Tag(tag)) => self.tags.router == Some(tag),
            Some(Dcid::Knock(_)) => true,
            None => false,
        }
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Tamper;

impl Tamper {
    /// Only what clients say to the router itself gets through, and whatever the router says: it answers every probe and carries nothing.
    pub fn black_hole_data() -> impl FnMut(Packet, &mut Out<'_>) + Send + 'static {
        |packet, out| {
            if packet.way == Way::ToClient || out.names_router(&packet) {
                out.push(packet);
            }
        }
    }

    /// With this probability each: one bit of a datagram is flipped, an earlier one is repeated, a copy goes to another client. Nothing is
    /// held back.
    pub fn hostile(seed: u64, share: f64) -> impl FnMut(Packet, &mut Out<'_>) + Send + 'static {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut seen: VecDeque<Packet> = VecDeque::new();
        let mut clients = 0;
        move |packet, out| {
            clients = clients.max(packet.client + 1);
            let mut first = packet.clone();
            if rng.random_bool(share) && !first.bytes.is_empty() {
                let at = rng.random_range(0..first.bytes.len() * 8);
                first.bytes[at / 8] ^= 1 << (at % 8);
            }
            out.push(first);
            if rng.random_bool(share) && !seen.is_empty() {
                out.push(seen[rng.random_range(0..seen.len())].clone());
            }
            if rng.random_bool(share) {
                out.push(Packet { client: rng.random_range(0..clients), ..packet.clone() });
            }
            if seen.len() == REMEMBERED {
                seen.pop_front();
            }
            seen.push_back(packet);
        }
    }

    /// A router that lets everybody speak to everybody: what names a client goes straight to that client, pass or no pass.
    pub fn allow_all() -> impl FnMut(Packet, &mut Out<'_>) + Send + 'static {
        |packet, out| {
            let to = out.client_named_by(&packet).filter(|_| packet.way == Way::ToRouter);
            out.push(match to {
                Some(client) => Packet { way: Way::ToClient, client, ..packet },
                None => packet,
            });
        }
    }
}
