//! What goes on on a connection, and when it has to end: idle, old, slow with the head of a request, or forever giving up requests.
//!
//! hyper's own deadlines do not tell an idle connection from a slow head, and HTTP/2 has none but for lost peers.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// From so many requests that were given up, a connection must finish at least as many, or it is cut (rapid reset, CVE-2023-44487).
const GIVEN_UP: u32 = 512;
/// How long a connection without requests has to say good-bye when it is to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long what may last. `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The head of a request, from its first byte. Over HTTP/1 only: HTTP/2 may send other things between requests.
    pub(crate) head: Option<Duration>,
    /// A connection without requests.
    pub(crate) idle: Option<Duration>,
    /// Any connection.
    pub(crate) age: Option<Duration>,
    /// Is one request enough?
    pub(crate) single: bool,
}

/// What has been seen on a connection. Times are since its begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) busy: u32,
    pub(crate) idle_since: Duration,
    pub(crate) head_since: Option<Duration>,
    pub(crate) begun: u32,
    pub(crate) given_up: u32,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again at this time, or when told.
    Keep(Option<Duration>),
    /// Let it finish what it does, and take nothing new.
    Drain(Why),
    /// End it.
    Cut(Why),
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    SlowHead,
    Idle,
    Old,
    Single,
    GivesUp,
    /// It was told to end, and did not.
    Stays,
}

/// A connection that is looked at from time to time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    pub(crate) rules: Rules,
    /// How long requests may take when the connection is too old. `None`: as long as they like.
    pub(crate) age_grace: Option<Duration>,
    /// It has been told to end: when it is without requests, and in any case.
    pub(crate) ending: Option<(Duration, Option<Duration>)>,
}

/// What is to be done, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Look(Option<Duration>),
    /// Tell it to end.
    Drain(Duration),
    Cut(Why),
}

impl Life {
    /// Looks.
    pub(crate) fn look(&mut self, seen: &Seen, now: Duration) -> Next {
        match (judge(&self.rules, seen, now), self.ending) {
            (Verdict::Cut(why), _) => Next::Cut(why),
            (_, Some((soft, hard))) => {
                let over = hard.is_some_and(|hard| hard <= now) || (soft <= now && seen.busy == 0);
                if over {
                    return Next::Cut(Why::Stays);
                }
                let soft = if soft <= now { now + GRACE } else { soft };
                Next::Look(Some(hard.map_or(soft, |hard| hard.min(soft))))
            }
            (Verdict::Drain(why), None) => {
                let hard = self.age_grace.filter(|_| why == Why::Old).map(|grace| now.saturating_add(grace));
                let soft = now + GRACE;
                self.ending = Some((soft, hard));
                Next::Drain(hard.map_or(soft, |hard| hard.min(soft)))
            }
            (Verdict::Keep(until), None) => Next::Look(until),
        }
    }
}

/// The rule.
pub(crate) fn judge(rules: &Rules, seen: &Seen, now: Duration) -> Verdict {
    if seen.given_up >= GIVEN_UP && seen.given_up > seen.begun / 2 {
        return Verdict::Cut(Why::GivesUp);
    }
    let free = seen.busy == 0;
    let since = |since: Option<Duration>, limit: Option<Duration>| Some(since?.saturating_add(limit?));
    let head = since(seen.head_since.filter(|_| free), rules.head);
    let idle = since(Some(seen.idle_since).filter(|_| free && seen.head_since.is_none()), rules.idle);
    let over = |end: Option<Duration>| end.is_some_and(|end| end <= now);
    if over(head) {
        Verdict::Cut(Why::SlowHead)
    } else if over(rules.age) {
        Verdict::Drain(Why::Old)
    } else if rules.single && seen.begun > 0 {
        Verdict::Drain(Why::Single)
    } else if over(idle) {
        Verdict::Drain(Why::Idle)
    } else {
        // What has not begun cannot be over before so long.
        let later = [rules.head, rules.idle].map(|limit| since(Some(now), limit));
        Verdict::Keep([head, idle, rules.age, later[0], later[1]].into_iter().flatten().min())
    }
}

/// The same, as stream and requests write it.
#[derive(Debug)]
pub(crate) struct Activity {
    born: Instant,
    single: bool,
    busy: AtomicU32,
    begun: AtomicU32,
    given_up: AtomicU32,
    /// Microseconds since `born`.
    idle_since: AtomicU64,
    /// The same plus one; 0 is none.
    head_since: AtomicU64,
    /// A request was answered before its body had come.
    unread: AtomicBool,
    /// Told when it is to be judged anew.
    pub(crate) changed: Notify,
}

impl Activity {
    pub(crate) fn new(single: bool) -> Self {
        Self {
            born: Instant::now(),
            single,
            busy: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    /// Since the connection began.
    pub(crate) fn now(&self) -> Duration {
        self.born.elapsed()
    }

    /// That moment on the clock.
    pub(crate) fn at(&self, time: Duration) -> Instant {
        // A time that no clock reaches is a year from now.
        let year = Duration::from_secs(365 * 24 * 3600);
        self.born.checked_add(time).unwrap_or_else(|| Instant::now() + year)
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            busy: self.busy.load(Relaxed),
            idle_since: Duration::from_micros(self.idle_since.load(Relaxed)),
            head_since: self.head_since.load(Relaxed).checked_sub(1).map(Duration::from_micros),
            begun: self.begun.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
        }
    }

    /// Bytes have come, over HTTP/1: between requests they begin the head of one.
    pub(crate) fn bytes_came(&self) {
        if self.busy.load(Relaxed) == 0 && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(self.micros() + 1, Relaxed);
        }
    }

