//! The file and its statements.
//!
//! `object` is what is stored; `change` is the history, kept from `meta.compacted` (exclusive) to `meta.revision`.

use crate::{
    error::StoreError,
    object::{Change, Commit, Object, Revision, Snapshot, Txn, Write},
};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior::Immediate, params};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

/// The first SQLite without the WAL-reset bug that could corrupt a database (fixed in 3.51.3).
const SQLITE_NEEDED: (i32, &str) = (3_051_003, "3.51.3");
/// Of the tables below; a newer file is refused.
const LAYOUT: i64 = 1;
/// How long an opener waits for the lock: a predecessor that is just closing gets time to finish.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// Changes read at a time for a watch; the batch is a little longer when a commit straddles the limit.
const BATCH: usize = 256;

const TABLES: &str = "
    CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL, compacted INTEGER NOT NULL);
    INSERT INTO meta VALUES (1, 0, 0);
    CREATE TABLE object (key TEXT PRIMARY KEY, value BLOB NOT NULL, mod_revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE change (revision INTEGER NOT NULL, place INTEGER NOT NULL, key TEXT NOT NULL, value BLOB,
        PRIMARY KEY (revision, place)) WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// The open file.
pub(super) struct Db {
    connection: Connection,
    /// As in `meta`, of the last commit that succeeded.
    revision: Revision,
    compacted: Revision,
}

impl Db {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        if rusqlite::version_number() < SQLITE_NEEDED.0 {
            return Err(StoreError::EngineVersion { found: rusqlite::version(), needed: SQLITE_NEEDED.1 });
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        private_file(path).map_err(|e| failed(e.into()))?;
        let unclean = left_over_log(path);
        let mut connection = Connection::open(path).map_err(|e| failed(e.into()))?;
        configure(&connection).map_err(|e| match e.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseBusy) => StoreError::InUse { path: path.to_owned() },
            _ => failed(e.into()),
        })?;
        if unclean {
            tracing::info!(path = %path.display(), "the store was not closed cleanly: checking it");
            let finding = check(&connection).map_err(|e| failed(e.into()))?;
            if let Some(fault) = finding {
                return Err(StoreError::Damaged { path: path.to_owned(), fault });
            }
        }
        let found = layout(&mut connection).map_err(|e| failed(e.into()))?;
        if found > LAYOUT {
            return Err(StoreError::Layout { path: path.to_owned(), found, known: LAYOUT });
        }
        let (revision, compacted) = connection
            .query_row("SELECT revision, compacted FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(|e| failed(e.into()))?;
        Ok(Self { connection, revision, compacted })
    }

    /// The store's revision.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// History is kept after this revision.
    pub(super) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Does the transactions in order, each all or nothing, and makes them durable together. An error means that none was done.
    pub(super) fn commit(&mut self, txns: &[Txn]) -> rusqlite::Result<Vec<Commit>> {
        let mut revision = self.revision;
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        let outcomes = txns
            .iter()
            .map(|txn| apply(&transaction, txn, &mut revision))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        if revision == self.revision {
            return Ok(outcomes);
        }
        transaction.prepare_cached("UPDATE meta SET revision = ?")?.execute([revision])?;
        transaction.commit()?;
        self.revision = revision;
        Ok(outcomes)
    }

    pub(super) fn get(&self, key: &str) -> rusqlite::Result<Option<Object>> {
        let mut statement =
            self.connection.prepare_cached("SELECT key, value, mod_revision FROM object WHERE key = ?")?;
        statement.query_row([key], object).optional()
    }

    /// Keys are compared as bytes (SQLite's BINARY collation), so a prefix is one range of the primary key.
    pub(super) fn list(&self, prefix: &str) -> rusqlite::Result<Vec<Object>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT key, value, mod_revision FROM object WHERE key >= ? ORDER BY key")?;
        let rows = statement.query_map([prefix], object)?;
        let in_range =
            |row: &rusqlite::Result<Object>| row.as_ref().map_or(true, |found| found.key.starts_with(prefix));
        rows.take_while(in_range).collect()
    }

    pub(super) fn snapshot(&self) -> rusqlite::Result<Snapshot> {
        Ok(Snapshot { revision: self.revision, objects: self.list("")? })
    }

    /// The changes after that revision, whole commits, about [`BATCH`] of them.
    pub(super) fn history(&self, after: Revision) -> rusqlite::Result<Vec<Change>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT revision, key, value FROM change WHERE revision > ? ORDER BY revision, place",
        )?;
        let mut rows = statement.query([after])?;
        let mut batch: Vec<Change> = Vec::new();
        while let Some(row) = rows.next()? {
            let revision = row.get(0)?;
            if batch.len() >= BATCH && batch.last().is_some_and(|last| last.revision != revision) {
                break;
            }
            batch.push(Change { revision, key: row.get(1)?, value: row.get(2)? });
        }
        Ok(batch)
    }

    /// Forgets the history up to and including `revision`.
    pub(super) fn compact(&mut self, revision: Revision) -> rusqlite::Result<()> {
        let cut = revision.min(self.revision);
        if cut <= self.compacted {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(Immediate)?;
        transaction.execute("DELETE FROM change WHERE revision <= ?", [cut])?;
        transaction.execute("UPDATE meta SET compacted = ?", [cut])?;
        transaction.commit()?;
        self.compacted = cut;
        Ok(())
    }

    /// Writes the log back into the file and removes it, which marks a clean stop.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        self.connection.close().map_err(|(_, fault)| fault)
    }
}

