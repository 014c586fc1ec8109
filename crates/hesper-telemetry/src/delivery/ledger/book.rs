//! The accounts of one sequence of numbers.

use super::{
    DropReason, Party, Row,
    account::{Accounts, Found},
};
use crate::{
    delivery::seen::Seen,
    origin::{BatchId, RecordHeader},
};
use hesper_otlp::Signal;
use hesper_queue::Ranges;
use std::{collections::BTreeMap, ops::Range};

/// What the book wants to know of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) party: Party,
    pub(crate) signal: Signal,
    pub(crate) items: u64,
    /// How the gateway before called it.
    pub(crate) id: Option<BatchId>,
}

impl Entry {
    pub(crate) fn of(header: &RecordHeader) -> Self {
        let party = Party::of(&header.origin);
        Self { party, signal: header.signal, items: header.items, id: header.batch }
    }
}

/// What came and what became of it, by number. Everything is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Book {
    pub(super) accounts: Accounts,
    /// Records that are in the accounts.
    pub(super) counted: Ranges,
    pub(super) sheets: BTreeMap<String, Sheet>,
    pub(super) seen: Seen,
    /// Rises with each change.
    version: u64,
}

/// The accounts of one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sheet {
    /// Records that are not queued: delivered, dropped, or older than the destination.
    pub(super) settled: Ranges,
    /// Records for it that were counted before it was here.
    pub(super) uncounted: Ranges,
    pub(super) totals: Vec<Totals>,
    /// Records that nobody knows whose they were.
    pub(super) lost: u64,
    /// Some of them are still taken for queued.
    pub(super) unresolved: bool,
    /// It gets no records any more.
    pub(super) retired: bool,
}

/// Items of one account for one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) delivered: u64,
    pub(super) dropped: [u64; DropReason::ALL.len()],
}

impl Totals {
    fn queued(&self) -> u64 {
        self.accepted.saturating_sub(self.delivered + self.dropped.iter().sum::<u64>())
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.dropped.iter_mut().zip(other.dropped).for_each(|(sum, more)| *sum += more);
    }
}

impl Sheet {
    fn totals(&mut self, account: usize) -> &mut Totals {
        if self.totals.len() <= account {
            self.totals.resize(account + 1, Totals::default());
        }
        &mut self.totals[account]
    }

    fn is_queued(&self, account: usize) -> bool {
        self.totals.get(account).is_some_and(|totals| totals.queued() > 0)
    }
}

impl Book {
    /// An empty one, of records from `first` on.
    pub(crate) fn new(first: u64) -> Self {
        let mut counted = Ranges::default();
        counted.add(0..first);
        Self::restore(Accounts::new(), counted, BTreeMap::new(), Seen::default())
    }

    pub(super) fn restore(
        accounts: Accounts,
        counted: Ranges,
        sheets: BTreeMap<String, Sheet>,
        seen: Seen,
    ) -> Self {
        Self { accounts, counted, sheets, seen, version: 0 }
    }

    /// Tells whether something has changed since it was asked the last time.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// A destination is there. `past` are the records that it does not get any more. Those that are not settled in the book were lost
    /// without a word; how many.
    pub(crate) fn open(&mut self, destination: &str, past: &Ranges) -> u64 {
        self.version += 1;
        if let Some(sheet) = self.sheets.get_mut(destination) {
            if !std::mem::take(&mut sheet.retired) {
                return past.iter().map(|range| self.lose(destination, range)).sum();
            }
            sheet.settled = past.clone();
        } else {
            self.sheets.insert(destination.to_owned(), Sheet { settled: past.clone(), ..Sheet::default() });
        }
        if let Some(sheet) = self.sheets.get_mut(destination) {
            sheet.uncounted = Ranges::default();
            for range in self.counted.iter() {
                for gap in past.gaps(range) {
                    sheet.uncounted.add(gap);
                }
            }
        }
        0
    }

    /// The destination gets no further records. Its numbers stay in the ledger.
    pub(crate) fn retire(&mut self, destination: &str) {
        self.version += 1;
        if let Some(sheet) = self.sheets.get_mut(destination) {
            sheet.retired = true;
        }
    }

    /// The destination is forgotten.
    pub(crate) fn forget(&mut self, destination: &str) {
        self.version += 1;
        self.sheets.remove(destination);
    }

