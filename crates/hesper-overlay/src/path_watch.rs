//! Which way to a peer works, and whether the peer is there at all: a plain state machine, one per connection.
//!
//! Evidence is end to end: only frames that the connection itself has authenticated count, so a router steers nobody by replaying or inventing
//! packets. The dialing side leads: it probes, goes to the next router when nothing is answered, comes back to a better one later, and says so
//! to the other side. Both sides close a connection whose peer does not prove itself: soon after a router called it gone or restarted, later
//! when it is merely silent or deaf. While no router of ours can be reached the clock stands still, for then we are the silent ones.

use crate::paths::{Slot, Standing};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How long traffic counts as flowing after its last sign.
const ACTIVE: Duration = Duration::from_secs(1);
/// Silence while traffic flows after which the peer is asked.
const ASK_AFTER: Duration = Duration::from_millis(150);
/// The same without traffic: a little more than QUIC's own keep-alive, which is the usual sign.
const ASK_IDLE_AFTER: Duration = Duration::from_millis(3_500);
/// How long an answer may take beyond two round trips: lost packets are sent again in between.
const ANSWER_WITHIN: Duration = Duration::from_millis(175);
/// A round trip is not believed to be longer.
const MAX_RTT: Duration = Duration::from_secs(1);
/// Each question in vain doubles the patience, up to this.
const MAX_PATIENCE: Duration = Duration::from_secs(2);
/// How long a suspected peer may take to prove itself beyond two round trips (a router may be wrong, or lie), and how often we must have
/// looked meanwhile: this process may have stood still itself.
const PROOF: Duration = Duration::from_millis(700);
const PROOF_LOOKS: u32 = 5;
/// A peer that has been silent for so long in spite of so many sends is taken for dead.
const FROZEN: Duration = Duration::from_secs(8);
const FROZEN_SENDS: u32 = 4;
/// A router that was silent for a peer is tried again after a pause, which doubles each time.
const AVOID: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// A router that came back is not used at once: its other attachments may be a moment away.
const RETURN_AFTER: Duration = Duration::from_secs(2);
/// A router that has worked for so long is forgiven.
const FORGIVE_AFTER: Duration = Duration::from_secs(10);
/// Pauses between looks: with an open question about the peer, and without traffic (first and longest).
const SUSPICIOUS: Duration = Duration::from_millis(100);
const QUIET: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(2_400));

/// Counters of one connection, as they stand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signs {
    /// Authenticated frames from the peer.
    pub(crate) heard: u64,
    /// Those that answer ours: acknowledgements and echoes.
    pub(crate) answered: u64,
    /// Frames sent that ask for an acknowledgement.
    pub(crate) sent: u64,
    /// Frames with data, both ways.
    pub(crate) data: u64,
    /// Frames of the control stream, both ways; contained in `data`.
    pub(crate) control: u64,
    pub(crate) rtt: Duration,
}

/// A router by which the peer may be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) slot: Slot,
    pub(crate) standing: Standing,
    /// The router said that the peer is not attached to it.
    pub(crate) absent: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Ask the peer for a sign.
    Probe,
    /// Send by this router, and tell the peer.
    Use(Slot),
    /// The suspicion was wrong.
    Trust,
    /// The peer is gone.
    Close,
}

/// The outcome of one look.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) effects: Vec<Effect>,
    /// When to look again, if nothing happens before.
    pub(crate) next: Duration,
    /// A question is open: the peer may not know by which router to answer.
    pub(crate) asking: bool,
    /// No way to the peer works now.
    pub(crate) without_path: bool,
}

/// An open question. With a full congestion window it leaves late, when QUIC's timer fires; only then the time for the answer begins, or
/// the next router would be blamed for what was never sent by it.
#[derive(Clone, Copy, Debug)]
struct Question {
    left_at: Option<Instant>,
    patience: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    until: Instant,
    pause: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PathWatch {
    leads: bool,
    signs: Signs,
    heard_at: Instant,
    traffic_at: Instant,
    /// Looks since then at which something had been sent.
    sends: u32,
    /// Since when something of ours waits for an answer, whatever is heard, and the looks at which more had been sent: a peer that
    /// speaks may be deaf, or a router carry one way only.
    unanswered: Option<(Instant, u32)>,
    asked: Option<Question>,
    /// Since when, and the looks since then.
    suspect: Option<(Instant, u32)>,
    reachable: bool,
    current: Option<Slot>,
    current_since: Instant,
    marks: BTreeMap<Slot, Mark>,
    quiet: Duration,
}

impl PathWatch {
    /// For a connection that has just been made. `avoid`: routers by which it could not be made.
    pub(crate) fn new(now: Instant, leads: bool, signs: Signs, avoid: &[Slot]) -> Self {
        let mark = Mark { until: now + AVOID.0, pause: AVOID.0 };
        Self {
            leads,
            signs,
            heard_at: now,
            traffic_at: now,
            sends: 0,
            unanswered: None,
            asked: None,
            suspect: None,
            reachable: true,
            current: None,
            current_since: now,
            marks: avoid.iter().map(|slot| (*slot, mark)).collect(),
            quiet: QUIET.0,
        }
    }

