//! The certificates that this controller issued, and the one judgement of whether one still counts. Pure.

use super::Versioned;
use hesper_pki::ca::Issued;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use time::OffsetDateTime;

/// A certificate that this controller issued: `certificate/<serial>`. A serial without a record is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// SPIFFE id.
    pub(crate) subject: String,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hexadecimal.
    pub(crate) spki_sha256: String,
    /// The CA that issued it; empty in records of an older version.
    #[serde(default)]
    pub(crate) issuer: String,
    /// When it begins; none in records of an older version.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(crate) not_before: Option<OffsetDateTime>,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: OffsetDateTime,
    /// Withdrawn before its end.
    #[serde(default)]
    pub(crate) revoked: bool,
}

impl Certificate {
    /// The record of a certificate just issued.
    pub(crate) fn new(subject: String, issued: &Issued, issuer: String) -> Self {
        Self {
            subject,
            spki_sha256: issued.spki_sha256.clone(),
            issuer,
            not_before: Some(issued.not_before),
            not_after: issued.not_after,
            revoked: false,
        }
    }
}

/// Why a certificate does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateRefusal {
    /// This controller has no record of it, or one for another subject or key.
    #[error("the certificate {0} was not issued by this controller: enroll again")]
    Unknown(String),
    /// It was withdrawn.
    #[error("the certificate {0} was revoked: enroll again")]
    Revoked(String),
    /// Its CA was given up, and no one of another CA took its place.
    #[error("the CA that issued the certificate {0} is not trusted any more: enroll again")]
    Untrusted(String),
    /// It ended, and no later one took its place.
    #[error("the certificate {0} expired at {1}: enroll again")]
    Expired(String, OffsetDateTime),
}

/// Parts of a [`Sharded`].
const SHARDS: usize = 256;

/// A map in parts: a copy shares them all, and a change copies one. The keys are in no order.
#[derive(Clone, Debug)]
struct Sharded<V>(Vec<Arc<BTreeMap<String, V>>>);

impl<V> Default for Sharded<V> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Arc::default()).collect())
    }
}

impl<V: Clone> Sharded<V> {
    /// FNV-1a: keys are ids that this controller has made.
    fn index(key: &str) -> usize {
        let hash = key.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        (hash as usize) % SHARDS
    }

    fn get(&self, key: &str) -> Option<&V> {
        self.0.get(Self::index(key))?.get(key)
    }

    /// The part of this key, to be changed.
    fn of(&mut self, key: &str) -> &mut BTreeMap<String, V> {
        Arc::make_mut(&mut self.0[Self::index(key)])
    }

    fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.0.iter().flat_map(|part| part.iter())
    }
}

/// Every certificate on record. Cheap to clone, and to change after that.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates {
    by_serial: Sharded<Arc<Versioned<Certificate>>>,
    by_subject: Sharded<BTreeSet<String>>,
}

impl Certificates {
    pub(super) fn get(&self, serial: &str) -> Option<&Versioned<Certificate>> {
        self.by_serial.get(serial).map(AsRef::as_ref)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Versioned<Certificate>)> {
        self.by_serial.iter().map(|(serial, record)| (serial.as_str(), record.as_ref()))
    }

    pub(super) fn of_subject(&self, subject: &str) -> impl Iterator<Item = (&str, &Versioned<Certificate>)> {
        let serials = self.by_subject.get(subject).into_iter().flatten();
        serials.filter_map(|serial| Some((serial.as_str(), self.get(serial)?)))
    }

    pub(super) fn put(&mut self, serial: &str, record: Versioned<Certificate>) {
        self.remove(serial);
        let subject = record.entity.subject.clone();
        self.by_subject.of(&subject).entry(subject).or_default().insert(serial.to_owned());
        self.by_serial.of(serial).insert(serial.to_owned(), Arc::new(record));
    }

    pub(super) fn remove(&mut self, serial: &str) {
        if self.get(serial).is_none() {
            return;
        }
        let Some(old) = self.by_serial.of(serial).remove(serial) else { return };
        let subjects = self.by_subject.of(&old.entity.subject);
        if let Some(serials) = subjects.get_mut(&old.entity.subject) {
            serials.remove(serial);
            if serials.is_empty() {
                subjects.remove(&old.entity.subject);
            }
        }
    }

