//! One way to one terminator: its grant, its pass, and the streams that live by them.

use super::{
    Key,
    choice::Choice,
    lock,
    timing::{Life, Renewal, Use},
};
use crate::{error::DialError, idle::Watched};
use hesper_model::id::{IdentityId, Tag};
use hesper_overlay::{
    node::Node,
    stream::{StreamError, StreamHandle},
};
use hesper_proto::control::DialResponse;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::{Duration, Instant},
};

/// Streams of a lease that are added before those that are over are looked for.
const SWEPT_STREAMS: usize = 32;

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
