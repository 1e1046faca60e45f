//! Names and attributes for the screen.

use analyse::{Entry, Kind};

pub(crate) use analyse::names::{line, name, push_plain};

/// Type and permissions, as `ls -l` writes them: `drwxr-xr-x`.
pub(crate) fn mode(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::Directory { .. } => 'd',
        Kind::File { .. } | Kind::HardLink { .. } => '-',
        Kind::Symlink { .. } => 'l',
        Kind::CharDevice(..) => 'c',
        Kind::BlockDevice(..) => 'b',
        Kind::Fifo => 'p',
        Kind::Whiteout => '?',
    };
    let mode = entry.mode;
    let mut out = String::from(kind);
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_look_as_in_ls() {
        let e = |kind, mode| Entry {
            node: analyse::ROOT,
            place: analyse::ROOT,
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            packed: 0,
            xattrs: 0,
            replaced: false,
        };
        assert_eq!(mode(&e(Kind::Directory { opaque: false }, 0o1777)), "drwxrwxrwt");
        assert_eq!(mode(&e(Kind::Fifo, 0o640)), "prw-r-----");
        assert_eq!(mode(&e(Kind::Symlink { target: 0 }, 0o6644)), "lrwSr-Sr--");
    }
}
