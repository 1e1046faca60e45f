//! Table `builds`.

use rusqlite::params;

use super::{Db, DbError, DbResult, Tx};
use crate::builds::{KEPT, MAX_BUILD, PastBuild};

const LEVEL: i32 = 3;

impl Db {
    pub(crate) fn builds(&self, limit: usize) -> DbResult<Vec<PastBuild>> {
        let sql = "SELECT id, created_secs, size, bytes FROM builds ORDER BY id DESC LIMIT ?1";
        let mut query = self.conn.prepare_cached(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = query.query([limit])?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let (id, created_secs, size): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let packed: Vec<u8> = row.get(3)?;
            // What cannot be read is as good as not there: the log of builds is only told from.
            let size = usize::try_from(size).ok().filter(|&size| size <= MAX_BUILD);
            let bytes = size.and_then(|size| zstd::bulk::decompress(&packed, size).ok());
            out.extend(bytes.map(|bytes| PastBuild { id, created_secs, bytes }));
        }
        Ok(out)
    }
}

impl Tx<'_> {
    /// Adds a build and drops the oldest ones; gives its number.
    pub(crate) fn put_build(&self, created_secs: i64, bytes: &[u8]) -> DbResult<i64> {
        let packed = zstd::bulk::compress(bytes, LEVEL)
            .map_err(|e| DbError::Content(format!("cannot take the account of a build: {e}")))?;
        self.0
            .prepare_cached("INSERT INTO builds (created_secs, size, bytes) VALUES (?1, ?2, ?3)")?
            .execute(params![created_secs, bytes.len() as i64, packed])?;
        let id = self.0.last_insert_rowid();
        self.0
            .prepare_cached("DELETE FROM builds WHERE id <= ?1")?
            .execute([id - i64::try_from(KEPT).unwrap_or(i64::MAX)])?;
        Ok(id)
    }
}
