//! Grants that are not for the stream they are shown for: what is altered, and over which connection they are sent.

use crate::{
    forge::{Forge, parts, text},
    now,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_integration::hostile::Ask;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use ring::hmac;
use serde_json::{Map, Value, json};

/// Where a variant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Mallory's connection to the binder of `first` and `second`.
    Own,
    /// Mallory's connection to the other binder.
    OtherBinder,
    /// Another dialer's connection to the first binder.
    OtherDialer,
}

pub(crate) struct Variant {
    pub(crate) what: String,
    pub(crate) over: Over,
    pub(crate) ask: Ask,
}

/// Everything that variants are made from: honest grants of two dialers for three services at two binders.
pub(crate) struct Material {
    pub(crate) forge: Forge,
    pub(crate) rng: StdRng,
    /// Mallory's, for `first` at the first binder: the one that is altered.
    pub(crate) own: Ask,
    pub(crate) claims: Map<String, Value>,
    /// Mallory's for `second` at the first binder.
    pub(crate) second: Ask,
    /// Mallory's for `third` at the other binder.
    pub(crate) elsewhere: Ask,
    /// Another dialer's for `first`.
    pub(crate) others: Ask,
    pub(crate) others_claims: Map<String, Value>,
    pub(crate) elsewhere_claims: Map<String, Value>,
    /// Tokens of other kinds, genuine.
    pub(crate) foreign: Vec<(&'static str, String)>,
}

/// Claims that a binder holds a grant against. `jti` names the grant and may be any; `tag` is where packets for the dialer go.
const BINDING: [&str; 5] = ["sub", "aud", "service", "terminator", "cnf"];
/// Everything that a grant has to say.
const REQUIRED: [&str; 9] = ["jti", "sub", "aud", "service", "terminator", "tag", "cnf", "iat", "exp"];

impl Material {
    pub(crate) fn variant(&mut self, number: usize) -> Variant {
        let make = [
            Self::another_value,
            Self::a_value_slightly_altered,
            Self::another_time,
            Self::a_value_of_another_shape,
            Self::a_claim_missing_or_added,
            Self::a_target_that_the_grant_is_not_for,
            Self::a_replay,
            Self::a_flipped_character,
            Self::claims_altered_under_the_signature,
            Self::another_signature,
            Self::another_header,
            Self::another_shape,
        ];
        let (what, over, ask) = make[number % make.len()](self);
        Variant { what, over, ask }
    }

    pub(crate) fn signed(&self, claims: &Map<String, Value>) -> Ask {
        Ask { grant: self.forge.grant(claims), ..self.own.clone() }
    }

    fn with(&self, name: &str, value: impl Into<Value>) -> Map<String, Value> {
        let mut claims = self.claims.clone();
        claims.insert(name.into(), value.into());
        claims
    }

    /// Signed by the controller's key, for somebody or something else that exists.
    fn another_value(&mut self) -> (String, Over, Ask) {
        let name = *BINDING.choose(&mut self.rng).expect("a name");
        let others: Vec<_> = [&self.others_claims, &self.elsewhere_claims, &self.claims]
            .iter()
            .flat_map(|claims| claims.values())
            .filter(|value| value.is_string() && **value != self.claims[name])
            .cloned()
            .collect();
        let value = others.choose(&mut self.rng).expect("another value").clone();
        (format!("{name} is {value}"), Over::Own, self.signed(&self.with(name, value)))
    }

    /// Signed by the controller's key, one character away from the truth.
    fn a_value_slightly_altered(&mut self) -> (String, Over, Ask) {
        let name = *BINDING.choose(&mut self.rng).expect("a name");
        let truth = self.claims[name].as_str().expect("text").to_owned();
        let at = self.rng.random_range(0..truth.len());
        let value = match self.rng.random_range(0..8) {
            0 => String::new(),
            1 => format!("{truth} "),
            2 => format!(" {truth}"),
            3 => format!("{truth}\u{0}"),
            4 => truth[..at].to_owned(),
            5 => format!("{truth}{truth}"),
            6 => truth.chars().rev().collect(),
            _ => {
                let other = if &truth[at..=at] == "0" { "1" } else { "0" };
                format!("{}{other}{}", &truth[..at], &truth[at + 1..])
            }
        };
        if value == truth {
            return self.a_value_slightly_altered();
        }
        (format!("{name} is {value:?}"), Over::Own, self.signed(&self.with(name, value)))
    }

