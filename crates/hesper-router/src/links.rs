//! What a router knows of the others: pure.
//!
//! There is one link between any two routers that the controller names to each other; the one with the smaller id connects. A
//! router that the controller no longer names keeps its link for a moment: it may only have lost its controller, and its link
//! is well. What becomes of a link that is silent, where the other router is (`whereabouts`), and when the controller is told of
//! round-trip times, is decided here too.

pub(crate) mod whereabouts;

use hesper_model::id::{EdgeRouterId, Tag};
use hesper_overlay::round_trips::RoundTrips;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// Other routers that are taken in; the controller names no more.
pub(crate) const MAX_PEERS: usize = 1_024;
/// Seconds that a link outlives the controller's last mention of its router.
const LINGER_SECS: u64 = 30;
/// Packets pass if one has passed within this time.
const BUSY: Duration = Duration::from_secs(1);
/// Pause between pings while packets pass, and else.
const PING: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(1));
/// A link that has not answered for so long is down, while packets pass, and else; plus four round trips.
const SILENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// A change of a round-trip time that the controller should know: at least a quarter, and at least this.
const NOTABLE_RTT: Duration = Duration::from_millis(1);

/// How to reach another router.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) id: EdgeRouterId,
    pub(crate) name: String,
    /// UDP addresses, `host:port`.
    pub(crate) addresses: Vec<String>,
    pub(crate) tag: Tag,
    pub(crate) knock_key_id: Tag,
    pub(crate) knock_key: crate::standing::Key32,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({}, {:?})", self.id, self.addresses)
    }
}

/// The routers that links are kept with.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// With the time since when the controller no longer names it.
    known: BTreeMap<EdgeRouterId, (Peer, Option<u64>)>,
}

impl Peers {
    /// The controller names these at `now` (seconds since the epoch), and no others.
    pub(crate) fn name(&mut self, peers: &[Peer], now: u64) {
        for (_, unnamed_since) in self.known.values_mut() {
            unnamed_since.get_or_insert(now);
        }
        for peer in peers.iter().take(MAX_PEERS) {
            self.known.insert(peer.id.clone(), (peer.clone(), None));
        }
    }

    /// Forgets who has not been named for long. Whose links end is no longer [`Peers::knows`]n.
    pub(crate) fn expire(&mut self, now: u64) {
        self.known.retain(|_, (_, since)| since.is_none_or(|since| now < since + LINGER_SECS));
    }

    /// Is there to be a link with this router?
    pub(crate) fn knows(&self, id: &EdgeRouterId) -> bool {
        self.known.contains_key(id)
    }

    /// Whom the router `own` connects to.
    pub(crate) fn to_connect(&self, own: &EdgeRouterId) -> impl Iterator<Item = &Peer> {
        self.known.values().map(|(peer, _)| peer).filter(move |peer| connects(own, &peer.id))
    }
}

/// Is it this router that connects to that one?
pub(crate) fn connects(this: &EdgeRouterId, to: &EdgeRouterId) -> bool {
    this.as_str() < to.as_str()
}

/// The heart of one link: when to ping, when to give up.
#[derive(Debug)]
pub(crate) struct Heart {
    /// When it was asked last, and when packets last passed.
    asked: Instant,
    used: Option<Instant>,
    pinged: Option<Instant>,
    /// How long a ping has been waiting for its answer.
    waiting: Option<Duration>,
    round_trips: RoundTrips,
}

/// What the heart wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Ping,
    Rest,
    /// The link is down.
    Dead,
}

impl Heart {
    /// Of a link that is up at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { asked: now, used: None, pinged: None, waiting: None, round_trips: RoundTrips::default() }
    }

    /// The other router has answered a ping.
    pub(crate) fn heard(&mut self, nonce: u64, now: Instant) {
        self.waiting = None;
        self.round_trips.answered(nonce, now);
    }

    /// How far away the other router is; `None` before its first answer.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trips.least()
    }

    /// To be asked every [`Heart::EVERY`]; `used`: packets passed since the last time; `rtt`: by QUIC's estimate; `nonce`: random, the
    /// number of the ping if there is to be one. However long it was not asked, that counts
    /// for little: a router that was asleep itself shall hear what waits for it before it gives anybody up.
    pub(crate) fn beat(&mut self, used: bool, rtt: Duration, nonce: u64, now: Instant) -> Beat {
        let was_busy = self.is_busy(now);
        if used {
            self.used = Some(now);
        }
        let busy = self.is_busy(now);
        let step = now.saturating_duration_since(self.asked).min(2 * Self::EVERY);
        self.asked = now;
        self.waiting = self.waiting.map(|w| if busy && !was_busy { Duration::ZERO } else { w + step });
        let (pause, silence) = if busy { (PING.0, SILENCE.0) } else { (PING.1, SILENCE.1) };
        if self.waiting.is_some_and(|waiting| waiting >= silence + 4 * rtt) {
            return Beat::Dead;
        }
        if self.pinged.is_some_and(|at| now.saturating_duration_since(at) < pause) {
            return Beat::Rest;
        }
        self.pinged = Some(now);
        self.round_trips.asked(nonce, now);
        self.waiting.get_or_insert(Duration::ZERO);
        Beat::Ping
    }

    fn is_busy(&self, now: Instant) -> bool {
        self.used.is_some_and(|at| now.saturating_duration_since(at) < BUSY)
    }

    /// Pause between two questions.
    pub(crate) const EVERY: Duration = Duration::from_millis(50);
}

/// Links and their round-trip times as the controller heard of them last.
#[derive(Debug, Default)]
pub(crate) struct Reported(BTreeMap<EdgeRouterId, Duration>);