    /// Traffic is about to flow.
    pub(crate) fn expect_traffic(&mut self, now: Instant) {
        self.traffic_at = now;
    }

    /// A router says that the peer is gone, or has been started again. What was heard until now proves nothing.
    pub(crate) fn suspect(&mut self, now: Instant, signs: Signs) {
        self.hear(now, signs, &mut Vec::new());
        self.suspect.get_or_insert((now, 0));
    }

    /// Looks at the connection. `ask`: the peer is to be asked whatever was heard, because a way has come back and QUIC's timers may be far away.
    pub(crate) fn look(&mut self, now: Instant, signs: Signs, routes: &[Route], ask: bool) -> Look {
        let mut effects = Vec::new();
        self.hear(now, signs, &mut effects);
        if !routes.iter().any(|r| r.standing != Standing::Down) {
            self.stand_still(now, routes);
            return Look { effects, next: QUIET.1, asking: false, without_path: self.leads };
        }
        let mut ask = ask;
        if !std::mem::replace(&mut self.reachable, true) {
            (self.heard_at, self.sends, self.unanswered, self.asked) = (now, 0, None, None);
            ask = true;
        }
        if self.leads {
            ask |= self.choose(now, routes, &mut effects);
        }
        self.ask(now, routes, ask, &mut effects);
        self.judge(now, &mut effects);
        let without_path = self.leads && self.asked.is_some() && self.is_hopeless(now, routes);
        Look { effects, next: self.pause(now), asking: self.asked.is_some(), without_path }
    }

    fn hear(&mut self, now: Instant, signs: Signs, effects: &mut Vec<Effect>) {
        let old = std::mem::replace(&mut self.signs, signs);
        if signs.heard != old.heard {
            (self.heard_at, self.sends) = (now, 0);
            if self.suspect.take().is_some() {
                effects.push(Effect::Trust);
            }
        } else if signs.sent != old.sent {
            self.sends += 1;
        }
        if signs.sent != old.sent
            && let Some(question) = &mut self.asked
        {
            question.left_at.get_or_insert(now);
        }
        if signs.answered != old.answered {
            (self.unanswered, self.asked) = (None, None);
            if let Some(current) = self.current.filter(|_| now >= self.current_since + FORGIVE_AFTER) {
                self.marks.remove(&current);
            }
        } else if signs.sent != old.sent {
            self.unanswered.get_or_insert((now, 0)).1 += 1;
        }
        if signs.data.wrapping_sub(old.data) > signs.control.wrapping_sub(old.control) {
            self.traffic_at = now;
        }
    }

    fn stand_still(&mut self, now: Instant, routes: &[Route]) {
        self.reachable = false;
        self.asked = None;
        self.heard_at = now;
        self.suspect = self.suspect.map(|_| (now, 0));
        self.mark_down(now, routes);
    }

    fn mark_down(&mut self, now: Instant, routes: &[Route]) {
        for route in routes.iter().filter(|r| r.standing == Standing::Down) {
            let mark = self.marks.entry(route.slot).or_insert(Mark { until: now, pause: Duration::ZERO });
            mark.until = mark.until.max(now + RETURN_AFTER);
        }
    }

    fn is_marked(&self, now: Instant, slot: Slot) -> bool {
        self.marks.get(&slot).is_some_and(|m| now < m.until)
    }

    /// Smaller = better: first those that go on, then those that did not fail, then those where the peer is, then the given order. Among those
    /// that failed the one that did so longest ago.
    fn rank(&self, now: Instant, at: usize, route: &Route) -> (bool, bool, bool, Option<Instant>, usize) {
        let failed = self.marks.get(&route.slot).filter(|m| now < m.until).map(|m| m.until);
        (route.standing == Standing::Draining, failed.is_some(), route.absent, failed, at)
    }

    fn best(&self, now: Instant, routes: &[Route], not: Option<Slot>) -> Option<Slot> {
        let usable = routes.iter().enumerate();
        let usable = usable.filter(|(_, r)| r.standing != Standing::Down && Some(r.slot) != not);
        usable.min_by_key(|(at, r)| self.rank(now, *at, r)).map(|(_, r)| r.slot)
    }

