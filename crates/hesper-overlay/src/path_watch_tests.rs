use super::{Effect::*, *};
use proptest::prelude::*;

const R1: Slot = Slot(1);
const R2: Slot = Slot(2);
const RTT: Duration = Duration::from_millis(4);

/// A peer behind some routers, in simulated time.
struct World {
    watch: PathWatch,
    start: Instant,
    now: Instant,
    signs: Signs,
    routes: Vec<Route>,
    /// Routers that let packets through, both ways.
    carry: Vec<Slot>,
    /// Those of them that carry only what the peer sends, which it does all the time.
    one_way: Vec<Slot>,
    busy: bool,
    closed: bool,
    used: Vec<Slot>,
    without_path: bool,
}

impl World {
    fn new(routes: &[Slot]) -> Self {
        let now = Instant::now();
        let route = |slot: &Slot| Route { slot: *slot, standing: Standing::Up, absent: false };
        Self {
            watch: PathWatch::new(now, true, Signs::default(), &[]),
            start: now,
            now,
            signs: Signs { rtt: RTT, ..Signs::default() },
            routes: routes.iter().map(route).collect(),
            carry: routes.to_vec(),
            one_way: Vec::new(),
            busy: true,
            closed: false,
            used: Vec::new(),
            without_path: false,
        }
    }

    fn binder() -> Self {
        let mut world = Self::new(&[R1]);
        world.watch = PathWatch::new(world.now, false, Signs::default(), &[]);
        world
    }

    fn carries(&self) -> bool {
        let current = self.watch.current.unwrap_or(R1);
        let up = self.routes.iter().any(|r| r.slot == current && r.standing != Standing::Down);
        up && self.carry.contains(&current)
    }

    fn exchange(&mut self, control: bool) {
        self.signs.sent += 1;
        self.signs.data += 1;
        self.signs.control += u64::from(control);
        if self.carries() {
            self.signs.heard += 1;
            let one_way = self.one_way.contains(&self.watch.current.unwrap_or(R1));
            self.signs.answered += u64::from(!one_way);
        }
    }

    fn look(&mut self, ask: bool) -> Duration {
        if self.busy {
            self.exchange(false);
        }
        let look = self.watch.look(self.now, self.signs, &self.routes.clone(), ask);
        self.without_path = look.without_path;
        for effect in look.effects {
            match effect {
                Probe => self.exchange(true),
                Use(slot) => self.used.push(slot),
                Trust => {}
                Close => self.closed = true,
            }
        }
        look.next
    }

    fn run(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.now < until && !self.closed {
            let next = self.look(false);
            self.now = (self.now + next).min(until);
        }
    }

    fn stand(&mut self, slot: Slot, standing: Standing) {
        self.routes.iter_mut().filter(|r| r.slot == slot).for_each(|r| r.standing = standing);
    }

    fn current(&self) -> Slot {
        self.watch.current.unwrap()
    }
}

#[test]
fn a_black_hole_is_left_at_once_and_tried_again_ever_more_seldom() {
    let mut w = World::new(&[R1, R2]);
    w.run(5_000);
    assert_eq!((w.current(), w.used.len()), (R1, 1));
    w.carry = vec![R2];
    w.run(700);
    assert_eq!(w.current(), R2);
    w.run(60_000);
    let tries = w.used.iter().filter(|s| **s == R1).count();
    assert!((3..=6).contains(&tries), "{:?}", w.used);
    assert!(!w.closed);
    w.carry = vec![R1, R2];
    w.run(61_000);
    assert_eq!(w.current(), R1, "it works again");
    w.run(60_000);
    assert_eq!(w.current(), R1);
}

#[test]
fn an_idle_connection_leaves_a_black_hole_too() {
    let mut w = World::new(&[R1, R2]);
    w.busy = false;
    w.run(20_000);
    w.carry = vec![R2];
    w.run(7_000);
    assert_eq!(w.current(), R2);
    w.run(30_000);
    assert!(!w.closed);
}

#[test]
fn a_router_that_carries_one_way_is_left_though_the_peer_is_heard() {
    for busy in [true, false] {
        let mut w = World::new(&[R1, R2]);
        w.busy = busy;
        w.run(10_000);
        assert_eq!((w.current(), w.used.len()), (R1, 1));
        w.one_way = vec![R1];
        w.run(if busy { 1_000 } else { 12_000 });
        assert_eq!(w.current(), R2, "busy: {busy}");
        w.run(60_000);
        assert!(!w.closed);
    }
}

