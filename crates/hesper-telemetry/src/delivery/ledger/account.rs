//! Whose items are counted together.

use crate::origin::Origin;
use hesper_otlp::Signal;
use serde::Serialize;
use std::{collections::HashMap, fmt};

/// Senders and signals that have accounts of their own in one book; whoever comes then is counted as [`Party::Other`]. Each takes some
/// 200 bytes, and twenty more for each destination.
const ACCOUNTS: usize = 4096;

/// Who sent something, as far as it was proved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Party {
    /// An identity of the mesh.
    Identity {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    },
    /// Somebody whom an authenticator knows.
    User {
        /// The user's name.
        name: String,
    },
    /// Somebody who proved nothing.
    Unknown,
    /// All for whom there was no room.
    Other,
}

impl Party {
    /// The sender of a batch.
    pub fn of(origin: &Origin) -> Self {
        match (&origin.sender, origin.auth.get("username").or_else(|| origin.auth.get("subject"))) {
            (Some(sender), _) => Self::Identity { id: sender.id.clone(), name: sender.name.clone() },
            (None, Some(name)) => Self::User { name: name.clone() },
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for Party {
    /// As metrics name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { name, .. } | Self::User { name } => f.write_str(name),
            Self::Unknown => f.write_str("-"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// The table of accounts. An account keeps its place; when there is no room, one that is at rest (nothing of it is queued anywhere)
/// gives its place to a new one. Until nothing of [`Party::Other`] is queued nobody gets an account, for it may be theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accounts {
    table: Vec<Account>,
    index: HashMap<(Party, Signal), usize>,
    uses: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    party: Party,
    signal: Signal,
    used: u64,
}

/// Where a sender is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// In this account.
    Account(usize),
    /// In this one, which was another's: its numbers go to the second, that of all others.
    Reused(usize, usize),
}

impl Accounts {
    /// Those of all others only.
    pub(crate) fn new() -> Self {
        let mut accounts = Self { table: Vec::new(), index: HashMap::new(), uses: 0 };
        Signal::ALL.into_iter().for_each(|signal| accounts.push(Party::Other, signal));
        accounts
    }

    /// As they were stored; the order is kept. Accounts that are there twice, or none for all others, make no sense.
    pub(crate) fn restore(accounts: impl IntoIterator<Item = (Party, Signal)>) -> Option<Self> {
        let mut restored = Self { table: Vec::new(), index: HashMap::new(), uses: 0 };
        accounts.into_iter().for_each(|(party, signal)| restored.push(party, signal));
        let others =
            Signal::ALL.into_iter().all(|signal| restored.index.contains_key(&(Party::Other, signal)));
        (others && restored.index.len() == restored.table.len()).then_some(restored)
    }

    fn push(&mut self, party: Party, signal: Signal) {
        self.uses += 1;
        self.index.insert((party.clone(), signal), self.table.len());
        self.table.push(Account { party, signal, used: self.uses });
    }

    /// The account of a sender; made if need be. `queued` tells how much of an account is queued.
    pub(crate) fn find_or_make(
        &mut self,
        party: &Party,
        signal: Signal,
        queued: impl Fn(usize) -> bool,
    ) -> Found {
        let key = (party.clone(), signal);
        self.uses += 1;
        if let Some(at) = self.index.get(&key) {
            self.table[*at].used = self.uses;
            return Found::Account(*at);
        }
        if self.table.len() < ACCOUNTS {
            self.push(key.0, signal);
            return Found::Account(self.table.len() - 1);
        }
        let other = self.other(signal);
        let others_queued = Signal::ALL.into_iter().any(|signal| queued(self.other(signal)));
        let at_rest = |(at, account): &(usize, &Account)| account.party != Party::Other && !queued(*at);
        let resting = self.table.iter().enumerate().filter(at_rest).min_by_key(|(_, account)| account.used);
        let Some((at, account)) = resting.filter(|_| !others_queued) else { return Found::Account(other) };
        let old = (account.party.clone(), account.signal);
        let heir = self.other(old.1);
        self.index.remove(&old);
        self.index.insert(key.clone(), at);
        self.table[at] = Account { party: key.0, signal, used: self.uses };
        Found::Reused(at, heir)
    }

    /// The account of a sender of whom something was counted before.
    pub(crate) fn find(&self, party: &Party, signal: Signal) -> usize {
        self.index.get(&(party.clone(), signal)).copied().unwrap_or_else(|| self.other(signal))
    }

    fn other(&self, signal: Signal) -> usize {
        self.index[&(Party::Other, signal)]
    }

    /// All, by their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Party, Signal)> {
        self.table.iter().map(|account| (&account.party, account.signal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn user(number: usize) -> Party {
        Party::User { name: number.to_string() }
    }

    #[test]
    fn whoever_comes_late_takes_the_place_of_one_at_rest() {
        let mut accounts = Accounts::new();
        let nothing = |_: usize| false;
        let free = ACCOUNTS - Signal::ALL.len();
        for number in 0..free {
            assert!(matches!(accounts.find_or_make(&user(number), Signal::Logs, nothing), Found::Account(_)));
        }
        accounts.find_or_make(&user(0), Signal::Logs, nothing);
        let other = accounts.find(&Party::Other, Signal::Logs);
        let late = (user(free), Signal::Logs);
        let all_queued = |at: usize| at != other;
        assert_eq!(
            accounts.find_or_make(&late.0, late.1, all_queued),
            Found::Account(other),
            "nobody is at rest"
        );
        let others_queued = |at: usize| at == other;
        assert_eq!(
            accounts.find_or_make(&late.0, late.1, others_queued),
            Found::Account(other),
            "it may be theirs"
        );
        let Found::Reused(at, heir) = accounts.find_or_make(&late.0, late.1, nothing) else {
            panic!("there was room");
        };
        assert_eq!((at, heir), (accounts.find(&late.0, late.1), other));
        assert_eq!(accounts.find(&user(1), Signal::Logs), other, "it was used longest ago");
        assert_ne!(accounts.find(&user(0), Signal::Logs), other);
        let keys: HashSet<_> = accounts.iter().map(|(party, signal)| (party.clone(), signal)).collect();
        assert_eq!(keys.len(), ACCOUNTS);
    }

    #[test]
    fn what_was_stored_is_the_same_table() {
        let mut accounts = Accounts::new();
        accounts.find_or_make(&user(1), Signal::Traces, |_| false);
        let stored: Vec<_> = accounts.iter().map(|(party, signal)| (party.clone(), signal)).collect();
        let restored = Accounts::restore(stored.clone()).expect("whole");
        assert_eq!(restored.find(&user(1), Signal::Traces), accounts.find(&user(1), Signal::Traces));
        assert_eq!(Accounts::restore(stored[1..].to_vec()), None, "none for all others");
        assert_eq!(Accounts::restore([stored.clone(), stored].concat()), None, "twice");
    }

    #[test]
    fn the_identity_goes_before_the_user() {
        let mut origin = Origin::default();
        assert_eq!(Party::of(&origin).to_string(), "-");
        origin.auth.insert("username".into(), "user-1".into());
        assert_eq!(Party::of(&origin).to_string(), "user-1");
        origin.sender = Some(crate::origin::Sender { id: "i1".into(), name: "shop".into() });
        assert_eq!(Party::of(&origin), Party::Identity { id: "i1".into(), name: "shop".into() });
    }
}
