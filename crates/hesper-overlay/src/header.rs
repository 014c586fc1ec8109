//! Reading a packet's route: QUIC's invariants (RFC 8999) up to the connection ids, and never further.

use crate::cid::{CID_LEN, KNOCK_LEN};
use hesper_model::id::Tag;

const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
const VERSION_1: [u8; 4] = [0, 0, 0, 1];

/// The clear part of one packet that matters for routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Long header: a packet of the handshake.
    pub long: bool,
    /// Where the packet goes.
    pub dcid: Dcid,
    /// Tag of the sender; only long headers tell, and only if its connection id has our length.
    pub scid_tag: Option<Tag>,
}

/// The two kinds of destination connection id, told apart by their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dcid {
    /// To the holder of this tag.
    Tag(Tag),
    /// First packets of an attach: to the router, if the knock is good.
    Knock([u8; KNOCK_LEN]),
}

/// Reads the header of the first QUIC packet in a datagram (all packets of one datagram share the destination).
///
/// `None` for whatever none of us sends: another QUIC version than 1 (so no Version Negotiation is ever provoked), a cleared
/// fixed bit, connection ids of other lengths, and anything cut short.
pub fn parse(packet: &[u8]) -> Option<Header> {
    let (&first, rest) = packet.split_first()?;
    if first & FIXED == 0 {
        return None;
    }
    if first & LONG == 0 {
        let cid = rest.get(..CID_LEN)?;
        return Some(Header { long: false, dcid: Dcid::Tag(Tag::from_slice(&cid[..8])?), scid_tag: None });
    }
    let rest = rest.strip_prefix(&VERSION_1)?;
    let (dcid, rest) = connection_id(rest)?;
    let (scid, _) = connection_id(rest)?;
    let dcid = match dcid.len() {
        CID_LEN => Dcid::Tag(Tag::from_slice(&dcid[..8])?),
        KNOCK_LEN => Dcid::Knock(dcid.try_into().ok()?),
        _ => return None,
    };
    let scid_tag = if scid.len() == CID_LEN { Tag::from_slice(&scid[..8]) } else { None };
    Some(Header { long: true, dcid, scid_tag })
}

fn connection_id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn long(version: [u8; 4], dcid: &[u8], scid: &[u8]) -> Vec<u8> {
        let mut p = vec![0xc3];
        p.extend(version);
        p.push(dcid.len() as u8);
        p.extend(dcid);
        p.push(scid.len() as u8);
        p.extend(scid);
        p
    }

    #[test]
    fn reads_what_our_endpoints_send() {
        let (a, b) = (Tag(*b"tag-of-a"), Tag(*b"tag-of-b"));
        let cid = |t: Tag| [&t.0[..], b"12345678"].concat();
        let tail = b"encrypted";
        let short = [&[0x41][..], &cid(a), tail].concat();
        assert_eq!(parse(&short), Some(Header { long: false, dcid: Dcid::Tag(a), scid_tag: None }));
        let handshake = [long(VERSION_1, &cid(a), &cid(b)), tail.to_vec()].concat();
        assert_eq!(parse(&handshake), Some(Header { long: true, dcid: Dcid::Tag(a), scid_tag: Some(b) }));
        let knock = [7; KNOCK_LEN];
        assert_eq!(
            parse(&long(VERSION_1, &knock, &cid(b))),
            Some(Header { long: true, dcid: Dcid::Knock(knock), scid_tag: Some(b) })
        );
        assert_eq!(parse(&long(VERSION_1, &cid(a), b"foreign")).and_then(|h| h.scid_tag), None);
    }

    #[test]
    fn refuses_what_none_of_us_sends() {
        let cid = [9; CID_LEN];
        for (why, packet) in [
            ("empty", vec![]),
            ("version negotiation", long([0; 4], &cid, &cid)),
            ("QUIC v2", long([0x6b, 0x33, 0x43, 0xcf], &cid, &cid)),
            ("no destination", long(VERSION_1, &[], &cid)),
            ("another length", long(VERSION_1, &[1; 17], &cid)),
            ("fixed bit clear, long", [vec![0x80], long(VERSION_1, &cid, &cid)[1..].to_vec()].concat()),
            ("fixed bit clear, short", [0x01].into_iter().chain(cid).collect()),
            ("short header cut short", vec![0x40; CID_LEN]),
        ] {
            assert_eq!(parse(&packet), None, "{why}");
        }
        let whole = long(VERSION_1, &cid, &cid);
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), None, "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_reads_past_the_connection_ids(
            packet in proptest::collection::vec(any::<u8>(), 0..80), tail in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            if let Some(header) = parse(&packet) {
                prop_assert_eq!(parse(&[packet, tail].concat()), Some(header));
            }
        }
    }
}
