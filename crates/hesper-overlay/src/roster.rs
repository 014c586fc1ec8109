//! Which of the routers that the controller names a node attaches to: two, and a stand-in for each that stays away. Pure.

use std::time::{Duration, Instant};

/// Attachments that a node keeps: one carries, the other takes over at once.
const WANTED: usize = 2;
/// How long a router may be away before another one stands in for it.
const STAND_IN_AFTER: Duration = Duration::from_secs(3);
/// How long a router must have been back before its stand-in is let go.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// How it goes with one attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Attached.
    Up,
    /// Attached, but about to stop.
    Draining,
    /// Not attached.
    Away,
}

#[derive(Debug)]
struct Entry {
    id: String,
    /// Since when it has been so; `None` = not in use.
    health: Option<(Health, Instant)>,
}

/// The routers in the controller's order, and what is known of those in use.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    entries: Vec<Entry>,
}

impl Roster {
    /// Takes over the controller's list; what is known of those that stay is kept.
    pub(crate) fn set_routers<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        let mut old = std::mem::take(&mut self.entries);
        for id in ids {
            let known = old.iter_mut().find(|e| e.id == id).and_then(|e| e.health.take());
            self.entries.push(Entry { id: id.to_owned(), health: known });
        }
    }

    /// How it goes with one of those in use.
    pub(crate) fn report(&mut self, now: Instant, id: &str, health: Health) {
        let entry = self.entries.iter_mut().find(|e| e.id == id);
        if let Some(Entry { health: Some(known), .. }) = entry
            && known.0 != health
        {
            *known = (health, now);
        }
    }

    /// The routers to be attached to from now on, best first, and when to ask again if nothing is reported.
    pub(crate) fn wanted(&mut self, now: Instant) -> (Vec<String>, Option<Instant>) {
        let (mut covered, mut settled) = (0, 0);
        let mut wanted = Vec::new();
        let mut again = Vec::new();
        for entry in &mut self.entries {
            if covered >= WANTED && (settled >= WANTED || entry.health.is_none()) {
                entry.health = None;
                continue;
            }
            wanted.push(entry.id.clone());
            let (health, since) = *entry.health.get_or_insert((Health::Away, now));
            let (wait, counts) = match health {
                Health::Up => (SETTLED_AFTER, true),
                Health::Away => (STAND_IN_AFTER, now < since + STAND_IN_AFTER),
                Health::Draining => continue,
            };
            covered += usize::from(counts);
            settled += usize::from(health == Health::Up && now >= since + SETTLED_AFTER);
            again.extend(Some(since + wait).filter(|at| *at > now));
        }
        (wanted, again.into_iter().min())
    }
}

#[cfg(test)]
mod tests {
    use super::{Health::*, *};

    struct World {
        roster: Roster,
        start: Instant,
    }

    impl World {
        fn new(ids: &[&str]) -> Self {
            let mut roster = Roster::default();
            roster.set_routers(ids.iter().copied());
            Self { roster, start: Instant::now() }
        }

        fn at(&mut self, secs: u64, reports: &[(&str, Health)]) -> Vec<String> {
            let now = self.start + Duration::from_secs(secs);
            for (id, health) in reports {
                self.roster.report(now, id, *health);
            }
            self.roster.wanted(now).0
        }
    }

    #[test]
    fn two_are_enough_and_a_third_stands_in_for_one_that_stays_away() {
        let mut w = World::new(&["r1", "r2", "r3", "r4"]);
        assert_eq!(w.at(0, &[]), ["r1", "r2"]);
        assert_eq!(w.at(1, &[("r1", Up), ("r2", Up)]), ["r1", "r2"]);
        assert_eq!(w.at(10, &[("r1", Away)]), ["r1", "r2"], "it may be back in a moment");
        assert_eq!(w.at(13, &[]), ["r1", "r2", "r3"], "tried on, and replaced");
        assert_eq!(w.at(14, &[("r3", Up)]), ["r1", "r2", "r3"]);
        assert_eq!(w.at(20, &[("r1", Up)]), ["r1", "r2", "r3"], "it may be gone in a moment");
        assert_eq!(w.at(25, &[]), ["r1", "r2"]);
    }

    #[test]
    fn when_nothing_answers_one_after_the_other_is_tried() {
        let mut w = World::new(&["r1", "r2", "r3", "r4"]);
        assert_eq!(w.at(0, &[]).len(), 2);
        assert_eq!(w.at(3, &[]).len(), 4, "two are away, two stand in");
        let mut w = World::new(&["r1"]);
        assert_eq!(w.at(0, &[]), ["r1"]);
        assert_eq!(w.at(60, &[]), ["r1"]);
    }

    #[test]
    fn a_draining_router_is_replaced_at_once() {
        let mut w = World::new(&["r1", "r2", "r3"]);
        w.at(0, &[]);
        w.at(1, &[("r1", Up), ("r2", Up)]);
        assert_eq!(w.at(9, &[("r2", Draining)]), ["r1", "r2", "r3"]);
    }

    #[test]
    fn the_controllers_new_list_keeps_what_is_known() {
        let mut w = World::new(&["r1", "r2"]);
        w.at(0, &[]);
        w.at(1, &[("r1", Up), ("r2", Up)]);
        w.roster.set_routers(["r3", "r2", "r1"]);
        assert_eq!(
            w.at(30, &[]),
            ["r3", "r2", "r1"],
            "a better one is tried, nothing is left before it is there"
        );
        w.at(31, &[("r3", Up)]);
        assert_eq!(w.at(36, &[]), ["r3", "r2"]);
        w.roster.set_routers([]);
        assert_eq!(w.at(37, &[]), Vec::<String>::new());
    }

    #[test]
    fn it_says_when_to_ask_again() {
        let mut w = World::new(&["r1", "r2", "r3"]);
        let (_, again) = w.roster.wanted(w.start);
        assert_eq!(again, Some(w.start + STAND_IN_AFTER));
        w.at(0, &[("r1", Up), ("r2", Up)]);
        assert_eq!(w.roster.wanted(w.start).1, Some(w.start + SETTLED_AFTER));
        assert_eq!(w.roster.wanted(w.start + SETTLED_AFTER).1, None);
    }
}