    /// Signed by the controller's key, over or not yet begun.
    fn another_time(&mut self) -> (String, Over, Ask) {
        let (now, mut claims) = (now(), self.claims.clone());
        if self.rng.random() {
            let before = 1 << self.rng.random_range(0..30);
            claims.insert("iat".into(), (now - before - 300).into());
            claims.insert("exp".into(), (now - before).into());
        } else {
            let later = now + 60 + (1 << self.rng.random_range(0..30));
            claims.insert("iat".into(), later.into());
            claims.insert("exp".into(), (later + 300).into());
        }
        (format!("from {} to {}", claims["iat"], claims["exp"]), Over::Own, self.signed(&claims))
    }

    /// Signed by the controller's key, with a claim that is no text or no whole number.
    fn a_value_of_another_shape(&mut self) -> (String, Over, Ask) {
        let name = *REQUIRED.choose(&mut self.rng).expect("a name");
        let exp = self.claims["exp"].as_u64().expect("a number");
        let shapes = if ["iat", "exp"].contains(&name) {
            vec![json!(exp.to_string()), json!(exp as f64 + 0.5), json!(-1), json!(u64::MAX), json!(1e300)]
        } else {
            vec![json!(7), json!(true), json!([self.claims[name]]), json!({"a": self.claims[name]})]
        };
        let shapes: Vec<_> = shapes.into_iter().chain([Value::Null, json!([]), json!({})]).collect();
        let value = shapes.choose(&mut self.rng).expect("a shape").clone();
        (format!("{name} is {value}"), Over::Own, self.signed(&self.with(name, value)))
    }