    /// Does the certificate with this serial, or a later one for the same subject and key, still count?
    pub(super) fn check(
        &self,
        subject: &str,
        spki_sha256: &str,
        serial: &str,
        trusted: impl Fn(&Certificate) -> bool,
        now: OffsetDateTime,
    ) -> Result<(), CertificateRefusal> {
        let good = |c: &Certificate| {
            !c.revoked
                && c.not_after > now
                && c.subject == subject
                && c.spki_sha256 == spki_sha256
                && trusted(c)
        };
        match self.get(serial).map(|record| &record.entity) {
            Some(own) if own.revoked => Err(CertificateRefusal::Revoked(serial.to_owned())),
            Some(own) if good(own) => Ok(()),
            // A connection may be older than the certificate that its owner has renewed meanwhile.
            _ if self.of_subject(subject).any(|(_, record)| good(&record.entity)) => Ok(()),
            Some(own) if !trusted(own) => Err(CertificateRefusal::Untrusted(serial.to_owned())),
            Some(own) if own.not_after <= now => {
                Err(CertificateRefusal::Expired(serial.to_owned(), own.not_after))
            }
            Some(_) | None => Err(CertificateRefusal::Unknown(serial.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn record(subject: &str, key: &str, seconds: i64, revoked: bool) -> Versioned<Certificate> {
        let not_after = NOW + time::Duration::seconds(seconds);
        let (subject, spki_sha256, issuer) = (subject.to_owned(), key.to_owned(), String::new());
        let entity = Certificate { subject, spki_sha256, issuer, not_before: None, not_after, revoked };
        Versioned { entity, mod_revision: 1 }
    }

    #[test]
    fn one_judgement_for_every_case() {
        let mut all = Certificates::default();
        for (serial, subject, key, seconds, revoked) in [
            ("good", "a", "k", 60, false),
            ("old", "a", "k", -60, false),
            ("revoked", "a", "k", 60, true),
            ("alone", "b", "k", -60, false),
        ] {
            all.put(serial, record(subject, key, seconds, revoked));
        }
        for (subject, key, serial, expected) in [
            ("a", "k", "good", Ok(())),
            ("a", "k", "old", Ok(())),
            ("a", "k", "never", Ok(())),
            ("a", "k", "revoked", Err("was revoked")),
            ("a", "other", "good", Err("was not issued")),
            ("b", "k", "good", Err("was not issued")),
            ("b", "k", "alone", Err("expired at 1969-12-31")),
            ("c", "k", "never", Err("was not issued")),
        ] {
            match (all.check(subject, key, serial, |_| true, NOW), expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(text)) => {
                    assert!(
                        error.to_string().contains(text) && error.to_string().ends_with("enroll again"),
                        "{error}"
                    );
                }
                other => panic!("{subject} {key} {serial}: {other:?}"),
            }
        }
        let given_up = all.check("a", "k", "good", |_| false, NOW).unwrap_err().to_string();
        assert!(given_up.contains("not trusted any more"), "{given_up}");
        assert!(all.check("a", "k", "good", |_| true, NOW + Duration::from_secs(60)).is_err());
        all.remove("good");
        assert!(all.check("a", "k", "old", |_| true, NOW).is_err(), "nothing took its place");
        for serial in ["old", "revoked", "alone", "alone"] {
            all.remove(serial);
        }
        assert!(all.iter().next().is_none() && all.by_subject.iter().next().is_none());
    }

    #[test]
    fn a_change_of_a_copy_is_not_seen_in_the_other() {
        let mut all = Certificates::default();
        (0..1_000).for_each(|n| all.put(&n.to_string(), record("a", "k", 60, false)));
        let before = all.clone();
        all.remove("7");
        all.put("more", record("b", "k", 60, false));
        let counts =
            |c: &Certificates| (c.iter().count(), c.of_subject("a").count(), c.of_subject("b").count());
        assert_eq!((counts(&before), counts(&all)), ((1_000, 1_000, 0), (1_000, 999, 1)));
        let copied =
            before.by_serial.0.iter().zip(&all.by_serial.0).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert!(copied <= 2, "{copied} parts were copied");
    }
}
