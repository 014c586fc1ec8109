//! Integers as JSON Schema means them: `80` and `80.0` are the same number.

use serde::{Deserialize, Deserializer, de::Error};

fn integer<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Integer(u64),
        Float(f64),
    }
    match Number::deserialize(d)? {
        Number::Integer(n) => Ok(n),
        Number::Float(x) if x.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&x) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number in range"
            )]
            Ok(x as u64)
        }
        Number::Float(x) => Err(D::Error::custom(format!("{x} is not a whole number"))),
    }
}

pub(super) fn u16<'de, D: Deserializer<'de>>(d: D) -> Result<u16, D::Error> {
    u16::try_from(integer(d)?).map_err(D::Error::custom)
}

pub(super) fn some_u16<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    u16(d).map(Some)
}

pub(super) fn some_u32<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    u32::try_from(integer(d)?).map(Some).map_err(D::Error::custom)
}

pub(super) fn some_u64<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    integer(d).map(Some)
}
