//! Ids: one type per kind, so that a service id is never passed where an identity id belongs.

use rand::Rng;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Length of a generated id in characters.
pub const ID_LEN: usize = 10;
/// Longest id or name accepted from outside, in bytes.
pub const MAX_NAME_LEN: usize = 256;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A fresh random id of [`ID_LEN`] letters and digits (about 59 bits).
pub fn random_id(rng: &mut impl Rng) -> String {
    (0..ID_LEN).map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())] as char).collect()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the text as it is; ids are opaque.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            /// A fresh random id.
            pub fn random(rng: &mut impl Rng) -> Self {
                Self(random_id(rng))
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

ids! {
    /// Id of an identity: the subject of a node's certificate.
    IdentityId,
    /// Id of a service.
    ServiceId,
    /// Id of a config.
    ConfigId,
    /// Id of a config type. The built-in types have their name as id.
    ConfigTypeId,
    /// Id of a service policy.
    ServicePolicyId,
    /// Id of an edge router: the subject of a router's certificate.
    EdgeRouterId,
    /// Id of an edge-router policy.
    EdgeRouterPolicyId,
    /// Id of a service-edge-router policy.
    ServiceEdgeRouterPolicyId,
    /// Id of a terminator.
    TerminatorId,
    /// Id of an enrollment: the `jti` of its token.
    EnrollmentId,
}

/// The 64-bit routing tag of a node session or a router: the first eight bytes of every connection id it issues.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 8]);

impl Tag {
    /// A fresh random tag.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }
    /// Reads a tag from exactly eight bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// Text that is not sixteen hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a tag is 16 hexadecimal digits")]
pub struct InvalidTag;

impl FromStr for Tag {
    type Err = InvalidTag;
    fn from_str(s: &str) -> Result<Self, InvalidTag> {
        if s.len() != 16 || !s.is_ascii() {
            return Err(InvalidTag);
        }
        let mut tag = [0; 8];
        for (i, byte) in tag.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).map_err(|_| InvalidTag)?;
        }
        Ok(Self(tag))
    }
}

impl Serialize for Tag {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn generated_ids_are_ten_letters_and_digits_and_differ() {
        let mut rng = StdRng::seed_from_u64(7);
        let (a, b) = (IdentityId::random(&mut rng), IdentityId::random(&mut rng));
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), ID_LEN);
        assert!(a.as_str().bytes().all(|c| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_tag_reads_back_from_its_text_and_refuses_others() {
        let tag = Tag([0, 1, 2, 0xfe, 4, 5, 6, 0xff]);
        assert_eq!(tag.to_string().parse(), Ok(tag));
        for bad in ["", "00", "000102fe040506fg", "000102fe040506ff0", "00010éfe04050ff"] {
            assert_eq!(bad.parse::<Tag>(), Err(InvalidTag), "{bad}");
        }
    }
}
