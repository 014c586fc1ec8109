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

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Tag = Tag(*b"a-router");
    const NODES: [Tag; 2] = [Tag(*b"a-node-1"), Tag(*b"a-node-2")];

    fn cid(tag: Tag) -> Vec<u8> {
        [&tag.0[..], &[7; 8]].concat()
    }

    fn packet(way: Way, client: usize, bytes: Vec<u8>) -> Packet {
        Packet { way, client, bytes }
    }

    fn long(way: Way, client: usize, to: &[u8], from: Tag) -> Packet {
        let mut bytes = vec![0xc3, 0, 0, 0, 1, to.len() as u8];
        bytes.extend(to);
        bytes.push(16);
        bytes.extend(cid(from));
        packet(way, client, bytes)
    }

    fn short(way: Way, client: usize, to: Tag) -> Packet {
        packet(way, client, [&[0x41][..], &cid(to), b"data"].concat())
    }

    /// Two nodes have attached, and one has begun to talk to the other.
    fn learned() -> Tags {
        let mut tags = Tags::default();
        for (client, node) in NODES.iter().enumerate() {
            tags.learn(&long(Way::ToRouter, client, &[9; 20], *node));
            tags.learn(&long(Way::ToClient, client, &cid(*node), ROUTER));
        }
        tags.learn(&long(Way::ToRouter, 0, &cid(NODES[1]), NODES[0]));
        tags.learn(&long(Way::ToClient, 1, &cid(NODES[1]), NODES[0]));
        tags
    }

    fn through(tamper: &mut impl FnMut(Packet, &mut Out<'_>), tags: &Tags, packet: Packet) -> Vec<Packet> {
        let mut packets = Vec::new();
        tamper(packet, &mut Out { packets: &mut packets, tags });
        packets
    }

    #[test]
    fn handshakes_tell_whose_tag_is_whose() {
        let tags = learned();
        assert_eq!((tags.of_client(0), tags.of_client(1)), (vec![NODES[0]], vec![NODES[1]]));
        assert_eq!(tags.router, Some(ROUTER));
    }

    #[test]
    fn a_black_hole_answers_for_itself_and_carries_nothing() {
        let (mut hole, tags) = (Tamper::black_hole_data(), learned());
        let mut passes = |packet: &Packet| through(&mut hole, &tags, packet.clone()) == [packet.clone()];
        assert!(passes(&long(Way::ToRouter, 0, &[9; 20], NODES[0])), "a knock");
        assert!(passes(&short(Way::ToRouter, 0, ROUTER)), "a ping");
        assert!(passes(&short(Way::ToClient, 0, NODES[0])), "its answer");
        assert!(!passes(&short(Way::ToRouter, 0, NODES[1])), "data");
        assert!(!passes(&long(Way::ToRouter, 0, &cid(NODES[1]), NODES[0])), "a handshake with a peer");
        assert!(!passes(&short(Way::ToRouter, 0, Tag(*b"afarnode"))), "data for a node at another router");
        assert!(!passes(&packet(Way::ToRouter, 0, b"noise".to_vec())));
    }

    #[test]
    fn a_router_that_allows_all_is_a_short_cut() {
        let (mut allow, tags) = (Tamper::allow_all(), learned());
        let data = short(Way::ToRouter, 0, NODES[1]);
        let there = Packet { way: Way::ToClient, client: 1, ..data.clone() };
        assert_eq!(through(&mut allow, &tags, data), [there]);
        for other in [short(Way::ToRouter, 0, ROUTER), short(Way::ToClient, 0, NODES[0])] {
            assert_eq!(through(&mut allow, &tags, other.clone()), [other]);
        }
    }

    #[test]
    fn a_hostile_router_does_all_three_and_loses_nothing_itself() {
        let (mut hostile, tags) = (Tamper::hostile(3, 0.2), learned());
        let (mut flipped, mut more) = (0, 0);
        for n in 0..2_000u32 {
            let said = packet(Way::ToClient, n as usize % 2, n.to_be_bytes().repeat(10));
            let out = through(&mut hostile, &tags, said.clone());
            let bits = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
            assert!((out[0].client, out[0].bytes.len()) == (said.client, 40));
            assert!(bits(&out[0].bytes, &said.bytes) <= 1);
            flipped += bits(&out[0].bytes, &said.bytes);
            more += out.len() - 1;
        }
        assert!((300..500).contains(&flipped) && (600..1_000).contains(&more), "{flipped}, {more}");
    }
}
