//! What a dialer holds: leases (a grant, its pass, and the streams that live by them), and when to use or renew which.
//!
//! The timing is in plain functions of numbers; the cache around it only keeps things.

use crate::{error::DialError, idle::Watched};
use hesper_model::id::{IdentityId, Tag};
use hesper_overlay::{
    node::Node,
    stream::{StreamError, StreamHandle},
};
use hesper_proto::control::{DialResponse, Share};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

/// Part of a grant's life after which it is renewed, or chosen anew for new dials, in percent.
const RENEW_AT_PERCENT: u64 = 60;
/// A choice among some of the terminators only is made anew after so long, seconds: they may be well again, and nobody says so.
const NARROWED_SECS: u64 = 5;
/// A renewal comes this much later at most, in percent of the life, so that the nodes of a large mesh do not ask in step.
const RENEW_JITTER_PERCENT: u64 = 8;
/// First and longest pause between failed renewals, seconds.
const RETRY_SECS: (u64, u64) = (1, 15);
/// Renewals after a new watch are spread over this time.
const NEW_WATCH_SPREAD: Duration = Duration::from_secs(1);
/// Streams of a lease that are added before those that are over are looked for.
const SWEPT_STREAMS: usize = 32;

/// What a grant is cached by: service (as the program names it) and instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) instance: String,
    /// The terminator that was drawn for a dial; empty = whichever the controller chooses.
    pub(crate) terminator: String,
}

impl Key {
    /// The same with this terminator and no other.
    pub(crate) fn of(&self, terminator: &str) -> Self {
        Self { terminator: terminator.into(), ..self.clone() }
    }
}

/// The choice of a terminator: what it was made from, and when it is made anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// When, seconds since the epoch.
    pub(crate) at: u64,
    /// The service's digest (`Service.choice`) before the controller was asked.
    pub(crate) digest: u64,
    /// Were some that are online avoided, or not reached?
    pub(crate) narrowed: bool,
    /// What part of the dials each terminator gets; empty = all go to the one chosen.
    pub(crate) shares: Vec<Share>,
}

impl Choice {
    /// Costs that come with use, and ways that get shorter, are not in the digest: so it is made anew once in a grant's life.
    fn is_good(&self, now: u64, digest: u64, life: Life) -> bool {
        let good_for = if self.narrowed { NARROWED_SECS } else { life.due(0) - life.begin };
        self.digest == digest && now < self.at.saturating_add(good_for)
    }

    /// The terminator of one dial; `point` is anywhere from 0 to `u64::MAX`.
    fn draw(&self, point: u64) -> Option<&str> {
        let total: u64 = self.shares.iter().map(|s| u64::from(s.weight)).sum();
        let mut left = u64::try_from((u128::from(point) * u128::from(total)) >> 64).ok()?;
        for share in &self.shares {
            match left.checked_sub(share.weight.into()) {
                Some(less) => left = less,
                None => return Some(&share.terminator_id),
            }
        }
        None
    }
}

/// Begin and end of a grant, seconds since the epoch, by this node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) begin: u64,
    pub(crate) end: u64,
}

/// What to do with a cached grant when somebody dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Use it.
    Cached,
    /// Ask for a new one; if nobody answers, use it.
    Refresh,
    /// Ask for a new one.
    Ask,
}

impl Life {
    /// When it is due for renewal; `jitter` is from 0 to 255.
    pub(crate) fn due(self, jitter: u8) -> u64 {
        let life = self.end.saturating_sub(self.begin);
        self.begin + life * RENEW_AT_PERCENT / 100 + life * RENEW_JITTER_PERCENT * u64::from(jitter) / 25_500
    }

    /// A choice that is good no more is made anew for new dials, though renewals keep the lease alive.
    pub(crate) fn decide(self, now: u64, good_choice: bool, connected: bool) -> Use {
        match (connected, now < self.end) {
            (true, true) if good_choice && now < self.due(0) => Use::Cached,
            (true, true) => Use::Refresh,
            (true, false) => Use::Ask,
            // The hosting side honours a lapsed grant during an outage, and judges that itself.
            (false, _) => Use::Cached,
        }
    }
}

/// The part of a lease that a renewal replaces.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) response: DialResponse,
    pub(crate) life: Life,
}

impl Tokens {
    fn new(response: DialResponse, now: u64) -> Arc<Self> {
        Arc::new(Self { life: Life { begin: now, end: response.expires_at }, response })
    }
}

/// When a lease is asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// The watch that this is about.
    watch: u64,
    /// Issued or renewed in that watch: a controller that was started again remembers no older grant, and could not revoke it.
    known: bool,
    /// Earliest next try, seconds since the epoch, and the pause after it.
    next: u64,
    pause: u64,
}