    /// Signed by the controller's key, with a claim too few, too many, or twice.
    fn a_claim_missing_or_added(&mut self) -> (String, Over, Ask) {
        let name = *REQUIRED.choose(&mut self.rng).expect("a name");
        let mut claims = self.claims.clone();
        let grant = match self.rng.random_range(0..4) {
            0 => {
                claims.remove(name);
                self.forge.grant(&claims)
            }
            1 => {
                let added = ["admin", "nbf", "iss", "scope", "roles", "Sub", "AUD"];
                claims.insert(
                    (*added.choose(&mut self.rng).expect("a name")).into(),
                    self.claims[name].clone(),
                );
                self.forge.grant(&claims)
            }
            2 => {
                let value = claims.remove(name).expect("a value");
                claims.insert(name.to_uppercase(), value);
                self.forge.grant(&claims)
            }
            _ => {
                let whole = text(&claims);
                let twice = format!("{},\"{name}\":{}}}", &whole[..whole.len() - 1], self.claims[name]);
                self.forge.sign(&text(&self.forge.header()), &twice, &self.forge.pair)
            }
        };
        (format!("{name} missing, added or twice"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// A genuine grant, and a stream for something else.
    fn a_target_that_the_grant_is_not_for(&mut self) -> (String, Over, Ask) {
        let own = self.own.clone();
        let mut ids: Vec<_> = [&self.second, &self.elsewhere]
            .iter()
            .flat_map(|a| [a.service_id.clone(), a.terminator_id.clone()])
            .chain([String::new(), "x".repeat(self.rng.random_range(1..500)), own.service_id.to_uppercase()])
            .collect();
        ids.retain(|id| ![&own.service_id, &own.terminator_id].contains(&id));
        let id = |rng: &mut StdRng| ids.choose(rng).expect("an id").clone();
        let ask = match self.rng.random_range(0..4) {
            0 => Ask { service_id: id(&mut self.rng), ..own },
            1 => Ask { terminator_id: id(&mut self.rng), ..own },
            2 => Ask { service_id: own.terminator_id.clone(), terminator_id: own.service_id.clone(), ..own },
            _ => Ask { grant: own.grant, ..self.second.clone() },
        };
        (format!("a stream for {} at {}", ask.service_id, ask.terminator_id), Over::Own, ask)
    }

    /// A genuine token, where it is not for.
    fn a_replay(&mut self) -> (String, Over, Ask) {
        let own = self.own.clone();
        let foreign = self.foreign.choose(&mut self.rng).expect("a token").clone();
        match self.rng.random_range(0..7) {
            0 => ("the other dialer's grant".into(), Over::Own, self.others.clone()),
            1 => ("our grant, by another dialer".into(), Over::OtherDialer, own),
            2 => ("our grant, at another binder".into(), Over::OtherBinder, own),
            3 => {
                let ask = Ask { grant: own.grant, ..self.elsewhere.clone() };
                ("our grant, at another binder, for what it hosts".into(), Over::OtherBinder, ask)
            }
            4 => ("a grant for another binder".into(), Over::Own, self.elsewhere.clone()),
            5 => {
                let ask = Ask { grant: self.elsewhere.grant.clone(), ..own };
                ("a grant for another binder, for what is hosted here".into(), Over::Own, ask)
            }
            _ => (format!("a {} token", foreign.0), Over::Own, Ask { grant: foreign.1, ..own }),
        }
    }

    /// One character of the token is another one.
    fn a_flipped_character(&mut self) -> (String, Over, Ask) {
        const CHARACTERS: &[u8] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0";
        let mut bytes = self.own.grant.clone().into_bytes();
        let at = self.rng.random_range(0..bytes.len());
        let old = bytes[at];
        while bytes[at] == old {
            bytes[at] = *CHARACTERS.choose(&mut self.rng).expect("a character");
        }
        let grant = String::from_utf8(bytes).expect("ASCII");
        (format!("another character at {at}"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// Other claims, the old signature.
    fn claims_altered_under_the_signature(&mut self) -> (String, Over, Ask) {
        let name = *REQUIRED.choose(&mut self.rng).expect("a name");
        let value = match name {
            "iat" | "exp" => {
                json!(self.claims[name].as_u64().expect("a number") + self.rng.random_range(1..1_000))
            }
            "tag" => json!(format!("{:016x}", self.rng.random::<u64>())),
            _ => json!(format!("{:x}", self.rng.random::<u128>())),
        };
        let [header, _, signature] = parts(&self.own.grant);
        let claims = URL_SAFE_NO_PAD.encode(text(&self.with(name, value)));
        let grant = format!("{header}.{claims}.{signature}");
        (format!("{name} altered, signature kept"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// The right words, signed by somebody else, or by nobody.
    fn another_signature(&mut self) -> (String, Over, Ask) {
        let (header, claims) = (text(&self.forge.header()), text(&self.claims));
        let [h, c, s] = parts(&self.own.grant);
        let (what, grant) = match self.rng.random_range(0..5) {
            0 => ("a stranger's", self.forge.sign(&header, &claims, &self.forge.stranger)),
            1 => ("none", format!("{h}.{c}.")),
            2 => ("another grant's", format!("{h}.{c}.{}", parts(&self.others.grant)[2])),
            3 => ("zeros", format!("{h}.{c}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
            _ => ("cut short", format!("{h}.{c}.{}", &s[..self.rng.random_range(0..s.len())])),
        };
        (format!("signature: {what}"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// Another algorithm, type, key, or more than that in the header, signed by the controller's key where it can be.
    fn another_header(&mut self) -> (String, Over, Ask) {
        let mut header = self.forge.header();
        let (name, value) = match self.rng.random_range(0..8) {
            0 => {
                ("alg", json!(["none", "None", "HS256", "RS256", "ES256", "EDDSA", ""].choose(&mut self.rng)))
            }
            1 => (
                "typ",
                json!(
                    ["JWT", "hesper-pass+jwt", "hesper-session+jwt", "hesper-grant", ""]
                        .choose(&mut self.rng)
                ),
            ),
            2 => ("kid", json!(["", "../../etc/passwd", "0", "' OR 1=1", "unknown"].choose(&mut self.rng))),
            3 => ("crit", json!(["exp"])),
            4 => (
                "jwk",
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.forge.public_key)}),
            ),
            5 => ("x5u", json!("https://example.org/key")),
            6 => ("zip", json!("DEF")),
            _ => ("alg", json!("HS256")),
        };
        header.insert(name.into(), value);
        let (header, claims) = (text(&header), text(&self.claims));
        let grant = if header.contains("HS256") {
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims));
            let mac =
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.forge.public_key), signed.as_bytes());
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
        } else if header.to_lowercase().contains("none") {
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims))
        } else {
            self.forge.sign(&header, &claims, &self.forge.pair)
        };
        (format!("header {header}"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// Not three parts, padded, too long, not text at all.
    fn another_shape(&mut self) -> (String, Over, Ask) {
        let own = self.own.grant.clone();
        let [h, c, s] = parts(&own);
        let cut = self.rng.random_range(0..own.len());
        let grant = match self.rng.random_range(0..9) {
            0 => String::new(),
            1 => own[..cut].to_owned(),
            2 => format!("{own}."),
            3 => format!("{own}="),
            4 => format!("{h}.{c}.{c}.{s}"),
            5 => format!("{c}.{h}.{s}"),
            6 => "A".repeat(self.rng.random_range(1..20_000)),
            7 => format!("{} {}", &own[..cut], &own[cut..]),
            _ => format!("Bearer {own}"),
        };
        (format!("another shape: {} bytes", grant.len()), Over::Own, Ask { grant, ..self.own.clone() })
    }
}
