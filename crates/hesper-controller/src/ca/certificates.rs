//! What has become of each certificate. Pure.

use crate::state::{Certificate, Records};
use hesper_pki::{
    credentials::is_late,
    spiffe::{SpiffeId, SpiffeRole},
};
use hesper_policy::Model;
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;

/// The state of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertState {
    /// In use.
    Valid,
    /// In use, and past three quarters of its life: its owner should have renewed it.
    Late,
    /// Its owner has a newer one.
    Renewed,
    /// It has ended.
    Expired,
    /// It was withdrawn.
    Revoked,
    /// Its CA is not trusted any more.
    Untrusted,
}

impl CertState {
    /// As shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Late => "late",
            Self::Renewed => "renewed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Untrusted => "untrusted",
        }
    }
}

/// One certificate.
#[derive(Clone, Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) serial: &'a str,
    pub(crate) certificate: &'a Certificate,
    pub(crate) state: CertState,
}

/// Every certificate on record with its state.
pub(crate) fn all(records: &Records, now: OffsetDateTime) -> Vec<Listed<'_>> {
    let mut newest: HashMap<&str, OffsetDateTime> = HashMap::new();
    for (_, record) in records.certificates() {
        let c = &record.entity;
        if is_good(records, c, now) {
            let latest = newest.entry(&c.subject).or_insert(c.not_after);
            *latest = c.not_after.max(*latest);
        }
    }
    let listed = records.certificates().map(|(serial, record)| {
        let c = &record.entity;
        let state = match newest.get(c.subject.as_str()) {
            _ if c.revoked => CertState::Revoked,
            _ if c.not_after <= now => CertState::Expired,
            _ if !records.trusts(c) => CertState::Untrusted,
            Some(latest) if *latest > c.not_after => CertState::Renewed,
            _ if c.not_before.is_some_and(|from| is_late(from, c.not_after, now)) => CertState::Late,
            _ => CertState::Valid,
        };
        Listed { serial, certificate: c, state }
    });
    let mut listed: Vec<_> = listed.collect();
    listed.sort_by_key(|l: &Listed<'_>| l.serial);
    listed
}

fn is_good(records: &Records, c: &Certificate, now: OffsetDateTime) -> bool {
    !c.revoked && c.not_after > now && records.trusts(c)
}

/// The subject's role and name; none when it does not exist any more.
pub(crate) fn owner(model: &Model, subject: &str) -> Option<(SpiffeRole, String)> {
    let id: SpiffeId = subject.parse().ok()?;
    let name = match id.role {
        SpiffeRole::Identity => model.identities().find(|i| i.id.as_str() == id.id)?.name.clone(),
        SpiffeRole::Router => model.edge_routers().find(|r| r.id.as_str() == id.id)?.name.clone(),
        SpiffeRole::Controller => return None,
    };
    Some((id.role, name))
}

/// Names of those whose newest certificate in use is of this CA, or who say so themselves; `left` has what they say.
pub(crate) fn holders(
    model: &Model,
    records: &Records,
    ca: &str,
    left: &HashMap<String, bool>,
    now: OffsetDateTime,
) -> Vec<String> {
    let mut newest: BTreeMap<&str, &Certificate> = BTreeMap::new();
    for (_, record) in records.certificates() {
        let c = &record.entity;
        if is_good(records, c, now)
            && newest.get(c.subject.as_str()).is_none_or(|n| n.not_after < c.not_after)
        {
            newest.insert(&c.subject, c);
        }
    }
    let holds = |c: &Certificate| left.get(&c.subject).map_or(c.issuer == ca, |left| !left);
    let held = newest.into_iter().filter(|(_, c)| holds(c));
    held.filter_map(|(subject, _)| owner(model, subject)).map(|(_, name)| name).collect()
}