    /// The destinations that are known.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &str> {
        self.sheets.keys().map(String::as_str)
    }

    /// A record is safe.
    pub(crate) fn accept(&mut self, number: u64, entry: &Entry) {
        if self.counted.add(number..number + 1) == 0 {
            return;
        }
        self.version += 1;
        let account = self.account(entry);
        for sheet in self.sheets.values_mut().filter(|sheet| !sheet.retired) {
            if !sheet.settled.contains(number) {
                sheet.totals(account).accepted += entry.items;
            }
        }
        if let Some(id) = &entry.id {
            self.seen.add(id);
        }
    }

    /// There are no records with these numbers, or they cannot be read.
    pub(crate) fn pass(&mut self, numbers: Range<u64>) {
        self.version += u64::from(self.counted.add(numbers) > 0);
    }

    fn account(&mut self, entry: &Entry) -> usize {
        let sheets = &self.sheets;
        let queued = |account: usize| sheets.values().any(|sheet| sheet.is_queued(account));
        match self.accounts.find_or_make(&entry.party, entry.signal, queued) {
            Found::Account(account) => account,
            Found::Reused(account, heir) => {
                for sheet in self.sheets.values_mut() {
                    let old = std::mem::take(sheet.totals(account));
                    sheet.totals(heir).add(&old);
                }
                account
            }
        }
    }

    /// A record has reached its end for a destination: `dropped` of its items did not arrive, the rest did. `false` when that was settled
    /// before.
    pub(crate) fn settle(
        &mut self,
        destination: &str,
        number: u64,
        entry: &Entry,
        dropped: &[(DropReason, u64)],
    ) -> bool {
        self.accept(number, entry);
        let account = self.accounts.find(&entry.party, entry.signal);
        let Some(sheet) = self.sheets.get_mut(destination) else { return false };
        if sheet.settled.add(number..number + 1) == 0 {
            return false;
        }
        self.version += 1;
        let counts = sheet.uncounted.contains(number);
        let totals = sheet.totals(account);
        if counts {
            totals.accepted += entry.items;
        }
        let mut left = entry.items;
        for (reason, items) in dropped {
            let items = left.min(*items);
            totals.dropped[*reason as usize] += items;
            left -= items;
        }
        totals.delivered += left;
        self.resolve(destination);
        true
    }

    /// A destination will not get these records, and nobody knows what they were; how many that is news for.
    pub(crate) fn lose(&mut self, destination: &str, numbers: Range<u64>) -> u64 {
        let Some(sheet) = self.sheets.get_mut(destination) else { return 0 };
        let lost = sheet.settled.add(numbers);
        if lost > 0 {
            self.version += 1;
            sheet.lost += lost;
            sheet.unresolved = true;
            self.resolve(destination);
        }
        lost
    }

    /// When nothing is left in the queue, what the accounts take for queued is what was lost.
    fn resolve(&mut self, destination: &str) {
        let Some(sheet) = self.sheets.get_mut(destination).filter(|sheet| sheet.unresolved) else { return };
        let prefix =
            |ranges: &Ranges| ranges.iter().next().filter(|range| range.start == 0).map(|range| range.end);
        let everything = self.counted.end().unwrap_or(0);
        if prefix(&sheet.settled).unwrap_or(0) < everything {
            return;
        }
        for totals in &mut sheet.totals {
            totals.dropped[DropReason::Damaged as usize] += totals.queued();
        }
        sheet.unresolved = false;
    }

    /// The log was replaced by one that ends with `next`: what the book says of higher numbers is of others.
    pub(crate) fn truncate(&mut self, next: u64) {
        if self.counted.end().is_none_or(|end| end <= next) {
            return;
        }
        self.version += 1;
        self.counted.truncate(next);
        for sheet in self.sheets.values_mut() {
            sheet.settled.truncate(next);
            sheet.uncounted.truncate(next);
            sheet.unresolved = true;
        }
        let names: Vec<_> = self.sheets.keys().cloned().collect();
        names.iter().for_each(|name| self.resolve(name));
    }

    /// Has the destination got or lost it?
    pub(crate) fn is_settled(&self, destination: &str, number: u64) -> bool {
        self.sheets.get(destination).is_none_or(|sheet| sheet.settled.contains(number))
    }

    /// The records that are settled for a destination.
    pub(crate) fn settled(&self, destination: &str) -> Ranges {
        self.sheets.get(destination).map(|sheet| sheet.settled.clone()).unwrap_or_default()
    }

    /// The records that were counted.
    pub(crate) fn counted(&self) -> &Ranges {
        &self.counted
    }

    /// Has a batch of another gateway arrived?
    pub(crate) fn has_seen(&self, id: &BatchId) -> bool {
        self.seen.has(id)
    }

    /// Ranges of batch ids that were forgotten for want of room.
    pub(crate) fn forgotten_ids(&self) -> u64 {
        self.seen.forgotten
    }

    /// Records by destination of which nobody knows whose they were.
    pub(crate) fn lost(&self) -> BTreeMap<String, u64> {
        self.sheets.iter().map(|(name, sheet)| (name.clone(), sheet.lost)).collect()
    }

    /// Everything, for people and metrics.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (destination, sheet) in &self.sheets {
            for ((party, signal), totals) in self.accounts.iter().zip(&sheet.totals) {
                if *totals == Totals::default() {
                    continue;
                }
                let dropped = DropReason::ALL.into_iter().zip(totals.dropped).filter(|(_, items)| *items > 0);
                rows.push(Row {
                    destination: destination.clone(),
                    sender: party.clone(),
                    signal,
                    accepted: totals.accepted,
                    delivered: totals.delivered,
                    queued: totals.queued(),
                    dropped: dropped.collect(),
                });
            }
        }
        rows
    }
}