impl Renewal {
    /// Of a grant that was just issued in this watch.
    pub(crate) fn done(watch: u64) -> Self {
        Self { watch, known: true, next: 0, pause: RETRY_SECS.0 }
    }

    fn is_known_in(&self, watch: u64) -> bool {
        self.watch == watch && self.known
    }

    /// How long to wait before a renewal that is due by now; `due` is when the grant's age asks for it. Notes the try.
    pub(crate) fn take(&mut self, now: u64, watch: u64, due: u64, jitter: u8) -> Option<Duration> {
        if self.watch != watch {
            *self = Self { known: false, ..Self::done(watch) };
        }
        if now < self.next || (self.known && now < due) {
            return None;
        }
        let spread = if self.next == 0 && !self.known { NEW_WATCH_SPREAD } else { Duration::ZERO };
        self.next = now + spread.as_secs() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_SECS.1);
        Some(spread * u32::from(jitter) / u32::from(u8::MAX))
    }
}

/// A way to one terminator.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) key: Key,
    pub(crate) node: Arc<Node>,
    pub(crate) binder_id: IdentityId,
    pub(crate) binder_tag: Tag,
    pub(crate) service_id: String,
    pub(crate) terminator_id: String,
    /// Names its pass among those of the node.
    pub(crate) purpose: String,
    jitter: u8,
    choice: Mutex<Choice>,
    /// Shared, not copied: every dial reads them.
    tokens: Mutex<Arc<Tokens>>,
    /// Its pass has opened a pair, and is shown at each later attachment.
    pub(crate) presented: AtomicBool,
    /// Not to be used for new dials: revoked, refused, or its host is gone.
    spent: AtomicBool,
    revoked: AtomicBool,
    /// The controller is being asked for other ways.
    pub(crate) renewing: AtomicBool,
    streams: Mutex<Vec<Watched>>,
    renewal: Mutex<Renewal>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lease {
    /// From the controller's answer at `now`, asked in this watch.
    ///
    /// # Errors
    /// The answer is not usable.
    pub(crate) fn new(
        key: Key,
        node: Arc<Node>,
        response: DialResponse,
        choice: Choice,
        watch: u64,
    ) -> Result<Self, DialError> {
        let now = choice.at;
        let binder_tag = Tag::from_slice(&response.binder_tag).ok_or_else(|| DialError::Unavailable {
            message: "its answer to the dial is not understood (is it of another version?)".into(),
        })?;
        Ok(Self {
            key,
            node,
            binder_id: IdentityId::new(&response.binder_id),
            binder_tag,
            service_id: response.service_id.clone(),
            terminator_id: response.terminator_id.clone(),
            purpose: format!("{:016x}", rand::random::<u64>()),
            jitter: rand::random(),
            choice: Mutex::new(choice),
            tokens: Mutex::new(Tokens::new(response, now)),
            presented: AtomicBool::new(false),
            spent: AtomicBool::new(false),
            revoked: AtomicBool::new(false),
            renewing: AtomicBool::new(false),
            streams: Mutex::default(),
            renewal: Mutex::new(Renewal::done(watch)),
        })
    }

    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        lock(&self.tokens).clone()
    }

    /// The same way, renewed; asked in this watch.
    pub(crate) fn renew(&self, response: DialResponse, now: u64, watch: u64) {
        *lock(&self.tokens) = Tokens::new(response, now);
        let mut renewal = lock(&self.renewal);
        // An answer that was asked for in an older watch may be of the controller that has since forgotten it.
        if renewal.watch <= watch {
            *renewal = Renewal::done(watch);
        }
    }

    /// The controller chose the same way again.
    pub(crate) fn chosen_again(&self, response: DialResponse, choice: Choice, watch: u64) {
        self.renew(response, choice.at, watch);
        *lock(&self.choice) = choice;
    }

    /// The next dial asks the controller to choose.
    pub(crate) fn choose_again(&self) {
        lock(&self.choice).at = 0;
    }

    /// The terminator that this dial goes to, if the choice is among several and the draw falls on another one.
    pub(crate) fn draw(&self) -> Option<String> {
        let choice = lock(&self.choice);
        choice.draw(rand::random()).filter(|drawn| *drawn != self.terminator_id).map(str::to_owned)
    }

    pub(crate) fn has_shares(&self) -> bool {
        !lock(&self.choice).shares.is_empty()
    }

    /// `watch` is the one that is open, if one is; `digest` the service's now, if the dial leaves it open which terminator it goes to.
    pub(crate) fn decide(&self, now: u64, watch: Option<u64>, digest: Option<u64>) -> Use {
        if self.spent.load(Relaxed) {
            return Use::Ask;
        }
        let life = lock(&self.tokens).life;
        let good = digest.is_none_or(|digest| lock(&self.choice).is_good(now, digest, life));
        let by_age = life.decide(now, good, watch.is_some());
        let known = watch.is_none_or(|w| lock(&self.renewal).is_known_in(w));
        // A stream by a grant that the controller has forgotten could not be revoked.
        if by_age == Use::Cached && !known { Use::Refresh } else { by_age }
    }

    pub(crate) fn spend(&self) {
        self.spent.store(true, Relaxed);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Relaxed)
    }

    pub(crate) fn add(&self, stream: StreamHandle) {
        let mut streams = lock(&self.streams);
        // Only when there is no room: a dial must not look at all streams that are open.
        if streams.len() == streams.capacity() {
            streams.retain(|s| !s.stream.is_over());
            let live = streams.len();
            streams.reserve(live.max(SWEPT_STREAMS));
        }
        streams.push(Watched::new(stream, Instant::now()));
        drop(streams);
        // Either the revocation finds the stream, or the stream finds the revocation.
        if self.revoked.load(SeqCst) {
            self.revoke();
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        let mut streams = lock(&self.streams);
        streams.retain(|s| !s.stream.is_over());
        !streams.is_empty()
    }

    /// Ends the streams on which nothing has moved for so long; returns how many.
    pub(crate) fn end_idle(&self, now: Instant, limit: Duration) -> usize {
        let idle: Vec<StreamHandle> = {
            let mut streams = lock(&self.streams);
            streams.iter_mut().filter_map(|s| s.is_idle(now, limit).then(|| s.stream.clone())).collect()
        };
        idle.iter().for_each(|s| s.end(StreamError::Idle));
        idle.len()
    }

    /// Is a renewal to be tried in this watch, and after which wait? Notes the try.
    pub(crate) fn take_due(&self, now: u64, watch: u64) -> Option<Duration> {
        if !self.is_live() {
            return None;
        }
        let due = lock(&self.tokens).life.due(self.jitter);
        lock(&self.renewal).take(now, watch, due, self.jitter)
    }

    /// The grant ended before its time.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, SeqCst);
        self.end(&StreamError::Revoked);
    }

    /// The grant has run out, and cannot be renewed.
    pub(crate) fn expire(&self) {
        self.end(&StreamError::Expired);
    }

    fn end(&self, reason: &StreamError) {
        self.spend();
        let streams: Vec<_> = lock(&self.streams).drain(..).collect();
        streams.iter().for_each(|s| s.stream.end(reason.clone()));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.node.forget_pass(self.binder_tag, &self.purpose);
    }
}

