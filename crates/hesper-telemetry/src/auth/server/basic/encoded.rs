//! A password as an htpasswd line has it: all forms that the Collector takes.

use super::md5_crypt;
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac};
use sha_crypt::{PasswordVerifier, ShaCrypt};
use std::str::FromStr;
use subtle::ConstantTimeEq;

/// bcrypt with a higher cost takes more than a minute for one password.
const MAX_BCRYPT_COST: u32 = 20;
/// SHA-crypt with more rounds takes more than a minute for one password.
const MAX_ROUNDS: u32 = 20_000_000;
/// Fewer rounds than SHA-crypt allows.
const MIN_ROUNDS: u32 = 1000;
/// Beginnings of forms that are not known here. Such a line is not taken for a password in the clear.
const UNKNOWN: [&str; 17] = [
    "$2$",
    "$3$",
    "$7$",
    "$y$",
    "$gy$",
    "$sha1$",
    "$argon2",
    "$scrypt$",
    "$pbkdf2",
    "{CRYPT}",
    "{MD5}",
    "{SMD5}",
    "{SHA256}",
    "{SSHA256}",
    "{SHA512}",
    "{SSHA512}",
    "{PBKDF2",
];

/// An encoded password. It never leaves this module in readable form.
pub(super) enum Encoded {
    /// In the clear; kept as its tag under the key of the table, so that comparing takes the same time for all.
    Plain(hmac::Tag),
    /// SHA-1 of the password and the salt behind it; `{SHA}` has none.
    Sha1 { digest: Vec<u8>, salt: Vec<u8> },
    /// MD5-crypt, with its magic.
    Md5 { magic: &'static str, salt: Vec<u8>, digest: [u8; 16] },
    /// bcrypt.
    Bcrypt(String),
    /// SHA-256-crypt or SHA-512-crypt.
    Sha(String),
}

impl Encoded {
    /// Reads one. The forms are tried in the Collector's order; what begins like one of them is that one or an error.
    pub(super) fn parse(text: &str, key: &hmac::Key) -> Result<Self, String> {
        for magic in ["$apr1$", "$1$"] {
            if let Some(rest) = text.strip_prefix(magic) {
                return md5(magic, rest).ok_or_else(|| malformed(magic));
            }
        }
        if let Some(rest) = text.strip_prefix("{SHA}") {
            return sha1(rest)
                .filter(|(_, salt)| salt.is_empty())
                .map(made)
                .ok_or_else(|| malformed("{SHA}"));
        }
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
            return bcrypt(text);
        }
        if let Some(rest) = text.strip_prefix("{SSHA}") {
            return sha1(rest).map(made).ok_or_else(|| malformed("{SSHA}"));
        }
        for (magic, length) in [("$5$", 43), ("$6$", 86)] {
            if let Some(rest) = text.strip_prefix(magic) {
                return sha_crypt(magic, rest, length).map(|()| Self::Sha(text.to_owned()));
            }
        }
        if let Some(form) = UNKNOWN.iter().find(|form| text.starts_with(**form)) {
            return Err(format!("{form} is not known here; make it with bcrypt (htpasswd -B)"));
        }
        let plain = text.strip_prefix("{PLAIN}").unwrap_or(text);
        Ok(Self::Plain(hmac::sign(key, plain.as_bytes())))
    }

    /// Does it take so long to check that other work must not wait for it?
    pub(super) const fn is_costly(&self) -> bool {
        matches!(self, Self::Md5 { .. } | Self::Bcrypt(_) | Self::Sha(_))
    }

    /// Is it this password? The time that it takes says nothing about how much of it is right.
    pub(super) fn is(&self, password: &[u8], key: &hmac::Key) -> bool {
        match self {
            Self::Plain(tag) => hmac::verify(key, password, tag.as_ref()).is_ok(),
            Self::Sha1 { digest, salt } => {
                let mut found = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
                found.update(password);
                found.update(salt);
                found.finish().as_ref().ct_eq(digest).into()
            }
            Self::Md5 { magic, salt, digest } => {
                md5_crypt::digest(password, salt, magic.as_bytes()).ct_eq(digest).into()
            }
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha(hash) => ShaCrypt::default().verify_password(password, hash.as_str()).is_ok(),
        }
    }
}

