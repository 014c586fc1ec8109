//! The ledger's rule: what becomes of one enrollment when a key asks for it. Pure.
//!
//! An enrollment yields one certificate, for the first key that redeems it. The same key gets that certificate again, so
//! that an answer lost on the way can be asked for once more; another key is refused for good. The shell ([`super`])
//! makes it true under concurrency: what is decided here is written only if the enrollment has not changed meanwhile.

use hesper_model::entity::{Enrollment, EnrollmentMethod, EnrollmentState};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What a redeemer shows, once its token's signature is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redemption<'a> {
    /// The subject named in the token.
    pub(crate) subject: &'a str,
    /// The method named in the token.
    pub(crate) method: EnrollmentMethod,
    /// SHA-256 of the key that wants the certificate, lower-case hexadecimal.
    pub(crate) spki_sha256: &'a str,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Issue a certificate, and record it in the same transaction.
    Issue,
    /// Hand out the certificate that this key got before.
    Again {
        /// The chain, PEM.
        chain_pem: String,
        /// Its serial number.
        serial: String,
    },
    /// Refuse.
    Refuse(Refusal),
}

/// Why a redemption is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The token's subject or method is not the enrollment's.
    #[error("the token does not belong to this enrollment")]
    Mismatch,
    /// Too late.
    #[error("the enrollment expired at {}: ask for a new token", rfc3339(*.0))]
    Expired(OffsetDateTime),
    /// Another key was first.
    #[error(
        "the token was redeemed at {} by another key ({fingerprint}…): if that was not you, delete the identity and \
         create it again", rfc3339(*at)
    )]
    AlreadyRedeemed {
        /// When.
        at: OffsetDateTime,
        /// The first 16 hexadecimal digits of that key's SHA-256.
        fingerprint: String,
    },
}

/// A time for people, as in the JSON of the management API.
fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Decides. Nothing is changed here.
pub(crate) fn redeem(enrollment: &Enrollment, redemption: &Redemption<'_>, now: OffsetDateTime) -> Outcome {
    if enrollment.method != redemption.method || subject_of(enrollment) != Some(redemption.subject) {
        return Outcome::Refuse(Refusal::Mismatch);
    }
    match &enrollment.state {
        EnrollmentState::Redeemed { spki_sha256, chain_pem, serial, .. }
            if spki_sha256 == redemption.spki_sha256 =>
        {
            Outcome::Again { chain_pem: chain_pem.clone(), serial: serial.clone() }
        }
        EnrollmentState::Redeemed { spki_sha256, at, .. } => Outcome::Refuse(Refusal::AlreadyRedeemed {
            at: *at,
            fingerprint: spki_sha256.chars().take(16).collect(),
        }),
        EnrollmentState::Pending if enrollment.expires_at <= now => {
            Outcome::Refuse(Refusal::Expired(enrollment.expires_at))
        }
        EnrollmentState::Pending => Outcome::Issue,
    }
}

/// Id of the identity or edge router that the enrollment is for.
pub(crate) fn subject_of(enrollment: &Enrollment) -> Option<&str> {
    match enrollment.method {
        EnrollmentMethod::Ott => enrollment.identity_id.as_ref().map(AsRef::as_ref),
        EnrollmentMethod::Erott => enrollment.edge_router_id.as_ref().map(AsRef::as_ref),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_model::id::{EnrollmentId, IdentityId};
    use proptest::prelude::*;
    use time::{Duration, macros::datetime};

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn enrollment() -> Enrollment {
        Enrollment {
            id: EnrollmentId::new("e"),
            method: EnrollmentMethod::Ott,
            identity_id: Some(IdentityId::new("i")),
            edge_router_id: None,
            expires_at: START + Duration::hours(3),
            state: EnrollmentState::Pending,
            tags: Default::default(),
            created_at: START,
            updated_at: START,
        }
    }

    fn redeemed_by(key: &str) -> Enrollment {
        let state = EnrollmentState::Redeemed {
            spki_sha256: key.into(),
            serial: "s".into(),
            chain_pem: format!("chain of {key}"),
            at: START,
        };
        Enrollment { state, ..enrollment() }
    }

    fn by(key: &str) -> Redemption<'_> {
        Redemption { subject: "i", method: EnrollmentMethod::Ott, spki_sha256: key }
    }

    #[test]
    fn the_table() {
        let late = START + Duration::hours(3);
        assert_eq!(redeem(&enrollment(), &by("k"), START), Outcome::Issue);
        assert_eq!(redeem(&enrollment(), &by("k"), late), Outcome::Refuse(Refusal::Expired(late)));
        let again = Outcome::Again { chain_pem: "chain of k".into(), serial: "s".into() };
        assert_eq!(redeem(&redeemed_by("k"), &by("k"), START), again);
        assert_eq!(redeem(&redeemed_by("k"), &by("k"), late), again, "an answer lost shortly before the end");
        assert!(matches!(
            redeem(&redeemed_by("k"), &by("other"), START),
            Outcome::Refuse(Refusal::AlreadyRedeemed { fingerprint, .. }) if fingerprint == "k"
        ));
        let foreign = Redemption { subject: "j", ..by("k") };
        assert_eq!(redeem(&enrollment(), &foreign, START), Outcome::Refuse(Refusal::Mismatch));
        let router = Redemption { method: EnrollmentMethod::Erott, ..by("k") };
        assert_eq!(redeem(&enrollment(), &router, START), Outcome::Refuse(Refusal::Mismatch));
    }

    proptest! {
        /// Whatever keys ask in whatever order, at most one is ever issued a certificate, and only that key ever gets one.
        #[test]
        fn one_key_at_most(keys in proptest::collection::vec(0u8..4, 1..40), minutes in proptest::collection::vec(0i64..30, 40)) {
            let (mut current, mut now, mut winner) = (enrollment(), START, None::<String>);
            for (key, step) in keys.iter().zip(minutes) {
                now += Duration::minutes(step);
                let key = key.to_string();
                match redeem(&current, &by(&key), now) {
                    Outcome::Issue => {
                        prop_assert!(winner.is_none());
                        current = redeemed_by(&key);
                        winner = Some(key);
                    }
                    Outcome::Again { chain_pem, .. } => {
                        prop_assert_eq!(winner.as_ref(), Some(&key));
                        prop_assert_eq!(chain_pem, format!("chain of {key}"));
                    }
                    Outcome::Refuse(_) => prop_assert!(winner.as_ref() != Some(&key)),
                }
            }
        }
    }
}
