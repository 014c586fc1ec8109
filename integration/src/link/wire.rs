//! One direction of a link: when each datagram comes out, if at all. No clock and no sockets: `now` and datagrams in, deliveries out.

use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// What a direction of a link does to datagrams. The default is a perfect wire; shares are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// How long every datagram is under way.
    pub delay: Duration,
    /// At most so much longer, drawn evenly. Jitter alone never changes the order, as in a queue.
    pub jitter: Duration,
    /// Share that is lost, each by itself.
    pub loss: f64,
    /// Losses that come together.
    pub burst: Option<Burst>,
    /// Share that is held back by `reorder_by`, so that those behind overtake it.
    pub reorder: f64,
    /// See `reorder`.
    pub reorder_by: Duration,
    /// Share that comes out twice.
    pub duplicate: f64,
    /// Bytes per second.
    pub rate: Option<u64>,
    /// Bytes that may wait for a line of that rate; what comes on top is lost.
    pub queue: usize,
    /// Longest datagram that fits.
    pub mtu: usize,
    /// Nothing comes out, not even what is under way.
    pub cut: bool,
}

impl Faults {
    /// A quarter of a second at 1 MB/s, and more than any burst of a window on a fast line.
    const QUEUE: usize = 256 << 10;

    /// A perfect wire.
    pub const PERFECT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        burst: None,
        reorder: 0.0,
        reorder_by: Duration::ZERO,
        duplicate: 0.0,
        rate: None,
        queue: Self::QUEUE,
        mtu: usize::MAX,
        cut: false,
    };
}

impl Default for Faults {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// The Gilbert–Elliott model: a good state in which nothing is lost and a bad one in which much is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Probability, at each datagram, of going from good to bad.
    pub begin: f64,
    /// Probability, at each datagram, of going from bad to good: its inverse is the mean length of a burst.
    pub end: f64,
    /// Share lost in the bad state.
    pub loss: f64,
}

/// What became of the datagrams of one direction. Without those still under way,
/// `arrived + duplicated = delivered + lost + lost_in_bursts + overflowed + too_long + cut`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that went in.
    pub arrived: u64,
    /// Datagrams that came out.
    pub delivered: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Lost each by itself.
    pub lost: u64,
    /// Lost in bursts.
    pub lost_in_bursts: u64,
    /// Lost because too much waited for the line.
    pub overflowed: u64,
    /// Lost because longer than the MTU.
    pub too_long: u64,
    /// Lost because the direction was cut.
    pub cut: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Held back, to be overtaken.
    pub reordered: u64,
}

impl Counters {
    /// All that did not come out.
    pub fn gone(&self) -> u64 {
        self.lost + self.lost_in_bursts + self.overflowed + self.too_long + self.cut
    }
}

/// See the module. `D` is whatever travels.
pub(super) struct Wire<D> {
    faults: Faults,
    rng: StdRng,
    /// In the bad state of the burst model.
    bad: bool,
    /// When the line has sent all that was given to it.
    free_at: Option<Instant>,
    /// When the last datagram in order comes out.
    last_due: Option<Instant>,
    under_way: BinaryHeap<Reverse<UnderWay<D>>>,
    next: u64,
    counters: Counters,
}

struct UnderWay<D> {
    due: Instant,
    /// Of two that are due at once, the first to go in is the first to come out.
    number: u64,
    len: usize,
    datagram: D,
}

impl<D> PartialEq for UnderWay<D> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<D> Eq for UnderWay<D> {}