#[test]
fn a_peer_that_speaks_and_is_deaf_is_closed_as_a_frozen_one() {
    for mut w in [World::new(&[R1, R2]), World::binder()] {
        w.run(3_000);
        w.one_way = vec![R1, R2];
        w.run(7_000);
        assert!(!w.closed);
        w.one_way.clear();
        w.run(3_000);
        assert!(!w.closed, "it hears again");
        w.one_way = vec![R1, R2];
        w.run(9_500);
        assert!(w.closed);
    }
}

#[test]
fn a_router_that_is_down_or_drains_is_left_without_asking() {
    for standing in [Standing::Down, Standing::Draining] {
        let mut w = World::new(&[R1, R2]);
        w.run(1_000);
        w.stand(R1, standing);
        w.look(false);
        assert_eq!(w.current(), R2, "{standing:?}");
        w.run(5_000);
        w.stand(R1, Standing::Up);
        w.look(false);
        let expected = if standing == Standing::Down { R2 } else { R1 };
        assert_eq!(w.current(), expected, "one that was down is left alone for a moment");
        w.run(3_000);
        assert_eq!(w.current(), R1);
    }
}

#[test]
fn a_better_order_is_followed_and_a_router_without_the_peer_is_the_last_choice() {
    let mut w = World::new(&[R1, R2]);
    w.run(1_000);
    w.routes.reverse();
    w.look(false);
    assert_eq!(w.current(), R2);
    w.routes[0].absent = true;
    w.look(false);
    assert_eq!(w.current(), R1);
    w.stand(R1, Standing::Down);
    w.look(false);
    assert_eq!(w.current(), R2, "better than none");
}

#[test]
fn routers_that_failed_for_the_handshake_are_not_the_first_choice() {
    let mut w = World::new(&[R1, R2]);
    w.watch = PathWatch::new(w.now, true, w.signs, &[R1]);
    w.run(1_000);
    assert_eq!(w.used, [R2]);
}

#[test]
fn a_frozen_peer_is_closed_and_a_slow_one_is_not() {
    for mut w in [World::new(&[R1, R2]), World::binder()] {
        w.run(3_000);
        let carry = std::mem::take(&mut w.carry);
        w.run(7_000);
        assert!(!w.closed);
        w.carry = carry;
        w.run(3_000);
        assert!(!w.closed, "it was only slow");
        w.carry.clear();
        w.run(9_000);
        assert!(w.closed);
    }
}

#[test]
fn while_we_are_cut_off_the_clock_stands_still() {
    let mut w = World::new(&[R1]);
    w.run(1_000);
    w.stand(R1, Standing::Down);
    w.run(1_000);
    assert!(w.without_path);
    w.run(60_000);
    assert!(!w.closed);
    w.stand(R1, Standing::Up);
    w.run(500);
    assert!(!w.closed && !w.without_path);
    w.carry.clear();
    w.run(2_500);
    assert!(w.without_path && !w.closed);
    w.run(9_000);
    assert!(w.closed);
}

#[test]
fn a_suspected_peer_proves_itself_by_another_way_if_need_be() {
    for carry in [vec![R1, R2], vec![R2], vec![]] {
        let mut w = World::new(&[R1, R2]);
        w.busy = false;
        w.run(10_000);
        w.carry = carry.clone();
        w.watch.suspect(w.now, w.signs);
        w.look(true);
        w.run(1_000);
        assert_eq!(w.closed, carry.is_empty(), "{carry:?}");
        assert!(w.closed || w.watch.suspect.is_none());
    }
}

#[test]
fn what_was_heard_before_the_suspicion_proves_nothing() {
    let mut w = World::new(&[R1]);
    w.busy = false;
    w.run(10_000);
    w.carry.clear();
    w.signs.heard += 1;
    w.watch.suspect(w.now, w.signs);
    w.look(true);
    w.run(1_000);
    assert!(w.closed);
}

#[test]
fn a_suspected_peer_far_away_has_time_for_its_answer() {
    for (answer_after, closed) in [(900, false), (1_600, true)] {
        let mut w = World::new(&[R1]);
        w.busy = false;
        w.signs.rtt = Duration::from_millis(300);
        w.run(10_000);
        w.carry.clear();
        w.watch.suspect(w.now, w.signs);
        w.look(true);
        w.run(answer_after);
        w.signs.heard += 1;
        w.run(1_000);
        assert_eq!(w.closed, closed, "{answer_after} ms");
    }
}

