//! Is the router at the other end of an attachment there? A plain state machine: what was heard in, pings and verdicts out.
//!
//! Pings follow the traffic: while packets of peers go by this router its silence must be noticed at once, otherwise only some time.

use std::time::{Duration, Instant};

/// Pause between pings while peers use the router, and until an answer comes.
const BUSY: Duration = Duration::from_millis(150);
/// Pause between pings otherwise; each also tells the router that the way back is still open.
const IDLE: Duration = Duration::from_secs(2);
/// How long peers count as using the router after their last packet: one that was lost because a NAT has forgotten us comes again only
/// after a while, and by then the router is to know the new address.
const BUSY_FOR: Duration = Duration::from_millis(500);
/// Pause between looks then.
const LOOK_IDLE: Duration = Duration::from_millis(500);
/// How long a ping may stay unanswered, beyond the round trip, before peers go elsewhere.
const SILENT_AFTER: Duration = Duration::from_millis(200);
/// How long before the attachment is given up, and how many pings must have been in vain: this process may have stood still itself.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
const GIVE_UP_PINGS: u32 = 8;
/// The same, when the kernel has reported that nobody listens there.
const REFUSED_GIVE_UP_AFTER: Duration = Duration::from_millis(400);
const REFUSED_GIVE_UP_PINGS: u32 = 3;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Ask the router.
    Ping,
    /// It does not answer: no traffic for it until it does.
    Silent,
    /// It answers again.
    Alive,
    /// The attachment is lost.
    GiveUp,
}

/// What was seen of the attachment until now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Authenticated frames of this connection.
    pub(super) heard: u64,
    /// Sends of packets to peers.
    pub(super) carried: u64,
    pub(super) rtt: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pulse {
    heard: u64,
    carried: u64,
    busy_until: Option<Instant>,
    pinged_at: Instant,
    /// Since when, and how often, a ping is without an answer.
    waiting: Option<(Instant, u32)>,
    silent: bool,
    refused: bool,
}

impl Pulse {
    pub(super) fn new(now: Instant, heard: u64) -> Self {
        let (busy_until, pinged_at, waiting) = (None, now, None);
        Self { heard, carried: 0, busy_until, pinged_at, waiting, silent: false, refused: false }
    }

    /// The kernel reports that nobody listens there. It may be wrong or forged: an answer disproves it.
    pub(super) fn refused(&mut self) -> Vec<Beat> {
        if std::mem::replace(&mut self.refused, true) || std::mem::replace(&mut self.silent, true) {
            return Vec::new();
        }
        vec![Beat::Silent]
    }

    /// Something happened that may concern the router, too: it is asked at once.
    pub(super) fn ask(&mut self, now: Instant) -> Vec<Beat> {
        self.pinged_at = now;
        let (since, pings) = self.waiting.unwrap_or((now, 0));
        self.waiting = Some((since, pings + 1));
        vec![Beat::Ping]
    }

    /// Do peers use the router now?
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.busy_until.is_some_and(|until| now < until)
    }

    /// Returns what to do, and how soon to look again.
    pub(super) fn look(&mut self, now: Instant, seen: Seen) -> (Vec<Beat>, Duration) {
        let mut beats = Vec::new();
        if seen.heard != self.heard {
            self.heard = seen.heard;
            self.waiting = None;
            self.refused = false;
            if std::mem::take(&mut self.silent) {
                beats.push(Beat::Alive);
            }
        }
        if std::mem::replace(&mut self.carried, seen.carried) != seen.carried {
            self.busy_until = Some(now + BUSY_FOR);
        }
        let fast = self.is_busy(now) || self.refused || self.waiting.is_some();
        let pause = if fast { BUSY } else { IDLE };
        if now >= self.pinged_at + pause || (self.refused && self.waiting.is_none()) {
            beats.extend(self.ask(now));
        }
        if let Some((since, pings)) = self.waiting {
            let (after, least) = if self.refused {
                (REFUSED_GIVE_UP_AFTER, REFUSED_GIVE_UP_PINGS)
            } else {
                (GIVE_UP_AFTER, GIVE_UP_PINGS)
            };
            if now >= since + after + seen.rtt * 2 && pings >= least {
                beats.push(Beat::GiveUp);
            } else if now >= since + SILENT_AFTER + seen.rtt * 2 && pings >= 2 && !self.silent {
                self.silent = true;
                beats.push(Beat::Silent);
            }
        }
        (beats, if fast || self.waiting.is_some() { BUSY } else { LOOK_IDLE })
    }
}

