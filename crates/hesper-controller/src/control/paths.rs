//! Ways between two nodes: over a router that both are attached to, or over two that are linked. Pure.
//!
//! A way *works* when both nodes are attached, the routers take dials, and the link between them, if it needs one, is up. A node
//! may be attached where the controller does not know it yet, so ways over routers that only the dialer has not been seen at come
//! next; then whatever else policy allows, for fail-over.

use super::sessions::{Attached, Routers};
use hesper_model::id::EdgeRouterId;
use hesper_policy::{Model, routers::Ends};
use std::collections::BTreeSet;

/// Ways named to one dialer, and in one pass: enough for every fail-over, and a pass stays far below the token limit.
pub(crate) const PATHS_MAX: usize = 16;
/// Round-trip time that an unmeasured leg counts as, in microseconds.
const UNKNOWN_RTT: u32 = 50_000;
/// Microseconds that one point of a router's cost counts as.
const POINT: u64 = 1_000;
/// Routers of one end that are looked at, the likeliest first: more only add what no pass has room for.
const ROUTERS_MAX: usize = 16;

/// The dialer's router and the binder's; one id where both are the same.
pub(crate) type Path = Vec<EdgeRouterId>;

/// The dialer's router, and the binder's.
pub(crate) fn ends_of(path: &Path) -> Option<(&EdgeRouterId, &EdgeRouterId)> {
    Some((path.first()?, path.last()?))
}

/// How good a way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// It works, as far as anybody can know.
    Works,
    /// It works if the dialer is attached to its router.
    DialerUnseen,
    /// Policy allows it, but this many things are missing: attachments, routers, the link.
    Lacks(u8),
}

/// A way and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranked {
    /// The way.
    pub(crate) path: Path,
    /// How good it is.
    pub(crate) class: Class,
    /// What it costs, in microseconds of round-trip time.
    pub(crate) micros: u64,
}

/// Every way that policy allows, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths(Vec<Ranked>);

/// What the ways between two nodes depend on.
#[derive(Clone, Copy)]
pub(crate) struct Between<'a> {
    /// What policy allows to each end.
    pub(crate) allowed: &'a Ends,
    /// Where the dialer is attached.
    pub(crate) dialer: &'a Attached,
    /// Where the binder is attached.
    pub(crate) binder: &'a Attached,
    /// The routers that are here, and their links.
    pub(crate) routers: &'a Routers,
    /// The costs of the routers.
    pub(crate) model: &'a Model,
}

impl Between<'_> {
    /// The ways.
    pub(crate) fn paths(&self) -> Paths {
        let (firsts, lasts) =
            (self.nearest(&self.allowed.dialer, self.dialer), self.nearest(&self.allowed.host, self.binder));
        let mut all = Vec::with_capacity(firsts.len() * lasts.len());
        for first in &firsts {
            all.extend(lasts.iter().map(|last| self.ranked(first, last)));
        }
        all.sort_by(|a, b| {
            let key = |r: &Ranked| (r.class, r.micros, r.path.len());
            key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
        });
        Paths(all)
    }

    /// The routers of one end that are likeliest to be of use.
    fn nearest<'a>(&self, allowed: &'a [EdgeRouterId], attached: &Attached) -> Vec<&'a EdgeRouterId> {
        let mut routers: Vec<_> = allowed.iter().collect();
        if routers.len() > ROUTERS_MAX {
            routers.sort_by_cached_key(|id| {
                (!attached.contains_key(*id), !self.routers.is_usable(id), self.cost(id))
            });
            routers.truncate(ROUTERS_MAX);
        }
        routers
    }

    fn ranked(&self, first: &EdgeRouterId, last: &EdgeRouterId) -> Ranked {
        let (from, to) = (self.dialer.get(first), self.binder.get(last));
        let mut missing = u8::from(!self.routers.is_usable(first)) + u8::from(to.is_none());
        let mut micros = rtt(from) + rtt(to) + self.cost(first);
        let mut path = vec![first.clone()];
        if first != last {
            let link = self.routers.link(first, last);
            missing += u8::from(!self.routers.is_usable(last)) + u8::from(link.is_none());
            micros += rtt(link.as_ref()) + self.cost(last);
            path.push(last.clone());
        }
        let class = match (missing, from) {
            (0, Some(_)) => Class::Works,
            (0, None) => Class::DialerUnseen,
            (n, _) => Class::Lacks(n + u8::from(from.is_none())),
        };
        Ranked { path, class, micros }
    }

    fn cost(&self, id: &EdgeRouterId) -> u64 {
        self.model.edge_router(id).map_or(0, |r| u64::from(r.cost) * POINT)
    }
}