    /// Goes elsewhere when the current router is down or drains, and back to a better one that has not failed lately. Returns whether it went.
    fn choose(&mut self, now: Instant, routes: &[Route], effects: &mut Vec<Effect>) -> bool {
        self.mark_down(now, routes);
        let Some(best) = self.best(now, routes, None) else { return false };
        let place = |slot| routes.iter().position(|r| r.slot == slot);
        let current = self.current.and_then(place).filter(|at| routes[*at].standing != Standing::Down);
        let go = match (current, place(best)) {
            (Some(old), Some(new)) if routes[old].standing != Standing::Draining => {
                let (o, n) = (&routes[old], &routes[new]);
                n.standing == Standing::Up && !self.is_marked(now, best) && (n.absent, new) < (o.absent, old)
            }
            _ => self.current != Some(best),
        };
        if go {
            self.go(now, best, effects);
        }
        go
    }

    fn go(&mut self, now: Instant, slot: Slot, effects: &mut Vec<Effect>) {
        (self.current, self.current_since, self.asked) = (Some(slot), now, None);
        effects.push(Effect::Use(slot));
    }

    /// Asks when it has been silent; what is not answered in time is asked again, by the leading side through the next router.
    fn ask(&mut self, now: Instant, routes: &[Route], ask: bool, effects: &mut Vec<Effect>) {
        let limit = if self.is_active(now) { ASK_AFTER } else { ASK_IDLE_AFTER };
        let round_trips = self.signs.rtt.min(MAX_RTT) * 2;
        let first = ANSWER_WITHIN + round_trips;
        let overdue = self.unanswered.is_some_and(|(since, _)| now >= since + limit + round_trips);
        self.asked = match self.asked {
            // What is under way without an answer is a question, too.
            None if ask || overdue || now >= self.heard_at + limit => {
                Some(Question { left_at: (overdue || self.sends > 0).then_some(now), patience: first })
            }
            None => return,
            Some(Question { left_at: Some(at), patience }) if now >= at + patience => {
                if self.leads
                    && let Some(next) = self.best(now, routes, self.current)
                {
                    self.avoid(now);
                    self.go(now, next, effects);
                }
                Some(Question { left_at: None, patience: (patience * 2).min(MAX_PATIENCE.max(first)) })
            }
            Some(question) if ask => Some(question),
            Some(_) => return,
        };
        effects.push(Effect::Probe);
    }

    fn avoid(&mut self, now: Instant) {
        let Some(current) = self.current else { return };
        let pause = self.marks.get(&current).map_or(AVOID.0, |m| (m.pause * 2).clamp(AVOID.0, AVOID.1));
        self.marks.insert(current, Mark { until: now + pause, pause });
    }

    fn judge(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let is_over = |(since, sends)| now >= since + FROZEN && sends >= FROZEN_SENDS;
        let frozen = is_over((self.heard_at, self.sends)) || self.unanswered.is_some_and(is_over);
        let proof = PROOF + self.signs.rtt.min(MAX_RTT) * 2;
        let unproven = self.suspect.as_mut().is_some_and(|(since, looks)| {
            *looks += 1;
            now >= *since + proof && *looks >= PROOF_LOOKS
        });
        if frozen || unproven {
            effects.push(Effect::Close);
        }
    }

    /// Every router that could carry has failed.
    fn is_hopeless(&self, now: Instant, routes: &[Route]) -> bool {
        let mut usable = routes.iter().filter(|r| r.standing != Standing::Down);
        let silent = |since| now >= since + ACTIVE;
        (silent(self.heard_at) || self.unanswered.is_some_and(|(since, _)| silent(since)))
            && usable.all(|r| Some(r.slot) == self.current || self.is_marked(now, r.slot))
    }

    fn is_active(&self, now: Instant) -> bool {
        self.suspect.is_some() || now < self.traffic_at + ACTIVE
    }

    fn pause(&mut self, now: Instant) -> Duration {
        if self.suspect.is_some() {
            return SUSPICIOUS;
        }
        if self.is_active(now) || self.asked.is_some() {
            self.quiet = QUIET.0;
            let due = self.asked.and_then(|q| Some(q.left_at? + q.patience));
            let wait = due.map_or(ASK_AFTER, |at| at.saturating_duration_since(now));
            return wait.clamp(Duration::from_millis(10), ASK_AFTER);
        }
        let longer = (self.quiet * 2).min(QUIET.1);
        std::mem::replace(&mut self.quiet, longer)
    }
}

#[cfg(test)]
#[path = "path_watch_tests.rs"]
mod tests;
