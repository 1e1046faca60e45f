//! The database: records, and what is known of tars. All of it may be lost; images and tags are files.
//!
//! SQLite in WAL mode, one connection per process behind a mutex, `synchronous=NORMAL` (a power failure may lose the last
//! transactions, never the database), every write `BEGIN IMMEDIATE` (a read transaction that turns into a write ignores the
//! busy timeout), 20 s busy timeout. Nothing else of this process may open the file: closing any descriptor of it would drop
//! SQLite's locks. The last process that closes the database leaves a short log as it is ([`LOG_LEFT`]): a build that changes
//! nothing flushes nothing.
//!
//! **Migrations** are a list that only grows; `user_version` counts those applied. A database of a later version is refused.
//!
//! **A damaged database** is set aside as `db.sqlite.damaged-<n>` when the store is opened, and a new one is filled with what the
//! images tell ([`rebuild`]). That needs the store alone: a process that still has the old one open would, at its end, remove
//! the new one's log by name. Damage that is found later leaves the marker `db.sqlite.suspect`, and the next open acts on it.

mod builds;
mod rebuild;
mod records;
mod tars;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::core::Core;
use crate::error::{Context, Result, StoreError};
use crate::fault::Change;
use crate::locks::StoreLock;
use crate::paths::{DB, DB_LOCK, DB_LOG, DB_SUSPECT};
use crate::sys::{Root, lock};

/// How long a write waits for those of other processes.
const BUSY: Duration = Duration::from_secs(20);

/// Bytes of the log that are left to the next process. It reads them when it opens the database, which costs less than to write them
/// into the database now, with two flushes.
const LOG_LEFT: u64 = 256 << 10;

/// Steps from an empty database to the present one. Never change one that was released; append.
const MIGRATIONS: &[&str] = &[
    concat!(
        // id is never used twice, so that a number noted somewhere does not lead to another record.
        "CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL,
        parent BLOB NOT NULL,
        layer BLOB NOT NULL,
        chain BLOB NOT NULL,
        created_secs INTEGER NOT NULL,
        created_nanos INTEGER NOT NULL,
        last_used INTEGER NOT NULL,
        duration_ms INTEGER NOT NULL,
        inputs TEXT NOT NULL,
        has_observations INTEGER NOT NULL);
    CREATE UNIQUE INDEX records_key_parent ON records (key, parent);
    CREATE INDEX records_layer ON records (layer);",
        // zstd; size is that of the bytes before.
        "CREATE TABLE record_data (
        record INTEGER NOT NULL REFERENCES records (id) ON DELETE CASCADE,
        what TEXT NOT NULL,
        size INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (record, what));",
        // size is NULL and written is 0 where the row comes from an image's config alone.
        "CREATE TABLE tars (
        diff_id BLOB PRIMARY KEY,
        layer BLOB NOT NULL,
        size INTEGER,
        written INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX tars_layer ON tars (layer);
    CREATE TABLE tar_blobs (
        diff_id BLOB NOT NULL,
        digest BLOB NOT NULL,
        media_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (diff_id, digest)) WITHOUT ROWID;
    CREATE INDEX tar_blobs_digest ON tar_blobs (digest);",
    ),
    concat!(
        "ALTER TABLE records ADD COLUMN notes TEXT NOT NULL DEFAULT '';",
        // zstd; size is that of the bytes before.
        "CREATE TABLE builds (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created_secs INTEGER NOT NULL,
        size INTEGER NOT NULL,
        bytes BLOB NOT NULL);",
    ),
    // Named by what the tar holds before them (`oci::tar::marks`); the tar that they were made for takes them with it.
    "CREATE TABLE tar_marks (
        prefix BLOB PRIMARY KEY,
        diff_id BLOB NOT NULL REFERENCES tars (diff_id) ON DELETE CASCADE,
        state BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX tar_marks_diff_id ON tar_marks (diff_id);",
];

/// What a query can fail with.
#[derive(Debug)]
pub(crate) enum DbError {
    Sql(rusqlite::Error),
    /// A value that we did not write.
    Content(String),
}

impl From<rusqlite::Error> for DbError {
    fn from(e: rusqlite::Error) -> DbError {
        DbError::Sql(e)
    }
}

pub(crate) type DbResult<T> = std::result::Result<T, DbError>;

impl DbError {
    fn is_damage(&self) -> bool {
        match self {
            DbError::Content(_) => true,
            DbError::Sql(e) => {
                matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
        }
    }

    fn at(self, path: PathBuf) -> StoreError {
        match self {
            DbError::Content(what) => StoreError::Damaged { what, path },
            DbError::Sql(e) => match e.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    StoreError::Damaged { what: format!("is no sound database: {e}"), path }
                }
                Some(ErrorCode::DiskFull) => StoreError::Full { path },
                Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { path },
                Some(ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
                    StoreError::Permission { what: "use", path }
                }
                _ => StoreError::Database { path, source: Arc::new(e) },
            },
        }
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct Db {
    conn: Connection,
    /// Path of the write-ahead log.
    log: PathBuf,
}

/// A write transaction.
#[derive(Debug)]
pub(crate) struct Tx<'a>(Transaction<'a>);

impl Core {
    /// Runs a query.
    pub(crate) fn query<T>(&self, f: impl FnOnce(&Db) -> DbResult<T>) -> Result<T> {
        let result = f(&lock(&self.db));
        self.settle(result)
    }