impl Paths {
    /// Those that work now, best first, [`PATHS_MAX`] at most.
    pub(crate) fn working(&self) -> &[Ranked] {
        let n = self.0.iter().take(PATHS_MAX).take_while(|r| !matches!(r.class, Class::Lacks(_))).count();
        &self.0[..n]
    }

    /// What a pass is good for: those that work now, and then whatever else policy allows, [`PATHS_MAX`] at most.
    pub(crate) fn pass(&self) -> &[Ranked] {
        &self.0[..self.0.len().min(PATHS_MAX)]
    }
}

/// Is there no single router whose loss takes all of them?
pub(crate) fn is_redundant<'a>(paths: impl IntoIterator<Item = &'a Path>) -> bool {
    let mut paths = paths.into_iter();
    let Some(first) = paths.next() else { return false };
    let mut shared: BTreeSet<_> = first.iter().collect();
    for path in paths {
        shared.retain(|router| path.contains(router));
    }
    shared.is_empty()
}

fn rtt(measured: Option<&u32>) -> u64 {
    measured.copied().filter(|micros| *micros > 0).unwrap_or(UNKNOWN_RTT).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::mesh;
    use proptest::prelude::*;

    fn r(n: u8) -> EdgeRouterId {
        EdgeRouterId::new(format!("r{n}"))
    }

    fn attached(list: &[(u8, u32)]) -> Attached {
        list.iter().map(|(n, rtt)| (r(*n), *rtt)).collect()
    }

    /// Routers 1 to 3 online; links as given, seen from both sides.
    fn routers(draining: &[u8], links: &[(u8, u8, u32)]) -> Routers {
        let mut routers = Routers::default();
        for n in 1..=3 {
            routers.open(r(n), n.into());
        }
        for n in 1..=3 {
            let of = links.iter().filter_map(|(a, b, rtt)| match n {
                n if n == *a => Some((r(*b), *rtt)),
                n if n == *b => Some((r(*a), *rtt)),
                _ => None,
            });
            routers.report(&r(n), n.into(), 0, draining.contains(&n), of.collect());
        }
        routers
    }

    fn ends(dialer: &[u8], host: &[u8]) -> Ends {
        let ids = |list: &[u8]| list.iter().map(|n| r(*n)).collect();
        Ends { dialer: ids(dialer), host: ids(host) }
    }

    fn text(ranked: &[Ranked]) -> String {
        let path = |r: &Ranked| r.path.iter().map(|id| id.as_str()).collect::<Vec<_>>().join("-");
        ranked.iter().map(path).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_cheapest_way_that_works_comes_first_and_the_pass_names_the_others() {
        let mut costly = mesh();
        costly.0.edge_routers.iter_mut().filter(|e| e.id == r(2)).for_each(|e| e.cost = 20);
        let model = costly.model(1);
        type Nodes<'a> = &'a [(u8, u32)];
        // Allowed, dialer at, binder at, draining, links: working, pass.
        type Row<'a> = (Ends, Nodes<'a>, Nodes<'a>, &'a [u8], &'a [(u8, u8, u32)], &'a str, &'a str);
        let both = || ends(&[1, 2], &[1, 2]);
        let apart = || ends(&[1], &[3]);
        let table: [Row<'_>; 11] = [
            // Router 2 costs 20 ms more, which its measured legs do not make good.
            (
                both(),
                &[(1, 9_000), (2, 1_000)],
                &[(1, 9_000), (2, 1_000)],
                &[],
                &[],
                "r1 r2",
                "r1 r2 r1-r2 r2-r1",
            ),
            // An unmeasured leg counts 50 ms.
            (
                both(),
                &[(1, 0), (2, 9_000)],
                &[(1, 9_000), (2, 9_000)],
                &[],
                &[],
                "r2 r1",
                "r2 r1 r2-r1 r1-r2",
            ),
            // A short link beats a long way to the own router.
            (
                both(),
                &[(1, 1_000)],
                &[(1, 90_000), (2, 1_000)],
                &[],
                &[(1, 2, 1_000)],
                "r1-r2 r1 r2 r2-r1",
                "r1-r2 r1 r2 r2-r1",
            ),
            (apart(), &[(1, 1_000)], &[(3, 1_000)], &[], &[(1, 3, 1_000)], "r1-r3", "r1-r3"),
            (apart(), &[(1, 1_000)], &[(3, 1_000)], &[], &[(1, 2, 1_000)], "", "r1-r3"),
            // Not seen at its router yet: it may be there.
            (apart(), &[], &[(3, 1_000)], &[], &[(1, 3, 1_000)], "r1-r3", "r1-r3"),
            (apart(), &[(1, 1_000)], &[], &[], &[(1, 3, 1_000)], "", "r1-r3"),
            (apart(), &[(1, 1_000)], &[(3, 1_000)], &[3], &[(1, 3, 1_000)], "", "r1-r3"),
            (both(), &[(1, 1), (2, 1)], &[(1, 1), (2, 1)], &[1], &[(1, 2, 1)], "r2", "r2 r1 r1-r2 r2-r1"),
            (both(), &[(2, 1)], &[(1, 1), (2, 1)], &[], &[], "r2 r1", "r2 r1 r2-r1 r1-r2"),
            (ends(&[], &[1]), &[(1, 1)], &[(1, 1)], &[], &[], "", ""),
        ];
        for (n, (allowed, dialer, binder, draining, links, working, pass)) in table.into_iter().enumerate() {
            let (dialer, binder) = (attached(dialer), attached(binder));
            let routers = routers(draining, links);
            let paths = Between {
                allowed: &allowed,
                dialer: &dialer,
                binder: &binder,
                routers: &routers,
                model: &model,
            }
            .paths();
            assert_eq!(
                (n, text(paths.working()), text(paths.pass())),
                (n, working.to_owned(), pass.to_owned())
            );
        }
    }

    #[test]
    fn a_link_is_up_when_both_ends_say_so() {
        let mut routers = routers(&[], &[(1, 2, 700)]);
        assert_eq!((routers.link(&r(1), &r(2)), routers.link(&r(2), &r(1))), (Some(700), Some(700)));
        routers.report(&r(2), 2, 0, false, Attached::new());
        assert_eq!(routers.link(&r(1), &r(2)), None);
        assert_eq!(routers.link(&r(1), &r(3)), None);
    }

    #[test]
    fn redundant_ways_share_no_router() {
        let path = |ids: &[u8]| -> Path { ids.iter().map(|n| r(*n)).collect() };
        for (paths, expected) in [
            (vec![], false),
            (vec![path(&[1])], false),
            (vec![path(&[1]), path(&[2])], true),
            (vec![path(&[1]), path(&[1, 2])], false),
            (vec![path(&[1, 2]), path(&[2, 1])], false),
            (vec![path(&[1, 2]), path(&[2, 3]), path(&[3, 1])], true),
        ] {
            assert_eq!(is_redundant(&paths), expected, "{paths:?}");
        }
    }

    proptest! {
        #[test]
        fn only_what_policy_allows_and_never_twice(
            dialer in proptest::collection::btree_set(0u8..24, 0..24),
            host in proptest::collection::btree_set(0u8..24, 0..24),
            at in proptest::collection::vec((0u8..24, 0u32..90_000), 0..4),
            binder_at in proptest::collection::vec((0u8..24, 0u32..90_000), 0..4),
            links in proptest::collection::vec((1u8..4, 1u8..4, 0u32..9_000), 0..4),
        ) {
            let model = mesh().model(1);
            let allowed = ends(&dialer.into_iter().collect::<Vec<_>>(), &host.into_iter().collect::<Vec<_>>());
            let (at, binder_at, routers) = (attached(&at), attached(&binder_at), routers(&[], &links));
            let paths = Between { allowed: &allowed, dialer: &at, binder: &binder_at, routers: &routers, model: &model }.paths();
            let pass = paths.pass();
            prop_assert!(pass.len() <= PATHS_MAX && paths.working().len() <= pass.len());
            prop_assert_eq!(pass.is_empty(), allowed.dialer.is_empty() || allowed.host.is_empty());
            let distinct: BTreeSet<_> = pass.iter().map(|r| &r.path).collect();
            prop_assert_eq!(distinct.len(), pass.len());
            for ranked in pass {
                let (first, last) = ends_of(&ranked.path).expect("one or two");
                prop_assert!(allowed.dialer.contains(first) && allowed.host.contains(last));
                prop_assert!(ranked.path.len() <= 2 && (ranked.path.len() == 1) == (first == last));
            }
            for ranked in paths.working() {
                let (first, last) = ends_of(&ranked.path).expect("one or two");
                prop_assert!(routers.is_usable(first) && routers.is_usable(last) && binder_at.contains_key(last));
                prop_assert!(first == last || routers.link(first, last).is_some());
            }
            prop_assert!(pass.windows(2).all(|w| (w[0].class, w[0].micros) <= (w[1].class, w[1].micros)));
        }
    }
}
