//! The words of the store: objects, transactions, changes, and the limits that every engine keeps.

use crate::error::TxnFault;
use std::collections::HashSet;

/// How often the store has changed since it was made; 0 is the empty store. Never decreases.
pub type Revision = u64;

/// The longest key, in bytes.
pub const KEY_MAX: usize = 1024;
/// The most compares, and the most writes, of one transaction.
pub const OPERATIONS_MAX: usize = 4096;
/// The most bytes of keys and values in one transaction: below the 1.5 MiB that etcd takes in one request.
pub const TXN_MAX: usize = 1_400_000;

/// A stored value under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Text, by convention `<kind>/<id>`.
    pub key: String,
    /// Opaque to the store.
    pub value: Vec<u8>,
    /// The revision of the commit that last wrote it.
    pub mod_revision: Revision,
}

/// Everything that was stored at one revision, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Watch after this to miss nothing.
    pub revision: Revision,
    /// All objects, sorted by key.
    pub objects: Vec<Object>,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Nothing is stored under this key.
    Absent(String),
    /// The object under this key was last written by the commit of this revision.
    Unchanged(String, Revision),
}

impl Compare {
    /// The key it looks at.
    pub fn key(&self) -> &str {
        match self {
            Compare::Absent(key) | Compare::Unchanged(key, _) => key,
        }
    }

    /// Whether it holds for an object with this `mod_revision` (`None`: no object).
    pub fn holds(&self, mod_revision: Option<Revision>) -> bool {
        match self {
            Compare::Absent(_) => mod_revision.is_none(),
            Compare::Unchanged(_, expected) => mod_revision == Some(*expected),
        }
    }
}

/// One effect of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores the value under the key, whatever was there.
    Put(String, Vec<u8>),
    /// Removes the object; removing what does not exist changes nothing.
    Delete(String),
}

impl Write {
    /// The key it changes.
    pub fn key(&self) -> &str {
        match self {
            Write::Put(key, _) | Write::Delete(key) => key,
        }
    }

    fn size(&self) -> usize {
        match self {
            Write::Put(key, value) => key.len() + value.len(),
            Write::Delete(key) => key.len(),
        }
    }
}

/// Values may be secrets (password hashes, knock secrets): only their length is shown.
impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Write::Put(key, value) => write!(f, "Put({key:?}, {} bytes)", value.len()),
            Write::Delete(key) => write!(f, "Delete({key:?})"),
        }
    }
}

/// All the writes if all the compares hold; otherwise nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// Looked at in order; the first that fails is the conflict.
    pub compares: Vec<Compare>,
    /// No key twice.
    pub writes: Vec<Write>,
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition that nothing is stored under `key`.
    #[must_use]
    pub fn absent(mut self, key: impl Into<String>) -> Self {
        self.compares.push(Compare::Absent(key.into()));
        self
    }

    /// Adds the condition that the object under `key` still is the one of `mod_revision`.
    #[must_use]
    pub fn unchanged(mut self, key: impl Into<String>, mod_revision: Revision) -> Self {
        self.compares.push(Compare::Unchanged(key.into(), mod_revision));
        self
    }

    /// Adds a write of `value` under `key`.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write::Put(key.into(), value.into()));
        self
    }

    /// Adds the removal of `key`.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write::Delete(key.into()));
        self
    }

    /// The same limits in every engine, so that what one accepts the other does too.
    pub(crate) fn check(&self) -> Result<(), TxnFault> {
        if self.compares.len() > OPERATIONS_MAX || self.writes.len() > OPERATIONS_MAX {
            return Err(TxnFault::TooManyOperations);
        }
        let size: usize = self.writes.iter().map(Write::size).sum::<usize>()
            + self.compares.iter().map(|c| c.key().len()).sum::<usize>();
        if size > TXN_MAX {
            return Err(TxnFault::TooLarge { size });
        }
        let keys = self.compares.iter().map(Compare::key).chain(self.writes.iter().map(Write::key));
        for key in keys {
            if key.is_empty() || key.len() > KEY_MAX || key.contains('\0') {
                return Err(TxnFault::Key { key: key.chars().take(80).collect() });
            }
        }
        let mut written = HashSet::new();
        match self.writes.iter().map(Write::key).find(|key| !written.insert(*key)) {
            Some(key) => Err(TxnFault::WrittenTwice { key: key.to_owned() }),
            None => Ok(()),
        }
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// It is durable. The store's revision, which a commit that changed nothing leaves as it was.
    Done(Revision),
    /// The compare on this key did not hold; nothing was written.
    Conflict(String),
}

/// One object that was written or removed.
#[derive(Clone, PartialEq, Eq)]
pub struct Change {
    /// Of the commit; changes of one commit share it.
    pub revision: Revision,
    /// Which object.
    pub key: String,
    /// What is stored now; `None` when it was removed.
    pub value: Option<Vec<u8>>,
}

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.value.as_ref().map(Vec::len);
        write!(f, "Change({} {:?}, bytes: {value:?})", self.revision, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_errors_that_name_the_key() {
        assert_eq!(Txn::new().put("a", "1").delete("b").check(), Ok(()));
        assert_eq!(
            Txn::new().put("a", "1").delete("a").check(),
            Err(TxnFault::WrittenTwice { key: "a".into() })
        );
        assert_eq!(Txn::new().put("", "1").check(), Err(TxnFault::Key { key: String::new() }));
        assert!(matches!(Txn::new().absent("k".repeat(KEY_MAX + 1)).check(), Err(TxnFault::Key { .. })));
        assert!(matches!(Txn::new().put("a", vec![0; TXN_MAX]).check(), Err(TxnFault::TooLarge { .. })));
        let many = (0..=OPERATIONS_MAX).fold(Txn::new(), |txn, i| txn.delete(i.to_string()));
        assert_eq!(many.check(), Err(TxnFault::TooManyOperations));
    }

    #[test]
    fn values_are_not_in_debug_output() {
        let shown = format!("{:?}", Txn::new().put("authenticator/x", "hunter2"));
        assert!(shown.contains("authenticator/x") && !shown.contains("hunter2"), "{shown}");
    }
}