    /// A request begins.
    pub(crate) fn begin(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Relaxed);
        self.head_since.store(0, Relaxed);
        let begun = self.begun.fetch_add(1, Relaxed);
        if self.single && begun == 0 {
            self.changed.notify_one();
        }
        Busy { activity: self, answered: false }
    }

    /// Was there a body that nobody read?
    pub(crate) fn left_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX - 1)
    }
}

/// A request that is being served.
pub(crate) struct Busy<'a> {
    activity: &'a Activity,
    answered: bool,
}

impl Busy<'_> {
    /// There is an answer. `unread`: the body has not been read to its end.
    pub(crate) fn answered(mut self, unread: bool) {
        self.answered = true;
        if unread {
            self.activity.unread.store(true, Relaxed);
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let activity = self.activity;
        activity.idle_since.store(activity.micros(), Relaxed);
        activity.busy.fetch_sub(1, Relaxed);
        if !self.answered && activity.given_up.fetch_add(1, Relaxed) + 1 >= GIVEN_UP {
            activity.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const RULES: Rules = Rules {
        head: Some(Duration::from_secs(5)),
        idle: Some(Duration::from_secs(60)),
        age: Some(Duration::from_secs(1000)),
        single: false,
    };

    #[test]
    fn each_rule_at_its_time() {
        let idle = Seen { idle_since: s(10), ..Seen::default() };
        let head = Seen { head_since: Some(s(12)), ..idle };
        let busy = Seen { busy: 1, begun: 1, ..head };
        for (seen, now, verdict) in [
            (idle, s(10), Verdict::Keep(Some(s(15)))),
            (idle, s(69), Verdict::Keep(Some(s(70)))),
            (idle, s(70), Verdict::Drain(Why::Idle)),
            (head, s(16), Verdict::Keep(Some(s(17)))),
            (head, s(17), Verdict::Cut(Why::SlowHead)),
            (busy, s(900), Verdict::Keep(Some(s(905)))),
            (busy, s(999), Verdict::Keep(Some(s(1000)))),
            (busy, s(1000), Verdict::Drain(Why::Old)),
        ] {
            assert_eq!(judge(&RULES, &seen, now), verdict, "{seen:?} {now:?}");
        }
        assert_eq!(judge(&Rules::default(), &idle, s(1 << 40)), Verdict::Keep(None));
        let single = Rules { single: true, ..RULES };
        assert_eq!(judge(&single, &busy, s(13)), Verdict::Drain(Why::Single));
    }

    #[test]
    fn what_is_to_end_may_finish_its_requests_within_the_grace() {
        let (busy, free) = (Seen { busy: 1, ..Seen::default() }, Seen::default());
        let life = |age_grace| Life {
            rules: Rules { age: Some(s(100)), ..Rules::default() },
            age_grace,
            ending: None,
        };
        let mut patient = life(None);
        assert_eq!(patient.look(&busy, s(1)), Next::Look(Some(s(100))));
        assert_eq!(patient.look(&busy, s(100)), Next::Drain(s(110)));
        assert_eq!(patient.look(&free, s(105)), Next::Look(Some(s(110))), "it may say good-bye");
        assert_eq!(patient.look(&busy, s(110)), Next::Look(Some(s(120))), "requests take what they take");
        assert_eq!(patient.look(&free, s(120)), Next::Cut(Why::Stays));
        let mut strict = life(Some(s(15)));
        assert_eq!(strict.look(&busy, s(100)), Next::Drain(s(110)));
        assert_eq!(strict.look(&busy, s(110)), Next::Look(Some(s(115))));
        assert_eq!(strict.look(&busy, s(115)), Next::Cut(Why::Stays));
    }

    #[test]
    fn who_only_gives_up_is_cut() {
        let seen = |given_up, begun| Seen { given_up, begun, ..Seen::default() };
        assert_eq!(judge(&RULES, &seen(GIVEN_UP, GIVEN_UP + 9), s(1)), Verdict::Cut(Why::GivesUp));
        assert_eq!(judge(&RULES, &seen(GIVEN_UP - 1, GIVEN_UP), s(1)), Verdict::Keep(Some(s(6))));
        assert_eq!(judge(&RULES, &seen(GIVEN_UP, 2 * GIVEN_UP), s(1)), Verdict::Keep(Some(s(6))));
    }

    #[test]
    fn requests_and_bytes_are_seen() {
        let activity = Activity::new(false);
        activity.bytes_came();
        assert!(activity.seen().head_since.is_some());
        let (one, two) = (activity.begin(), activity.begin());
        activity.bytes_came();
        let seen = activity.seen();
        assert_eq!((seen.busy, seen.begun, seen.head_since), (2, 2, None));
        one.answered(true);
        drop(two);
        let seen = activity.seen();
        assert_eq!((seen.busy, seen.given_up, activity.left_unread()), (0, 1, true));
    }
}
