//! The table against a model so plain that it can be believed: lists of facts, scanned from the newest.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Attach { tag: u8, port: u8 },
    Moved { tag: u8, old: bool, port: u8 },
    Detach { tag: u8, old: bool },
    Open { id: u8, a: u8, b: u8, life: u64 },
    RevokePass { id: u8 },
    RevokeSession { tag: u8 },
    Later { secs: u64 },
    Expire,
    Outage { lost: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let tag = || 0u8..4;
    let port = || 0u8..4;
    let op = prop_oneof![
        4 => (tag(), port()).prop_map(|(tag, port)| Op::Attach { tag, port }),
        2 => (tag(), any::<bool>(), port()).prop_map(|(tag, old, port)| Op::Moved { tag, old, port }),
        2 => (tag(), any::<bool>()).prop_map(|(tag, old)| Op::Detach { tag, old }),
        5 => (0u8..6, tag(), tag(), 1u64..50).prop_map(|(id, a, b, life)| Op::Open { id, a, b, life }),
        1 => (0u8..6).prop_map(|id| Op::RevokePass { id }),
        1 => tag().prop_map(|tag| Op::RevokeSession { tag }),
        2 => (1u64..30).prop_map(|secs| Op::Later { secs }),
        1 => Just(Op::Expire),
        1 => any::<bool>().prop_map(|lost| Op::Outage { lost }),
    ];
    proptest::collection::vec(op, 0..60)
}

fn t(tag: u8) -> Tag {
    Tag([tag; 8])
}

fn place(port: u8) -> Place {
    Place { address: SocketAddr::from(([127, 0, 0, 1], u16::from(port) + 1)), local_ip: None }
}

/// tag, epoch, port (`None`: taken by another).
#[derive(Default)]
struct Model {
    sessions: Vec<(u8, u64, Option<u8>)>,
    passes: Vec<(u8, u8, u8, u64)>,
    outage: Option<Outage>,
}

impl Model {
    fn epoch(&self, tag: u8) -> Option<u64> {
        self.sessions.iter().find(|s| s.0 == tag).map(|s| s.1)
    }
    fn set(&mut self, tag: u8, epoch: u64, port: u8) {
        self.sessions.retain(|s| s.0 != tag);
        for s in &mut self.sessions {
            if s.2 == Some(port) {
                s.2 = None;
            }
        }
        self.sessions.push((tag, epoch, Some(port)));
    }
    fn honours(&self, exp: u64, now: u64) -> bool {
        self.outage.is_some_and(|outage| outage.honours(exp, now))
    }
    fn open(&self, x: u8, y: u8, now: u64) -> bool {
        self.passes.iter().any(|p| (p.1 == x && p.2 == y || p.1 == y && p.2 == x) && self.honours(p.3, now))
    }
    fn route(&self, port: u8, to: u8, now: u64) -> Route {
        let Some(from) = self.sessions.iter().find(|s| s.2 == Some(port)) else {
            return Route::Drop(DropReason::UnknownSource);
        };
        let target = self.sessions.iter().find(|s| s.0 == to);
        match (self.open(from.0, to, now), target) {
            (true, Some((_, _, Some(port)))) => Route::To(place(*port)),
            (true, _) => Route::Drop(DropReason::DestinationNotAttached),
            (false, Some(_)) => Route::Drop(DropReason::PairClosed),
            (false, None) => Route::Drop(DropReason::UnknownTag),
        }
    }
}

fn apply(op: Op, table: &mut Table, model: &mut Model, now: &mut u64, epoch: &mut u64) {
    match op {
        Op::Attach { tag, port } => {
            *epoch += 1;
            table.attach(t(tag), *epoch, place(port));
            model.set(tag, *epoch, port);
        }
        Op::Moved { tag, old, port } => {
            let current = model.epoch(tag);
            let said = current.unwrap_or(1).wrapping_sub(u64::from(old));
            table.moved(t(tag), said, place(port));
            if current == Some(said) {
                model.set(tag, said, port);
            }
        }
        Op::Detach { tag, old } => {
            let current = model.epoch(tag);
            let said = current.unwrap_or(1).wrapping_sub(u64::from(old));
            let gone = table.detach(t(tag), said);
            assert_eq!(gone.is_some(), current == Some(said));
            if current == Some(said) {
                model.sessions.retain(|s| s.0 != tag);
            }
        }
        Op::Open { id, a, b, life } => {
            table.open(Pass { id: id.to_string().into(), a: t(a), b: t(b), exp: *now + life }).unwrap();
            model.passes.retain(|p| p.0 != id);
            model.passes.push((id, a, b, *now + life));
        }
        Op::RevokePass { id } => {
            table.revoke_pass(&id.to_string());
            model.passes.retain(|p| p.0 != id);
        }
        Op::RevokeSession { tag } => {
            table.revoke_session(t(tag));
            model.sessions.retain(|s| s.0 != tag);
            model.passes.retain(|p| p.1 != tag && p.2 != tag);
        }
        Op::Later { secs } => *now += secs,
        Op::Outage { lost } => {
            for outage in [table.outage_mut(), model.outage.as_mut().unwrap()] {
                if lost { outage.lost(*now) } else { outage.over(*now) }
            }
        }
        Op::Expire => {
            table.expire(*now);
            let outage = model.outage.unwrap();
            model.passes.retain(|p| outage.honours(p.3, *now));
            assert_eq!(table.passes.len(), model.passes.len());
        }
    }
}

proptest! {
    #[test]
    fn routes_like_the_model(ops in ops()) {
        let (mut table, mut model) = (Table::new(40), Model { outage: Some(Outage::new(40)), ..Model::default() });
        let (mut now, mut epoch) = (1_000, 10);
        for op in ops {
            apply(op, &mut table, &mut model, &mut now, &mut epoch);
            for (port, to) in (0..4).flat_map(|p| (0..4).map(move |t| (p, t))) {
                prop_assert_eq!(table.route(place(port).address, t(to), now), model.route(port, to, now));
            }
            prop_assert_eq!(table.sessions.len(), model.sessions.len());
        }
        table.expire(u64::MAX);
        prop_assert!(table.pairs.is_empty() && table.peers.is_empty() && table.held.is_empty());
        prop_assert!(table.passes.is_empty() && table.by_expiry.is_empty());
        for tag in 0..4 {
            table.revoke_session(t(tag));
        }
        prop_assert!(table.sessions.is_empty() && table.by_address.is_empty());
    }
}