#[cfg(test)]
mod tests {
    use super::{Beat::*, *};

    struct World {
        pulse: Pulse,
        now: Instant,
        seen: Seen,
        answers: bool,
        busy: bool,
    }

    impl World {
        fn new() -> Self {
            let now = Instant::now();
            let seen = Seen { heard: 1, carried: 0, rtt: Duration::from_millis(5) };
            Self { pulse: Pulse::new(now, 1), now, seen, answers: true, busy: false }
        }

        /// What happens within a span, pings only counted.
        fn run(&mut self, millis: u64) -> (u32, Vec<Beat>) {
            let until = self.now + Duration::from_millis(millis);
            let (mut pings, mut rest) = (0, Vec::new());
            while self.now < until {
                self.seen.carried += u64::from(self.busy);
                let (beats, next) = self.pulse.look(self.now, self.seen);
                for beat in beats {
                    match beat {
                        Ping => {
                            pings += 1;
                            self.seen.heard += u64::from(self.answers);
                        }
                        other => rest.push(other),
                    }
                }
                self.now += next;
            }
            (pings, rest)
        }
    }

    #[test]
    fn pings_follow_the_traffic() {
        let mut w = World::new();
        let (pings, rest) = w.run(10_000);
        assert!((4..=6).contains(&pings) && rest.is_empty(), "{pings} {rest:?}");
        w.busy = true;
        let (pings, rest) = w.run(1_500);
        assert!((9..=11).contains(&pings) && rest.is_empty(), "{pings} {rest:?}");
    }

    #[test]
    fn the_first_packet_asks_and_some_time_after_the_last_one_does() {
        let mut w = World::new();
        w.run(1_000);
        w.seen.carried += 1;
        let (beats, next) = w.pulse.look(w.now, w.seen);
        assert_eq!((beats, next), (vec![Ping], BUSY), "at once");
        w.seen.heard += 1;
        w.now += next;
        assert_eq!(w.run(600), (3, vec![]), "what was lost may come again");
        assert_eq!(w.run(1_000).0, 0);
    }

    #[test]
    fn silence_under_traffic_is_noticed_at_once_and_otherwise_soon() {
        let mut w = World::new();
        w.busy = true;
        w.run(1_000);
        w.answers = false;
        assert_eq!(w.run(600).1, [Silent]);
        w.answers = true;
        assert_eq!(w.run(600).1, [Alive]);
        w.busy = false;
        w.run(3_000);
        w.answers = false;
        assert_eq!(w.run(3_000).1, [Silent]);
        assert_eq!(w.run(4_000).1.first(), Some(&GiveUp));
    }

    #[test]
    fn a_router_that_is_asked_for_a_reason_is_known_to_be_gone_sooner() {
        let mut w = World::new();
        w.run(2_100);
        w.pulse.look(w.now, w.seen);
        w.answers = false;
        assert_eq!(w.pulse.ask(w.now), [Ping]);
        assert_eq!(w.run(2_300).1[..2], [Silent, GiveUp]);
        w = World::new();
        assert_eq!(w.pulse.ask(w.now), [Ping]);
        w.seen.heard += 1;
        assert_eq!(w.run(3_000).1, [], "it answered");
    }

    #[test]
    fn what_the_kernel_reports_is_believed_until_disproved() {
        let mut w = World::new();
        w.run(500);
        assert_eq!(w.pulse.refused(), [Silent]);
        assert_eq!(w.pulse.refused(), []);
        assert_eq!(w.run(600).1, [Alive], "it was not true");
        w.answers = false;
        assert_eq!(w.pulse.refused(), [Silent]);
        assert_eq!(w.run(1_000).1.first(), Some(&GiveUp));
    }

    #[test]
    fn a_process_that_stood_still_blames_nobody() {
        let mut w = World::new();
        w.run(2_000);
        w.now += Duration::from_secs(60);
        assert_eq!(w.run(1_000).1, []);
    }
}
