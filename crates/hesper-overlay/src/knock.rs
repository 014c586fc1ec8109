//! The knock: the first destination connection id of an attach proves that its sender may speak to this router at all.
//!
//! `key id (8) ‖ time slot (2) ‖ nonce (2) ‖ MAC (8)`: the MAC is HMAC-SHA256 over the first twelve bytes, cut to eight, under
//! a key that the controller gives to one node session for one router and that the router derives from its secret and the key id.
//! Whatever carries no good knock is dropped before QUIC sees it, so that a scanner finds nothing.

use crate::cid::KNOCK_LEN;
use ring::hmac::{HMAC_SHA256, Key, sign};

/// Seconds in one time slot.
const SLOT_SECS: u64 = 16;
/// How many slots the two clocks may be apart (about half a minute).
const MAX_SLOTS_APART: u16 = 2;
const SIGNED_LEN: usize = 12;

/// Makes the knock for the time `now_unix` (seconds since the epoch). A retry takes another `nonce`.
pub fn make(key_id: [u8; 8], key: &[u8; 32], now_unix: u64, nonce: u16) -> [u8; KNOCK_LEN] {
    let mut knock = [0; KNOCK_LEN];
    knock[..8].copy_from_slice(&key_id);
    knock[8..10].copy_from_slice(&slot(now_unix).to_be_bytes());
    knock[10..12].copy_from_slice(&nonce.to_be_bytes());
    let mac = mac(key, &knock);
    knock[SIGNED_LEN..].copy_from_slice(&mac);
    knock
}

/// Is this a knock made at about `now_unix` with a key derived from the router's `secret`?
pub fn verify(secret: &[u8; 32], knock: &[u8; KNOCK_LEN], now_unix: u64) -> bool {
    let their_slot = u16::from_be_bytes([knock[8], knock[9]]);
    let ahead = their_slot.wrapping_sub(slot(now_unix));
    if ahead > MAX_SLOTS_APART && ahead.wrapping_neg() > MAX_SLOTS_APART {
        return false;
    }
    let mut key_id = [0; 8];
    key_id.copy_from_slice(&knock[..8]);
    let expected = mac(&derive(secret, key_id), knock);
    let mut given = [0; 8];
    given.copy_from_slice(&knock[SIGNED_LEN..]);
    // One comparison of two integers: it takes the same time wherever they differ.
    u64::from_be_bytes(given) == u64::from_be_bytes(expected)
}

/// The key of one node session: HMAC-SHA256 of the key id under the router's secret.
pub fn derive(secret: &[u8; 32], key_id: [u8; 8]) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(sign(&Key::new(HMAC_SHA256, secret), &key_id).as_ref());
    key
}

/// Time in slots, cut to what the knock has room for; it wraps every twelve days.
fn slot(now_unix: u64) -> u16 {
    (now_unix / SLOT_SECS) as u16
}

fn mac(key: &[u8; 32], knock: &[u8; KNOCK_LEN]) -> [u8; 8] {
    let mut mac = [0; 8];
    mac.copy_from_slice(&sign(&Key::new(HMAC_SHA256, key), &knock[..SIGNED_LEN]).as_ref()[..8]);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: [u8; 32] = [5; 32];
    const KEY_ID: [u8; 8] = *b"a-key-id";

    proptest! {
        #[test]
        fn a_knock_opens_for_its_time_only(now in 0u64..1 << 40, nonce: u16, apart in 0u64..100_000) {
            let knock = make(KEY_ID, &derive(&SECRET, KEY_ID), now, nonce);
            prop_assert!(verify(&SECRET, &knock, now));
            prop_assert!(verify(&SECRET, &knock, now + SLOT_SECS * 2));
            prop_assert!(verify(&SECRET, &knock, now.saturating_sub(SLOT_SECS * 2)));
            prop_assert!(!verify(&SECRET, &knock, now + SLOT_SECS * 3 + apart));
        }

        #[test]
        fn any_flipped_bit_closes_it(now in 0u64..1 << 40, nonce: u16, bit in 0usize..KNOCK_LEN * 8) {
            let mut knock = make(KEY_ID, &derive(&SECRET, KEY_ID), now, nonce);
            knock[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!verify(&SECRET, &knock, now));
        }
    }

    #[test]
    fn the_slot_may_wrap() {
        let wrap = SLOT_SECS << 16;
        let knock = make(KEY_ID, &derive(&SECRET, KEY_ID), wrap - 1, 0);
        assert!(verify(&SECRET, &knock, wrap + 1));
    }

    #[test]
    fn another_routers_secret_does_not_open() {
        let knock = make(KEY_ID, &derive(&SECRET, KEY_ID), 1_000, 1);
        assert!(!verify(&[6; 32], &knock, 1_000));
    }
}
