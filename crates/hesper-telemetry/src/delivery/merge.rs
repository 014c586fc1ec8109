//! Which batches go out in one request.

use super::{
    item::{Item, Size},
    plan::Merge,
};
use crate::origin::{Origin, Sender};
use bytes::Bytes;
use hesper_otlp::Signal;
use hesper_trace::TraceContext;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

/// Most traces that a request is told to belong to.
const TRACES_MAX: usize = 32;

/// What must be the same in one request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    signal: Signal,
    /// None when that does not matter.
    who: Option<Who>,
    /// The values of each of the headers.
    values: Vec<Vec<Bytes>>,
}

/// A sender, in all that exporters may tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Who {
    sender: Option<Sender>,
    auth: BTreeMap<String, String>,
    forwarded_for: Vec<String>,
}

impl Key {
    pub(crate) fn of(item: &Item, settings: &Merge) -> Self {
        let origin = &*item.origin;
        let who = || Who {
            sender: origin.sender.clone(),
            auth: origin.auth.clone(),
            forwarded_for: origin.forwarded_for.clone(),
        };
        let values = |key: &String| -> Vec<Bytes> {
            let named = origin.metadata.iter().filter(|(name, _)| name == key);
            named.map(|(_, value)| value.clone()).collect()
        };
        Self {
            signal: item.entry.signal,
            who: (!settings.across_senders).then(who),
            values: settings.keys.iter().map(values).collect(),
        }
    }
}

/// Whose a request of several batches is: what they have in common.
pub(crate) fn origin_of(items: &[Item], settings: &Merge) -> Arc<Origin> {
    let Some(first) = items.first() else { return Arc::default() };
    if items.len() == 1 {
        return first.origin.clone();
    }
    let origin = &first.origin;
    let kept = origin.metadata.iter().filter(|(name, _)| settings.keys.contains(name));
    let mut merged = Origin { metadata: kept.cloned().collect(), ..Origin::default() };
    if !settings.across_senders {
        merged.sender = origin.sender.clone();
        merged.auth = origin.auth.clone();
        merged.forwarded_for = origin.forwarded_for.clone();
    }
    merged.peer = origin.peer.filter(|peer| items.iter().all(|item| item.origin.peer == Some(*peer)));
    merged.received_ms = items.iter().map(|item| item.origin.received_ms).min().unwrap_or_default();
    merged.traces = traces_of(items);
    Arc::new(merged)
}

/// The requests that they came by, each once.
fn traces_of(items: &[Item]) -> Vec<TraceContext> {
    let mut traces: Vec<TraceContext> = Vec::new();
    for trace in items.iter().flat_map(|item| &item.origin.traces) {
        if traces.len() < TRACES_MAX && !traces.contains(trace) {
            traces.push(trace.clone());
        }
    }
    traces
}

/// Gathers batches until they are enough, or have waited long enough. The batches of one key stay in order.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    groups: HashMap<Key, Group>,
}

#[derive(Debug)]
struct Group {
    since: Duration,
    size: Size,
    items: Vec<Item>,
}

impl Merger {
    /// Adds a batch; what is to be sent now. No request is longer than `most_bytes` unless a single batch is.
    pub(crate) fn add(
        &mut self,
        item: Item,
        settings: &Merge,
        most_bytes: u64,
        now: Duration,
    ) -> Vec<Vec<Item>> {
        let mut ready = Vec::new();
        let key = Key::of(&item, settings);
        let size = item.size();
        let sum = self.groups.get(&key).map(|group| group.size).map(|mut sum| {
            sum += size;
            sum
        });
        let over = |sum: &Size| {
            sum.bytes > most_bytes || (settings.max > 0 && sum.by(settings.sizer) > settings.max)
        };
        if sum.as_ref().is_some_and(over) {
            ready.extend(self.groups.remove(&key).map(|group| group.items));
        }
        if !self.groups.contains_key(&key) && self.groups.len() >= settings.groups.max(1) {
            let oldest = self.groups.iter().min_by_key(|(_, group)| group.since).map(|(key, _)| key.clone());
            ready.extend(oldest.and_then(|oldest| self.groups.remove(&oldest)).map(|group| group.items));
        }
        let new = || Group { since: now, size: Size::default(), items: Vec::new() };
        let group = self.groups.entry(key.clone()).or_insert_with(new);
        group.size += size;
        group.items.push(item);
        if group.size.by(settings.sizer) >= settings.min {
            ready.extend(self.groups.remove(&key).map(|group| group.items));
        }
        ready
    }