impl<D> PartialOrd for UnderWay<D> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<D> Ord for UnderWay<D> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<D: Clone> Wire<D> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            faults: Faults::default(),
            rng: StdRng::seed_from_u64(seed),
            bad: false,
            free_at: None,
            last_due: None,
            under_way: BinaryHeap::new(),
            next: 0,
            counters: Counters::default(),
        }
    }

    /// From now on. What is under way keeps its time, unless the direction is cut.
    pub(super) fn set(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults
    }

    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Datagrams that have not come out yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// A datagram of `len` bytes goes in.
    pub(super) fn send(&mut self, now: Instant, datagram: D, len: usize) {
        self.counters.arrived += 1;
        if let Some(reason) = self.refused(now, len) {
            *reason += 1;
            return;
        }
        if self.chance(self.faults.duplicate) {
            self.counters.duplicated += 1;
            self.take(now, datagram.clone(), len);
        }
        self.take(now, datagram, len);
    }

    /// The next datagram that has come out by `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<D> {
        while self.next_due().is_some_and(|due| due <= now) {
            let Reverse(out) = self.under_way.pop()?;
            if self.faults.cut {
                self.counters.cut += 1;
                continue;
            }
            self.counters.delivered += 1;
            self.counters.delivered_bytes += out.len as u64;
            return Some(out.datagram);
        }
        None
    }

    /// When the next datagram comes out.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(first)| first.due)
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share.min(1.0))
    }

    /// Where the loss of this datagram is counted, if it is lost.
    fn refused(&mut self, now: Instant, len: usize) -> Option<&mut u64> {
        let (cut, too_long) = (self.faults.cut, len > self.faults.mtu);
        let in_burst = self.lost_in_burst();
        let lost = self.chance(self.faults.loss);
        let overflows = self.faults.rate.is_some_and(|rate| {
            let ahead = self.free_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
            ahead.as_secs_f64() * rate as f64 + len as f64 > self.faults.queue as f64
        });
        let c = &mut self.counters;
        let reasons = [
            (cut, &mut c.cut),
            (too_long, &mut c.too_long),
            (in_burst, &mut c.lost_in_bursts),
            (lost, &mut c.lost),
            (overflows, &mut c.overflowed),
        ];
        reasons.into_iter().find(|(holds, _)| *holds).map(|(_, count)| count)
    }

    fn lost_in_burst(&mut self) -> bool {
        let Some(burst) = self.faults.burst else {
            self.bad = false;
            return false;
        };
        self.bad = if self.bad { !self.chance(burst.end) } else { self.chance(burst.begin) };
        self.bad && self.chance(burst.loss)
    }

    fn take(&mut self, now: Instant, datagram: D, len: usize) {
        let mut due = now;
        if let Some(rate) = self.faults.rate {
            let start = self.free_at.map_or(now, |at| at.max(now));
            due = start + Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
            self.free_at = Some(due);
        }
        due += self.faults.delay;
        if !self.faults.jitter.is_zero() {
            due += self.faults.jitter.mul_f64(self.rng.random());
        }
        if self.chance(self.faults.reorder) {
            self.counters.reordered += 1;
            due += self.faults.reorder_by;
        } else {
            due = self.last_due.map_or(due, |last| last.max(due));
            self.last_due = Some(due);
        }
        self.next += 1;
        self.under_way.push(Reverse(UnderWay { due, number: self.next, len, datagram }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn share() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), 0.0..=1.0]
    }

    fn millis(most: u64) -> impl Strategy<Value = Duration> {
        (0..=most).prop_map(Duration::from_millis)
    }

    fn burst() -> impl Strategy<Value = Option<Burst>> {
        prop::option::of((share(), share(), share()).prop_map(|(begin, end, loss)| Burst {
            begin,
            end,
            loss,
        }))
    }

    fn faults() -> impl Strategy<Value = Faults> {
        let times = (millis(50), millis(20), millis(30));
        let shares = (share(), share(), share());
        let line = (prop::option::of(1_000u64..2_000_000), 0usize..20_000, 100usize..2_000);
        (times, shares, burst(), line, prop::bool::weighted(0.05)).prop_map(
            |((delay, jitter, reorder_by), (loss, reorder, duplicate), burst, (rate, queue, mtu), cut)| {
                let (delays, shares) = ((delay, jitter, reorder_by), (loss, reorder, duplicate));
                Faults {
                    delay: delays.0,
                    jitter: delays.1,
                    reorder_by: delays.2,
                    loss: shares.0,
                    reorder: shares.1,
                    duplicate: shares.2,
                    burst,
                    rate,
                    queue,
                    mtu,
                    cut,
                }
            },
        )
    }

    /// One step of a history: a pause, and then a datagram, maybe under other faults.
    fn steps() -> impl Strategy<Value = Vec<(u64, usize, Option<Faults>)>> {
        let change = prop_oneof![9 => Just(None), 1 => faults().prop_map(Some)];
        vec((0u64..3_000, 1usize..1_500, change), 1..200)
    }

    /// Sends by the steps; what came out and when, polled at exactly the times at which something is due.
    fn run(wire: &mut Wire<usize>, steps: &[(u64, usize, Option<Faults>)]) -> Vec<(Duration, usize)> {
        let start = Instant::now();
        let (mut now, mut out) = (start, Vec::new());
        let mut drain = |wire: &mut Wire<usize>, until: Instant| {
            while let Some(due) = wire.next_due().filter(|due| *due <= until) {
                while let Some(number) = wire.poll(due) {
                    out.push((due - start, number));
                }
            }
        };
        for (number, (pause, len, change)) in steps.iter().enumerate() {
            now += Duration::from_micros(*pause);
            drain(wire, now);
            if let Some(faults) = change {
                wire.set(*faults);
            }
            wire.send(now, number, *len);
        }
        drain(wire, now + Duration::from_secs(3_600));
        out
    }

    proptest! {
        #[test]
        fn nothing_is_lost_without_being_counted(first in faults(), steps in steps(), seed: u64) {
            let mut wire = Wire::new(seed);
            wire.set(first);
            let out = run(&mut wire, &steps);
            let c = wire.counters();
            prop_assert_eq!(wire.under_way(), 0);
            prop_assert_eq!(c.arrived, steps.len() as u64);
            prop_assert_eq!(c.delivered, out.len() as u64);
            prop_assert_eq!(c.arrived + c.duplicated, c.delivered + c.gone());
            for number in 0..steps.len() {
                prop_assert!(out.iter().filter(|(_, n)| *n == number).count() <= 2);
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_fate(first in faults(), steps in steps(), seed: u64) {
            let mut runs = (0..2).map(|_| {
                let mut wire = Wire::new(seed);
                wire.set(first);
                (run(&mut wire, &steps), wire.counters())
            });
            prop_assert_eq!(runs.next(), runs.next());
        }

        #[test]
        fn without_reordering_nothing_overtakes(first in faults(), steps in steps(), seed: u64) {
            let in_order = |f: Faults| Faults { reorder: 0.0, ..f };
            let steps: Vec<_> = steps.into_iter().map(|(p, l, f)| (p, l, f.map(in_order))).collect();
            let mut wire = Wire::new(seed);
            wire.set(in_order(first));
            let out = run(&mut wire, &steps);
            prop_assert!(out.is_sorted(), "{:?}", out);
        }

        #[test]
        fn no_datagram_is_early_and_none_later_than_all_faults_together(steps in steps(), f in faults(), seed: u64) {
            let f = Faults { rate: None, ..f };
            let mut wire = Wire::new(seed);
            wire.set(f);
            let steps: Vec<_> = steps.into_iter().map(|(p, l, _)| (p, l, None)).collect();
            let sent: Vec<_> = steps.iter().scan(0, |at, (pause, ..)| { *at += pause; Some(*at) }).collect();
            for (at, number) in run(&mut wire, &steps) {
                let spent = at - Duration::from_micros(sent[number]);
                prop_assert!(spent >= f.delay, "{:?}", spent);
                prop_assert!(spent <= f.delay + f.jitter + f.reorder_by, "{:?}", spent);
            }
        }

        #[test]
        fn a_line_sends_no_faster_than_its_rate(steps in steps(), rate in 1_000u64..1_000_000, queue in 0usize..20_000, seed: u64) {
            let mut wire = Wire::new(seed);
            wire.set(Faults { rate: Some(rate), queue, ..Faults::default() });
            let steps: Vec<_> = steps.into_iter().map(|(p, l, _)| (p, l, None)).collect();
            let out = run(&mut wire, &steps);
            let mut bytes = 0;
            for pair in out.windows(2) {
                bytes += steps[pair[1].1].1;
                let allowed = (pair[1].0 - out[0].0).as_secs_f64() * rate as f64;
                prop_assert!(bytes as f64 <= allowed + 1.0, "{bytes} bytes, {allowed} allowed");
            }
            // What waits is bounded: no datagram is under way for longer than the queue and itself need.
            let sent: Vec<_> = steps.iter().scan(0, |at, (pause, ..)| { *at += pause; Some(*at) }).collect();
            for (at, number) in out {
                let spent = (at - Duration::from_micros(sent[number])).as_secs_f64();
                prop_assert!(spent * rate as f64 <= queue as f64 + 1.0, "{}", spent);
            }
        }
    }

    #[test]
    fn shares_are_what_they_say() {
        let now = Instant::now();
        let lost = |faults: Faults| {
            let mut wire = Wire::new(7);
            wire.set(faults);
            (0..100_000).for_each(|n| wire.send(now, n, 100));
            wire.counters()
        };
        let few = lost(Faults { loss: 0.02, duplicate: 0.01, ..Faults::default() });
        assert!((1_700..2_300).contains(&few.lost), "{few:?}");
        assert!((850..1_150).contains(&few.duplicated), "{few:?}");
        // Bad for 1 / 0.1 datagrams at a time, every 1 / 0.01: a share of 0.01 / (0.01 + 0.1).
        let burst = Burst { begin: 0.01, end: 0.1, loss: 1.0 };
        let bursts = lost(Faults { burst: Some(burst), ..Faults::default() });
        assert!((8_000..10_200).contains(&bursts.lost_in_bursts), "{bursts:?}");
    }

    #[test]
    fn a_cut_takes_along_what_is_under_way() {
        let now = Instant::now();
        let mut wire = Wire::new(1);
        wire.set(Faults { delay: Duration::from_millis(5), ..Faults::default() });
        wire.send(now, 'a', 1);
        wire.set(Faults { cut: true, ..wire.faults() });
        wire.send(now, 'b', 1);
        assert_eq!(wire.poll(now + Duration::from_secs(1)), None);
        assert_eq!((wire.counters().cut, wire.under_way()), (2, 0));
        wire.set(Faults::default());
        wire.send(now, 'c', 1);
        assert_eq!(wire.poll(now + Duration::from_secs(1)), Some('c'));
    }
}