fn malformed(form: &str) -> String {
    format!("it begins with {form} and is not complete, or has too much; make it anew with htpasswd -B")
}

fn md5(magic: &'static str, rest: &str) -> Option<Encoded> {
    let (salt, digits) = rest.split_once('$')?;
    // More than eight bytes of salt are never looked at.
    let salt = salt.as_bytes().get(..8).unwrap_or(salt.as_bytes()).to_vec();
    Some(Encoded::Md5 { magic, salt, digest: md5_crypt::decode(digits)? })
}

/// The digest and the salt behind it.
fn sha1(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut digest = STANDARD.decode(text).ok()?;
    (digest.len() >= digest::SHA1_OUTPUT_LEN).then(|| {
        let salt = digest.split_off(digest::SHA1_OUTPUT_LEN);
        (digest, salt)
    })
}

fn made((digest, salt): (Vec<u8>, Vec<u8>)) -> Encoded {
    Encoded::Sha1 { digest, salt }
}

fn bcrypt(text: &str) -> Result<Encoded, String> {
    let parts = bcrypt::HashParts::from_str(text).map_err(|_| malformed("$2"))?;
    if !(4..=MAX_BCRYPT_COST).contains(&parts.get_cost()) {
        return Err(format!("its cost is {}; choose one from 4 to {MAX_BCRYPT_COST}", parts.get_cost()));
    }
    Ok(Encoded::Bcrypt(text.to_owned()))
}

