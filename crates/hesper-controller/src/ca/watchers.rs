//! Nodes and routers whose watch is open, and which CAs they trust and use, as they report it.

use hesper_pki::{digest::hex, spiffe::SpiffeId};
use hesper_proto::control::Trusting;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// CAs that one of them may report.
const CAS_MAX: usize = 8;

/// Everybody whose watch is open.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    subject: String,
    name: String,
    /// None until the first report.
    trusts: Option<Vec<String>>,
    issuer: String,
}

/// One open watch; it is forgotten with this.
#[derive(Debug)]
pub(crate) struct Watcher {
    id: u64,
    all: Arc<Watchers>,
}

impl Watchers {
    /// A watch opened.
    pub(crate) fn open(self: &Arc<Self>, subject: &SpiffeId, name: &str) -> Watcher {
        let mut table = self.lock();
        table.next += 1;
        let id = table.next;
        let entry = Entry {
            subject: subject.to_string(),
            name: name.to_owned(),
            trusts: None,
            issuer: String::new(),
        };
        table.open.insert(id, entry);
        Watcher { id, all: self.clone() }
    }

    /// Names of those who have not reported that they trust this CA.
    pub(crate) fn without(&self, ca: &str) -> Vec<String> {
        let table = self.lock();
        let trusts = |e: &Entry| e.trusts.as_ref().is_some_and(|all| all.iter().any(|t| t == ca));
        let mut names: Vec<_> = table.open.values().filter(|e| !trusts(e)).map(|e| e.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// By subject: do all its open watches that have reported use a leaf of another CA than `ca`? A subject without one is not in it.
    pub(crate) fn have_left(&self, ca: &str) -> HashMap<String, bool> {
        let mut left = HashMap::new();
        for entry in self.lock().open.values().filter(|e| e.trusts.is_some()) {
            let all = left.entry(entry.subject.clone()).or_insert(true);
            *all &= entry.issuer != ca;
        }
        left
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Its owner says what it trusts.
    pub(crate) fn report(&self, trusting: &Trusting) {
        if let Some(entry) = self.all.lock().open.get_mut(&self.id) {
            entry.trusts = Some(trusting.ca_sha256.iter().take(CAS_MAX).map(|ca| hex(ca)).collect());
            entry.issuer = hex(&trusting.issuer_sha256);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.id);
    }
}

/// Bytes of a digest in hexadecimal digits.
pub(super) fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hesper_pki::spiffe::SpiffeRole;

    #[test]
    fn who_has_not_said_that_it_trusts_a_ca_does_not() {
        let all = Arc::new(Watchers::default());
        let id = |id| SpiffeId::new("mesh.test", SpiffeRole::Identity, id).expect("an id");
        let (a, b) = (all.open(&id("a"), "alice"), all.open(&id("b"), "bob"));
        assert_eq!(all.without("01"), ["alice", "bob"]);
        a.report(&Trusting { ca_sha256: vec![vec![1], vec![2]], issuer_sha256: vec![2] });
        assert_eq!(all.without("01"), ["bob"]);
        assert_eq!(all.have_left("01"), HashMap::from([(id("a").to_string(), true)]));
        let second = all.open(&id("a"), "alice");
        second.report(&Trusting { ca_sha256: vec![vec![1]], issuer_sha256: vec![1] });
        assert_eq!(all.have_left("01"), HashMap::from([(id("a").to_string(), false)]));
        drop((second, b));
        assert_eq!(all.without("01"), Vec::<String>::new());
        assert_eq!(unhex(&hex(&[0, 255])), [0, 255]);
    }
}
