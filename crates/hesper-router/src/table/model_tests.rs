//! The table against a model so plain that it can be believed: lists of facts, scanned from the newest.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Attach { tag: u8, port: u8 },
    Moved { tag: u8, old: bool, port: u8 },
    Detach { tag: u8, old: bool },
    Open { id: u8, a: u8, b: u8, life: u64, direct: bool, over: Vec<u8> },
    Handed { id: u8, a: u8, b: u8, life: u64, by: u8 },
    LinkUp { link: u8, port: u8 },
    LinkMoved { link: u8, port: u8 },
    LinkStayed { link: u8, port: u8 },
    LinkDown { link: u8, old: bool },
    Draining { link: u8 },
    Absent { link: u8, tag: u8, absent: bool },
    Quiet { tag: u8, quiet: bool },
    RevokePass { id: u8 },
    RevokeSession { tag: u8 },
    Later { secs: u64 },
    Expire,
    Outage { lost: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let tag = || 0u8..4;
    let (port, link) = (|| 0u8..5, || 0u8..3);
    let over = prop::sample::subsequence(vec![0u8, 1, 2], 0..=3).prop_shuffle();
    let op = prop_oneof![
        4 => (tag(), port()).prop_map(|(tag, port)| Op::Attach { tag, port }),
        2 => (tag(), any::<bool>(), port()).prop_map(|(tag, old, port)| Op::Moved { tag, old, port }),
        2 => (tag(), any::<bool>()).prop_map(|(tag, old)| Op::Detach { tag, old }),
        5 => (0u8..6, tag(), tag(), 1u64..50, any::<bool>(), over)
            .prop_map(|(id, a, b, life, direct, over)| Op::Open { id, a, b, life, direct, over }),
        3 => (0u8..6, tag(), tag(), 1u64..50, link())
            .prop_map(|(id, a, b, life, by)| Op::Handed { id, a, b, life, by }),
        3 => (link(), port()).prop_map(|(link, port)| Op::LinkUp { link, port }),
        1 => (link(), port()).prop_map(|(link, port)| Op::LinkMoved { link, port }),
        1 => (link(), port()).prop_map(|(link, port)| Op::LinkStayed { link, port }),
        1 => (link(), any::<bool>()).prop_map(|(link, old)| Op::LinkDown { link, old }),
        1 => link().prop_map(|link| Op::Draining { link }),
        1 => (link(), tag(), any::<bool>()).prop_map(|(link, tag, absent)| Op::Absent { link, tag, absent }),
        1 => (tag(), any::<bool>()).prop_map(|(tag, quiet)| Op::Quiet { tag, quiet }),
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

#[derive(Clone, Copy)]
struct ModelSession {
    tag: u8,
    epoch: u64,
    /// `None`: taken by another.
    port: Option<u8>,
    quiet: bool,
}

#[derive(Clone, Default)]
struct ModelLink {
    epoch: u64,
    port: Option<u8>,
    draining: bool,
    absent: Vec<u8>,
}

#[derive(Clone)]
struct ModelPass {
    id: u8,
    by: Option<u8>,
    a: u8,
    b: u8,
    exp: u64,
    direct: bool,
    over: Vec<u8>,
}

impl ModelPass {
    /// Who is here, who is behind the links.
    fn ends(&self) -> (u8, u8) {
        if self.by.is_none() { (self.a, self.b) } else { (self.b, self.a) }
    }
}

#[derive(Default)]
struct Model {
    sessions: Vec<ModelSession>,
    links: [ModelLink; 3],
    /// The latest last.
    passes: Vec<ModelPass>,
    outage: Option<Outage>,
}

impl Model {
    fn epoch(&self, tag: u8) -> Option<u64> {
        self.sessions.iter().find(|s| s.tag == tag).map(|s| s.epoch)
    }
    fn free(&mut self, port: u8) {
        let sessions = self.sessions.iter_mut().map(|s| &mut s.port);
        for taken in sessions.chain(self.links.iter_mut().map(|l| &mut l.port)).filter(|p| **p == Some(port))
        {
            *taken = None;
        }
    }
    fn set(&mut self, tag: u8, epoch: u64, port: Option<u8>, quiet: bool) {
        self.sessions.retain(|s| s.tag != tag);
        port.into_iter().for_each(|port| self.free(port));
        self.sessions.push(ModelSession { tag, epoch, port, quiet });
    }
    fn is_free(&self, port: u8) -> bool {
        let of_links = self.links.iter().map(|l| l.port);
        !self.sessions.iter().map(|s| s.port).chain(of_links).any(|p| p == Some(port))
    }
    fn present(&mut self, pass: ModelPass) {
        self.passes.retain(|p| (p.id, p.by) != (pass.id, pass.by));
        self.passes.push(pass);
    }
    /// Those with a pass, the smaller tag first.
    fn pairs(&self) -> BTreeSet<(Tag, Tag)> {
        self.passes.iter().map(|p| (t(p.a.min(p.b)), t(p.a.max(p.b)))).collect()
    }
    fn honours(&self, exp: u64, now: u64) -> bool {
        self.outage.is_some_and(|outage| outage.honours(exp, now))
    }
    /// Links from `x` to `y` in the order of the pass presented last, that a pass honours now.
    fn ways(&self, x: u8, y: u8, now: u64) -> Vec<u8> {
        let mut ways = Vec::new();
        let of_pair = || self.passes.iter().rev().filter(|p| p.ends() == (x, y));
        for link in of_pair().flat_map(|p| p.over.clone()) {
            let good = of_pair().any(|p| p.over.contains(&link) && self.honours(p.exp, now));
            if good && !ways.contains(&link) {
                ways.push(link);
            }
        }
        ways
    }
    fn route(&self, port: u8, to: u8, now: u64) -> Route {
        let target = self.sessions.iter().find(|s| s.tag == to);
        let at = target.and_then(|s| s.port);
        if let Some(link) = (0..3u8).find(|l| self.links[usize::from(*l)].port == Some(port)) {
            let open = |p: &ModelPass| p.ends().0 == to && p.over.contains(&link) && self.honours(p.exp, now);
            return match (self.passes.iter().any(open), at) {
                (true, Some(port)) => Route::To(place(port)),
                (true, None) => Route::Drop(DropReason::DestinationNotAttached),
                (false, _) => Route::Drop(DropReason::LinkPairClosed),
            };
        }
        let Some(from) = self.sessions.iter().find(|s| s.port == Some(port)).map(|s| s.tag) else {
            return Route::Drop(DropReason::UnknownSource);
        };
        let joins = |p: &&ModelPass| [(p.a, p.b), (p.b, p.a)].contains(&(from, to));
        let direct = self.passes.iter().filter(joins).any(|p| p.direct && self.honours(p.exp, now));
        let ways = self.ways(from, to, now);
        let up = ways.iter().map(|l| &self.links[usize::from(*l)]).filter(|l| l.port.is_some());
        let best = up.min_by_key(|l| (l.absent.contains(&to), l.draining)).and_then(|l| l.port);
        match (direct, at, best) {
            (true, Some(port), _) if !target.is_some_and(|t| t.quiet) => Route::To(place(port)),
            (_, _, Some(port)) | (true, Some(port), None) => Route::To(place(port)),
            _ if direct || !ways.is_empty() => Route::Drop(DropReason::DestinationNotAttached),
            _ if target.is_some() => Route::Drop(DropReason::PairClosed),
            _ => Route::Drop(DropReason::UnknownTag),
        }
    }
}

fn link(table: &mut Table, link: u8) -> RouterIx {
    table.router(&EdgeRouterId::new(link.to_string())).unwrap()
}

fn apply(op: Op, table: &mut Table, model: &mut Model, now: &mut u64, epoch: &mut u64) {
    match op {
        Op::Attach { tag, port } => {
            *epoch += 1;
            table.attach(t(tag), *epoch, place(port));
            model.set(tag, *epoch, Some(port), false);
        }
        Op::Moved { tag, old, port } => {
            let current = model.epoch(tag);
            let said = current.unwrap_or(1).wrapping_sub(u64::from(old));
            table.moved(t(tag), said, place(port));
            if current == Some(said) {
                let before = *model.sessions.iter().find(|s| s.tag == tag).unwrap();
                if before.port != Some(port) {
                    let of_link = model.links.iter().any(|l| l.port == Some(port));
                    model.set(tag, said, (!of_link).then_some(port), before.quiet);
                }
            }
        }
        Op::Detach { tag, old } => {
            let current = model.epoch(tag);
            let said = current.unwrap_or(1).wrapping_sub(u64::from(old));
            let gone = table.detach(t(tag), said);
            assert_eq!(gone.is_some(), current == Some(said));
            if current == Some(said) {
                model.sessions.retain(|s| s.tag != tag);
            }
        }
        Op::RevokePass { id } => {
            let closed = table.revoke_pass(&id.to_string());
            assert!(closed.is_none() || model.passes.iter().any(|p| p.id == id));
            assert!(closed.is_none_or(|(a, b)| !table.is_open(a, b)));
            model.passes.retain(|p| p.id != id);
        }
        Op::RevokeSession { tag } => {
            table.revoke_session(t(tag));
            model.sessions.retain(|s| s.tag != tag);
            model.passes.retain(|p| p.a != tag && p.b != tag);
        }
        Op::Quiet { tag, quiet } => {
            if let Some(session) = model.sessions.iter_mut().find(|s| s.tag == tag) {
                table.set_quiet(t(tag), session.epoch, quiet);
                session.quiet = quiet;
            }
        }
        Op::Later { secs } => *now += secs,
        Op::Outage { lost } => {
            for outage in [table.outage_mut(), model.outage.as_mut().unwrap()] {
                if lost { outage.lost(*now) } else { outage.over(*now) }
            }
        }
        Op::Expire => {
            let (before, outage) = (model.pairs(), model.outage.unwrap());
            let lapsed = table.expire(*now);
            model.passes.retain(|p| outage.honours(p.exp, *now));
            assert_eq!(table.passes.len(), model.passes.len());
            let expected = &before - &model.pairs();
            assert_eq!(lapsed.len(), expected.len(), "each once");
            assert!(lapsed.iter().all(|(a, b)| expected.contains(&(*a.min(b), *a.max(b)))));
        }
        op => apply_to_links(op, table, model, *now, epoch),
    }
}

fn apply_to_links(op: Op, table: &mut Table, model: &mut Model, now: u64, epoch: &mut u64) {
    match op {
        Op::Open { id, a, b, life, direct, over } => {
            let ways = Ways::Dialer { direct, over: over.iter().map(|l| link(table, *l)).collect() };
            let exp = now + life;
            let token = (!over.is_empty()).then(|| "token".into());
            table.open(Pass { id: id.to_string().into(), a: t(a), b: t(b), exp, ways, token }).unwrap();
            model.present(ModelPass { id, by: None, a, b, exp, direct, over });
        }
        Op::Handed { id, a, b, life, by } => {
            let (exp, ways) = (now + life, Ways::Link(link(table, by)));
            table.open(Pass { id: id.to_string().into(), a: t(a), b: t(b), exp, ways, token: None }).unwrap();
            model.present(ModelPass { id, by: Some(by), a, b, exp, direct: false, over: vec![by] });
        }
        Op::LinkUp { link: l, port } => {
            *epoch += 1;
            let ix = link(table, l);
            table.link_up(ix, *epoch, place(port));
            model.free(port);
            model.links[usize::from(l)] = ModelLink { epoch: *epoch, port: Some(port), ..Default::default() };
        }
        Op::LinkMoved { link: l, port } => {
            let ix = link(table, l);
            let epoch = model.links[usize::from(l)].epoch;
            table.link_moved(ix, epoch, place(port));
            model.free(port);
            model.links[usize::from(l)].port = Some(port);
        }
        Op::LinkStayed { link: l, port } => {
            let ix = link(table, l);
            let ModelLink { epoch, port: before, .. } = model.links[usize::from(l)];
            table.link_stayed(ix, epoch, place(port));
            if before.is_none() && model.is_free(port) {
                model.links[usize::from(l)].port = Some(port);
            }
        }
        Op::LinkDown { link: l, old } => {
            let ix = link(table, l);
            let said = model.links[usize::from(l)].epoch.wrapping_sub(u64::from(old));
            assert_eq!(table.link_down(ix, said), !old);
            if !old {
                model.links[usize::from(l)].port = None;
            }
        }
        Op::Draining { link: l } => {
            let ix = link(table, l);
            table.link_draining(ix, model.links[usize::from(l)].epoch);
            model.links[usize::from(l)].draining = true;
        }
        Op::Absent { link: l, tag, absent } => {
            let ix = link(table, l);
            let model = &mut model.links[usize::from(l)];
            table.set_absent(ix, model.epoch, t(tag), absent);
            model.absent.retain(|t| *t != tag);
            if absent {
                model.absent.push(tag);
            }
        }
        _ => unreachable!("done above"),
    }
}

proptest! {
    #[test]
    fn routes_like_the_model(ops in ops()) {
        let (mut table, mut model) = (Table::new(40), Model { outage: Some(Outage::new(40)), ..Model::default() });
        let (mut now, mut epoch) = (1_000, 10);
        for op in ops {
            apply(op, &mut table, &mut model, &mut now, &mut epoch);
            for (port, to) in (0..5).flat_map(|p| (0..4).map(move |t| (p, t))) {
                prop_assert_eq!(table.route(place(port).address, t(to), now), model.route(port, to, now));
            }
            prop_assert_eq!(table.sessions.len(), model.sessions.len());
        }
        table.expire(u64::MAX);
        prop_assert!(table.pairs.is_empty() && table.peers.is_empty() && table.held.is_empty());
        prop_assert!(table.passes.is_empty() && table.by_expiry.is_empty() && table.handed == 0);
        prop_assert!(table.links.iter().all(|l| l.inbound.is_empty()));
        for tag in 0..4 {
            table.revoke_session(t(tag));
        }
        prop_assert!(table.sessions.is_empty());
        prop_assert_eq!(table.by_address.len(), model.links.iter().filter(|l| l.port.is_some()).count());
    }
}