/// `[rounds=N$]SALT$DIGITS`
fn sha_crypt(magic: &str, rest: &str, length: usize) -> Result<(), String> {
    let mut parts = rest.split('$');
    let mut next = parts.next().unwrap_or_default();
    if let Some(rounds) = next.strip_prefix("rounds=") {
        let rounds: u32 = rounds.parse().map_err(|_| malformed(magic))?;
        if !(MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds) {
            return Err(format!("it has {rounds} rounds; choose {MIN_ROUNDS} to {MAX_ROUNDS}"));
        }
        next = parts.next().unwrap_or_default();
    }
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let digits = parts.next().unwrap_or_default();
    let fits = digits.len() == length && digits.bytes().all(is_digit) && parts.next().is_none();
    let salted = !next.is_empty() && next.bytes().all(is_digit);
    if fits && salted { Ok(()) } else { Err(malformed(magic)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    const LONG: &str =
        "a-password-that-is-longer-than-sixteen-bytes-and-than-sixty-four-bytes-too-0123456789";

    /// Made with `openssl passwd`, crypt(3) and SHA-1 of Python.
    const VECTORS: &[(&str, &str)] = &[
        ("myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"),
        ("myPassword", "$1$ab$xC/DXxu/MwluTmqRxr9Sd/"),
        ("myPassword", "$5$saltstring$MkP5qKcKBbjj8bsVcXLwsVnoyIfhVxvKRnDs04znYE3"),
        (
            "myPassword",
            "$6$saltstring$yrgUIlOJWK3OC/JndpXBztq8EQRRmKpDrP7qooKJH3.xzzwFiERNtfwXrr7p9zwxoynqwD6kq/zg0QrS8jKUP1",
        ),
        ("myPassword", "$5$rounds=1400$anotherlongsalts$zV6M9Cxn0R/c7DDA3UgIpZU.lNacH6t6K.tNCiyrsS4"),
        (
            "myPassword",
            "$6$rounds=1234$x$QDrhm.D4tRSMLT0MEPhPJo/Tu1ZNVbTbwAVwvAVKkL5BBg56o/2QDizbdlWi6hM/SAnaOyG5gMwqwkV3vuTEg0",
        ),
        ("myPassword", "$2a$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy"),
        ("myPassword", "$2b$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy"),
        ("myPassword", "$2x$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy"),
        ("myPassword", "$2y$04$abcdefghijklmnopqrstuuN2f4ZDSoR8/TAG80qUYDM9bRnmRm0Zy"),
        ("myPassword", "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE="),
        ("myPassword", "{SSHA}qhi/iYTkNI/mj5Ulj1Oc0rNvxShOYUNs"),
        ("myPassword", "{PLAIN}myPassword"),
        ("myPassword", "myPassword"),
        ("", "$apr1$r31.....$iQoXxeL5pW.kaXVrniDCU0"),
        ("", "$1$ab$rn6aQS/o7141mj179E/zA."),
        ("", "$5$rounds=1400$anotherlongsalts$7IcTVudmZDHdXM3GIn4KAxA5tvn.eciiARdqRBeqNs/"),
        ("", "$2b$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq"),
        ("", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        ("", "{SSHA}k7pKvBZjf6d/4qynJdkfKIuQz7tOYUNs"),
        ("pä55 wörd:x", "$apr1$r31.....$J9svOES3uF/dPfDIco1Ho."),
        ("pä55 wörd:x", "$1$ab$FeNRTdskfu0Odo3yWzxAP0"),
        ("pä55 wörd:x", "$5$saltstring$.gQfefCyAZzEN2P3bt/Ong487GH91gPRS8DK7RlpMGA"),
        ("pä55 wörd:x", "$2y$04$abcdefghijklmnopqrstuuCN1Qpy17BlX0hNTB5/hHfcHDzeuOCOi"),
        ("pä55 wörd:x", "{SHA}haMOvCxtDMbBr4El3NNQuAp5NwY="),
        ("pä55 wörd:x", "pä55 wörd:x"),
        (LONG, "$apr1$r31.....$8Msw54D2kXzcNzuFT7ayS."),
        (LONG, "$1$ab$88RPsCerDCF2RiXahEznm1"),
        (LONG, "$5$saltstring$3rnQfK7V5u3qjeDikYI5S5E1n4swcYcSZE.XgBVxL4B"),
        (
            LONG,
            "$6$saltstring$PBmjFyct1xQCCfsCfaFOhpBxkl3IO2UfDmjbOvzdvx0krPWk38xWSoBc9XCOMGiNpCDNjl9UlHwnom3lZ1.T8/",
        ),
        (LONG, "$2b$04$abcdefghijklmnopqrstuuvZ6Ze12c9p6ZthsZ5TmDouo4vMV0Eli"),
        (LONG, "{SSHA}6UeXHzSGT4sEKb2009zjYIYVr1hOYUNs"),
    ];

    fn key() -> hmac::Key {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("a key")
    }

    #[test]
    fn every_form_takes_its_password_and_no_other() {
        let key = key();
        for (password, text) in VECTORS {
            let encoded = Encoded::parse(text, &key).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert!(encoded.is(password.as_bytes(), &key), "{text}");
            for wrong in
                [format!("{password}\n"), format!("x{password}"), (*text).to_owned(), password.to_uppercase()]
            {
                // bcrypt looks at 72 bytes, and what has no letters has no upper case.
                if wrong == *password || (text.starts_with("$2") && wrong.starts_with(LONG)) {
                    continue;
                }
                assert!(!encoded.is(wrong.as_bytes(), &key), "{text} is not {wrong}");
            }
        }
    }

    #[test]
    fn what_begins_like_a_hash_is_one_or_an_error() {
        let key = key();
        let mut broken: Vec<String> = VECTORS
            .iter()
            .filter(|(_, text)| text.starts_with(['$', '{']) && !text.starts_with("{PLAIN}"))
            .flat_map(|(_, text)| {
                let short = text[..text.len() - 1].to_owned();
                let odd = format!("{}!", short);
                [short, odd, format!("{text}x")]
            })
            .collect();
        broken.extend(
            ["$apr1$", "$1$x", "{SHA}", "{SHA}eA==", "{SSHA}", "$2y$", "$2y$31$x", "$5$", "$6$rounds=$x$y"]
                .map(str::to_owned),
        );
        broken.extend(UNKNOWN.map(|form| format!("{form}x")));
        for text in broken {
            assert!(Encoded::parse(&text, &key).is_err(), "{text}");
        }
        let costly = VECTORS[6].1.replace("$04$", "$31$");
        assert!(Encoded::parse(&costly, &key).err().is_some_and(|e| e.contains("cost is 31")));
        let rounds = VECTORS[4].1.replace("1400", "999");
        assert!(Encoded::parse(&rounds, &key).err().is_some_and(|e| e.contains("999 rounds")));
    }
}
