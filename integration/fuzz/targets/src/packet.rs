//! What a packet says in clear: header, knock, and which router it goes to.

use crate::NOW;
use hesper_model::id::Tag;
use hesper_overlay::{
    cid::{CID_LEN, KNOCK_LEN},
    header::{self, Dcid},
    knock,
    paths::{PathTable, Slot},
};

/// The secret by which the knocks of the corpus are good at [`NOW`].
pub const SECRET: [u8; 32] = [5; 32];

/// A datagram.
///
/// # Panics
/// When it is read in a way that it cannot be meant.
pub fn run(datagram: &[u8]) {
    let Some(read) = header::parse(datagram) else { return };
    // QUIC's invariants (RFC 8999): what follows the connection ids does not matter.
    let longer = [datagram, &[0xa5; 3]].concat();
    assert_eq!(header::parse(&longer), Some(read), "read beyond the connection ids");
    let begin = if read.long { 6 } else { 1 };
    let table = table();
    match read.dcid {
        Dcid::Tag(tag) => {
            assert_eq!(datagram[begin..begin + 8], tag.0);
            assert!(datagram.len() >= begin + CID_LEN);
            assert!(table.route(&read.dcid).is_some(), "some router carries any tag");
        }
        Dcid::Knock(bytes) => {
            assert!(read.long, "a short header has no knock");
            assert_eq!(datagram[begin..begin + KNOCK_LEN], bytes);
            knocked(bytes, datagram);
        }
    }
    if let Some(tag) = read.scid_tag {
        assert!(read.long && datagram.windows(8).any(|bytes| bytes == tag.0));
    }
}

fn knocked(bytes: [u8; KNOCK_LEN], datagram: &[u8]) {
    if !knock::verify(&SECRET, &bytes, NOW) {
        return;
    }
    let bit = datagram.len() % (KNOCK_LEN * 8);
    let mut other = bytes;
    other[bit / 8] ^= 1 << (bit % 8);
    assert!(!knock::verify(&SECRET, &other, NOW), "bit {bit} does not matter");
    assert!(!knock::verify(&[6; 32], &bytes, NOW), "another router's secret");
    assert!(!knock::verify(&SECRET, &bytes, NOW + 3600), "an hour later");
}

fn table() -> PathTable {
    let mut table = PathTable::default();
    for n in 0..2u8 {
        table.set_router(Slot(u32::from(n)), Tag([n; 8]), [n + 100; 8]);
    }
    table
}
