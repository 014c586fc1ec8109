//! Policy at the door: may this identity send this, and how much of it.
//!
//! The terms came with the sender's grant (`otlp.v1`), so nothing is asked over the network. What is refused is told in the log and the audit
//! file: the first time at once, then at most once in [`QUIET`] for each identity and reason, with how often it happened.

use hesper_model::config::otlp::{Charge, Denied};
use hesper_observe::audit::{Audit, Event, Kind, Outcome};
use hesper_otlp::{Refusal, resource};
use hesper_telemetry::{flow::Received, net::MeshPeer, quota::Quota};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a repeated refusal is only counted.
const QUIET: Duration = Duration::from_secs(10);
/// Refusals that are remembered: identities that are refused, times reasons. Beyond, they are told as they come.
const MAX_REMEMBERED: usize = 4096;

/// See the module.
pub(crate) struct Gate {
    quota: Mutex<Quota>,
    refusals: Mutex<Refusals>,
    audit: Audit,
}

impl Gate {
    pub(crate) fn new(audit: Audit) -> Self {
        Self { quota: Mutex::default(), refusals: Mutex::default(), audit }
    }

    /// Lets a batch in, or says why not. Who does not come over the mesh has no terms: the receiver's authenticator has judged.
    pub(crate) fn admit(&self, received: &Received) -> Result<(), Refusal> {
        let Some(peer) = &received.peer.mesh else { return Ok(()) };
        let signal = received.batch.signal;
        let names = match peer.terms.asks_for_names(signal) {
            true => resource::said(signal, &received.batch.payload, "service.name").collect(),
            false => Vec::new(),
        };
        let allowed = peer.terms.decide(signal, names.iter().flat_map(resource::Said::names));
        let allowed = allowed.map_err(|denied| {
            self.tell_denied(peer, &denied);
            Refusal::Denied(denied.to_string())
        })?;
        self.charge(peer, &allowed.charges, received)
    }

    fn charge(&self, peer: &MeshPeer, charges: &[Charge], received: &Received) -> Result<(), Refusal> {
        if charges.is_empty() {
            return Ok(());
        }
        let bytes = received.batch.payload.len() as u64;
        let taken = {
            let mut quota = self.quota.lock().unwrap_or_else(PoisonError::into_inner);
            // What is left is by identity and service: this process may have several.
            let who = format!("{} {}", peer.sender.id, peer.terms.service);
            quota.take(&who, charges, received.counts.items, bytes, Instant::now())
        };
        taken.map_err(|after| {
            let reason = format!(
                "identity '{}' sends more {} than the config '{}' lets it; come again later",
                peer.sender.name, received.batch.signal, peer.terms.config
            );
            self.tell(peer, "rate", &reason);
            Refusal::Quota { reason, after }
        })
    }

    fn tell_denied(&self, peer: &MeshPeer, denied: &Denied) {
        self.tell(peer, denied.reason.code(), &denied.to_string());
    }

    fn tell(&self, peer: &MeshPeer, code: &'static str, reason: &str) {
        let refused = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.note((peer.sender.id.clone(), code), Instant::now())
        };
        let Some(times) = refused else { return };
        tracing::warn!(identity = peer.sender.name, reason, times, "telemetry was refused");
        let event = Event::now(Kind::Send, Outcome::Denied)
            .actor(&peer.sender.id)
            .field("identity", peer.sender.name.as_str())
            .field("service", peer.terms.service.as_str())
            .field("rule", peer.terms.config.as_str())
            .field("reason", reason)
            .field("times", times);
        self.audit.record(&event);
    }
}

/// Who was refused why.
type Key = (String, &'static str);

/// Pure: which refusals are told, and how many each stands for.
#[derive(Debug, Default)]
struct Refusals {
    quiet: HashMap<Key, (Instant, u64)>,
}

impl Refusals {
    /// Counts one. Some: it is to be told, and is so many.
    fn note(&mut self, key: Key, now: Instant) -> Option<u64> {
        if let Some((until, counted)) = self.quiet.get_mut(&key) {
            *counted += 1;
            if now < *until {
                return None;
            }
            let times = *counted;
            (*until, *counted) = (now + QUIET, 0);
            return Some(times);
        }
        if self.quiet.len() >= MAX_REMEMBERED {
            self.quiet.retain(|_, (until, _)| now < *until);
        }
        if self.quiet.len() < MAX_REMEMBERED {
            self.quiet.insert(key, (now + QUIET, 0));
        }
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_in_a_while_and_nothing_is_left_uncounted() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let key = || ("id".to_owned(), "signal");
        assert_eq!(refusals.note(key(), begin), Some(1));
        let mut told = 1;
        for ms in 1..=30_000 {
            told += refusals.note(key(), begin + Duration::from_millis(ms)).unwrap_or(0);
        }
        assert_eq!(told, 30_001);
        assert_eq!(refusals.note(("id".to_owned(), "rate"), begin), Some(1), "another reason");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for n in 0..2 * MAX_REMEMBERED {
            assert_eq!(refusals.note((n.to_string(), "signal"), now), Some(1));
        }
        assert_eq!(refusals.quiet.len(), MAX_REMEMBERED);
        assert_eq!(refusals.note(("new".into(), "signal"), now + QUIET), Some(1));
        assert_eq!(refusals.quiet.len(), 1, "those whose time is over make room");
    }
}
