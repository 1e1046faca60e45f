//! What an ELF file needs: its interpreter and its shared libraries, as the paths where the loader would look.

const DIRS: &[&str] = &[
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
    "/lib64",
    "/usr/lib64",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

/// For each thing that it needs, where it may be. `None` if it is no little-endian 64-bit ELF file, or damaged.
pub(super) fn needs(b: &[u8], own: &[u8]) -> Option<Vec<Vec<String>>> {
    if !b.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let u = |at: usize, n: usize| -> Option<usize> {
        let part = b.get(at..at.checked_add(n)?)?;
        usize::try_from(part.iter().rev().fold(0u64, |a, x| (a << 8) | u64::from(*x))).ok()
    };
    let text = |at: usize| -> Option<String> {
        let rest = b.get(at..)?;
        let end = rest.iter().position(|&c| c == 0)?;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    };
    let (table, size, count) = (u(32, 8)?, u(54, 2)?, u(56, 2)?);
    let mut loads = Vec::new();
    let (mut dynamic, mut out) = (None, Vec::new());
    for n in 0..count {
        let at = table.checked_add(n.checked_mul(size)?)?;
        let (kind, offset, address, len) = (u(at, 4)?, u(at + 8, 8)?, u(at + 16, 8)?, u(at + 32, 8)?);
        match kind {
            1 => loads.push((address, offset, len)),
            2 => dynamic = Some((offset, len)),
            3 => out.push(vec![text(offset)?]),
            _ => {}
        }
    }
    let Some((offset, len)) = dynamic else { return Some(out) };
    let mut tags = Vec::new();
    for at in (offset..offset.checked_add(len)?).step_by(16) {
        match u(at, 8)? {
            0 => break,
            tag => tags.push((tag, u(at + 8, 8)?)),
        }
    }
    let strings = tags.iter().find(|(t, _)| *t == 5)?.1;
    let base =
        loads.iter().find(|(a, _, l)| (*a..a + l).contains(&strings)).map(|(a, o, _)| strings - a + o)?;
    let origin = show_dir(own);
    let mut dirs: Vec<String> = Vec::new();
    for (_, v) in tags.iter().filter(|(t, _)| matches!(t, 15 | 29)) {
        let path = text(base.checked_add(*v)?)?;
        dirs.extend(path.split(':').map(|d| d.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin)));
    }
    dirs.extend(DIRS.iter().map(|d| (*d).to_owned()));
    for (_, v) in tags.iter().filter(|(t, _)| *t == 1) {
        let name = text(base.checked_add(*v)?)?;
        out.push(if name.contains('/') {
            vec![name]
        } else {
            dirs.iter().map(|d| format!("{d}/{name}")).collect()
        });
    }
    Some(out)
}

fn show_dir(path: &[u8]) -> String {
    oci::index::show(oci::index::split(path).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_a_real_program_are_found() {
        let own = std::env::current_exe().unwrap();
        let bytes = std::fs::read(own).unwrap();
        let needs = needs(&bytes, b"x/y").unwrap();
        assert!(needs.iter().flatten().any(|n| n.contains("libc.so") || n.contains("ld-")), "{needs:?}");
        for n in (0..bytes.len().min(4096)).step_by(7) {
            super::needs(&bytes[..n], b"x");
        }
    }
}
