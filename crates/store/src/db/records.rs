//! Tables `records` and `record_data`.

use oci::{Digest, Time};
use rusqlite::{OptionalExtension, Row, params};

use super::{Db, DbError, DbResult, Tx, number};
use crate::records::{KEPT, KEPT_OF_LAYER, MAX_LOG, MAX_OBSERVATIONS, NewRecord, Record};

const COLUMNS: &str = "id, key, parent, layer, chain, created_secs, created_nanos, last_used, duration_ms, inputs, has_observations, notes";

/// Fast: a log or an observation list is written while the next step runs.
const LEVEL: i32 = 1;

const LOG: &str = "log";
const OBSERVATIONS: &str = "observations";

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let digest = |i| row.get(i).map(Digest::from_bytes);
    Ok(Record {
        id: row.get(0)?,
        key: digest(1)?,
        parent: digest(2)?,
        layer: digest(3)?,
        chain: digest(4)?,
        created: Time { secs: row.get(5)?, nanos: row.get(6)? },
        last_used: row.get(7)?,
        duration_ms: number(row, 8)?,
        inputs: row.get(9)?,
        has_observations: row.get(10)?,
        notes: row.get(11)?,
    })
}

impl Db {
    pub(crate) fn record_by_parent(&self, key: &Digest, parent: &Digest) -> DbResult<Option<Record>> {
        let sql = format!("SELECT {COLUMNS} FROM records WHERE key = ?1 AND parent = ?2");
        let mut query = self.conn.prepare_cached(&sql)?;
        Ok(query.query_row(params![key.as_bytes(), parent.as_bytes()], record).optional()?)
    }

    pub(crate) fn records(&self, key: &Digest, limit: usize) -> DbResult<Vec<Record>> {
        let sql = format!("SELECT {COLUMNS} FROM records WHERE key = ?1 ORDER BY id DESC LIMIT ?2");
        let mut query = self.conn.prepare_cached(&sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query.query_map(params![key.as_bytes(), limit], record)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(crate) fn record(&self, id: i64) -> DbResult<Option<Record>> {
        let mut query = self.conn.prepare_cached(&format!("SELECT {COLUMNS} FROM records WHERE id = ?1"))?;
        Ok(query.query_row([id], record).optional()?)
    }

    pub(crate) fn count_records(&self) -> DbResult<u64> {
        Ok(self.conn.query_row("SELECT count(*) FROM records", [], |row| number(row, 0))?)
    }

    pub(crate) fn last_used(&self, id: i64) -> DbResult<Option<i64>> {
        let mut query = self.conn.prepare_cached("SELECT last_used FROM records WHERE id = ?1")?;
        Ok(query.query_row([id], |row| row.get(0)).optional()?)
    }

    /// All records, the least recently used first.
    pub(crate) fn all_records(&self) -> DbResult<Vec<Record>> {
        let mut query =
            self.conn.prepare_cached(&format!("SELECT {COLUMNS} FROM records ORDER BY last_used, id"))?;
        let rows = query.query_map([], record)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(crate) fn observations(&self, id: i64) -> DbResult<Option<Vec<u8>>> {
        self.data(id, OBSERVATIONS, MAX_OBSERVATIONS)
    }

    pub(crate) fn log(&self, id: i64) -> DbResult<Option<Vec<u8>>> {
        self.data(id, LOG, MAX_LOG)
    }

    fn data(&self, id: i64, what: &str, limit: usize) -> DbResult<Option<Vec<u8>>> {
        let mut query = self
            .conn
            .prepare_cached("SELECT size, bytes FROM record_data WHERE record = ?1 AND what = ?2")?;
        let found: Option<(i64, Vec<u8>)> =
            query.query_row(params![id, what], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((size, bytes)) = found else { return Ok(None) };
        let bad =
            || DbError::Content(format!("holds the {what} of record {id} in a form that cannot be read"));
        let size = usize::try_from(size).ok().filter(|&size| size <= limit).ok_or_else(bad)?;
        let bytes = zstd::bulk::decompress(&bytes, size).map_err(|_| bad())?;
        if bytes.len() == size { Ok(Some(bytes)) } else { Err(bad()) }
    }
}

impl Tx<'_> {
    /// Adds a record in the place of that with the same key and parent, and drops the oldest of the key if they are too many.
    pub(crate) fn put_record(&self, new: &NewRecord, now: i64) -> DbResult<()> {
        let (key, parent) = (new.key.as_bytes(), new.parent.as_bytes());
        let tx = &self.0;
        tx.prepare_cached("DELETE FROM records WHERE key = ?1 AND parent = ?2")?
            .execute(params![key, parent])?;
        let observations = new.observations.as_ref().filter(|o| o.len() <= MAX_OBSERVATIONS);
        tx.prepare_cached(
            "INSERT INTO records (key, parent, layer, chain, created_secs, created_nanos, last_used, duration_ms, inputs, has_observations, notes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            key,
            parent,
            new.layer.as_bytes(),
            new.chain.as_bytes(),
            { new.created.secs },
            { new.created.nanos },
            now,
            i64::try_from(new.duration_ms).unwrap_or(i64::MAX),
            new.inputs,
            observations.is_some(),
            new.notes,
        ])?;
        let id = tx.last_insert_rowid();
        let log = &new.log[new.log.len().saturating_sub(MAX_LOG)..];
        self.put_data(id, LOG, log)?;
        if let Some(observations) = observations {
            self.put_data(id, OBSERVATIONS, observations)?;
        }
        tx.prepare_cached(
            "DELETE FROM records WHERE key = ?1 AND id NOT IN (
                SELECT id FROM (
                    SELECT id, row_number() OVER (PARTITION BY layer ORDER BY id DESC) AS nth
                    FROM records WHERE key = ?1)
                ORDER BY nth > ?3, id DESC LIMIT ?2)",
        )?
        .execute(params![key, KEPT as i64, KEPT_OF_LAYER as i64])?;
        Ok(())
    }

    fn put_data(&self, id: i64, what: &str, bytes: &[u8]) -> DbResult<()> {
        let packed = zstd::bulk::compress(bytes, LEVEL)
            .map_err(|e| DbError::Content(format!("cannot take the {what} of a record: {e}")))?;
        self.0
            .prepare_cached("INSERT INTO record_data (record, what, size, bytes) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, what, bytes.len() as i64, packed])?;
        Ok(())
    }

    pub(crate) fn use_record(&self, id: i64, now: i64) -> DbResult<()> {
        self.0
            .prepare_cached("UPDATE records SET last_used = ?2 WHERE id = ?1")?
            .execute(params![id, now])?;
        Ok(())
    }

    pub(crate) fn remove_record(&self, id: i64) -> DbResult<()> {
        self.0.prepare_cached("DELETE FROM records WHERE id = ?1")?.execute([id])?;
        Ok(())
    }
}
