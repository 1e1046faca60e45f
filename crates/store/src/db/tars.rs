//! Tables `tars`, `tar_blobs` and `tar_marks`.

use oci::Digest;
use oci::tar::Mark;
use rusqlite::{OptionalExtension, params};

use super::{Db, DbResult, Tx, number};
use crate::layers::{TarBlob, TarOrigin};

impl Db {
    pub(crate) fn layer_of_tar(&self, diff_id: &Digest) -> DbResult<Option<Digest>> {
        let mut query = self.conn.prepare_cached("SELECT layer FROM tars WHERE diff_id = ?1")?;
        Ok(query.query_row([diff_id.as_bytes()], |row| row.get(0).map(Digest::from_bytes)).optional()?)
    }

    pub(crate) fn written_tar(&self, layer: &Digest) -> DbResult<Option<(Digest, u64)>> {
        let mut query =
            self.conn.prepare_cached("SELECT diff_id, size FROM tars WHERE layer = ?1 AND written")?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0).map(Digest::from_bytes)?, number(row, 1)?));
        Ok(query.query_row([layer.as_bytes()], row).optional()?)
    }

    pub(crate) fn tar_blobs(&self, diff_id: &Digest) -> DbResult<Vec<TarBlob>> {
        let mut query = self.conn.prepare_cached(
            "SELECT media_type, digest, size FROM tar_blobs WHERE diff_id = ?1 ORDER BY digest",
        )?;
        let rows = query.query_map([diff_id.as_bytes()], |row| {
            let digest = row.get(1).map(Digest::from_bytes)?;
            Ok(TarBlob { media_type: row.get(0)?, digest, size: number(row, 2)? })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(crate) fn tar_mark(&self, prefix: &Digest) -> DbResult<Option<Vec<u8>>> {
        let mut query = self.conn.prepare_cached("SELECT state FROM tar_marks WHERE prefix = ?1")?;
        Ok(query.query_row([prefix.as_bytes()], |row| row.get(0)).optional()?)
    }

    /// Every tar and its layer.
    pub(crate) fn all_tars(&self) -> DbResult<Vec<(Digest, Digest)>> {
        let mut query = self.conn.prepare_cached("SELECT diff_id, layer FROM tars")?;
        let rows = query.query_map([], |row| {
            Ok((row.get(0).map(Digest::from_bytes)?, row.get(1).map(Digest::from_bytes)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Every link of a tar to a blob.
    pub(crate) fn all_tar_blobs(&self) -> DbResult<Vec<(Digest, Digest)>> {
        let mut query = self.conn.prepare_cached("SELECT diff_id, digest FROM tar_blobs")?;
        let rows = query.query_map([], |row| {
            Ok((row.get(0).map(Digest::from_bytes)?, row.get(1).map(Digest::from_bytes)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl Tx<'_> {
    /// Adds a tar. What was known already is only completed: a tar that our writer made stays one.
    pub(crate) fn put_tar(
        &self,
        diff_id: &Digest,
        layer: &Digest,
        size: Option<u64>,
        origin: TarOrigin,
    ) -> DbResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO tars (diff_id, layer, size, written) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (diff_id) DO UPDATE SET layer = excluded.layer, size = coalesce(excluded.size, size),
                 written = max(written, excluded.written)",
            )?
            .execute(params![
                diff_id.as_bytes(),
                layer.as_bytes(),
                size.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
                origin == TarOrigin::Written,
            ])?;
        Ok(())
    }

    pub(crate) fn put_tar_blob(&self, diff_id: &Digest, blob: &TarBlob) -> DbResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO tar_blobs (diff_id, digest, media_type, size) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (diff_id, digest) DO UPDATE SET media_type = excluded.media_type, size = excluded.size",
            )?
            .execute(params![
                diff_id.as_bytes(),
                blob.digest.as_bytes(),
                blob.media_type,
                i64::try_from(blob.size).unwrap_or(i64::MAX),
            ])?;
        Ok(())
    }

    /// Adds a mark of a tar that is there. One that is known already stays with its tar.
    pub(crate) fn put_tar_mark(&self, diff_id: &Digest, mark: &Mark) -> DbResult<()> {
        self.0
            .prepare_cached(
                "INSERT INTO tar_marks (prefix, diff_id, state) VALUES (?1, ?2, ?3) ON CONFLICT (prefix) DO NOTHING",
            )?
            .execute(params![mark.prefix.as_bytes(), diff_id.as_bytes(), mark.state])?;
        Ok(())
    }

    pub(crate) fn remove_tar(&self, diff_id: &Digest) -> DbResult<()> {
        self.0.prepare_cached("DELETE FROM tars WHERE diff_id = ?1")?.execute([diff_id.as_bytes()])?;
        Ok(())
    }

    pub(crate) fn remove_tar_blob(&self, diff_id: &Digest, digest: &Digest) -> DbResult<()> {
        self.0
            .prepare_cached("DELETE FROM tar_blobs WHERE diff_id = ?1 AND digest = ?2")?
            .execute(params![diff_id.as_bytes(), digest.as_bytes()])?;
        Ok(())
    }
}