#[test]
fn a_process_that_stood_still_blames_nobody() {
    let mut w = World::new(&[R1]);
    w.run(1_000);
    w.busy = false;
    w.watch.suspect(w.now, w.signs);
    w.now += Duration::from_secs(30);
    // The socket has not been read yet.
    let carry = std::mem::take(&mut w.carry);
    w.look(true);
    w.carry = carry;
    w.run(1_000);
    assert!(!w.closed);
}

#[test]
fn an_idle_peer_costs_next_to_nothing_and_traffic_is_watched_closely() {
    let mut w = World::new(&[R1]);
    w.busy = false;
    w.run(10_000);
    // QUIC's keep-alive is sign enough.
    for _ in 0..20 {
        w.signs.heard += 1;
        w.signs.answered += 1;
        let sent = w.signs.control;
        let next = w.look(false);
        assert_eq!((next, w.signs.control), (QUIET.1, sent));
        w.now += next;
    }
    w.busy = true;
    assert!(w.look(false) <= ASK_AFTER);
}

#[derive(Clone, Debug)]
enum Event {
    Wait(u16),
    Hear,
    Answer,
    Send,
    Stand(bool, u8),
    Absent(bool, bool),
    Suspect,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1u16..3000).prop_map(Event::Wait),
        Just(Event::Hear),
        Just(Event::Answer),
        Just(Event::Send),
        (any::<bool>(), 0u8..3).prop_map(|(r, s)| Event::Stand(r, s)),
        (any::<bool>(), any::<bool>()).prop_map(|(r, a)| Event::Absent(r, a)),
        Just(Event::Suspect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens: only routers that work are used, nobody who answers is closed, and nobody while we are cut off.
    #[test]
    fn whatever_happens(leads: bool, events in proptest::collection::vec(event(), 0..200)) {
        let mut w = World::new(&[R1, R2]);
        w.watch = PathWatch::new(w.now, leads, w.signs, &[]);
        let (mut heard_at, mut answered_at, mut suspected) = (w.now, w.now, false);
        for event in events {
            let Signs { heard, answered, .. } = w.signs;
            match event {
                Event::Wait(ms) => w.now += Duration::from_millis(ms.into()),
                Event::Hear => w.signs.heard += 1,
                Event::Answer => { w.signs.heard += 1; w.signs.answered += 1 }
                Event::Send => { w.signs.sent += 1; w.signs.data += 1 }
                Event::Stand(second, s) => {
                    let standing = [Standing::Up, Standing::Draining, Standing::Down][usize::from(s)];
                    w.routes[usize::from(second)].standing = standing;
                }
                Event::Absent(second, absent) => w.routes[usize::from(second)].absent = absent,
                Event::Suspect => { w.watch.suspect(w.now, w.signs); suspected = true }
            }
            let look = w.watch.look(w.now, w.signs, &w.routes, false);
            if w.signs.heard != heard {
                heard_at = w.now;
                suspected = false;
            }
            if w.signs.answered != answered {
                answered_at = w.now;
            }
            let reachable = w.routes.iter().any(|r| r.standing != Standing::Down);
            prop_assert!(look.next >= Duration::from_millis(10) && look.next <= QUIET.1);
            for effect in look.effects {
                match effect {
                    Use(slot) => {
                        prop_assert!(leads);
                        prop_assert!(w.routes.iter().any(|r| r.slot == slot && r.standing != Standing::Down));
                    }
                    Close => {
                        prop_assert!(reachable);
                        prop_assert!(suspected || w.now >= heard_at.min(answered_at) + FROZEN);
                        prop_assert!(w.now > answered_at);
                    }
                    Probe => prop_assert!(reachable),
                    Trust => prop_assert!(!suspected),
                }
            }
        }
    }

    /// Two routers that fail and recover at random: whoever looks long enough on a working one stays there.
    #[test]
    fn it_settles_on_what_works(first in any::<bool>(), spans in proptest::collection::vec(100u64..5000, 0..12)) {
        let mut w = World::new(&[R1, R2]);
        for (n, span) in spans.into_iter().enumerate() {
            w.carry = if (n % 2 == 0) == first { vec![R1] } else { vec![R2] };
            w.run(span);
        }
        w.carry = vec![R1, R2];
        w.run(200_000);
        prop_assert!(!w.closed);
        prop_assert_eq!(w.current(), R1);
        let before = w.used.len();
        w.run(100_000);
        prop_assert_eq!(w.used.len(), before, "no flapping");
        prop_assert!(w.start < w.now);
    }
}