/// One way per key; whoever needs it while it is being asked for waits.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Arc<Lease>>>>;

/// The leases of a context.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    slots: Mutex<HashMap<Key, Slot>>,
    /// Every lease that may have streams, the cached ones included.
    all: Mutex<Vec<Weak<Lease>>>,
    /// The terminator used last, for strategy `sticky`; longer than its lease.
    last: Mutex<HashMap<Key, String>>,
}

/// Services and instances whose last terminator is remembered.
const MAX_LAST: usize = 4096;

impl Leases {
    pub(crate) fn slot(&self, key: &Key) -> Slot {
        lock(&self.slots).entry(key.clone()).or_default().clone()
    }

    pub(crate) fn last_terminator(&self, key: &Key) -> String {
        lock(&self.last).get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn chose(&self, key: &Key, terminator: &str) {
        let mut last = lock(&self.last);
        if last.len() >= MAX_LAST && !last.contains_key(key) {
            last.clear();
        }
        last.insert(key.clone(), terminator.to_owned());
    }

    pub(crate) fn remember(&self, lease: &Arc<Lease>) {
        lock(&self.all).push(Arc::downgrade(lease));
    }

    /// Every lease now in use or cached.
    pub(crate) fn all(&self) -> Vec<Arc<Lease>> {
        let mut all = lock(&self.all);
        all.retain(|l| l.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Forgets what is neither in use nor usable. During an outage everything stays: it may be all there is.
    pub(crate) fn sweep(&self, now: u64, connected: bool) {
        lock(&self.slots).retain(|_, slot| {
            let in_use = Arc::strong_count(slot) > 1;
            let Ok(lease) = slot.try_lock() else { return true };
            match lease.as_ref() {
                None => in_use,
                Some(l) => {
                    let over = l.is_spent() || (connected && now >= l.tokens().life.end);
                    in_use || l.is_live() || !over
                }
            }
        });
    }

    /// Grants ended before their time: their streams end, and new dials ask again.
    pub(crate) fn revoke(&self, grant_ids: &[String]) {
        self.with_grants(grant_ids).iter().for_each(|lease| lease.revoke());
    }

    /// The leases that these grants belong to now.
    pub(crate) fn with_grants(&self, grant_ids: &[String]) -> Vec<Arc<Lease>> {
        let mut leases = self.all();
        leases.retain(|lease| grant_ids.contains(&lease.tokens().response.grant_id));
        leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { begin: 1000, end: 1300 };

    #[test]
    fn renewal_is_due_at_sixty_percent_and_a_little_later_for_some() {
        assert_eq!(LIFE.due(0), 1180);
        assert_eq!(LIFE.due(255), 1204);
        assert_eq!(Life { begin: 5, end: 5 }.due(255), 5);
        assert_eq!(Life { begin: 9, end: 5 }.due(255), 9, "a clock that is ahead of the controller's");
    }

    #[test]
    fn a_dial_uses_what_is_cached_for_a_while() {
        for (now, good, connected, expected) in [
            (1000, true, true, Use::Cached),
            (1000, false, true, Use::Refresh),
            (1179, true, true, Use::Cached),
            (1180, true, true, Use::Refresh),
            (1299, false, true, Use::Refresh),
            (1300, true, true, Use::Ask),
            (1180, false, false, Use::Cached),
            (5000, false, false, Use::Cached),
        ] {
            assert_eq!(LIFE.decide(now, good, connected), expected, "{now} {good} {connected}");
        }
    }

    #[test]
    fn a_choice_is_good_until_what_it_was_made_from_changes() {
        let choice = Choice { at: 1000, digest: 7, ..Choice::default() };
        let narrowed = Choice { narrowed: true, ..choice.clone() };
        for (choice, now, digest, good) in [
            (&choice, 1000, 7, true),
            (&choice, 1000, 8, false),
            (&choice, 1179, 7, true),
            (&choice, 1180, 7, false),
            (&narrowed, 1004, 7, true),
            (&narrowed, 1005, 7, false),
        ] {
            assert_eq!(choice.is_good(now, digest, LIFE), good, "{choice:?} {now} {digest}");
        }
    }

    #[test]
    fn dials_are_drawn_by_the_shares() {
        let share = |id: &str, weight| Share { terminator_id: id.into(), weight };
        let choice = Choice { shares: vec![share("a", 1), share("b", 3)], ..Choice::default() };
        let drawn: String = (0..8).filter_map(|eighth| choice.draw(eighth << 61)).collect();
        assert_eq!(drawn, "aabbbbbb");
        assert_eq!((choice.draw(u64::MAX), Choice::default().draw(5)), (Some("b"), None));
        let many = Choice { shares: vec![share("x", u32::MAX); 256], ..Choice::default() };
        assert_eq!(many.draw(u64::MAX), Some("x"));
    }

    #[test]
    fn a_renewal_is_tried_when_due_and_again_with_growing_pauses() {
        let mut renewal = Renewal::done(1);
        let mut tries = Vec::new();
        for now in 1000..1250 {
            tries.extend(renewal.take(now, 1, 1180, 255).map(|wait| (now, wait)));
        }
        let expected = [1180, 1181, 1183, 1187, 1195, 1210, 1225, 1240];
        assert_eq!(tries, expected.map(|now| (now, Duration::ZERO)));
    }

    #[test]
    fn a_new_watch_renews_at_once_what_an_older_one_issued() {
        for (jitter, wait) in [(0, Duration::ZERO), (51, Duration::from_millis(200)), (255, NEW_WATCH_SPREAD)]
        {
            let mut renewal = Renewal::done(1);
            assert_eq!(renewal.take(1001, 1, 1180, jitter), None, "fresh");
            assert_eq!(
                renewal.take(1001, 2, 1180, jitter),
                Some(wait),
                "the new controller knows nothing of it"
            );
            assert_eq!(renewal.take(1002, 2, 1180, jitter), None, "being tried");
            assert_eq!(renewal.take(1003, 2, 1180, jitter), Some(Duration::ZERO), "that failed");
            assert_eq!(renewal.take(1003, 3, 1180, jitter), Some(wait), "another watch: no old pause counts");
            renewal = Renewal::done(3);
            assert_eq!(renewal.take(1003, 3, 1180, jitter), None, "renewed");
        }
    }
}