    /// Runs a write transaction: all of it or nothing.
    pub(crate) fn transaction<T>(&self, f: impl FnOnce(&Tx<'_>) -> DbResult<T>) -> Result<T> {
        self.root.point(|| Change::Rows).at("write", self.root.join(DB))?;
        let result = lock(&self.db).transaction(f);
        // A process may die right after it, too.
        self.root.point(|| Change::RowsMade).at("write", self.root.join(DB))?;
        self.settle(result)
    }

    fn settle<T>(&self, result: DbResult<T>) -> Result<T> {
        result.map_err(|e| {
            if e.is_damage() {
                // If even this fails the next open will find the damage the same way as we did.
                let _ = self.root.lock_file(DB_SUSPECT);
            }
            e.at(self.root.join(DB))
        })
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let short = std::fs::metadata(&self.log).is_ok_and(|m| m.len() <= LOG_LEFT);
        // Where it does not work, the log is written into the database, as SQLite does it.
        let _ = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, short);
    }
}

impl Db {
    /// Opens the database, makes it, or sets a damaged one aside and makes a new one.
    pub(crate) fn open(root: &Root, store: &StoreLock) -> Result<Db> {
        let guard = root.lock_file(DB_LOCK)?;
        rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive)
            .at("lock", root.join(DB_LOCK))?;
        if !root.exists(DB_SUSPECT)? {
            match Db::connect(root) {
                Err(Failed::Db(e)) if e.is_damage() => {}
                other => return other.map_err(|e| e.at(root)),
            }
        }
        match store.alone(root, || set_aside(root)) {
            Err(StoreError::InUse { pids, .. }) => {
                let by = if pids.is_empty() {
                    "another process uses".into()
                } else {
                    format!("process {pids} uses")
                };
                let what = format!("is damaged, and cannot be replaced while {by} the store");
                return Err(StoreError::Damaged { what, path: root.join(DB) });
            }
            other => other?,
        }
        Db::connect(root).map_err(|e| e.at(root))
    }

    fn connect(root: &Root) -> std::result::Result<Db, Failed> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(root.join(DB), flags)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "synchronous", "NORMAL")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        if mode != "wal" {
            conn.pragma_update(None, "journal_mode", "WAL")?;
        }
        conn.set_prepared_statement_cache_capacity(32);
        let mut db = Db { conn, log: root.join(DB_LOG) };
        db.migrate(root)?;
        Ok(db)
    }

    fn migrate(&mut self, root: &Root) -> std::result::Result<(), Failed> {
        let found: u32 = self.conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let known = MIGRATIONS.len() as u32;
        if found > known {
            return Err(Failed::Store(StoreError::Newer { path: root.join(DB), found, known }));
        }
        if found == known {
            return Ok(());
        }
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in MIGRATIONS.iter().skip(found as usize) {
            tx.execute_batch(step)?;
        }
        tx.pragma_update(None, "user_version", known)?;
        let tx = Tx(tx);
        if found == 0 {
            rebuild::rebuild(&tx, root)?;
        }
        tx.0.commit()?;
        Ok(())
    }

    fn transaction<T>(&mut self, f: impl FnOnce(&Tx<'_>) -> DbResult<T>) -> DbResult<T> {
        let tx = Tx(self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?);
        let value = f(&tx)?;
        tx.0.commit()?;
        Ok(value)
    }

    /// Makes removals durable (a power failure must not bring back rows whose files are gone), and gives free room back to the
    /// file system if there is much.
    pub(crate) fn settle_down(&self) -> DbResult<()> {
        let pages: i64 = self.conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let free: i64 = self.conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free > pages / 4 {
            self.conn.execute_batch("VACUUM")?;
        }
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// SQLite's own check of the whole file; the findings as it words them.
    pub(crate) fn check(&self) -> DbResult<Vec<String>> {
        let mut found = Vec::new();
        self.conn.pragma_query(None, "integrity_check", |row| {
            let line: String = row.get(0)?;
            if line != "ok" {
                found.push(line);
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// Why the database could not be opened.
enum Failed {
    Db(DbError),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failed {
    fn from(e: rusqlite::Error) -> Failed {
        Failed::Db(e.into())
    }
}

impl From<DbError> for Failed {
    fn from(e: DbError) -> Failed {
        Failed::Db(e)
    }
}

impl Failed {
    fn at(self, root: &Root) -> StoreError {
        match self {
            Failed::Db(e) => e.at(root.join(DB)),
            Failed::Store(e) => e,
        }
    }
}

/// A number that is never negative. SQLite's are signed; what we did not write counts as 0.
fn number(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// Renames the database and its companions to the first free `db.sqlite.damaged-<n>`. Only with the store alone.
fn set_aside(root: &Root) -> Result<()> {
    let mut n = 1;
    while root.exists(&format!("{DB}.damaged-{n}"))? {
        n += 1;
    }
    // The database last: while it has its name, a crash between two of these is followed by another attempt.
    for suffix in ["-shm", "-wal", ""] {
        let from = format!("{DB}{suffix}");
        if root.exists(&from)? {
            root.replace(&from, &format!("{DB}.damaged-{n}{suffix}"))?;
        }
    }
    root.unlink(DB_SUSPECT)?;
    Ok(())
}
