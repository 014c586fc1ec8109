//! Policy at the door: may this identity send this, and how much of it.
//!
//! The terms came with the sender's grant (`otlp.v1`), so nothing is asked over the network. What is refused is told in the log and as an
//! event: the first time at once, then at most once in [`QUIET`] for each identity and reason, with how often it happened.

use hesper_model::config::otlp::{Charge, Denied};
use hesper_observe::events::{Denial, Event, Events, Kind, Named};
use hesper_otlp::{Refusal, resource};
use hesper_sdk::Context;
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
    events: Events,
    /// Who we are in the mesh, and which services there are.
    ctx: Option<Context>,
}

impl Gate {
    pub(crate) fn new(events: Events, ctx: Option<Context>) -> Self {
        Self { quota: Mutex::default(), refusals: Mutex::default(), events, ctx }
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
            self.tell(peer, &peer.terms.config, ("rate", &reason));
            Refusal::Quota { reason, after }
        })
    }

    fn tell_denied(&self, peer: &MeshPeer, denied: &Denied) {
        self.tell(peer, &denied.config, (denied.reason.code(), &denied.to_string()));
    }

    /// A batch that has been here before, or has come a way that is too long.
    pub(crate) fn tell_loop(&self, peer: &MeshPeer, reason: &str) {
        self.tell(peer, reason, ("loop", reason));
    }

    fn tell(&self, peer: &MeshPeer, rule: &str, (code, reason): (&'static str, &str)) {
        let refused = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.note((peer.sender.id.clone(), code), Instant::now())
        };
        let Some(times) = refused else { return };
        tracing::warn!(identity = peer.sender.name, reason, times, "telemetry was refused");
        let denial = Denial {
            identity: Named::new(&peer.sender.id, &peer.sender.name),
            service: self.service(&peer.terms.service),
            rule: rule.to_owned(),
        };
        let event = Event::denied(Kind::Send, denial).actor(&peer.sender.id);
        self.events.record(event.field("code", code).field("reason", reason).field("times", times));
    }

    /// The terms name the service; we know its id, because we have bound it.
    fn service(&self, name: &str) -> Named {
        let view = self.ctx.as_ref().map(|ctx| ctx.state().borrow().clone());
        let id = view.as_ref().and_then(|view| view.service(name)).map(|service| service.id.clone());
        Named { id, name: Some(name.to_owned()) }
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
    use bytes::Bytes;
    use hesper_model::config::otlp::{Limits, Rate, SenderRule, SenderTerms};
    use hesper_observe::events::Begin;
    use hesper_otlp::{Batch, Counts, Signal};
    use hesper_telemetry::{
        net::Peer,
        origin::{Origin, Sender},
    };
    use serde_json::Value;
    use std::sync::Arc;

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

    fn received(terms: SenderTerms) -> Received {
        let sender = Sender { id: "i1".into(), name: "alice".into() };
        let mesh = Some(MeshPeer { sender, terms: Arc::new(terms) });
        Received {
            batch: Batch { signal: Signal::Traces, payload: Bytes::from_static(&[]) },
            counts: Counts::default(),
            origin: Origin::default(),
            id: None,
            peer: Arc::new(Peer { mesh, ..Peer::default() }),
        }
    }

    #[test]
    fn each_refusal_names_identity_service_and_rule() {
        let events = Events::unkept();
        let mut follower = events.subscribe(Begin::Now);
        let gate = Gate::new(events, None);
        let terms = |rules| SenderTerms {
            config: "traces-only".into(),
            service: "otlp".into(),
            identity: "alice".into(),
            gateway: false,
            rules: Some(rules),
        };
        let other =
            SenderRule { signals: vec![Signal::Logs], service_names: vec![], limits: Limits::default() };
        let little = Rate { per_second: 1, burst: 1 };
        let limits = Limits { items: Some(little), bytes: Some(little) };
        let limited = SenderRule { signals: vec![], service_names: vec![], limits };
        for (rules, code) in [(vec![], "no-rule"), (vec![other], "signal"), (vec![limited], "rate")] {
            let mut batch = received(terms(rules));
            batch.counts.items = 100_000;
            // What is too much is taken once, and paid for after that.
            let told = match (0..2).find_map(|_| gate.admit(&batch).err()) {
                Some(Refusal::Denied(reason) | Refusal::Quota { reason, .. }) => reason,
                other => panic!("{other:?}"),
            };
            let recorded = follower.ready().expect(code).events.remove(0);
            let line: Value = serde_json::from_str(&recorded.line).expect("JSON");
            let shown = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                [shown("event"), shown("outcome"), shown("code")],
                ["send", "denied", code].map(String::from)
            );
            assert_eq!([shown("identity"), shown("identityId")], ["alice", "i1"].map(String::from));
            assert_eq!([shown("service"), shown("rule")], ["otlp", "traces-only"].map(String::from));
            assert!(told.contains("traces-only") && told == shown("reason"), "{line}");
        }
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
