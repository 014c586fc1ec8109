//! MD5-crypt, as FreeBSD made it (`$1$`) and Apache has it (`$apr1$`). Nobody should choose it today; many files have it.

use md5::{Digest, Md5};

/// Rounds; they cannot be chosen.
const ROUNDS: u32 = 1000;
/// The digits of crypt(3), lowest value first.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Which bytes of the digest stand together in four digits, the most significant first.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
/// The byte that stands alone at the end, in two digits.
const LAST: usize = 11;

/// The digest of a password. `magic` is `$1$` or `$apr1$`.
pub(super) fn digest(password: &[u8], salt: &[u8], magic: &[u8]) -> [u8; 16] {
    let once = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut start = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for chunk in password.chunks(once.len()) {
        start.update(&once[..chunk.len()]);
    }
    let mut length = password.len();
    while length > 0 {
        // One bit of the length after another says whether a zero or the first byte follows.
        start.update(if length & 1 == 1 { &[0] } else { &password[..1] });
        length >>= 1;
    }
    let mut state: [u8; 16] = start.finalize().into();
    for round in 0..ROUNDS {
        let (first, last): (&[u8], &[u8]) =
            if round % 2 == 1 { (password, &state) } else { (&state, password) };
        let mut next = Md5::new().chain_update(first);
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        state = next.chain_update(last).finalize().into();
    }
    state
}

/// The digest that 22 digits stand for; none when they stand for none.
pub(super) fn decode(text: &str) -> Option<[u8; 16]> {
    let mut rest = text.bytes();
    let mut number = |digits: u32| {
        let mut number = 0;
        for place in 0..digits {
            let digit = rest.next()?;
            let value = DIGITS.iter().position(|known| *known == digit)?;
            number |= u32::try_from(value).ok()? << (6 * place);
        }
        Some(number)
    };
    let mut digest = [0; 16];
    for group in GROUPS {
        let [_, high, middle, low] = number(4)?.to_be_bytes();
        for (at, byte) in group.into_iter().zip([high, middle, low]) {
            digest[at] = byte;
        }
    }
    digest[LAST] = u8::try_from(number(2)?).ok()?;
    rest.next().is_none().then_some(digest)
}