    /// What has waited for long enough.
    pub(crate) fn due(&mut self, settings: &Merge, now: Duration) -> Vec<Vec<Item>> {
        let due = self.groups.extract_if(|_, group| group.since.saturating_add(settings.timeout) <= now);
        in_order(due.map(|(_, group)| group).collect())
    }

    /// Everything.
    pub(crate) fn flush(&mut self) -> Vec<Vec<Item>> {
        in_order(self.groups.drain().map(|(_, group)| group).collect())
    }

    /// When something is due.
    pub(crate) fn deadline(&self, settings: &Merge) -> Option<Duration> {
        self.groups.values().map(|group| group.since.saturating_add(settings.timeout)).min()
    }

    /// Does it hold nothing?
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What it holds.
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.values().map(|group| group.size.bytes).sum()
    }
}

fn in_order(mut groups: Vec<Group>) -> Vec<Vec<Item>> {
    groups.sort_by_key(|group| group.items.first().map(|item| item.number));
    groups.into_iter().map(|group| group.items).collect()
}

/// Shares what was lost of a request among its batches, in proportion to their items.
pub(crate) fn share(items: &[Item], lost: u64) -> Vec<u64> {
    let all: u64 = items.iter().map(|item| item.entry.items).sum();
    let lost = lost.min(all);
    let part = |item: &Item| {
        u64::try_from(u128::from(lost) * u128::from(item.entry.items) / u128::from(all.max(1))).unwrap_or(0)
    };
    let mut shares: Vec<_> = items.iter().map(part).collect();
    let mut left = lost - shares.iter().sum::<u64>();
    for (share, item) in shares.iter_mut().zip(items) {
        let more = left.min(item.entry.items - *share);
        *share += more;
        left -= more;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::ledger::Entry,
        origin::{BatchId, RecordHeader},
    };
    use hesper_collector_config::Sizer;
    use proptest::prelude::*;

    fn settings() -> Merge {
        Merge {
            min: 10,
            max: 15,
            sizer: Sizer::Items,
            timeout: Duration::from_millis(200),
            keys: vec!["x-tenant".into()],
            groups: 3,
            across_senders: false,
        }
    }

    fn item(number: u64, items: u64, tenant: &'static str, user: &str) -> Item {
        let origin = Origin {
            auth: [("username".to_owned(), user.to_owned())].into(),
            metadata: vec![("x-tenant".into(), tenant.into()), ("x-other".into(), "secret".into())],
            received_ms: 100 - number,
            ..Origin::default()
        };
        let header = RecordHeader { origin, signal: Signal::Logs, items, batch: None };
        Item {
            number,
            id: BatchId { queue: [0; 16], number },
            entry: Arc::new(Entry::of(&header)),
            origin: Arc::new(header.origin),
            payload: Bytes::from(vec![0; 10]),
        }
    }

    fn numbers(ready: &[Vec<Item>]) -> Vec<Vec<u64>> {
        ready.iter().map(|items| items.iter().map(|item| item.number).collect()).collect()
    }

    #[test]
    fn a_request_goes_when_it_is_large_or_old_enough() {
        let (mut merger, settings) = (Merger::default(), settings());
        let at = Duration::from_millis;
        let add = |merger: &mut Merger, item, now| numbers(&merger.add(item, &settings, 1000, at(now)));
        assert_eq!(add(&mut merger, item(1, 4, "a", "u"), 0), [[0; 0]; 0]);
        assert_eq!(add(&mut merger, item(2, 6, "a", "u"), 1), [[1, 2]], "10 items");
        assert_eq!(add(&mut merger, item(3, 9, "a", "u"), 2), [[0; 0]; 0]);
        assert_eq!(add(&mut merger, item(4, 7, "a", "u"), 3), [[3]], "16 would be too many");
        assert_eq!(merger.deadline(&settings), Some(at(203)));
        assert_eq!(numbers(&merger.due(&settings, at(202))), [[0; 0]; 0]);
        assert_eq!(numbers(&merger.due(&settings, at(203))), [[4]]);
        assert_eq!((merger.deadline(&settings), merger.bytes()), (None, 0));
    }

    #[test]
    fn senders_and_tenants_are_kept_apart_within_bounds() {
        let (mut merger, settings) = (Merger::default(), settings());
        let add = |merger: &mut Merger, item| numbers(&merger.add(item, &settings, 35, Duration::ZERO));
        for (number, tenant, user) in [(1, "a", "u"), (2, "b", "u"), (3, "a", "v"), (4, "a", "u")] {
            assert_eq!(add(&mut merger, item(number, 1, tenant, user)), [[0; 0]; 0]);
        }
        assert_eq!(add(&mut merger, item(5, 1, "c", "w")).len(), 1, "three at once");
        merger.flush();
        for number in 1..=3 {
            assert_eq!(add(&mut merger, item(number, 1, "a", "u")), [[0; 0]; 0]);
        }
        assert_eq!(add(&mut merger, item(4, 1, "a", "u")), [[1, 2, 3]], "40 bytes are too many");
    }

    #[test]
    fn a_merged_request_tells_only_what_is_common() {
        let items = [item(1, 1, "a", "u"), item(2, 1, "a", "u")];
        let merged = origin_of(&items, &settings());
        assert_eq!(merged.auth, items[0].origin.auth);
        assert_eq!(merged.metadata, [("x-tenant".to_owned(), Bytes::from("a"))], "no other header");
        assert_eq!(merged.received_ms, 98);
        let across = origin_of(&items, &Merge { across_senders: true, ..settings() });
        assert!(across.auth.is_empty());
        assert_eq!(origin_of(&items[..1], &settings()), items[0].origin);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_key_is_in_order(
            batches in prop::collection::vec((0_u64..20, 0_usize..4, 0_u64..300), 0..60)
        ) {
            let (mut merger, settings) = (Merger::default(), settings());
            let (mut sent, mut now) = (Vec::new(), Duration::ZERO);
            for (number, (items, tenant, pause)) in batches.iter().enumerate() {
                now += Duration::from_millis(*pause);
                sent.extend(merger.due(&settings, now));
                prop_assert!(merger.deadline(&settings).is_none_or(|due| due > now));
                let item = item(number as u64, *items, ["a", "b", "c", "d"][*tenant], "u");
                sent.extend(merger.add(item, &settings, 1 << 20, now));
                prop_assert!(merger.groups.len() <= settings.groups);
            }
            sent.extend(merger.flush());
            for request in &sent {
                let size: u64 = request.iter().map(|item| item.entry.items).sum();
                prop_assert!(size <= settings.max || request.len() == 1);
                prop_assert!(request.iter().all(|item| Key::of(item, &settings) == Key::of(&request[0], &settings)));
            }
            let mut last = HashMap::new();
            for item in sent.iter().flatten() {
                let before = last.insert(Key::of(item, &settings), item.number);
                prop_assert!(before.is_none_or(|before| before < item.number));
            }
            let mut all: Vec<_> = sent.iter().flatten().map(|item| item.number).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..batches.len() as u64).collect::<Vec<_>>());
        }

        #[test]
        fn shares_add_up(items in prop::collection::vec(0_u64..50, 1..10), lost in 0_u64..200) {
            let items: Vec<_> = items.into_iter().map(|items| item(1, items, "a", "u")).collect();
            let all: u64 = items.iter().map(|item| item.entry.items).sum();
            let shares = share(&items, lost);
            prop_assert_eq!(shares.iter().sum::<u64>(), lost.min(all));
            prop_assert!(shares.iter().zip(&items).all(|(share, item)| *share <= item.entry.items));
        }
    }
}