fn object(row: &rusqlite::Row<'_>) -> rusqlite::Result<Object> {
    Ok(Object { key: row.get(0)?, value: row.get(1)?, mod_revision: row.get(2)? })
}

/// One transaction inside the open one. `revision` rises by one if it changes something.
fn apply(sql: &Transaction<'_>, txn: &Txn, revision: &mut Revision) -> rusqlite::Result<Commit> {
    let mut find = sql.prepare_cached("SELECT mod_revision FROM object WHERE key = ?")?;
    let mut mod_revision = |key: &str| find.query_row([key], |row| row.get::<_, Revision>(0)).optional();
    for compare in &txn.compares {
        if !compare.holds(mod_revision(compare.key())?) {
            return Ok(Commit::Conflict(compare.key().to_owned()));
        }
    }
    let mut put =
        sql.prepare_cached("INSERT OR REPLACE INTO object (key, value, mod_revision) VALUES (?, ?, ?)")?;
    let mut delete = sql.prepare_cached("DELETE FROM object WHERE key = ?")?;
    let mut note =
        sql.prepare_cached("INSERT INTO change (revision, place, key, value) VALUES (?, ?, ?, ?)")?;
    let next = *revision + 1;
    for (place, write) in txn.writes.iter().enumerate() {
        let value = match write {
            Write::Put(key, value) => {
                put.execute(params![key, value, next])?;
                Some(value)
            }
            Write::Delete(key) if delete.execute([key])? == 0 => continue,
            Write::Delete(_) => None,
        };
        note.execute(params![next, place as u64, write.key(), value])?;
        *revision = next;
    }
    Ok(Commit::Done(*revision))
}

/// Creates the file for its owner alone; SQLite gives the log the same mode. An existing file is made private.
fn private_file(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        // By path only: opening and closing the file would drop the locks that this process may hold on it (POSIX).
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        }
        Err(e) => Err(e),
    }
}

/// A clean stop removes the write-ahead log; one with content means a crash.
fn left_over_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(LOCK_WAIT)?;
    // Before the first access, so that the lock is held from then on and no shared-memory file is needed.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0)).and_then(
        |mode| match mode.as_str() {
            "wal" => Ok(()),
            other => Err(rusqlite::Error::InvalidColumnName(format!("journal_mode is {other}, not wal"))),
        },
    )?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Takes the lock now instead of at the first write.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")
}

fn check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let finding: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((finding != "ok").then_some(finding))
}

/// The layout found, after a new file was given its tables.
fn layout(connection: &mut Connection) -> rusqlite::Result<i64> {
    let version = |sql: &Connection| sql.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    if version(connection)? == 0 {
        let transaction = connection.transaction_with_behavior(Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.commit()?;
    }
    version(connection)
}