impl Reported {
    /// Should the controller hear of these?
    pub(crate) fn is_news(&self, links: &[(EdgeRouterId, Duration)]) -> bool {
        links.len() != self.0.len()
            || links.iter().any(|(id, rtt)| self.0.get(id).is_none_or(|before| is_notable(*before, *rtt)))
    }

    /// It hears of them. What has hardly changed stays what it was, so that no path is changed for noise.
    pub(crate) fn report(
        &mut self,
        mut links: Vec<(EdgeRouterId, Duration)>,
    ) -> Vec<(EdgeRouterId, Duration)> {
        for (id, rtt) in &mut links {
            *rtt = self.0.get(id).copied().filter(|before| !is_notable(*before, *rtt)).unwrap_or(*rtt);
        }
        self.0 = links.iter().cloned().collect();
        links
    }
}

/// Has the round-trip time changed by as much as the controller should know?
fn is_notable(before: Duration, now: Duration) -> bool {
    let apart = now.abs_diff(before);
    apart >= NOTABLE_RTT && apart * 4 >= before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: &str) -> Peer {
        Peer {
            id: EdgeRouterId::new(id),
            name: id.into(),
            addresses: vec!["192.0.2.1:3022".into()],
            tag: Tag([1; 8]),
            knock_key_id: Tag([2; 8]),
            knock_key: crate::standing::Key32([0xa5; 32]),
        }
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn exactly_one_of_two_routers_connects_and_who_is_no_longer_named_lingers() {
        let (r1, r2) = (EdgeRouterId::new("r1"), EdgeRouterId::new("r2"));
        assert!(connects(&r1, &r2) && !connects(&r2, &r1) && !connects(&r1, &r1));
        let mut peers = Peers::default();
        peers.name(&[peer("r1"), peer("r3"), peer("r4")], 100);
        let to_connect = |peers: &Peers| peers.to_connect(&r2).map(|p| p.id.to_string()).collect::<Vec<_>>();
        assert_eq!(to_connect(&peers), ["r3", "r4"]);
        peers.name(&[peer("r4")], 200);
        peers.name(&[peer("r4")], 220);
        peers.expire(229);
        assert!(peers.knows(&r1));
        peers.expire(230);
        assert_eq!((to_connect(&peers), peers.knows(&r1)), (vec!["r4".to_owned()], false));
        peers.name(&[], 300);
        peers.name(&[peer("r4")], 320);
        peers.expire(400);
        assert_eq!(to_connect(&peers), ["r4"], "named again in time");
        assert!(!format!("{:?}", peer("r1")).contains("a5a5"));
    }

    /// Asks as it should be asked, from the time `from` on; answers until `answered`. Pings, and when it is dead, in ms.
    fn live(busy: bool, rtt: Duration, answered: u64) -> (Vec<u64>, u64) {
        let start = Instant::now();
        let (mut heart, mut pings) = (Heart::new(start), vec![]);
        for at in (0..).step_by(50) {
            match heart.beat(busy, rtt, at, start + ms(at)) {
                Beat::Ping if at < answered => {
                    heart.heard(at, start + ms(at));
                    pings.push(at);
                }
                Beat::Ping => pings.push(at),
                Beat::Rest => {}
                Beat::Dead => return (pings, at),
            }
        }
        unreachable!("it dies")
    }

    #[test]
    fn a_busy_link_is_given_up_sooner_than_an_idle_one_and_a_long_way_is_given_more_time() {
        for (busy, rtt, pause, deadline) in [
            (true, 0, 150, 500),
            (false, 0, 1_000, 3_000),
            (true, 500, 150, 2_500),
            (false, 500, 1_000, 5_000),
        ] {
            let (pings, dead) = live(busy, ms(rtt), 4_500);
            assert!(pings.windows(2).all(|p| p[1] - p[0] == pause), "{pings:?}");
            let first_lost = pings.iter().find(|p| **p >= 4_500).unwrap();
            assert_eq!(dead - first_lost, deadline, "busy {busy}, {rtt} ms");
        }
    }

    #[test]
    fn a_router_that_slept_or_just_became_busy_gives_nobody_up_for_it() {
        let start = Instant::now();
        let mut heart = Heart::new(start);
        assert_eq!(heart.beat(false, ms(0), 0, start), Beat::Ping);
        assert_eq!(heart.beat(false, ms(0), 0, start + ms(60_000)), Beat::Ping, "asleep for a minute");
        let mut at = 60_000;
        while at < 62_500 {
            at += 50;
            assert_ne!(heart.beat(false, ms(0), 0, start + ms(at)), Beat::Dead);
        }
        assert_ne!(heart.beat(true, ms(0), 0, start + ms(at + 50)), Beat::Dead, "busy from here");
        assert_ne!(heart.beat(false, ms(0), 0, start + ms(at + 500)), Beat::Dead);
    }

    #[test]
    fn only_notable_changes_of_a_round_trip_are_news() {
        let links = |rtt: u64| vec![(EdgeRouterId::new("r2"), Duration::from_micros(rtt))];
        let mut reported = Reported::default();
        assert!(!reported.is_news(&[]) && reported.is_news(&links(10_000)));
        assert_eq!(reported.report(links(10_000)), links(10_000));
        for (rtt, news) in [(10_000, false), (12_499, false), (12_500, true), (7_500, true), (7_501, false)] {
            assert_eq!(reported.is_news(&links(rtt)), news, "{rtt}");
            let told = Reported(reported.0.clone()).report(links(rtt));
            assert_eq!(told, if news { links(rtt) } else { links(10_000) }, "{rtt}");
        }
        assert!(reported.is_news(&[]), "the link is gone");
        reported.report(links(400));
        assert!(
            !reported.is_news(&links(1_399)) && reported.is_news(&links(1_400)),
            "fractions of a millisecond"
        );
    }
}
