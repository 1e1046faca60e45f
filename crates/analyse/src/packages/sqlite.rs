//! Just enough of SQLite's file format to read the blobs of one table: the bytes are those of an image, and must not be run as a
//! database.
//!
//! Pages are numbered from 1; the first begins with a header of 100 bytes (page size at 16, big endian, 1 means 65536; reserved bytes per page
//! at 20). A table is a tree of pages: type 5 holds numbers of child pages, type 13 holds rows. A row is its payload's length and its
//! number (varints: 7 bits a byte, most significant first, 9 bytes at most), and the payload, of which what does not fit lies in a
//! chain of overflow pages. A payload is a record: length of its head, the columns' types as varints, the columns. The first page is the
//! root of the schema table: type, name, table name, root page, SQL. (<https://www.sqlite.org/fileformat2.html>)

const DAMAGED: &str = "the SQLite database is damaged";

struct Db<'a> {
    bytes: &'a [u8],
    page: usize,
    usable: usize,
}

/// The last column of type blob of every row of a table.
pub(super) fn blobs(bytes: &[u8], table: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    if !bytes.starts_with(b"SQLite format 3\0") {
        return Err("it is no SQLite database");
    }
    let db = Db::open(bytes).ok_or(DAMAGED)?;
    let mut root = None;
    db.rows(1, &mut |payload| {
        let columns = columns(payload)?;
        let is = |n: usize, text: &str| columns.get(n).is_some_and(|c| c.1 == text.as_bytes());
        if is(0, "table") && is(1, table) {
            root = columns.get(3).map(|c| number(c.1));
        }
        Some(())
    })
    .ok_or(DAMAGED)?;
    let root = root.ok_or("it has no table of packages")?;
    let mut out = Vec::new();
    db.rows(root, &mut |payload| {
        let columns = columns(payload)?;
        let blob = columns.iter().rev().find(|(kind, _)| *kind >= 12 && kind % 2 == 0);
        out.push(blob?.1.to_vec());
        Some(())
    })
    .ok_or(DAMAGED)?;
    Ok(out)
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().take(8).fold(0, |n, b| (n << 8) | usize::from(*b))
}

/// A varint, and how long it is.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut n = 0u64;
    for (i, b) in bytes.iter().take(9).enumerate() {
        if i == 8 {
            return Some(((n << 8) | u64::from(*b), 9));
        }
        n = (n << 7) | u64::from(b & 0x7f);
        if b & 0x80 == 0 {
            return Some((n, i + 1));
        }
    }
    None
}

/// Type and bytes of the columns of a record.
fn columns(payload: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    let (head, mut at) = varint(payload)?;
    let head = usize::try_from(head).ok()?;
    let mut body = head;
    let mut out = Vec::new();
    while at < head {
        let (kind, len) = varint(payload.get(at..)?)?;
        at += len;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            _ => usize::try_from(kind.checked_sub(12)? / 2).ok()?,
        };
        let end = body.checked_add(size)?;
        out.push((kind, payload.get(body..end)?));
        body = end;
    }
    Some(out)
}

impl<'a> Db<'a> {
    fn open(bytes: &'a [u8]) -> Option<Db<'a>> {
        let page = match number(bytes.get(16..18)?) {
            1 => 65_536,
            n => n,
        };
        let usable = page.checked_sub(usize::from(*bytes.get(20)?))?;
        (page >= 512 && usable >= 480).then_some(Db { bytes, page, usable })
    }

    fn page(&self, n: usize) -> Option<&'a [u8]> {
        let start = n.checked_sub(1)?.checked_mul(self.page)?;
        self.bytes.get(start..start.checked_add(self.page)?)
    }

    /// Visits the payloads of a table, in order. `None` if something is damaged, also a tree that leads to itself.
    fn rows(&self, root: usize, visit: &mut dyn FnMut(&[u8]) -> Option<()>) -> Option<()> {
        let mut left = self.bytes.len() / self.page + 1;
        let mut todo = vec![root];
        while let Some(n) = todo.pop() {
            left = left.checked_sub(1)?;
            let page = self.page(n)?;
            let head = if n == 1 { 100 } else { 0 };
            let cells = number(page.get(head + 3..head + 5)?);
            let cell = |i: usize, head_len: usize| {
                let at = head + head_len + 2 * i;
                page.get(number(page.get(at..at + 2)?)..)
            };
            match page.get(head)? {
                5 => {
                    todo.push(number(page.get(head + 8..head + 12)?));
                    for i in (0..cells).rev() {
                        todo.push(number(cell(i, 12)?.get(..4)?));
                    }
                }
                13 => {
                    for i in 0..cells {
                        visit(&self.payload(cell(i, 8)?)?)?;
                    }
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// The payload of a row, put together from overflow pages.
    fn payload(&self, cell: &[u8]) -> Option<Vec<u8>> {
        let (size, a) = varint(cell)?;
        let (_, b) = varint(cell.get(a..)?)?;
        let size = usize::try_from(size).ok().filter(|&s| s <= self.bytes.len())?;
        let cell = cell.get(a + b..)?;
        let most = self.usable - 35;
        if size <= most {
            return cell.get(..size).map(<[u8]>::to_vec);
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let local = least + (size - least) % (self.usable - 4);
        let local = if local <= most { local } else { least };
        let mut out = cell.get(..local)?.to_vec();
        let mut next = number(cell.get(local..local + 4)?);
        while out.len() < size {
            let page = self.page(next)?;
            let part = (size - out.len()).min(self.usable - 4);
            out.extend_from_slice(page.get(4..4 + part)?);
            next = number(page.get(..4)?);
        }
        Some(out)
    }
}
